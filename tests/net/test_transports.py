"""The loop's transports as Twisted transports: in memory, and over the real loop's sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from gatekeeper.net.transports import LoopProtocol, LoopTransport
from tests.memory import HIGH_WATER, ManualLoop, Peer


class Recorder:
    """A protocol that remembers what it was told."""

    transport: LoopTransport

    def __init__(self, *, stays: bool = False) -> None:
        self.data = b""
        self.told: list[str] = []
        self.reason: Failure | None = None
        self.stays = stays

    def makeConnection(self, transport: LoopTransport) -> None:
        self.transport = transport
        self.told.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> bool:
        self.told.append("read lost")
        return self.stays

    def connectionLost(self, reason: Failure) -> None:
        self.told.append("lost")
        self.reason = reason


class Paused:
    """A producer."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    loop = ManualLoop()
    yield loop
    loop.close()
    assert loop.errors == []


@pytest.fixture
def connect(loop: ManualLoop) -> Callable[..., tuple[Recorder, Peer]]:
    def connect(*, stays: bool = False, can_half_close: bool = True) -> tuple[Recorder, Peer]:
        recorder = Recorder(stays=stays)
        address = ("192.0.2.7", 5000)
        peer = loop.connect(LoopProtocol(recorder), address, can_half_close=can_half_close)
        return recorder, peer

    return connect


Connect = Callable[..., tuple[Recorder, Peer]]


class TestInMemory:
    def test_it_is_a_transport(self, connect: Connect) -> None:
        recorder, _ = connect()
        assert verifyObject(ITransport, recorder.transport)
        assert verifyObject(IPushProducer, recorder.transport)
        assert recorder.transport.getPeer() == ("192.0.2.7", 5000)
        assert recorder.transport.getHost() == ("192.0.2.1", 443)
        assert recorder.transport.info("ssl_object") is None

    def test_bytes_both_ways(self, connect: Connect) -> None:
        recorder, peer = connect()
        peer.sends(b"hello")
        assert recorder.data == b"hello"
        recorder.transport.write(b"a")
        recorder.transport.writeSequence([b"b", b"c"])
        assert peer.received() == b"abc"
        assert recorder.transport.buffered == 0

    def test_a_clean_end(self, connect: Connect) -> None:
        recorder, peer = connect()
        peer.hangs_up()
        assert recorder.told == ["made", "read lost", "lost"]
        assert recorder.reason is not None
        assert recorder.reason.check(ConnectionDone)

    def test_a_reset(self, connect: Connect) -> None:
        recorder, peer = connect()
        peer.resets()
        assert recorder.told == ["made", "lost"]
        assert recorder.reason is not None
        assert recorder.reason.check(ConnectionLost)
        assert "reset by peer" in recorder.reason.getErrorMessage()

    def test_closing_sends_first_what_was_written(self, connect: Connect) -> None:
        recorder, peer = connect()
        peer.stops_reading()
        recorder.transport.write(b"last words")
        recorder.transport.loseConnection()
        assert recorder.transport.buffered == 10
        peer.goes_on_reading()
        assert peer.received() == b"last words"
        assert recorder.told == ["made", "lost"]

    @pytest.mark.parametrize("stop", ["abortConnection", "resetConnection", "stopProducing"])
    def test_other_ends(self, connect: Connect, loop: ManualLoop, stop: str) -> None:
        recorder, peer = connect()
        getattr(recorder.transport, stop)()
        loop.settle()
        assert not peer.is_open

    def test_a_full_buffer_stops_the_producer(self, connect: Connect) -> None:
        recorder, peer = connect()
        producer = Paused()
        recorder.transport.registerProducer(producer)
        peer.stops_reading()
        recorder.transport.write(b"x" * HIGH_WATER)
        assert producer.told == []
        recorder.transport.write(b"x")
        assert producer.told == ["pause"]
        assert recorder.transport.writing_paused
        peer.takes_more(HIGH_WATER)
        assert producer.told == ["pause", "resume"]
        assert not recorder.transport.writing_paused

    def test_one_that_comes_late_is_stopped_at_once(self, connect: Connect) -> None:
        recorder, peer = connect()
        peer.stops_reading()
        recorder.transport.write(b"x" * 2 * HIGH_WATER)
        producer = Paused()
        recorder.transport.registerProducer(producer)
        assert producer.told == ["pause"]
        recorder.transport.unregisterProducer()
        peer.goes_on_reading()
        assert producer.told == ["pause"]

    def test_reading_stops_and_goes_on(self, connect: Connect) -> None:
        recorder, peer = connect()
        recorder.transport.pauseProducing()
        peer.sends(b"hello")
        assert recorder.data == b""
        assert recorder.transport.reading_paused
        recorder.transport.resumeProducing()
        peer.sends(b", you")
        assert recorder.data == b"hello, you"
        assert not recorder.transport.reading_paused

    def test_what_is_closing_is_left_alone(self, connect: Connect) -> None:
        """The loop's transports raise at calls like these."""
        recorder, peer = connect()
        recorder.transport.loseConnection()
        recorder.transport.pauseProducing()
        recorder.transport.resumeProducing()
        recorder.transport.loseWriteConnection()
        peer.sends(b"too late")
        assert recorder.data == b""
        assert recorder.told == ["made", "lost"]

    def test_half_a_connection(self, connect: Connect) -> None:
        recorder, peer = connect(stays=True)
        assert recorder.transport.can_half_close
        recorder.transport.write(b"all")
        recorder.transport.loseWriteConnection()
        assert peer.received() == b"all"
        assert peer.saw_end
        peer.sends(b"thanks")
        peer.shuts_down()
        assert recorder.data == b"thanks"
        assert recorder.told == ["made", "read lost"]

    def test_where_there_are_no_halves_it_is_closed(self, connect: Connect) -> None:
        recorder, peer = connect(can_half_close=False)
        assert not recorder.transport.can_half_close
        recorder.transport.loseWriteConnection()
        peer.sends(b"")
        assert recorder.told == ["made", "lost"]

    def test_another_protocol_takes_over(self, connect: Connect) -> None:
        first, peer = connect()
        second = Recorder()
        second.makeConnection(first.transport)
        first.transport.switch(second)
        producer = Paused()
        second.transport.registerProducer(producer)
        peer.sends(b"for the second")
        assert (first.data, second.data) == (b"", b"for the second")
        peer.stops_reading()
        second.transport.write(b"x" * 2 * HIGH_WATER)
        assert producer.told == ["pause"]
        peer.resets()
        assert first.told == ["made"]
        assert second.told == ["made", "lost"]


