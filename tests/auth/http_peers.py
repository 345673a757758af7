"""The other end of a checker's questions: a real server on a loopback port, and one in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import pytest_twisted
from twisted.internet import ssl
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from gatekeeper.auth.http_client import Answer, HttpError
from tests.authority import Issued
from tests.memory import Message

T = TypeVar("T")
P = ParamSpec("P")


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, run while the reactor does."""
    decorated: Callable[P, None] = pytest_twisted.ensureDeferred(test)
    return decorated


def fixture_in_reactor(fixture: Callable[P, AsyncIterator[T]]) -> Callable[P, T]:
    """A fixture that is an asynchronous generator."""
    decorated: Callable[P, T] = pytest_twisted.async_yield_fixture(fixture)
    return decorated


#: Said by a server that hangs up in place of an answer, or says nothing more.
HANG_UP: Final = b"hang up"
SILENCE: Final = b"silence"


class Script:
    """What a server says to each request, and what it was asked."""

    def __init__(self, *answers: bytes, always: bytes | None = None) -> None:
        self.answers = list(answers)
        self.always = always
        self.requests: list[Message] = []
        self.connections = 0
        self.ended = 0

    def next(self) -> bytes:
        if self.answers:
            return self.answers.pop(0)
        assert self.always is not None, "asked more often than expected"
        return self.always


class _Server(Protocol):
    """Reads whole requests. An answer that says so, or that has no length, is the last one."""

    transport: Any

    def __init__(self, script: Script) -> None:
        self.script = script
        self.data = b""

    def connectionMade(self) -> None:
        self.script.connections += 1

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        message = Message.parse(head + end)
        length = int((message.values(b"Content-Length") or [b"0"])[0])
        if len(body) < length:
            return
        self.data = body[length:]
        self.script.requests.append(message._replace(body=body[:length]))
        answer = self.script.next()
        if answer == SILENCE:
            return
        if answer != HANG_UP:
            self.transport.write(answer)
        if answer == HANG_UP or b"content-length" not in answer or b"connection: close" in answer:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.script.ended += 1


class _Servers(Factory):
    def __init__(self, script: Script) -> None:
        self.script = script

    def buildProtocol(self, addr: object) -> _Server:
        return _Server(self.script)


class RealServer:
    """A server on a free port of 127.0.0.1 that follows a script, with TLS if it is ``issued``."""

    def __init__(self, script: Script, issued: Issued | None = None) -> None:
        from twisted.internet import reactor

        factory = _Servers(script)
        interface: Any = reactor
        if issued is None:
            self._port = interface.listenTCP(0, factory, interface="127.0.0.1")
        else:
            context = ssl.DefaultOpenSSLContextFactory(str(issued.key), str(issued.certificate))
            self._port = interface.listenSSL(0, factory, context, interface="127.0.0.1")
        self.script = script
        self.port: int = self._port.getHost().port
        scheme = "https" if issued else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/auth"

    def stop(self) -> Deferred[None]:
        return maybeDeferred(self._port.stopListening)


def response(
    body: bytes = b"", status: int = 200, fields: Mapping[str, str] | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in (fields or {}).items())]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def json_response(document: object, status: int = 200) -> bytes:
    return response(json.dumps(document).encode(), status, {"content-type": "application/json"})


class Asked(NamedTuple):
    """One question put to :class:`FakeHttp`."""

    method: str
    url: str
    fields: Mapping[bytes, bytes]
    body: bytes | None
    client: str
    answer: Deferred[Answer]


class FakeHttp:
    """Takes the place of an HttpClient. ``always`` answers at once; else the test does."""

    def __init__(self, always: Callable[[Asked], Answer] | None = None) -> None:
        self.asked: list[Asked] = []
        self.closed = False
        self._always = always

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], T],
        *,
        fields: Mapping[bytes, bytes] = {},
        body: bytes | None = None,
        client: str = "",
    ) -> Deferred[T]:
        asked = Asked(method, url, fields, body, client, Deferred())
        self.asked.append(asked)
        if self._always is not None:
            asked.answer.callback(self._always(asked))
        return asked.answer.addCallback(read)

    def answer(self, status: int, body: bytes | str | object = b"") -> None:
        """Answer the last question."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.asked[-1].answer.callback(Answer(status, body))

    def fail(self) -> None:
        """Let the last question fail."""
        self.asked[-1].answer.errback(HttpError("refused"))

    def close(self) -> None:
        self.closed = True
