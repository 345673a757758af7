"""Items 37 and 38: HTTP/2 used to wear us out, and HTTP/2 used to say two things at once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from gatekeeper.config.model import Limits
from tests.net.http2.clients import GET, POST, Client, Fields, client_of, connect, cut
from tests.world import World, public_world, worlds

make_world = pytest.fixture(worlds)
world = pytest.fixture(public_world)

CALM = 0xB
PROTOCOL_ERROR = 0x1


def headers(
    stream: int, fields: Fields = GET, *flags: str, encoder: Encoder | None = None
) -> Frame:
    block = (encoder or Encoder()).encode(fields)
    return HeadersFrame(stream, data=block, flags=flags or ["END_HEADERS", "END_STREAM"])


def is_calmed(client: Client) -> bool:
    """Whether the client has been told to calm down, and hung up on."""
    *_, last = cut(client.peer.received())
    assert last[3] == 7  # GOAWAY
    assert last[13:17] == struct.pack(">I", CALM)
    assert client.peer.saw_end
    return True


# --- 37: rapid reset ----------------------------------------------------------------------


def test_rapid_reset(world: World) -> None:
    """Each request is taken back at once: the limit of streams is never reached."""
    client = client_of(world)
    encoder = Encoder()
    sent = 0
    while client.peer.is_open and not client.peer.saw_end:
        stream = 2 * sent + 1
        client.peer.sends(
            headers(stream, encoder=encoder).serialize() + RstStreamFrame(stream, 8).serialize()
        )
        sent += 1
        assert sent < 1000
    assert is_calmed(client)
    assert sent == 201
    assert world.plane.live == set()
    reasons = [entry.reason for entry in world.log.entries]
    assert sorted(reasons) == ["bad_connection"] + ["client_gone"] * 201


def test_resets_now_and_then_are_nothing(world: World) -> None:
    client = client_of(world)
    for _ in range(300):
        client.resets(client.asks())
        world.advance(0.05)
    assert client.goaways == []


def provoke_by_a_malformed_request(stream: int, encoder: Encoder) -> list[Frame]:
    return [headers(stream, [*GET, (b"connection", b"x")], encoder=encoder)]


def provoke_by_overflowing_a_window(stream: int, encoder: Encoder) -> list[Frame]:
    update = WindowUpdateFrame(stream, window_increment=2**31 - 1)
    return [headers(stream, POST, "END_HEADERS", encoder=encoder), update]


def provoke_by_too_long_a_body(stream: int, encoder: Encoder) -> list[Frame]:
    fields = [*POST, (b"content-length", b"1")]
    return [headers(stream, fields, "END_HEADERS", encoder=encoder), DataFrame(stream, b"xx")]


@pytest.mark.parametrize(
    "provoke",
    [
        provoke_by_a_malformed_request,
        provoke_by_overflowing_a_window,
        provoke_by_too_long_a_body,
    ],
)
def test_resets_that_we_are_made_to_send_count(
    world: World, provoke: Callable[[int, Encoder], list[Frame]]
) -> None:
    client = client_of(world)
    encoder = Encoder()
    sent = 0
    while client.peer.is_open and not client.peer.saw_end:
        frames = provoke(2 * sent + 1, encoder)
        client.peer.sends(b"".join(frame.serialize() for frame in frames))
        sent += 1
        assert sent < 1000
    assert is_calmed(client)
    assert 200 < sent < 210
    assert world.plane.live == set()


def test_more_streams_than_allowed_are_refused(world: World) -> None:
    client = client_of(world)
    encoder = Encoder()
    for number in range(100):
        client.peer.sends(headers(2 * number + 1, encoder=encoder).serialize())
    assert len(world.plane.live) == 100
    client.peer.received()
    client.peer.sends(headers(201, encoder=encoder).serialize())
    (refused,) = cut(client.peer.received())
    assert refused[3] == 3  # RST_STREAM
    assert refused[9:] == struct.pack(">I", 7)  # REFUSED_STREAM
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    client.peer.sends(headers(203, encoder=encoder).serialize())
    assert len(world.plane.live) == 100
    assert client.peer.is_open


def test_streams_beyond_the_limit_count_as_resets(world: World) -> None:
    client = client_of(world)
    encoder = Encoder()
    for number in range(301):
        client.peer.sends(headers(2 * number + 1, encoder=encoder).serialize())
    assert is_calmed(client)


# --- 37: header blocks --------------------------------------------------------------------


def continuations(count: int, size: int) -> Iterator[bytes]:
    yield HeadersFrame(1, data=b"\0" * size).serialize()
    for _ in range(count):
        yield ContinuationFrame(1, data=b"\0" * size).serialize()


def test_continuation_flood(world: World) -> None:
    """The block is bounded while it arrives, before anybody knows what it says."""
    client = client_of(world)
    sent = 0
    for frame in continuations(100, 16_000):
        client.peer.sends(frame)
        sent += 1
        if client.peer.saw_end:
            break
    assert is_calmed(client)
    assert sent == 3
    assert world.plane.live == set()


def test_a_continuation_that_is_too_large_is_not_waited_for(world: World) -> None:
    client = client_of(world)
    client.peer.sends(HeadersFrame(1, data=b"\0" * 16_000).serialize())
    client.peer.sends(ContinuationFrame(1, data=b"\0" * 16_000).serialize())
    client.peer.sends(ContinuationFrame(1, data=b"\0" * 16_000).serialize()[:9])
    assert is_calmed(client)


def test_empty_continuations(world: World) -> None:
    client = client_of(world)
    client.peer.sends(*continuations(100, 0))
    client.receive()
    assert client.goaways[0][1] in (PROTOCOL_ERROR, CALM)
    assert client.peer.saw_end


def test_a_block_that_does_not_end(world: World) -> None:
    client = client_of(world)
    client.peer.sends(HeadersFrame(1, data=Encoder().encode(GET)).serialize())
    for _ in range(5):
        world.advance(4)
        if not client.peer.saw_end:
            client.peer.sends(ContinuationFrame(1, data=b"").serialize())
    client.receive()
    assert client.goaways == [(0, PROTOCOL_ERROR)]


def test_another_frame_in_the_middle_of_a_block(world: World) -> None:
    client = client_of(world)
    client.sends_frames(HeadersFrame(1, data=b""), PingFrame(0, opaque_data=b"12345678"))
    assert client.goaways == [(0, PROTOCOL_ERROR)]


def test_hpack_bomb(world: World) -> None:
    """One large field, and then many times one byte that means it."""
    client = client_of(world)
    block = Encoder().encode([*GET, (b"x-a", b"a" * 4000)])
    bomb = block + b"\xbe" * 16_000
    client.peer.sends(
        HeadersFrame(1, data=bomb[:16_000]).serialize(),
        ContinuationFrame(1, data=bomb[16_000:], flags=["END_HEADERS"]).serialize(),
    )
    assert is_calmed(client)
    assert world.plane.live == set()


@pytest.mark.parametrize("fields", [[(b"x-a", b"a" * 33_000)], [(b"x-a", b"b")] * 101])
def test_what_is_a_little_too_large_is_answered(world: World, fields: Fields) -> None:
    client = client_of(world)
    answer = client.asked([*GET, *fields])
    assert answer.status == 431
    assert client.asked([*GET[:3], (b":path", b"/a/../b")]).status == 400
    assert client.goaways == []


def test_our_compression_table_stays_small(world: World) -> None:
    """However much memory a client would let us spend on it."""
    client = client_of(world, settings={SettingCodes.HEADER_TABLE_SIZE: 2**31 - 1})
    client.h2.decoder.max_allowed_table_size = 2**31 - 1
    stream = client.asks()
    fields = b"".join(b"x-%d: %b\r\n" % (number, b"v" * 200) for number in range(90))
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + b"\r\n")
    assert client.answer(stream).status == 200
    assert client.h2.decoder.header_table_size == 4096


# --- 37: floods of what brings nothing ----------------------------------------------------

FLOODS = {
    "ping": PingFrame(0, opaque_data=b"12345678"),
    "ping answers": PingFrame(0, opaque_data=b"12345678", flags=["ACK"]),
    "settings": SettingsFrame(0, settings={3: 100}),
    "empty settings": SettingsFrame(0),
    "settings of windows": SettingsFrame(0, settings={4: 1000}),
    "priority": PriorityFrame(1, depends_on=0, stream_weight=1),
    "window of the connection": WindowUpdateFrame(0, window_increment=1),
    "window of a stream": WindowUpdateFrame(1, window_increment=1),
    "empty data": DataFrame(1, b""),
    "data that is all padding": DataFrame(1, b"", pad_length=3, flags=["PADDED"]),
}
RAW_FLOODS = {name: frame.serialize() for name, frame in FLOODS.items()}
RAW_FLOODS["unknown frames"] = b"\0\0\4\xab\0\0\0\0\0what"


@pytest.mark.parametrize("frame", RAW_FLOODS.values(), ids=RAW_FLOODS.keys())
@pytest.mark.parametrize("at_once", [True, False])
def test_floods(world: World, frame: bytes, at_once: bool) -> None:
    client = client_of(world)
    client.begins(POST)
    if at_once:
        client.peer.sends(frame * 20_000)
    else:
        for _ in range(400):
            if not client.peer.saw_end:
                client.peer.sends(frame * 3)
    assert len(client.peer.arrived) < 1100 * 17
    assert is_calmed(client)
    assert world.plane.live == set()


@pytest.mark.parametrize("frame", RAW_FLOODS.values(), ids=RAW_FLOODS.keys())
def test_a_few_of_them_are_nothing(world: World, frame: bytes) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    for _ in range(100):
        client.peer.sends(frame * 10)
        world.advance(0.2)
    client.sends(stream, b"x", ended=True)
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(stream).status == 200


def test_answers_that_nobody_reads_are_bounded(world: World) -> None:
    client = client_of(world)
    client.peer.stops_reading()
    for _ in range(1000):
        client.peer.sends(PingFrame(0, opaque_data=b"12345678").serialize())
    assert client.peer.unsent < 20_000


def test_a_window_opened_byte_by_byte(world: World) -> None:
    """Each byte of window makes a frame of us, and must not make up for its own cost."""
    client = client_of(world, acknowledges=False, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1})
    stream = client.asks()
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    for _ in range(1100):
        if not client.peer.saw_end:
            client.peer.sends(WindowUpdateFrame(stream, window_increment=1).serialize())
    assert is_calmed(client)


def test_small_frames_do_not_hold_up_the_loop(world: World) -> None:
    """Of what arrives at once, a bounded number of frames is read before others get their turn."""
    client = client_of(world)
    client.begins(POST)
    upstream = world.upstream()
    upstream.received()
    client.peer.sends_at_once(DataFrame(1, b"x").serialize() * 2000)
    assert 0 < upstream.received().count(b"x") <= 256
    assert not client.peer.is_read
    world.loop.settle()
    assert upstream.received().count(b"x") >= 1744
    assert client.peer.is_read


@pytest.mark.parametrize("length", [16_385, 2**24 - 1])
def test_a_frame_that_is_too_large_is_not_waited_for(world: World, length: int) -> None:
    client = client_of(world)
    client.peer.sends(length.to_bytes(3, "big") + b"\0\0\0\0\0\1")
    client.receive()
    assert client.goaways == [(0, 6)]
    assert client.peer.saw_end


def test_nonsense_behind_the_preface(world: World) -> None:
    peer = connect(world)
    peer.sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert cut(peer.received())[-1][3] == 7
    assert peer.saw_end
    assert world.plane.live == set()


def test_who_is_told_to_go_and_sends_on_is_cut(world: World) -> None:
    client = client_of(world)
    client.peer.sends(PingFrame(0, opaque_data=b"12345678").serialize() * 20_000)
    for _ in range(10):
        if client.peer.is_open:
            client.peer.sends(b"x" * 100_000)
    assert not client.peer.is_open
    assert len(world.connections) == 0


# --- 38: requests that are none -----------------------------------------------------------

METHOD, SCHEME, AUTHORITY, PATH = GET

MALFORMED: dict[str, Fields] = {
    "no method": [SCHEME, AUTHORITY, PATH],
    "no scheme": [METHOD, AUTHORITY, PATH],
    "no path": [METHOD, SCHEME, AUTHORITY],
    "empty path": [METHOD, SCHEME, AUTHORITY, (b":path", b"")],
    "path without slash": [METHOD, SCHEME, AUTHORITY, (b":path", b"a")],
    "path with a space": [METHOD, SCHEME, AUTHORITY, (b":path", b"/ HTTP/1.1")],
    "path with lines": [METHOD, SCHEME, AUTHORITY, (b":path", b"/ HTTP/1.1\r\nhost: b\r\n\r\n")],
    "star": [METHOD, SCHEME, AUTHORITY, (b":path", b"*")],
    "method with a space": [(b":method", b"GET /x"), SCHEME, AUTHORITY, PATH],
    "method with a line": [(b":method", b"GET\r\nx"), SCHEME, AUTHORITY, PATH],
    "empty method": [(b":method", b""), SCHEME, AUTHORITY, PATH],
    "two methods": [METHOD, (b":method", b"POST"), SCHEME, AUTHORITY, PATH],
    "two paths": [*GET, (b":path", b"/b")],
    "two authorities": [*GET, AUTHORITY],
    "empty authority": [METHOD, SCHEME, (b":authority", b""), PATH],
    "authority with a line": [METHOD, SCHEME, (b":authority", b"a\r\nx: y"), PATH],
    "another scheme": [METHOD, (b":scheme", b"ftp"), AUTHORITY, PATH],
    "status": [*GET, (b":status", b"204")],
    "unknown": [*GET, (b":what", b"x")],
    "protocol": [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]],
    "connect with a path": [(b":method", b"CONNECT"), *GET[1:]],
    "late": [METHOD, SCHEME, AUTHORITY, (b"x-a", b"b"), PATH],
    "upper case": [*GET, (b"X-A", b"b")],
    "empty name": [*GET, (b"", b"b")],
    "name with a space": [*GET, (b"x a", b"b")],
    "name with a colon": [*GET, (b"x:a", b"b")],
    "name with a line": [*GET, (b"x\r\ny", b"b")],
    "name with NUL": [*GET, (b"x\0", b"b")],
    "name not ASCII": [*GET, (b"x\xe4", b"b")],
    "value with CR LF": [*GET, (b"x-a", b"b\r\nhost: evil")],
    "value with CR": [*GET, (b"x-a", b"b\rc")],
    "value with LF": [*GET, (b"x-a", b"b\nc")],
    "value with NUL": [*GET, (b"x-a", b"b\0c")],
    "value with a space in front": [*GET, (b"x-a", b" b")],
    "value with a tab behind": [*GET, (b"x-a", b"b\t")],
    "value with a control": [*GET, (b"x-a", b"b\x08c")],
    "connection": [*GET, (b"connection", b"close")],
    "connection that names": [*GET, (b"connection", b"x-a"), (b"x-a", b"b")],
    "keep-alive": [*GET, (b"keep-alive", b"1")],
    "proxy-connection": [*GET, (b"proxy-connection", b"close")],
    "transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "upgrade": [*GET, (b"upgrade", b"websocket")],
    "te": [*GET, (b"te", b"gzip")],
    "te twice": [*GET, (b"te", b"trailers, deflate")],
    "a length, and no body": [*GET, (b"content-length", b"5")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests(world: World, fields: Fields) -> None:
    """Their stream is reset, nothing goes upstream, and the others do not notice."""
    client = client_of(world)
    stream = client.begins(fields, ended=True)
    answer = client.answer(stream)
    assert answer.reset == PROTOCOL_ERROR
    assert world.server.dialed == 0
    assert world.plane.live == set()
    assert world.entry.reason == "bad_request"
    good = client.asks()
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(good).status == 200
    assert client.goaways == []


REFUSED: dict[str, tuple[Fields, int]] = {
    "another Host": ([*GET, (b"host", b"other.example")], 400),
    "Host with a port": ([*GET, (b"host", b"shop.example:81")], 400),
    "no Host": ([METHOD, SCHEME, PATH], 400),
    "two Hosts": ([METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"a")], 400),
    "user information": ([METHOD, SCHEME, (b":authority", b"a@shop.example"), PATH], 400),
    "two Authorizations": ([*GET, (b"authorization", b"a"), (b"authorization", b"b")], 400),
    "a fragment": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/a#b")], 400),
    "an encoded slash": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/a%2Fb")], 400),
    "an absolute path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"//evil.example/")], 400),
    "an unknown method": ([(b":method", b"BREW"), SCHEME, AUTHORITY, PATH], 501),
    "trace": ([(b":method", b"TRACE"), SCHEME, AUTHORITY, PATH], 405),
    "connect": ([(b":method", b"CONNECT"), (b":authority", b"shop.example:80")], 405),
    "expectation": ([*GET, (b"expect", b"wonders")], 417),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("ended", [True, False])
def test_refused_requests(world: World, fields: Fields, status: int, ended: bool) -> None:
    client = client_of(world)
    answer = client.answer(client.begins(fields, ended=ended))
    assert (answer.status, answer.ended) == (status, True)
    assert world.server.dialed == 0
    assert client.goaways == []


def test_one_host_said_twice_is_one(world: World) -> None:
    client = client_of(world)
    client.asks([*GET, (b"host", b"SHOP.example")])
    assert world.upstream().message().values(b"x-forwarded-host") == [b"shop.example"]


def test_fields_that_only_we_may_say(world: World) -> None:
    client = client_of(world)
    names = [b"x-forwarded-for", b"x_forwarded_for", b"x-sf-user-id", b"x_sf_user_id", b"proxy"]
    names += [b"transfer_encoding", b"content_length", b"nvm-user", b"http2-settings"]
    client.asks([*GET, *((name, b"evil") for name in names)])
    assert b"evil" not in world.upstream().received()


@pytest.mark.parametrize("value", [b"x", b"-1", b"+1", b"1, 1", b"0x1"])
def test_lengths_that_are_no_numbers(world: World, value: bytes) -> None:
    """h2 ends the connection, as it may (RFC 9113, 5.4.1)."""
    client = client_of(world)
    client.begins([*POST, (b"content-length", value)])
    assert client.goaways == [(1, PROTOCOL_ERROR)] or client.goaways == [(0, PROTOCOL_ERROR)]
    assert world.server.dialed == 0


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        (b"2", [b"abc"]),
        (b"2", [b"ab", b"c"]),
        (b"4", [b"abc"]),
        (b"4", [b"ab", b"c"]),
        (b"1", [b""]),
        (b"0", [b"x"]),
    ],
)
@pytest.mark.parametrize("trailers", [True, False])
def test_bodies_that_are_not_as_long_as_they_say(
    world: World, length: bytes, pieces: list[bytes], trailers: bool
) -> None:
    client = client_of(world)
    stream = client.begins([*POST, (b"content-length", length)])
    encoder = client.h2.encoder
    for piece in pieces[:-1]:
        client.sends_frames(DataFrame(stream, piece))
    if trailers:
        last = HeadersFrame(
            stream, data=encoder.encode([(b"x-a", b"b")]), flags=["END_HEADERS", "END_STREAM"]
        )
        client.sends_frames(DataFrame(stream, pieces[-1]), last)
    else:
        client.sends_frames(DataFrame(stream, pieces[-1], flags=["END_STREAM"]))
    answer = client.answer(stream)
    assert answer.reset == PROTOCOL_ERROR
    assert not answer.fields
    assert world.entry.reason == "bad_request"
    upstream = world.upstream()
    assert not upstream.is_open
    other = client.asks()
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(other).status == 200


@pytest.mark.parametrize(
    "trailers",
    [
        [(b":path", b"/")],
        [(b"x-a", b"b\r\nc")],
        [(b"connection", b"close")],
        [(b"X-A", b"b")],
    ],
)
def test_malformed_trailers(world: World, trailers: Fields) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    client.sends_frames(headers(stream, trailers))
    assert client.answer(stream).reset == PROTOCOL_ERROR
    assert not world.upstream().is_open


@pytest.mark.parametrize("limits", [{}, {"head": 9000}])
def test_the_limit_of_heads_is_announced(make_world: Any, limits: dict[str, int]) -> None:
    world = make_world(limits=limits)
    client = client_of(world)
    most = Limits(**limits).head
    assert client.h2.remote_settings.max_header_list_size == most
    assert client.h2.remote_settings.max_concurrent_streams == 100
