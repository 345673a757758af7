from __future__ import annotations

import threading

import pytest
from twisted.python.failure import Failure

from gatekeeper.auth.hashing import HashingQueue, OverloadError, ReactorThreads
from tests.auth.support import ManualThreads, outcome
from tests.store.support import in_reactor


def overloaded(results: list[str | Failure]) -> bool:
    return isinstance(results[0], Failure) and results[0].check(OverloadError) is not None


def test_as_much_runs_at_once_as_there_are_threads() -> None:
    threads = ManualThreads(size=2)
    queue: HashingQueue[str] = HashingQueue(threads)
    results = [outcome(queue.submit("1", "u", lambda n=n: n)) for n in "abc"]  # type: ignore[misc]
    assert repr(queue) == "<HashingQueue: 2 running, 1 waiting>"
    threads.finish()
    assert results == [["a"], [], []]
    threads.finish_all()
    assert results == [["a"], ["b"], ["c"]]
    assert repr(queue) == "<HashingQueue: 0 running, 0 waiting>"


def test_what_raises_makes_room_too() -> None:
    threads = ManualThreads()
    queue: HashingQueue[float] = HashingQueue(threads)
    broken = outcome(queue.submit("1", "u", lambda: 1 / 0))
    fine = outcome(queue.submit("1", "u", lambda: 1.0))
    threads.finish_all()
    assert isinstance(broken[0], Failure)
    assert broken[0].check(ZeroDivisionError)
    assert fine == [1.0]


def test_a_flood_is_turned_away_and_a_neighbour_is_not() -> None:
    threads = ManualThreads()
    queue: HashingQueue[str] = HashingQueue(threads, limit=4)
    flood = [outcome(queue.submit("2001:db8::1", "u", lambda: "flood")) for _ in range(100)]
    assert sum(map(overloaded, filter(None, flood))) == 95  # one runs, four wait
    calm = outcome(queue.submit("192.0.2.7", "u", lambda: "calm"))
    assert calm == []
    threads.finish()  # what ran already
    threads.finish()
    threads.finish()
    assert calm == ["calm"]


def test_addresses_of_one_network_count_together() -> None:
    queue: HashingQueue[str] = HashingQueue(ManualThreads(), limit=2)
    for host in range(3):
        queue.submit(f"2001:db8::{host}", "u", lambda: "")
    assert overloaded(outcome(queue.submit("2001:db8::9", "u", lambda: "")))
    assert outcome(queue.submit("2001:db8:0:1::9", "u", lambda: "")) == []


def test_closing_turns_away_who_waits_and_who_comes() -> None:
    threads = ManualThreads()
    queue: HashingQueue[str] = HashingQueue(threads)
    running = outcome(queue.submit("1", "u", lambda: "done"))
    waiting = outcome(queue.submit("1", "u", lambda: "never"))
    queue.close()
    assert threads.closed
    assert overloaded(waiting)
    assert overloaded(outcome(queue.submit("1", "u", lambda: "never")))
    threads.finish()
    assert running == ["done"]


@in_reactor
async def test_real_threads_are_not_the_reactors() -> None:
    threads = ReactorThreads()
    try:
        assert 1 <= threads.size <= 2
        assert await threads.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
    finally:
        threads.close()


def test_threads_that_never_ran_close() -> None:
    ReactorThreads().close()
