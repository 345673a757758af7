from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gatekeeper.credits.grouping import (
    Charge,
    Entry,
    Group,
    burnable,
    due,
    fit,
    group,
    separate,
)
from gatekeeper.credits.pricing import Token

GOLD, SILVER, OTHER = Token("0xc0", 1), Token("0xc0", 2), Token("0xc1", 1)


def charge(
    id: int, token: Token = GOLD, holder: str = "a", credits: int = 1, since: float = 0.0
) -> Charge:
    return Charge(id, token, holder, credits, since)


def ids(charges: Sequence[Charge]) -> list[int]:
    return [each.id for each in charges]


_charges = st.lists(
    st.builds(
        Charge,
        st.integers(),
        st.sampled_from([GOLD, SILVER, OTHER]),
        st.sampled_from("abcdef"),
        st.integers(0, 9),
        st.floats(0, 100),
    ),
    max_size=20,
    unique_by=lambda each: each.id,
)
_entries = st.lists(
    st.builds(Entry, st.text(max_size=2), st.integers(0, 3), st.integers(1, 9), st.integers(0, 9))
)


def test_a_charge_is_due_when_it_is_old_enough_and_takes_the_payer_s_others_along() -> None:
    charges = [charge(1, since=0), charge(2, since=59), charge(3, holder="b", since=59)]
    assert ids(due(charges, 59.9, 60, None)) == []
    assert ids(due(charges, 60, 60, None)) == [1, 2]


def test_charges_are_due_when_they_are_enough() -> None:
    charges = [charge(1, credits=4), charge(2, credits=5), charge(3, SILVER, credits=9)]
    assert ids(due(charges, 0, 60, 9)) == [1, 2, 3]
    assert ids(due(charges, 0, 60, 10)) == []


def test_nothing_is_never_due_nor_is_who_is_being_settled() -> None:
    assert due([charge(1, credits=0)], 1e9, 60, 0) == []
    charges = [charge(1), charge(2, SILVER), charge(3, holder="b")]
    assert ids(due(charges, 60, 60, None, {(GOLD, "a")})) == [2, 3]


def test_a_payer_s_charges_become_one_entry() -> None:
    charges = [
        charge(1, credits=4),
        charge(2, holder="b"),
        charge(3, credits=5),
        charge(4, SILVER),
        charge(5, OTHER),
    ]
    assert group(charges, 10) == [
        Group(
            "0xc0",
            (
                Entry("a", 1, 9, 9, (1, 3)),
                Entry("b", 1, 1, 1, (2,)),
                Entry("a", 2, 1, 1, (4,)),
            ),
        ),
        Group("0xc1", (Entry("a", 1, 1, 1, (5,)),)),
    ]
    assert [len(each.entries) for each in group(charges, 2)] == [2, 1, 1]


@given(_charges, st.integers(1, 4))
def test_every_charge_is_in_one_group(charges: list[Charge], most: int) -> None:
    groups = group(charges, most)
    entries = [entry for each in groups for entry in each.entries]
    taken = [number for entry in entries for number in entry.charges]
    assert sorted(taken) == sorted(ids(charges))
    assert sum(entry.credits for entry in entries) == sum(each.credits for each in charges)
    for each in groups:
        assert 1 <= len(each.entries) <= most
    payers = Counter((g.contract, e.holder, e.token_id) for g in groups for e in g.entries)
    assert set(payers.values()) <= {1}


def test_what_a_payer_has_is_burned_and_the_rest_is_short() -> None:
    entries = [Entry("a", 1, 5, 5), Entry("b", 1, 5, 5), Entry("c", 1, 5, 5)]
    fitted = fit(entries, [9, 3, 0])
    assert [(each.burn, each.short) for each in fitted] == [(5, 0), (3, 2), (0, 5)]
    assert burnable(fitted) == [("a", 1, 5), ("b", 1, 3)]


@given(_entries, st.data())
def test_nothing_is_lost_when_it_is_fitted(entries: list[Entry], data: st.DataObject) -> None:
    count = len(entries)
    balances = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    for entry, balance in zip(fit(entries, balances), balances, strict=True):
        assert 0 <= entry.burn <= balance
        assert entry.short >= 0
        assert entry.burn + entry.short == entry.credits
    assert all(amount > 0 for _, _, amount in burnable(fit(entries, balances)))


@given(st.sets(st.integers(0, 31)), st.integers(0, 32))
def test_the_bad_ones_are_found(bad: set[int], count: int) -> None:
    entries = [Entry(str(number), 1, 1, 1) for number in range(count)]
    tries = 0

    async def works(some: Sequence[Entry]) -> bool:
        nonlocal tries
        tries += 1
        return not any(int(entry.holder) in bad for entry in some)

    found: list[tuple[list[Entry], list[Entry]]] = []
    Deferred.fromCoroutine(separate(entries, works)).addCallback(found.append)
    ((good, wrong),) = found
    assert [int(entry.holder) for entry in good] == [n for n in range(count) if n not in bad]
    assert [int(entry.holder) for entry in wrong] == [n for n in range(count) if n in bad]
    assert tries <= 1 + 2 * len(bad) * count.bit_length()
