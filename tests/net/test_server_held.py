"""The end of a metered response waits until its usage record is safe."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from twisted.internet.defer import Deferred

from gatekeeper.auth.interfaces import Deny
from gatekeeper.core import Core
from gatekeeper.draining import cut_all
from gatekeeper.net.transports import LoopTransport
from gatekeeper.usage.meter import Held
from gatekeeper.usage.records import UsageRecord
from tests.memory import Message, Peer
from tests.net.messages import GET, OK, POST, refused
from tests.world import GUARDED, World, guarded_world, worlds

world = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]


class ManualMeter:
    """Keeps records and responses until the test says what became of them."""

    def __init__(self) -> None:
        self.full = False
        self.records: list[UsageRecord] = []
        self.held: list[Held] = []
        self.settled: list[int] = []

    def record(self, record: UsageRecord, held: Held | None) -> None:
        self.records.append(record)
        if held is not None:
            self.held.append(held)

    def written(self) -> None:
        held, self.held = self.held, []
        for each in held:
            each.release(7)

    def send(self, number: int, transport: LoopTransport, data: bytes) -> None:
        self.settle(number)
        transport.send(data)

    def settle(self, number: int) -> None:
        self.settled.append(number)

    def failed(self) -> None:
        held, self.held = self.held, []
        for each in held:
            each.withhold()


def metered(world: World) -> ManualMeter:
    meter = ManualMeter()
    world.plane.meter = meter  # type: ignore[assignment]
    return meter


def asks(world: World, request: bytes = GET) -> tuple[Peer, Peer]:
    client = world.connect()
    client.sends(request)
    return client, world.upstream()


def test_a_whole_response_waits(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world)
    upstream.sends(OK)
    assert len(meter.records) == 1
    assert client.received() == b""
    meter.written()
    assert client.message().body == b"hi"


def test_it_goes_out_before_everybody_is_hung_up_on(world: World) -> None:
    meter = metered(world)
    disk: Deferred[None] = Deferred()
    recording = SimpleNamespace(drain=lambda: disk)
    core = SimpleNamespace(plane=world.plane, connections=world.connections, recording=recording)
    client, upstream = asks(world)
    upstream.sends(OK)
    assert client.received() == b""
    cutting = Deferred.fromCoroutine(cut_all(cast("Core", core)))
    assert not client.was_aborted
    meter.written()
    disk.callback(None)
    assert client.message().body == b"hi"
    assert client.was_aborted
    assert cutting.called


def test_of_a_long_response_the_last_piece_waits(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world)
    upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", b"de")
    assert client.received().endswith(b"abcde")
    upstream.sends(b"f")
    assert client.received() == b""
    meter.written()
    assert client.received() == b"f"


@pytest.mark.parametrize(
    ("last", "early", "late"),
    [
        (b"2\r\nde\r\n0\r\n\r\n", b"2\r\nde", b"\r\n0\r\n\r\n"),
        (b"0\r\n\r\n", b"", b"0\r\n\r\n"),
    ],
)
def test_of_a_chunked_response_the_end_waits(
    world: World, last: bytes, early: bytes, late: bytes
) -> None:
    meter = metered(world)
    client, upstream = asks(world)
    upstream.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.received()
    upstream.sends(last)
    assert client.received() == early
    meter.written()
    assert client.received() == late


def test_where_the_connections_end_is_the_responses_it_waits(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world, GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
    upstream.hangs_up()
    assert client.received().endswith(b"abc")
    assert not client.saw_end
    meter.written()
    assert client.saw_end


def test_the_next_request_waits_behind_it(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world)
    upstream.sends(OK)
    world.gate.answer = Deny("bad_password", "No.")
    client.sends(GET)  # its refusal needs no record, but must not overtake
    assert client.received() == b""
    meter.written()
    assert client.received().index(b"200 OK") < 15


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    meter = metered(world)
    client = world.connect()
    client.sends(GET + GET)
    upstream = world.upstream()
    for _ in range(2):
        upstream.sends(OK)
        assert client.received() == b""
        meter.written()
        assert Message.parse(client.received()).body == b"hi"
    assert len(meter.records) == 2


def test_a_response_before_the_requests_end(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world, POST)
    upstream.sends(OK)
    client.sends(b"12")
    assert client.received() == b""
    meter.written()
    assert client.message().status == 200
    client.sends(b"345" + GET)  # what was left of the body is read away
    assert world.upstream().received().startswith(b"GET ")


def test_a_client_that_goes_meanwhile(world: World) -> None:
    meter = metered(world)
    client, upstream = asks(world)
    upstream.sends(OK)
    client.resets()
    meter.written()
    assert [record.reason for record in meter.records] == ["ok"]
    assert client.received() == b""


def test_what_makes_no_record_does_not_wait(world: World) -> None:
    metered(world)
    world.gate.answer = Deny("bad_password", "No.")
    client = world.connect()
    client.sends(GET)
    refused(client.message(), 401, closing=False)


class TestWithoutARecord:
    def test_a_whole_response_becomes_a_503(self, world: World) -> None:
        meter = metered(world)
        client, upstream = asks(world)
        upstream.sends(OK)
        meter.failed()
        answer = client.message()
        refused(answer, 503, closing=True)
        assert answer.values(b"x-request-id") == [meter.records[0].id.encode()]
        assert client.saw_end

    def test_a_head_request_gets_no_body(self, world: World) -> None:
        meter = metered(world)
        client, upstream = asks(world, GET.replace(b"GET", b"HEAD"))
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
        meter.failed()
        answer = client.message()
        assert (answer.status, answer.body) == (503, b"")

    def test_a_response_under_way_is_broken(self, world: World) -> None:
        meter = metered(world)
        client, upstream = asks(world)
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", b"def")
        client.received()
        meter.failed()
        assert client.received() == b""
        assert client.was_aborted

    def test_a_client_that_has_gone(self, world: World) -> None:
        meter = metered(world)
        client, upstream = asks(world)
        upstream.sends(OK)
        client.resets()
        meter.failed()
        assert client.received() == b""

    def test_it_may_be_sent_where_the_operator_says_so(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**GUARDED, "on_journal_full": "admit"}])
        meter = metered(world)
        client, upstream = asks(world)
        upstream.sends(OK)
        meter.failed()
        assert client.message().body == b"hi"


class TestFull:
    def test_requests_that_would_count_are_refused(self, world: World) -> None:
        meter = metered(world)
        meter.full = True
        client = world.connect()
        client.sends(GET)
        answer = client.message()
        refused(answer, 503, closing=False)
        assert answer.values(b"retry-after") == [b"5"]
        assert world.server.dialed == 0
        assert meter.records == []

    def test_they_are_served_where_the_operator_says_so(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**GUARDED, "on_journal_full": "admit"}])
        meter = metered(world)
        meter.full = True
        client, upstream = asks(world)
        upstream.sends(OK)
        assert client.message().body == b"hi"
        assert meter.records == []

    def test_what_makes_no_record_is_served(self, make_world: MakeWorld) -> None:
        world = make_world()
        metered(world).full = True
        client, upstream = asks(world)
        upstream.sends(OK)
        assert client.message().body == b"hi"
