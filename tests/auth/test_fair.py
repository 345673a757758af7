from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.fair import FairQueue, neighbourhood


def drain(queue: FairQueue[str]) -> list[str]:
    things = []
    while (thing := queue.get()) is not None:
        things.append(thing)
    return things


def test_one_client_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for thing in "abc":
        assert queue.put("1", "u", thing) is None
    assert drain(queue) == ["a", "b", "c"]
    assert queue.get() is None


def test_clients_take_turns_and_so_do_the_users_of_a_client() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for client, user, thing in [
        ("1", "admin", "a1"),
        ("1", "admin", "a2"),
        ("1", "admin", "a3"),
        ("1", "bob", "b1"),
        ("2", "carol", "c1"),
    ]:
        queue.put(client, user, thing)
    assert drain(queue) == ["a1", "c1", "b1", "a2", "a3"]


def test_the_flood_pays_for_a_full_queue() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for thing in ("f1", "f2", "f3"):
        assert queue.put("flood", "u", thing) is None
    assert queue.put("flood", "u", "f4") == "f4"
    assert queue.put("calm", "u", "c") == "f3"
    assert drain(queue) == ["f1", "c", "f2"]


def test_within_a_client_the_user_with_most_pays() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for thing in ("a1", "a2", "a3"):
        queue.put("1", "admin", thing)
    assert queue.put("1", "bob", "b") == "a3"


def test_among_equals_the_newcomer_goes() -> None:
    queue: FairQueue[str] = FairQueue(2)
    queue.put("1", "u", "a")
    queue.put("2", "u", "b")
    assert queue.put("3", "u", "c") == "c"
    assert drain(queue) == ["a", "b"]


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.sampled_from("1234"), st.sampled_from("xyz"))),
        max_size=200,
    )
)
def test_bounded_and_nothing_is_lost_or_doubled(steps: list[tuple[str, str] | None]) -> None:
    queue: FairQueue[int] = FairQueue(8)
    put: set[int] = set()
    out: Counter[int] = Counter()
    for number, step in enumerate(steps):
        if step is None:
            thing = queue.get()
        else:
            put.add(number)
            thing = queue.put(*step, number)
        if thing is not None:
            out[thing] += 1
        assert len(queue) == len(put) - len(out) <= 8
    while (thing := queue.get()) is not None:
        out[thing] += 1
    assert set(out) == put
    assert all(count == 1 for count in out.values())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_nobody_waits_for_more_than_one_turn_of_each_other(clients: list[str]) -> None:
    queue: FairQueue[str] = FairQueue(30)
    for client in clients:
        queue.put(client, "u", client)
    served = drain(queue)
    for client in set(clients):
        turns = [i for i, who in enumerate(served) if who == client]
        for before, after in zip([-1, *turns], turns, strict=False):
            assert after - before <= len(set(clients))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_neighbourhood(address: str, expected: str) -> None:
    assert neighbourhood(address) == expected
