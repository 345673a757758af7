"""The line between a supervisor and a worker: over a real pair of sockets, on one loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from gatekeeper.errors import GatekeeperError
from gatekeeper.process import link as module
from gatekeeper.process.link import Handler, Link, LinkError
from tests.auth.redis_nodes import on_loop, until


class Ends:
    """Both ends, and what became of them."""

    def __init__(self, **handlers: Handler) -> None:
        loop = asyncio.get_running_loop()
        ours, its = socket.socketpair()
        self.clock = Clock()
        self.ended: list[str] = []
        self.here = Link(ours, loop, self.clock, {}, lambda: self.ended.append("here"))
        self.there = Link(its, loop, self.clock, handlers, lambda: self.ended.append("there"))
        self.raw = ours

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.here.close()
        self.there.close()


async def answer(asked: Deferred[Any]) -> Any:
    return await asked.asFuture(asyncio.get_running_loop())


@on_loop
async def test_messages_come_in_order() -> None:
    came: list[Any] = []
    with Ends(word=lambda *words: came.append(words)) as ends:
        for number in range(1000):
            ends.here.tell("word", number, {"a": [b"\x00", None]})
        await until(lambda: len(came) == 1000, "all")
    assert came == [(number, {"a": [b"\x00", None]}) for number in range(1000)]


async def _later(value: int) -> int:
    await succeed(None)
    return value + 1


@pytest.mark.parametrize(
    "handler", [lambda value: value + 1, lambda value: succeed(value + 1), _later]
)
@on_loop
async def test_questions_are_answered(handler: Callable[[int], Any]) -> None:
    with Ends(more=handler) as ends:
        assert await answer(ends.here.ask("more", 1)) == 2


@on_loop
async def test_answers_may_come_in_another_order() -> None:
    waiting: Deferred[str] = Deferred()

    def quick() -> str:
        waiting.callback("slow")
        return "quick"

    with Ends(slow=lambda: waiting, quick=quick) as ends:
        slow = answer(ends.here.ask("slow"))
        assert await answer(ends.here.ask("quick")) == "quick"
        assert await slow == "slow"


@on_loop
async def test_what_fails() -> None:
    def ours() -> None:
        raise GatekeeperError("not today")

    with Ends(ours=ours) as ends, pytest.raises(LinkError, match="ours: not today"):
        await answer(ends.here.ask("ours"))


@on_loop
async def test_a_fault_is_told_in_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    def secret() -> None:
        raise ValueError("s3cret")

    with Ends(secret=secret) as ends, pytest.raises(LinkError, match="see the log") as caught:
        await answer(ends.here.ask("secret"))
    assert "s3cret" not in str(caught.value)


@on_loop
async def test_who_does_not_answer_in_time() -> None:
    waiting: Deferred[str] = Deferred()
    with Ends(never=lambda: waiting) as ends:
        asked = ends.here.ask("never", timeout=5.0)
        ends.clock.advance(5.0)
        with pytest.raises(LinkError, match="no answer within 5 s"):
            await answer(asked)
        # The answer that comes too late is for nobody.
        waiting.callback("late")
        await asyncio.sleep(0)
        assert not ends.here.is_over


@on_loop
async def test_the_other_end_is_gone() -> None:
    waiting: Deferred[str] = Deferred()
    with Ends(never=lambda: waiting) as ends:
        asked = ends.here.ask("never")
        ends.there.close()
        with pytest.raises(LinkError, match="it has ended"):
            await answer(asked)
        assert ends.ended == ["here"]
        assert ends.here.is_over
        ends.here.tell("nobody")
        with pytest.raises(LinkError, match="it is not there"):
            await answer(ends.here.ask("nobody"))


@on_loop
async def test_much_at_once_and_sockets_between() -> None:
    """More than a pair of sockets holds; each socket comes with its message."""
    came: list[tuple[str, int]] = []

    def take(listening: socket.socket, number: int) -> None:
        with listening:
            came.append((listening.getsockname(), number))

    names = []
    with Ends(take=take, data=lambda data: came.append(("", len(data)))) as ends:
        for number in range(40):
            with socket.socket(socket.AF_UNIX) as each:
                each.bind("")
                names.append(each.getsockname())
                ends.here.tell("take", number, carried=each)
            ends.here.tell("data", b"x" * 300_000)
        await until(lambda: len(came) == 80, "all")
    assert came[::2] == [(name, number) for number, name in enumerate(names)]
    assert set(came[1::2]) == {("", 300_000)}


@on_loop
async def test_who_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1_000_000)
    loop = asyncio.get_running_loop()
    ours, its = socket.socketpair()
    ended: list[str] = []
    link = Link(ours, loop, Clock(), {}, lambda: ended.append("here"))
    with its:
        for _ in range(20):
            link.tell("data", b"x" * 100_000)
        assert link.is_over
        assert ended == ["here"]


@on_loop
async def test_too_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    waiting: Deferred[str] = Deferred()
    with Ends(never=lambda: waiting) as ends:
        asked = [ends.here.ask("never") for _ in range(3)]
        with pytest.raises(LinkError, match="it is overloaded"):
            await answer(asked[2])
        for each in asked[:2]:
            each.addErrback(lambda _: None)
