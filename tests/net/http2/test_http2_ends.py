"""How streams and connections end."""

import pytest

from gatekeeper.auth.interfaces import Grant
from tests.net.http2.clients import GET, POST, client_of
from tests.world import NOW, World, guarded_world, public_world, worlds

make_world = pytest.fixture(worlds)
world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)

CALL = [*POST, (b"content-type", b"application/grpc+proto"), (b"te", b"trailers")]
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


def test_a_client_that_takes_its_request_back(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = world.upstream()
    other = client.asks()
    other_upstream = world.upstream()
    client.resets(stream)
    assert upstream.was_aborted
    assert world.entry.reason == "client_gone"
    other_upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(other).status == 200
    assert client.goaways == []


def test_a_client_that_hangs_up(world: World) -> None:
    client = client_of(world)
    for _ in range(3):
        client.asks()
    client.peer.hangs_up()
    assert [entry.reason for entry in world.log.entries] == ["client_gone"] * 3
    assert len(world.connections) == 0
    assert world.plane.live == set()
    assert world.sweep.timed == set()


def test_an_upstream_that_hangs_up(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = world.upstream()
    upstream.sends(BEGUN)
    upstream.hangs_up()
    answer = client.answer(stream)
    assert (answer.body, answer.ended, answer.reset) == (b"abc", False, 2)
    assert world.entry.reason == "upstream_lost"


@pytest.mark.parametrize("responding", [True, False])
def test_a_grant_that_ends(guarded: World, responding: bool) -> None:
    guarded.gate.answer = Grant(user="alice", key_id="k1")
    client = client_of(guarded)
    stream = client.asks([*GET, (b"authorization", b"Bearer x")])
    if responding:
        guarded.upstream().sends(BEGUN)
    guarded.plane.revoke("k1")
    answer = client.answer(stream)
    assert (answer.ended, answer.reset) == (False, 2)
    guarded.loop.settle()
    assert guarded.entry.reason == guarded.record.reason == "grant_revoked"
    assert guarded.plane.live == set()


@pytest.mark.parametrize("responding", [True, False])
@pytest.mark.parametrize("sent_all", [True, False])
def test_a_call_whose_grant_ends(guarded: World, responding: bool, sent_all: bool) -> None:
    guarded.gate.answer = Grant(user="alice", expires=NOW + 10)
    client = client_of(guarded)
    stream = client.begins([*CALL, (b"authorization", b"Bearer x")])
    client.sends(stream, b"\0\0\0\0\0", ended=sent_all)
    upstream = guarded.upstream()
    if responding:
        upstream.sends(BEGUN)
    guarded.plane.wall_clock = lambda: NOW + 11
    guarded.plane.watch()
    answer = client.answer(stream)
    fields = answer.trailers if responding else answer.fields
    assert (b"grpc-status", b"16") in fields
    assert answer.ended
    assert answer.reset in (None, 0)
    assert upstream.was_aborted
    assert guarded.entry.reason == "grant_expired"


def test_a_refused_call(guarded: World) -> None:
    guarded.server.error = ConnectionRefusedError()
    client = client_of(guarded)
    answer = client.asked([*CALL, (b"authorization", b"Bearer x")])
    assert answer.status == 200
    assert answer.value(b"content-type") == b"application/grpc"
    assert answer.value(b"grpc-status") == b"14"
    assert answer.value(b"grpc-message") == b"the upstream cannot be reached"
    assert answer.ended
    assert answer.body == b""
    assert guarded.entry.status == 502


def test_draining_lets_what_runs_finish(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = world.upstream()
    world.plane.draining = True
    drained: list[bool] = []
    world.connections.drain(lambda: drained.append(True))
    client.receive()
    # The answer to the PING has come back at once: all that was on its way has arrived.
    assert client.goaways == [(2**31 - 1, 0), (stream, 0)]
    late = client.asks()
    assert client.answer(late).reset == 7
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    answer = client.answer(stream)
    assert (answer.body, answer.ended) == (b"ok", True)
    assert client.peer.saw_end
    client.peer.hangs_up()
    assert drained == [True]


def test_draining_does_not_wait_for_an_answer_to_its_ping(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    world.connections.drain(lambda: None)
    world.advance(2)
    client.receive()
    assert client.goaways == [(2**31 - 1, 0), (stream, 0)]


def test_draining_closes_what_is_idle(world: World) -> None:
    client = client_of(world)
    world.connections.drain(lambda: None)
    client.receive()
    assert client.goaways == [(0, 0)]
    assert client.peer.saw_end


def test_a_door_that_is_closed_lets_what_is_on_its_way_arrive(world: World) -> None:
    client = client_of(world)
    late = client.asks()
    world.connections.wind_down(world.door("public"))
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.answer(late).body == b"ok"
    assert client.goaways == [(2**31 - 1, 0), (late, 0)]
    assert client.peer.saw_end


def test_who_comes_in_through_a_closed_door(world: World) -> None:
    world.connections.wind_down(world.door("public"))
    client = client_of(world)
    world.advance(2)
    client.receive()
    assert client.goaways[0] == (2**31 - 1, 0)
    assert client.peer.saw_end


def test_an_idle_connection_is_closed(world: World) -> None:
    client = client_of(world)
    world.advance(70)
    client.receive()
    assert client.goaways == []
    world.advance(10)
    client.receive()
    assert client.goaways == [(0, 0)]
    world.advance(3)
    assert not client.peer.is_open


def test_a_client_that_leaves_gets_its_answers(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    client.h2.close_connection()
    data = client.h2.data_to_send()
    client.peer.sends(data)
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    raw = client.peer.received()
    assert raw.endswith(b"ok")
    assert stream == 1
    assert client.peer.saw_end


def test_half_a_frame_is_not_waited_for(world: World) -> None:
    client = client_of(world)
    client.peer.sends(b"\0\0\10\6\0\0")
    for _ in range(4):
        world.advance(4)
        client.peer.sends(b"\0" if world.loop.now < 1012 else b"")
    client.receive()
    assert client.goaways == [(0, 1)]
