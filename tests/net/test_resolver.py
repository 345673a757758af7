from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gatekeeper.config.destinations import parse_allow_rule
from gatekeeper.errors import Refusal, UpstreamError
from gatekeeper.net.destinations import DestinationPolicy
from gatekeeper.net.resolver import MOST_ADDRESSES, Resolver, system_look_up


class Loop:
    """What a resolver uses of a loop, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.closed = False

    def time(self) -> float:
        return self.clock.seconds()

    def call_later(self, delay: float, call: Callable[..., object]) -> Any:
        return self.clock.callLater(delay, call)

    def call_soon_threadsafe(self, call: Callable[..., object], *arguments: object) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        call(*arguments)


class Names(Executor):
    """Look-ups that end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.running: dict[str, Future[list[str]]] = {}

    def submit(self, call: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        (host,) = arguments
        self.asked.append(host)
        self.running[host] = Future()
        return self.running[host]

    def answer(self, host: str, *addresses: str) -> None:
        self.running.pop(host).set_result(list(addresses))

    def fail(self, host: str, error: Exception) -> None:
        self.running.pop(host).set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for future in self.running.values():
            future.cancel()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def resolver(loop: Loop, names: Names) -> Resolver:
    return make_resolver(loop, names)


def make_resolver(loop: Loop, names: Names, **bounds: Any) -> Resolver:
    return Resolver(cast(asyncio.AbstractEventLoop, loop), executor=names, **bounds)


def result(deferred: Deferred[list[str]]) -> list[str] | Exception | None:
    """What there is by now: addresses, an error, or nothing."""
    results: list[list[str] | Failure] = []
    deferred.addBoth(results.append)
    if not results:
        return None
    (one,) = results
    if isinstance(one, Failure):
        assert isinstance(one.value, Exception)
        return one.value
    return one


def status(deferred: Deferred[list[str]]) -> int:
    error = result(deferred)
    assert isinstance(error, Refusal)
    return error.status


class TestResolving:
    def test_addresses_come_in_the_systems_order(self, resolver: Resolver, names: Names) -> None:
        waiting = resolver.resolve("a.net")
        names.answer("a.net", "2001:db8::1", "192.0.2.1")
        assert result(waiting) == ["2001:db8::1", "192.0.2.1"]

    @pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::1"])
    def test_addresses_are_not_looked_up(self, resolver: Resolver, names: Names, ip: str) -> None:
        assert result(resolver.resolve(ip)) == [ip]
        assert names.asked == []

    @pytest.mark.parametrize(
        "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), OSError()]
    )
    def test_no_such_name(self, resolver: Resolver, names: Names, error: Exception) -> None:
        waiting = resolver.resolve("a.net")
        names.fail("a.net", error)
        failed = result(waiting)
        assert isinstance(failed, UpstreamError)
        assert (failed.status, failed.reason) == (502, "name_not_resolved")

    def test_a_name_without_addresses(self, resolver: Resolver, names: Names) -> None:
        waiting = resolver.resolve("a.net")
        names.answer("a.net")
        assert status(waiting) == 502

    def test_more_addresses_than_anybody_tries_are_left_out(
        self, resolver: Resolver, names: Names
    ) -> None:
        waiting = resolver.resolve("a.net")
        addresses = [f"192.0.2.{number}" for number in range(200)]
        names.answer("a.net", *addresses)
        assert result(waiting) == addresses[:MOST_ADDRESSES]


class TestWaiting:
    def test_one_look_up_for_all_who_ask(self, resolver: Resolver, names: Names) -> None:
        waiting = [resolver.resolve("a.net") for _ in range(3)]
        names.answer("a.net", "192.0.2.1")
        assert [result(one) for one in waiting] == [["192.0.2.1"]] * 3
        assert names.asked == ["a.net"]

    def test_nobody_waits_longer_than_the_timeout(
        self, resolver: Resolver, names: Names, loop: Loop
    ) -> None:
        first = resolver.resolve("a.net")
        loop.clock.advance(3)
        second = resolver.resolve("a.net")
        loop.clock.advance(2)
        error = result(first)
        assert isinstance(error, UpstreamError)
        assert (error.status, error.reason) == (504, "resolver_timeout")
        assert result(second) is None
        loop.clock.advance(3)
        assert names.asked == ["a.net"]

    def test_who_comes_after_a_timeout_waits_for_the_same_look_up(
        self, resolver: Resolver, names: Names, loop: Loop
    ) -> None:
        first = resolver.resolve("a.net")
        loop.clock.advance(6)
        second = resolver.resolve("a.net")
        names.answer("a.net", "192.0.2.1")
        assert status(first) == 504
        assert result(second) == ["192.0.2.1"]
        assert names.asked == ["a.net"]
        assert loop.clock.getDelayedCalls() == []

    def test_who_cancels_does_not_disturb_others(
        self, resolver: Resolver, names: Names, loop: Loop
    ) -> None:
        first, second = resolver.resolve("a.net"), resolver.resolve("a.net")
        first.cancel()
        assert isinstance(result(first), CancelledError)
        names.answer("a.net", "192.0.2.1")
        assert result(second) == ["192.0.2.1"]
        assert loop.clock.getDelayedCalls() == []

    def test_an_answer_may_make_others_cancel(self, resolver: Resolver, names: Names) -> None:
        waiting = [resolver.resolve("a.net") for _ in range(3)]

        def cancel_all(_: object) -> None:
            for one in waiting:
                one.cancel()

        for one in waiting:
            one.addBoth(cancel_all)
        names.answer("a.net", "192.0.2.1")
        assert all(one.called for one in waiting)

    def test_look_ups_are_bounded(self, loop: Loop, names: Names) -> None:
        resolver = make_resolver(loop, names, most=2)
        resolver.resolve("a.net")
        resolver.resolve("b.net")
        assert status(resolver.resolve("c.net")) == 503
        assert names.asked == ["a.net", "b.net"]
        same = resolver.resolve("a.net")
        names.answer("a.net", "192.0.2.1")
        assert result(same) == ["192.0.2.1"]
        assert result(resolver.resolve("c.net")) is None

    def test_close_ends_the_waiting(self, resolver: Resolver) -> None:
        waiting = resolver.resolve("a.net")
        resolver.close()
        assert status(waiting) == 502

    def test_a_look_up_may_end_after_the_loop(
        self, resolver: Resolver, names: Names, loop: Loop
    ) -> None:
        waiting = resolver.resolve("a.net")
        loop.closed = True
        names.answer("a.net", "192.0.2.1")
        assert result(waiting) is None


class TestRemembering:
    def test_for_a_moment(self, resolver: Resolver, names: Names, loop: Loop) -> None:
        resolver.resolve("a.net")
        names.answer("a.net", "192.0.2.1")
        loop.clock.advance(4.9)
        assert result(resolver.resolve("a.net")) == ["192.0.2.1"]
        loop.clock.advance(0.1)
        again = resolver.resolve("a.net")
        names.answer("a.net", "192.0.2.2")
        assert result(again) == ["192.0.2.2"]

    def test_failures_shorter(self, resolver: Resolver, names: Names, loop: Loop) -> None:
        assert result(resolver.resolve("a.net")) is None
        names.fail("a.net", socket.gaierror())
        loop.clock.advance(0.9)
        assert status(resolver.resolve("a.net")) == 502
        loop.clock.advance(0.1)
        assert result(resolver.resolve("a.net")) is None
        assert names.asked == ["a.net", "a.net"]

    def test_who_changes_his_list_changes_his_only(self, resolver: Resolver, names: Names) -> None:
        first = resolver.resolve("a.net")
        names.answer("a.net", "192.0.2.1")
        addresses = result(first)
        assert isinstance(addresses, list)
        addresses.clear()
        assert result(resolver.resolve("a.net")) == ["192.0.2.1"]

    def test_only_so_many(self, loop: Loop, names: Names) -> None:
        resolver = make_resolver(loop, names, cached=2)
        for host in ("a.net", "b.net", "c.net"):
            resolver.resolve(host)
            names.answer(host, "192.0.2.1")
        for host in ("b.net", "c.net", "a.net"):
            resolver.resolve(host)
        assert names.asked == ["a.net", "b.net", "c.net", "a.net"]


class TestChecked:
    POLICY = DestinationPolicy([parse_allow_rule("*:80")], [])

    def test_the_checked_addresses(self, resolver: Resolver, names: Names) -> None:
        waiting = resolver.resolve_checked(self.POLICY, "A.net.", 80)
        names.answer("a.net", "8.8.8.8", "8.8.4.4")
        assert result(waiting) == ["8.8.8.8", "8.8.4.4"]

    def test_one_bad_address_is_too_many(self, resolver: Resolver, names: Names) -> None:
        waiting = resolver.resolve_checked(self.POLICY, "a.net", 80)
        names.answer("a.net", "8.8.8.8", "127.0.0.1")
        assert status(waiting) == 403

    def test_a_name_that_is_not_allowed_is_not_looked_up(
        self, resolver: Resolver, names: Names
    ) -> None:
        assert status(resolver.resolve_checked(self.POLICY, "a.net", 22)) == 403
        assert names.asked == []

    def test_remembered_addresses_are_checked_again(self, resolver: Resolver, names: Names) -> None:
        lenient = DestinationPolicy([parse_allow_rule("a.net:80")], [])
        waiting = resolver.resolve_checked(lenient, "a.net", 80)
        names.answer("a.net", "10.0.0.1")
        assert result(waiting) == ["10.0.0.1"]
        assert status(resolver.resolve_checked(self.POLICY, "a.net", 80)) == 403


class TestSystem:
    def test_localhost(self) -> None:
        addresses = system_look_up("localhost")
        assert addresses
        assert set(addresses) <= {"127.0.0.1", "::1"}
        assert len(set(addresses)) == len(addresses)

    def test_no_such_name(self) -> None:
        with pytest.raises(socket.gaierror):
            system_look_up("a" * 300)  # refused without asking anybody

    def test_a_link_local_address_keeps_its_scope(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 2)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert system_look_up("a.net") == ["fe80::1%2", "2001:db8::1", "192.0.2.1"]

    def test_in_threads_on_a_real_loop(self) -> None:
        async def resolve() -> list[str]:
            loop = asyncio.get_running_loop()
            resolver = Resolver(loop)
            try:
                return await resolver.resolve("localhost").asFuture(loop)
            finally:
                resolver.close()

        assert set(asyncio.run(resolve())) <= {"127.0.0.1", "::1"}
