"""Charges and settlements in every store: all that whoever burns does to them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from gatekeeper.credits.fees import Fees
from gatekeeper.credits.grouping import Entry, Group
from gatekeeper.credits.ledger import (
    ChargeState,
    IllegalTransitionError,
    Mark,
    Receipt,
    Sent,
    Settlement,
    SettlementEvent,
    SettlementState,
)
from gatekeeper.store.interface import IStore
from gatekeeper.store.ledger import (
    ChargeQuery,
    ISettling,
    Owed,
    SettlementQuery,
    StoredSettlement,
    StoredTransaction,
)
from tests.store.ledgers import (
    ALICE,
    BOB,
    BURNER,
    CAROL,
    CONTRACT,
    ENTRY,
    NOW,
    batch_of,
    claim,
    ids,
    look,
    meter,
    mine,
    only_group,
    owes,
    own,
    sign,
    transaction,
    unburned,
)
from tests.store.support import NewStore, in_reactor

E = SettlementEvent
S = SettlementState
C = ChargeState


async def states(store: IStore) -> list[tuple[str, int, ChargeState]]:
    """All charges, the oldest first."""
    names = {ALICE: "alice", BOB: "bob", CAROL: "carol"}
    rows = await store.charges(ChargeQuery())
    return [(names[row.account.holder], row.credits, row.state) for row in rows[::-1]]


async def stored(store: IStore, number: int) -> StoredSettlement:
    (found,) = [each for each in await store.settlements(SettlementQuery()) if each.id == number]
    return found


async def log_of(store: IStore, kind: str, subject: object) -> list[tuple[str, str, str]]:
    events = await store.ledger_events(100, subject=(kind, str(subject)))
    return [(event.event, event.before, event.after) for _, event in events[::-1]]


async def everything(store: IStore, settling: ISettling) -> object:
    return (
        await store.charges(ChargeQuery()),
        await store.settlements(SettlementQuery()),
        await settling.under_way(),
        await store.ledger_events(1000),
        await store.owed(),
    )


# --- charges ----------------------------------------------------------------------------------


@in_reactor
async def test_usage_adds_up_until_it_is_claimed(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3, bob=1)
    await meter(store, alice=4)
    pending = await settling.pending(10)
    assert sorted((each.holder, each.credits) for each in pending) == [(ALICE, 7), (BOB, 1)]
    assert {(each.token.contract, each.token.id) for each in pending} == {(CONTRACT, 7)}
    row = (await store.charges(ChargeQuery(holder=ALICE)))[0]
    assert (row.open, row.settlement, row.origin, row.reason) == (True, None, None, "")
    assert row.created <= row.updated
    assert pending[0].since == pytest.approx(row.created, abs=5)
    assert await settling.pending(1) == pending[:1]

    group = await only_group(settling)
    await meter(store, alice=10)  # It has the sums of now, not of then.
    number = await settling.claim(group, NOW)
    assert number is not None
    await meter(store, alice=5)
    assert await states(store) == [
        ("alice", 17, C.CLAIMED),
        ("bob", 1, C.CLAIMED),
        ("alice", 5, C.PENDING),
    ]
    claimed, _ = await store.charges(ChargeQuery(settlement=number))
    assert (claimed.open, claimed.settlement, claimed.updated) == (False, number, NOW)
    found = await look(settling, number)
    assert found == StoredSettlement(
        number,
        CONTRACT,
        BURNER,
        Settlement(S.CLAIMED),
        tuple(sorted(found.entries)),
        (),
        "",
        NOW,
        NOW,
    )
    assert [(e.holder, e.credits, e.burn) for e in found.entries] == [(ALICE, 17, 17), (BOB, 1, 1)]
    assert sorted(n for e in found.entries for n in e.charges) == sorted(ids(pending))
    assert await log_of(store, "charge", found.entries[0].charges[0]) == [
        ("meter", "", "pending"),
        ("claim", "pending", "claimed"),
    ]
    await store.close()


@in_reactor
async def test_what_is_not_pending_is_left_out(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3, bob=1)
    group = await only_group(settling)
    (only_alice,) = [entry for entry in group.entries if entry.holder == ALICE]
    assert await settling.claim(group._replace(entries=(only_alice,)), NOW) is not None
    number = await settling.claim(group, NOW)
    assert [entry.holder for entry in (await look(settling, number)).entries] == [BOB]
    assert await settling.claim(group, NOW) is None
    assert await settling.claim(Group(CONTRACT, ()), NOW) is None
    assert await settling.claim(Group(CONTRACT, (Entry(ALICE, 7, 1, 1, (99, -1)),)), NOW) is None
    await store.close()


@in_reactor
async def test_group_of_the_wrong_charges(new_store: NewStore) -> None:
    """A charge goes to its own payer's entry of its own contract, or nowhere."""
    store = new_store()
    settling = await own(store)
    await store.write_batch(batch_of({owes(ALICE): 3, owes(BOB): 1, owes(BOB, 8): 1}))
    every = ids(await settling.pending(10))
    assert await settling.claim(Group("0x" + "d" * 40, (Entry(BOB, 8, 5, 5, every),)), NOW) is None
    number = await settling.claim(Group(CONTRACT, (Entry(BOB, 8, 5, 5, every),)), NOW)
    (entry,) = (await look(settling, number)).entries
    assert (entry.holder, entry.token_id, entry.credits) == (BOB, 8, 1)
    assert len(await settling.pending(10)) == 2
    await store.close()


