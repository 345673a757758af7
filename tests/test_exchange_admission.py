"""What is set aside for a request is settled or released, once, however the exchange ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import Deferred

from gatekeeper.auth.interfaces import Grant, Subscription
from gatekeeper.credits.admission import (
    STALE,
    Admission,
    Caller,
    Ending,
    Hold,
    Limit,
    Stale,
)
from gatekeeper.errors import JournalError, Refusal
from gatekeeper.routing import Route
from gatekeeper.usage.meter import Meter
from gatekeeper.usage.records import Spent, UsageRecord
from gatekeeper.usage.undelivered import Undelivered
from tests.memory import Peer
from tests.world import CLIENT, GUARDED, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
SPENT = Spent("prepaid", "default", "alice", 2)


@dataclass
class Till(Limit):
    """Answers as it is told to, and remembers what became of its holds."""

    refusal: Refusal | None = None
    known: bool = True
    callers: list[Caller] = field(default_factory=list)
    endings: list[Ending | None] = field(default_factory=list)
    asked: list[Deferred[None]] = field(default_factory=list)
    held: int = 0

    def reserve(self, caller: Caller) -> Hold | Stale | None:
        self.callers.append(caller)
        if self.refusal is not None:
            raise self.refusal
        if not self.known:
            return STALE
        self.held += 1
        return Note(self)

    async def read(self, caller: Caller) -> None:
        self.asked.append(Deferred())
        await self.asked[-1]


class Note(Hold):
    lines = (b"ratelimit: r=4",)

    def __init__(self, till: Till) -> None:
        self.till = till

    def settle(self, ending: Ending) -> Spent | None:
        self.till.held -= 1
        self.till.endings.append(ending)
        return SPENT if ending.status == 200 else None

    def release(self) -> None:
        self.till.held -= 1
        self.till.endings.append(None)


@pytest.fixture
def till() -> Till:
    return Till()


@pytest.fixture
def world(make_world: MakeWorld, till: Till) -> World:
    world = make_world(services=[GUARDED])
    route(world).admission = Admission([till])
    return world


def route(world: World) -> Route:
    (found,) = [each for each in world.assembly.routes if each.name == "shop"]
    return found


def ask(world: World, data: bytes = GET) -> Peer:
    client = world.connect()
    client.sends(data)
    return client


def test_what_was_spent_stands_in_the_record(world: World, till: Till) -> None:
    world.gate.answer = Grant("alice", subscription=Subscription("did:nv:1", "2", "0x3"))
    client = ask(world)
    assert till.held == 1
    world.upstream().sends(
        b"HTTP/1.1 200 OK\r\nNVMCreditsConsumed: 12\r\ncontent-length: 0\r\n\r\n"
    )
    answer = client.message()
    assert answer.values(b"ratelimit") == [b"r=4"]
    assert answer.values(b"NVMCreditsConsumed") == [b"12"]
    assert till.endings == [Ending(200, 1, 12)]
    record = world.record
    assert record.spent == (SPENT,)
    assert (record.did, record.owner) == ("did:nv:1", "0x3")
    (caller,) = till.callers
    assert caller == Caller("shop", world.gate.answer, CLIENT, counted=True)


def test_who_has_not_enough_uses_nothing(world: World, till: Till) -> None:
    till.refusal = Refusal("short", "No.", status=402, members={"required": 2, "available": 1})
    answer = ask(world).message()
    assert answer.status == 402
    assert b'"required": 2, "available": 1' in answer.body
    assert world.server.dialed == 0
    assert world.journal.records == []
    assert world.entry.reason == "short"


def test_what_was_set_aside_before_another_limit_refuses_is_released(
    world: World, till: Till
) -> None:
    late = Till(Refusal("short", "No.", status=429))
    route(world).admission = Admission([till, late])
    assert ask(world).message().status == 429
    assert till.endings == [None]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b"nonsense\r\n\r\n"]
)
def test_an_error_is_settled_with_its_status(world: World, till: Till, answer: bytes) -> None:
    client = ask(world)
    world.upstream().sends(answer)
    assert client.message().status in (500, 502)
    assert till.endings == [Ending(500 if b"500" in answer else 0, 1, None)]
    assert world.record.spent == ()


def test_who_leaves_in_the_middle_is_charged(world: World, till: Till) -> None:
    client = ask(world)
    world.upstream().sends(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
    client.resets()
    world.loop.settle()
    assert till.held == 0
    assert world.record.spent == (SPENT,)


class TestWhatIsNotKnown:
    def test_is_found_out_first(self, world: World, till: Till) -> None:
        till.known = False
        client = ask(world)
        assert world.server.dialed == 0
        till.known = True
        (asked,) = till.asked
        asked.callback(None)
        world.loop.settle()
        world.upstream().sends(OK)
        assert client.message().body == b"hi"
        assert till.endings == [Ending(200, 1, None)]
        assert world.record.spent == (SPENT,)

    def test_cannot_be_found_out(self, world: World, till: Till) -> None:
        till.known = False
        client = ask(world)
        till.asked[0].errback(Refusal("balance_unavailable", "Later.", status=503))
        world.loop.settle()
        assert client.message().status == 503
        assert world.journal.records == []

    def test_is_not_asked_for_ever(self, world: World, till: Till) -> None:
        till.known = False
        client = ask(world)
        for asked in till.asked:  # each answer brings the next question
            asked.callback(None)
            world.loop.settle()
        assert client.message().status == 503
        assert world.entry.reason == "admission_busy"
        assert len(till.asked) <= 10

    def test_the_client_leaves_meanwhile(self, world: World, till: Till) -> None:
        till.known = False
        client = ask(world)
        client.resets()
        world.loop.settle()
        assert till.held == 0
        assert till.endings == []
        assert world.server.dialed == 0
        assert world.entry.reason == "client_gone"

    def test_it_is_cut_meanwhile(self, world: World, till: Till) -> None:
        till.known = False
        client = ask(world)
        (exchange,) = world.plane.live
        exchange.cut("grant_revoked")
        world.loop.settle()
        assert till.endings == []
        assert not client.is_open or client.received()


def test_where_nobody_may_go_nothing_is_used(make_world: MakeWorld, till: Till) -> None:
    world = make_world(
        services=[],
        listeners=[
            {
                "name": "proxy",
                "role": "forward",
                "bind": "127.0.0.1:3128",
                "checkers": ["gate"],
                "allow": ["*:80"],
            }
        ],
    )
    world.assembly.routes[0].admission = Admission([till])
    client = world.connect("proxy")
    client.sends(b"GET http://127.0.0.9/a HTTP/1.1\r\nhost: 127.0.0.9\r\n\r\n")
    world.loop.settle()
    assert client.message().status == 403
    assert till.endings == [None]
    assert world.journal.records == []


def test_who_is_not_counted_is_told_of(world: World, till: Till) -> None:
    world.gate.answer = Grant()
    client = ask(world)
    world.upstream().sends(OK)
    assert client.message().status == 200
    assert not till.callers[0].counted
    assert till.endings == [None]


def test_what_cannot_be_written_down_was_not_spent(world: World, till: Till) -> None:
    lost: list[Spent] = []

    class Broken:
        full = False
        fsync = "none"
        undelivered = Undelivered()

        def append(self, records: Sequence[UsageRecord], held: Sequence[object]) -> int:
            raise JournalError("full")

        def sync(self) -> Deferred[None]:
            raise AssertionError

        def withdraw(self) -> bool:
            raise AssertionError

    world.plane.meter = Meter(Broken(), world.loop.call_soon, lost.extend)
    client = ask(world)
    world.upstream().sends(OK)
    assert client.message().status == 503
    assert lost == [SPENT]