class TestOverSockets:
    """The loop in memory must not know better than the real one."""

    @pytest.fixture
    def real_loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        loop = uvloop.new_event_loop()
        yield loop
        loop.close()

    @pytest.fixture
    def pair(
        self, real_loop: asyncio.AbstractEventLoop
    ) -> Iterator[tuple[Recorder, socket.socket, Callable[[], bool]]]:
        listening = socket.create_server(("127.0.0.1", 0))
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
        near.setblocking(False)
        far.settimeout(10)
        recorder = Recorder(stays=True)
        real_loop.run_until_complete(
            real_loop.create_connection(lambda: LoopProtocol(recorder), sock=near)
        )

        def go_on() -> bool:
            real_loop.run_until_complete(asyncio.sleep(0.001))
            return True

        yield recorder, far, go_on
        recorder.transport.abortConnection()
        go_on()
        far.close()
        listening.close()

    Pair = tuple[Recorder, socket.socket, Callable[[], bool]]

    def test_bytes_both_ways(self, pair: Pair) -> None:
        recorder, far, go_on = pair
        far.sendall(b"hello")
        while not recorder.data and go_on():
            pass
        recorder.transport.write(b"a")
        recorder.transport.writeSequence([b"b", b"c"])
        go_on()
        assert recorder.data == b"hello"
        assert far.recv(100) == b"abc"
        assert recorder.transport.getPeer() == far.getsockname()

    def test_half_a_connection(self, pair: Pair) -> None:
        recorder, far, go_on = pair
        assert recorder.transport.can_half_close
        far.shutdown(socket.SHUT_WR)
        while "read lost" not in recorder.told and go_on():
            pass
        recorder.transport.write(b"still here")
        recorder.transport.loseWriteConnection()
        go_on()
        assert far.recv(100) == b"still here"
        assert far.recv(100) == b""

    @pytest.mark.parametrize("closing", [False, True])
    def test_a_reset_cannot_be_taken_for_an_end(self, pair: Pair, closing: bool) -> None:
        recorder, far, go_on = pair
        recorder.transport.resetConnection()
        if closing:
            recorder.transport.resetConnection()
        go_on()
        with pytest.raises(ConnectionResetError):
            far.recv(100)
        assert recorder.told == ["made", "lost"]

    def test_a_full_buffer_stops_the_producer_once(self, pair: Pair) -> None:
        recorder, far, go_on = pair
        producer = Paused()
        recorder.transport.registerProducer(producer)
        for _ in range(200):
            recorder.transport.write(b"x" * 100_000)
        assert producer.told == ["pause"]
        assert recorder.transport.buffered > HIGH_WATER
        while producer.told == ["pause"] and go_on():
            far.recv(10_000_000)
        assert producer.told == ["pause", "resume"]

    def test_another_protocol_takes_over(self, pair: Pair) -> None:
        first, far, go_on = pair
        second = Recorder()
        second.makeConnection(first.transport)
        first.transport.switch(second)
        far.sendall(b"for the second")
        while not second.data and go_on():
            pass
        far.close()
        while "lost" not in second.told and go_on():
            pass
        assert (first.data, second.data) == (b"", b"for the second")
        assert second.told == ["made", "read lost", "lost"]
        assert first.told == ["made"]