@in_reactor
async def test_token_that_has_no_number(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    names = ["x", "-1", "07", "", "1" * 79, "\u0667", str(2**256 - 1), "0"]
    accounts = {owes(ALICE)._replace(name=name): 1 for name in names}
    await store.write_batch(batch_of(accounts))
    assert {charge.token.id for charge in await settling.pending(99)} == {0, 2**256 - 1}
    assert {kept.spent for kept in await store.read_accounts([*accounts])} == {1}
    settlement = await claim(settling)
    assert sorted(entry.token_id for entry in settlement.entries) == [0, 2**256 - 1]
    name = await sign(settling, settlement, 0)
    await mine(settling, settlement.id, name)
    kept = await store.read_accounts([*accounts])
    assert [each.spent for each in kept] == [1, 1, 1, 1, 1, 1, 0, 0]
    await store.close()


@in_reactor
async def test_uncollected_charges(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3, bob=4, carol=5)
    settlement = await claim(settling)
    name = await sign(settling, settlement, 0, burns=[0, 4, 1])
    await mine(settling, settlement.id, name)
    await settling.mark(settlement.id, Mark(E.CONFIRM, name), NOW + 3)
    assert await states(store) == [
        ("alice", 3, C.BURNED),
        ("bob", 4, C.BURNED),
        ("carol", 5, C.BURNED),
        ("alice", 3, C.UNCOLLECTED),
        ("carol", 4, C.UNCOLLECTED),
    ]
    carols, alices = (await store.charges(ChargeQuery(states=(C.UNCOLLECTED,))))[:2]
    assert carols.origin == alices.origin == settlement.id
    assert carols.reason == "the payer had not enough"
    assert (carols.settlement, carols.open, carols.created) == (None, False, NOW + 3)
    assert await log_of(store, "charge", carols.id) == [("short", "", "uncollected")]

    # Those that were looked at least recently come first.
    assert ids(await settling.uncollected(9)) == (alices.id, carols.id)
    await settling.touch([alices.id], NOW + 9)
    assert ids(await settling.uncollected(9)) == (carols.id, alices.id)
    assert ids(await settling.uncollected(1)) == (carols.id,)
    burned = (await store.charges(ChargeQuery(states=(C.BURNED,))))[0]
    before = await everything(store, settling)
    await settling.touch([burned.id], NOW + 20)
    await settling.retry([burned.id, 12345], NOW + 20)
    await settling.touch([], NOW + 20)
    await settling.retry([], NOW + 20)
    assert await everything(store, settling) == before

    await settling.retry([carols.id], NOW + 10)
    assert ids(await settling.uncollected(9)) == (alices.id,)
    (again,) = await settling.pending(9)
    assert (again.id, again.credits, again.since) == (carols.id, 4, NOW + 3)
    # What is metered meanwhile is another charge, and both are settled together.
    await meter(store, carol=6)
    settlement = await claim(settling)
    (entry,) = settlement.entries
    assert (entry.credits, len(entry.charges)) == (10, 2)
    assert await log_of(store, "charge", carols.id) == [
        ("short", "", "uncollected"),
        ("retry", "uncollected", "pending"),
        ("claim", "pending", "claimed"),
    ]
    await store.close()


@in_reactor
async def test_operator_has_charges_retried(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3)
    nothing = await claim(settling)
    await settling.mark(nothing.id, Mark(E.NOTHING), NOW)
    await meter(store, bob=4)
    failed = await claim(settling)
    await settling.mark(failed.id, Mark(E.GIVE_UP), NOW, reason="ERC1155: \0" + "x" * 9999)
    await meter(store, carol=5)
    _, alices, bobs, carols = (row.id for row in (await store.charges(ChargeQuery()))[::-1])
    (row,) = await store.charges(ChargeQuery(states=(C.ERROR,)))
    assert (row.id, row.settlement, row.reason[:11]) == (bobs, failed.id, "ERC1155: \ufffdx")
    assert (await stored(store, failed.id)).reason == row.reason

    assert await store.retry_charges([carols, 12345], ENTRY, NOW) == 0
    assert await store.retry_charges([], ENTRY, NOW) == 0
    assert await store.retry_charges([bobs, carols], ENTRY, NOW) == 1
    assert await store.retry_charges(None, ENTRY, NOW) == 1
    assert await store.retry_charges(None, ENTRY, NOW) == 0
    assert sorted(ids(await settling.pending(9))) == [alices, bobs, carols]
    (row,) = await store.charges(ChargeQuery(holder=BOB))
    assert (row.settlement, row.origin, row.reason) == (None, failed.id, "")
    assert len(await store.audit(10)) == 5
    (_, event), *_ = await store.ledger_events(10, subject=("charge", str(bobs)))
    assert json.loads(event.detail) == {"credits": 4, "actor": "token", "source": "127.0.0.1"}
    assert await unburned(store, ALICE, BOB, CAROL) == [3, 4, 5]
    await store.close()


@in_reactor
async def test_what_is_owed(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    assert await store.owed() == []
    await meter(store, alice=3, bob=4)
    settlement = await claim(settling)
    await settling.mark(settlement.id, Mark(E.NOTHING), NOW + 5)
    await meter(store, alice=10)
    pending, uncollected = await store.owed()
    assert pending[:3] == (C.PENDING, 10, 1)
    assert uncollected == Owed(C.UNCOLLECTED, 7, 2, NOW + 5)
    await store.close()


# --- settlements ------------------------------------------------------------------------------


@in_reactor
async def test_everything_about_a_settlement_comes_back(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    first, second = transaction(3, "a"), transaction(3, "b", 2 * 10**20)
    await settling.sign(settlement.id, Mark(E.SIGN, first.hash), settlement.entries, first, NOW + 1)
    found = await look(settling, settlement.id)
    assert found.transactions == (first,)
    assert [type(value) for value in found.transactions[0]] == [type(value) for value in first]
    fees = Fees(first.max_fee, first.priority)
    assert found.settlement == Settlement(S.SIGNED, 3, (Sent(first.hash, fees, NOW),), 0)

    await settling.sent(settlement.id, first.hash, NOW + 2)
    await settling.sent(settlement.id, first.hash, NOW + 3)
    found = await look(settling, settlement.id)
    assert found.settlement.state is S.SENT
    assert found.settlement.transactions == (Sent(first.hash, fees, NOW, NOW + 3),)
    await settling.sign(settlement.id, Mark(E.REPLACE, second.hash), None, second, NOW + 4)
    found = await look(settling, settlement.id)
    assert found.settlement.state is S.SIGNED
    assert [each.hash for each in found.settlement.transactions] == [first.hash, second.hash]
    await settling.sent(settlement.id, second.hash, NOW + 5)

    receipt = Receipt(17, True, 99_000, 10**20)
    await settling.mark(settlement.id, Mark(E.MINE, first.hash), NOW + 6, receipt=receipt)
    mined = first._replace(
        sent_at=NOW + 3, block=17, gas_used=99_000, gas_price=10**20, outcome="succeeded"
    )
    second = second._replace(sent_at=NOW + 5)
    assert (await look(settling, settlement.id)).transactions == (mined, second)

    await settling.mark(settlement.id, Mark(E.REORGANIZE, second.hash), NOW + 7)
    found = await look(settling, settlement.id)
    waiting = first._replace(sent_at=NOW + 3), second._replace(sent_at=None, since=NOW + 7)
    assert (found.settlement.state, found.transactions) == (S.SENT, waiting)

    await settling.mark(settlement.id, Mark(E.MINE, first.hash), NOW + 8, receipt=receipt)
    await settling.mark(settlement.id, Mark(E.CONFIRM, first.hash), NOW + 9)
    assert await settling.under_way() == []
    found = await stored(store, settlement.id)
    assert found.transactions == (mined, waiting[1]._replace(outcome="displaced"))
    assert (found.settlement.state, found.settlement.nonce) == (S.CONFIRMED, 3)
    assert (found.entries, found.created, found.updated) == (settlement.entries, NOW, NOW + 9)
    assert await states(store) == [("alice", 7, C.BURNED)]
    assert await log_of(store, "settlement", settlement.id) == [
        ("claim", "", "claimed"),
        ("sign", "claimed", "signed"),
        ("send", "signed", "sent"),  # once: what is sent again does not fill the log
        ("replace", "sent", "signed"),
        ("send", "signed", "sent"),
        ("mine", "sent", "mined"),
        ("reorganize", "mined", "sent"),
        ("mine", "sent", "mined"),
        ("confirm", "mined", "confirmed"),
    ]
    await store.close()


@in_reactor
async def test_reverted_and_tried_again(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    await settling.mark(settlement.id, Mark(E.REVERT), NOW, reason="in a dry run")
    name = await sign(settling, settlement, 3)
    await mine(settling, settlement.id, name, succeeded=False)
    await settling.mark(settlement.id, Mark(E.REVERT, name), NOW, reason="in a block")
    found = await look(settling, settlement.id)
    assert found.settlement == Settlement(S.CLAIMED, None, (), 2)
    assert [each.outcome for each in found.transactions] == ["reverted"]
    assert found.reason == "in a block"
    name = await sign(settling, settlement, 4)
    found = await look(settling, settlement.id)
    assert [each.hash for each in found.settlement.transactions] == [name]
    assert [each.nonce for each in found.transactions] == [3, 4]
    await mine(settling, settlement.id, name, succeeded=False)
    await settling.mark(settlement.id, Mark(E.GIVE_UP, name), NOW, reason="for good")
    found = await stored(store, settlement.id)
    assert (found.settlement.state, found.settlement.attempts) == (S.ERROR, 2)
    assert [entry.burn for entry in found.entries] == [0]
    assert await states(store) == [("alice", 7, C.ERROR)]
    await store.close()


@in_reactor
async def test_displaced_and_tried_again(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    await sign(settling, settlement, 3)
    await settling.mark(settlement.id, Mark(E.DISPLACE, "0xstranger"), NOW)
    found = await look(settling, settlement.id)
    assert found.settlement == Settlement(S.CLAIMED)
    assert [each.outcome for each in found.transactions] == ["displaced"]
    (_, event), *_ = await store.ledger_events(1)
    assert json.loads(event.detail) == {"hash": "0xstranger"}
    # Signed as it would be again, the entries have what they are to burn anew.
    await sign(settling, settlement, 4, burns=[5])
    assert (await look(settling, settlement.id)).entries[0].short == 2
    await store.close()


@in_reactor
async def test_block_that_was_replaced_by_another(new_store: NewStore) -> None:
    """Where the chain has another mind in the end, the end counts."""
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    name = await sign(settling, settlement, 3)
    await mine(settling, settlement.id, name, succeeded=True)
    await settling.mark(settlement.id, Mark(E.REVERT, name), NOW)
    found = await look(settling, settlement.id)
    assert [each.outcome for each in found.transactions] == ["reverted"]
    assert await unburned(store, ALICE) == [7]
    name = await sign(settling, settlement, 4)
    await mine(settling, settlement.id, name, succeeded=False)
    await settling.mark(settlement.id, Mark(E.CONFIRM, name), NOW)
    found = await stored(store, settlement.id)
    assert [each.outcome for each in found.transactions] == ["reverted", "succeeded"]
    assert await unburned(store, ALICE) == [0]
    await store.close()


@in_reactor
async def test_split(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3, bob=4, carol=5)
    settlement = await claim(settling)
    await settling.mark(settlement.id, Mark(E.REVERT), NOW)
    alices, bobs, carols = settlement.entries
    number = await settling.split(settlement.id, [bobs, alices], NOW + 1)
    old, new = await settling.under_way()
    assert (old.id, old.entries) == (settlement.id, (carols,))
    assert (new.id, new.entries, new.contract) == (number, (alices, bobs), CONTRACT)
    assert new.settlement == old.settlement == Settlement(S.CLAIMED, attempts=1)
    assert await log_of(store, "charge", bobs.charges[0]) == [
        ("meter", "", "pending"),
        ("claim", "pending", "claimed"),
        ("split", "claimed", "claimed"),
    ]
    name = await sign(settling, new, 0)
    await mine(settling, new.id, name)
    await settling.mark(new.id, Mark(E.CONFIRM, name), NOW)
    assert await states(store) == [
        ("alice", 3, C.BURNED),
        ("bob", 4, C.BURNED),
        ("carol", 5, C.CLAIMED),
    ]
    await store.close()


@in_reactor
async def test_settlements_of_others_are_none_of_our_business(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    other = await own(store, "0x" + "ff" * 20)
    assert await other.under_way() == []
    with pytest.raises(IllegalTransitionError):
        await other.mark(settlement.id, Mark(E.NOTHING), NOW)
    await meter(store, alice=1)
    theirs = await claim(other)
    assert [each.id for each in await settling.under_way()] == [settlement.id]
    await sign(settling, settlement, 5)
    await sign(other, theirs, 5)  # another account's nonce
    await store.close()


@in_reactor
async def test_queries(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    numbers = []
    for _ in range(3):
        await meter(store, alice=1)
        settlement = await claim(settling)
        await settling.mark(settlement.id, Mark(E.NOTHING), NOW)
        numbers.append(settlement.id)
    await meter(store, alice=1)
    numbers.append((await claim(settling)).id)

    async def settlements(**query: object) -> list[int]:
        found = await store.settlements(SettlementQuery(**query))  # type: ignore[arg-type]
        return [numbers.index(each.id) for each in found]

    assert await settlements() == [3, 2, 1, 0]
    assert await settlements(states=(S.CLAIMED, S.ERROR)) == [3]
    assert await settlements(before=numbers[2]) == [1, 0]
    assert await settlements(limit=2) == [3, 2]

    every = [row.id for row in await store.charges(ChargeQuery())]
    assert every == sorted(every, reverse=True)
    for query, count in [
        (ChargeQuery(states=(C.UNCOLLECTED,)), 3),
        (ChargeQuery(states=(C.BURNED, C.CLAIMED)), 4),
        (ChargeQuery(source=CONTRACT, name="7", holder=ALICE), 7),
        (ChargeQuery(source="prepaid"), 0),
        (ChargeQuery(name="8"), 0),
        (ChargeQuery(holder=BOB), 0),
        (ChargeQuery(settlement=numbers[0]), 1),
        (ChargeQuery(before=every[2]), 4),
        (ChargeQuery(limit=2), 2),
    ]:
        assert len(await store.charges(query)) == count, query

    events = await store.ledger_events(100)
    assert [number for number, _ in events] == sorted((n for n, _ in events), reverse=True)
    assert await store.ledger_events(2, before=events[0][0]) == events[1:3]
    subject = ("settlement", str(numbers[0]))
    assert {event.subject for _, event in await store.ledger_events(9, subject=subject)} == {
        str(numbers[0])
    }
    await store.close()


# --- what cannot happen -----------------------------------------------------------------------

Call = Callable[[ISettling, StoredSettlement, str], Awaitable[object]]


def marks(event: SettlementEvent, name: str | None = None, succeeded: bool | None = None) -> Call:
    receipt = None if succeeded is None else Receipt(1, succeeded)

    def call(settling: ISettling, settlement: StoredSettlement, known: str) -> Awaitable[object]:
        mark = Mark(event, known if name is None else name)
        return settling.mark(settlement.id, mark, NOW + 50, receipt=receipt)

    return call


def signs(
    event: SettlementEvent, signed: StoredTransaction, change: Callable[[Entry], Entry] | None
) -> Call:
    def call(settling: ISettling, settlement: StoredSettlement, _: str) -> Awaitable[object]:
        entries = None if change is None else [change(entry) for entry in settlement.entries]
        return settling.sign(settlement.id, Mark(event, signed.hash), entries, signed, NOW + 50)

    return call


def splits(*entries: int) -> Call:
    return lambda settling, settlement, _: settling.split(
        settlement.id, [settlement.entries[at] for at in entries], NOW + 50
    )


def sends(name: str) -> Call:
    return lambda settling, settlement, _: settling.sent(settlement.id, name, NOW + 50)


OURS, NEXT = transaction(3, "other"), transaction(4)

ILLEGAL: dict[str, list[Call]] = {
    "claimed": [
        *(marks(event) for event in (E.MINE, E.REORGANIZE, E.CONFIRM, E.DISPLACE)),
        *(marks(event) for event in (E.SIGN, E.REPLACE, E.SEND, E.SPLIT)),
        marks(E.MINE, succeeded=True),
        sends("0x1"),
        splits(),
        splits(0, 1),
        lambda settling, settlement, _: settling.split(settlement.id, [Entry(CAROL, 7, 1, 1)], NOW),
        signs(E.REPLACE, NEXT, None),
        signs(E.SEND, NEXT, None),
        signs(E.SIGN, NEXT, lambda entry: entry._replace(burn=entry.credits + 1)),
        signs(E.SIGN, NEXT, lambda entry: entry._replace(burn=-1)),
        signs(E.SIGN, NEXT, lambda entry: entry._replace(credits=1, burn=1)),
        signs(E.SIGN, NEXT, lambda entry: entry._replace(holder=ALICE)),
        signs(E.SIGN, NEXT, lambda entry: entry._replace(token_id=8)),
        signs(E.SIGN, transaction(99), lambda entry: entry),  # another settlement's nonce
    ],
    "sent": [
        *(marks(event) for event in (E.NOTHING, E.REORGANIZE, E.CONFIRM, E.REVERT, E.GIVE_UP)),
        marks(E.MINE),  # without a receipt
        marks(E.MINE, "0xstranger", succeeded=True),
        sends("0x1"),
        splits(0),
        signs(E.SIGN, NEXT, lambda entry: entry),
        signs(E.REPLACE, NEXT, None),  # under another nonce
        signs(E.REPLACE, OURS, lambda entry: entry),  # with other entries, perhaps
    ],
    "mined": [
        *(marks(event) for event in (E.NOTHING, E.MINE, E.DISPLACE)),
        *(marks(event, "0x1") for event in (E.REORGANIZE, E.CONFIRM, E.REVERT, E.GIVE_UP)),
        marks(E.CONFIRM, succeeded=False),
        marks(E.REVERT, succeeded=True),
        marks(E.GIVE_UP, succeeded=True),
        sends("0x1"),
        splits(0),
        signs(E.SIGN, NEXT, lambda entry: entry),
        signs(E.REPLACE, OURS, None),
    ],
    "confirmed": [
        *(marks(event) for event in E),
        sends("0x1"),
        splits(0),
        signs(E.SIGN, NEXT, lambda entry: entry),
    ],
}


@pytest.mark.parametrize("state", ILLEGAL)
@in_reactor
async def test_illegal_changes_change_nothing(new_store: NewStore, state: str) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, carol=9)
    await sign(settling, await claim(settling), 99)
    await meter(store, alice=3, bob=4)
    settlement = await claim(settling)
    name = "0x1"
    if state != "claimed":
        name = await sign(settling, settlement, 3, burns=[3, 2])
    if state in ("mined", "confirmed"):
        await mine(settling, settlement.id, name)
    if state == "confirmed":
        await settling.mark(settlement.id, Mark(E.CONFIRM, name), NOW)
    before = await everything(store, settling)
    for number, call in enumerate(ILLEGAL[state]):
        with pytest.raises(IllegalTransitionError):
            await call(settling, settlement, name)
        assert await everything(store, settling) == before, number
    with pytest.raises(IllegalTransitionError):
        await settling.sent(12345, name, NOW)
    await meter(store, alice=3)
    assert await settling.claim(await only_group(settling), NOW) is not None, "it goes on"
    await store.close()


@in_reactor
async def test_transaction_that_is_stored_already(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=3)
    settlement = await claim(settling)
    signed = transaction(3)
    await settling.sign(settlement.id, Mark(E.SIGN, signed.hash), None, signed, NOW)
    before = await everything(store, settling)
    with pytest.raises(IllegalTransitionError):
        await settling.sign(settlement.id, Mark(E.REPLACE, signed.hash), None, signed, NOW)
    assert await everything(store, settling) == before
    await store.close()
