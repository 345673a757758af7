"""What :class:`~gatekeeper.auth.http_client.HttpClient` is made of: Twisted's agent with bounds."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from gatekeeper.errors import ConfigurationError, GatekeeperError, Problem

_KEPT: Final = 30  # seconds that an idle connection is kept


class HttpError(GatekeeperError):
    """The server gave no answer, or none that can be used. The message is for the log."""


def https_policy(ca_file: Path | None) -> IPolicyForHTTPS:
    """How https servers are verified: by the authorities in a PEM file (None: the system's).

    :raises ConfigurationError: the file cannot be used; the path is ``ca_file``.
    """
    return HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(_trust_root(ca_file)))


def make_pool(reactor: Any, connections: int) -> HTTPConnectionPool:
    """A pool that keeps up to so many idle connections to a server."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = connections
    pool.cachedConnectionTimeout = _KEPT
    pool._factory = _QuietFactory
    return pool


def make_treq(
    reactor: Any, policy: IPolicyForHTTPS, pool: HTTPConnectionPool, connect_timeout: float
) -> HTTPClient:
    """A client of treq that keeps no cookies and wants no compression."""
    agent = Agent(reactor, policy, connect_timeout, pool=pool)
    nobody = DefaultCookiePolicy(allowed_domains=[])
    return HTTPClient(_PlainAgent(agent), IndexableCookieJar(nobody))


class _QuietFactory(_HTTP11ClientFactory):
    noisy = False  # a line in the log for each connection says nothing to anybody


@implementer(IAgent)
class _PlainAgent:
    """Wants no compression: a few bytes must not become gigabytes before they are counted."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See :class:`IAgent`."""
        if headers is not None:
            headers.removeHeader(b"accept-encoding")
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_refuse_encoded)


def _refuse_encoded(response: IResponse) -> IResponse:
    if response.headers.hasHeader(b"content-encoding"):
        unwanted = Body(0)
        unwanted.done.addErrback(lambda _: b"")
        response.deliverBody(unwanted)
        unwanted.done.cancel()
        raise HttpError("the answer is compressed, which was not asked for")
    return response


class Body(Protocol):
    """Collects a body; ``done`` fires with it, or fails where it is too large or breaks off."""

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """More of the body."""
        self._size += len(data)
        if self.done.called:
            return
        if self._size > self._limit:
            self.done.errback(HttpError(f"the answer is larger than {self._limit} bytes"))
            self._abort()
        else:
            self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body has ended; without a length it ends with the connection."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._pieces))
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()


def describe(failure: Failure) -> str:
    """What went wrong, for the log, without anything that was sent or received."""
    error: BaseException | None = failure.value
    if isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[-1].value
    if isinstance(error, ConnectError | DNSLookupError):
        return str(error)
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return f"TLS: {error.args[0][0][-1]}"
    return f"the connection failed ({type(error).__name__})"


def _trust_root(ca_file: Path | None) -> Any:
    if ca_file is None:
        return None
    try:
        certificates = load_pem_x509_certificates(ca_file.read_bytes())
        return trustRootFromCertificates(
            [Certificate(X509.from_cryptography(each)) for each in certificates]
        )
    except OSError as error:
        problem = f"{ca_file} cannot be read: {error.strerror}"
    except ValueError:
        problem = f"{ca_file} holds no certificate in PEM form"
    raise ConfigurationError([Problem("ca_file", problem)])
