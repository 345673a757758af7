from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from gatekeeper.auth.hashing import OverloadError
from gatekeeper.auth.slots import Slots
from tests.auth.support import outcome


class Calls:
    """Calls that are answered by hand."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.open: dict[str, Deferred[str]] = {}
        self.cancelled: list[str] = []

    def submit(self, name: str, client: str = "192.0.2.1") -> list[object]:
        def call() -> Deferred[str]:
            self.open[name] = Deferred(lambda _: self.cancelled.append(name))
            return self.open[name]

        self.last = self.slots.submit(client, call)
        return outcome(self.last)

    def answer(self, name: str) -> None:
        self.open.pop(name).callback(name)


def test_so_many_at_once() -> None:
    calls = Calls(Slots(2, 10))
    results = [calls.submit(name) for name in "abcd"]
    assert list(calls.open) == ["a", "b"]
    calls.answer("b")
    assert list(calls.open) == ["a", "c"]
    assert results == [[], ["b"], [], []]
    for name in "acd":
        calls.answer(name)
    assert results == [["a"], ["b"], ["c"], ["d"]]
    assert repr(calls.slots) == "<Slots: 0 running, 0 waiting>"


def test_each_client_has_its_turn() -> None:
    calls = Calls(Slots(1, 10))
    for name in ("a1", "a2", "a3"):
        calls.submit(name, "192.0.2.1")
    calls.submit("b1", "192.0.2.2")
    order = []
    while calls.open:
        (name,) = calls.open
        order.append(name)
        calls.answer(name)
    assert order == ["a1", "a2", "b1", "a3"]


def test_the_flood_pays() -> None:
    calls = Calls(Slots(1, 2))
    first, second, third = (calls.submit(name) for name in "abc")
    other = calls.submit("x", "192.0.2.2")
    assert (first, second, other) == ([], [], [])
    (failure,) = third
    assert isinstance(failure, Failure)
    assert failure.check(OverloadError)
    for name in "abx":
        calls.answer(name)
    assert (first, second, other) == (["a"], ["b"], ["x"])


def test_an_error_frees_the_slot() -> None:
    calls = Calls(Slots(1, 2))
    first = calls.submit("a")
    calls.submit("b")
    calls.open.pop("a").errback(ValueError())
    assert isinstance(first[0], Failure)
    assert list(calls.open) == ["b"]


def test_a_call_that_raises() -> None:
    slots = Slots(1, 2)

    def broken() -> Deferred[str]:
        raise ValueError

    (failure,) = outcome(slots.submit("", broken))
    assert failure.check(ValueError)
    assert repr(slots) == "<Slots: 0 running, 0 waiting>"


def test_to_cancel_what_runs() -> None:
    calls = Calls(Slots(1, 2))
    result = calls.submit("a")
    calls.last.cancel()
    assert calls.cancelled == ["a"]
    assert isinstance(result[0], Failure)
    assert result[0].check(CancelledError)
    assert repr(calls.slots) == "<Slots: 0 running, 0 waiting>"


def test_to_cancel_what_waits() -> None:
    calls = Calls(Slots(1, 2))
    calls.submit("a")
    result = calls.submit("b")
    calls.last.cancel()
    assert isinstance(result[0], Failure)
    calls.submit("c")
    calls.answer("a")
    assert list(calls.open) == ["c"]


def test_what_was_cancelled_may_be_turned_away() -> None:
    calls = Calls(Slots(1, 1))
    calls.submit("a")
    calls.submit("b")
    calls.last.cancel()
    calls.submit("c")
    calls.submit("d", "192.0.2.2")
    calls.slots.close()
    calls.answer("a")
    assert calls.open == {}


def test_close() -> None:
    calls = Calls(Slots(1, 2))
    running, waiting = calls.submit("a"), calls.submit("b")
    calls.slots.close()
    assert isinstance(waiting[0], Failure)
    assert isinstance(calls.submit("c")[0], Failure)
    calls.answer("a")
    assert running == ["a"]
