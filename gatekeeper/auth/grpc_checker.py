"""``grpc://HOST:PORT?continuous=true&interval=30s``: a service that knows the caller is asked.

The service is ``sf.authentication.v1.Authentication`` (see ``protos/authentication.proto``). It
gets the request's header fields and the client's address, and answers with *trusted headers* for
the upstream, or with a gRPC status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.durations import parse_duration
from gatekeeper.auth.interfaces import (
    Credentials,
    Deny,
    Grant,
    IChecker,
    IReadiness,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.trust import KEY, USER, trustworthy
from gatekeeper.auth.urls import parse_checker_url
from gatekeeper.config.values import parse_host, parse_port, split_authority
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.http.fields import normalize

#: Names in lower case with their values, in order.
Headers: TypeAlias = Sequence[tuple[str, str]]

_INTERVAL: Final = 60.0  # seconds
_SHORTEST: Final = 1.0
_LONGEST: Final = 366 * 24 * 3600.0

_MAX_HEADERS: Final = 100
_MAX_SIZE: Final = 16384  # names and values together

_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^`|~-]+")  # RFC 9110, 5.6.2, without "_"
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5
_INVALID: Final = re.compile("[\udc80-\udcff]+")

_CREDENTIAL_FIELDS: Final = frozenset({b"authorization", b"proxy-authorization"})

_DENIALS: Final = {
    "UNAUTHENTICATED": Deny("unauthenticated", "These credentials are not accepted."),
    "PERMISSION_DENIED": Deny("permission_denied", "You may not do this here.", status=403),
    "RESOURCE_EXHAUSTED": Deny("resource_exhausted", "Too many requests; try later.", status=429),
}
_UNREACHED: Final = Unavailable(
    "authentication_unavailable", "The credentials cannot be checked at the moment."
)


class CallFailedError(Exception):
    """A call did not succeed. ``code`` is the name of its gRPC status."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """What the service is asked: the fields of ``AuthRequest``, and the trace that it is for."""

    url: str
    headers: Headers = field(repr=False)
    ip: str
    count: int
    trace_id: str


class Client(Protocol):
    """The service, as the checker needs it. Deferreds fail with :class:`CallFailedError`."""

    def authenticate(self, question: Question) -> Deferred[Headers]:
        """Ask who it is; the answer's headers as they came."""

    def health(self) -> Deferred[str]:
        """The service's own word: ``SERVING`` and so on."""

    def close(self) -> None:
        """Hang up."""


@implementer(IChecker, IReadiness)
class GrpcChecker:
    """Asks about every request, whatever it presents: the service may go by address or cookie.

    So it answers every request, too: it is the last of a chain.

    :param target: ``host:port``, for the operator.
    :param recheck: seconds after which the service is asked again while the exchange runs.
    """

    log = Logger()

    challenges = (BEARER,)
    varies = None

    def __init__(self, target: str, client: Client, recheck: float | None = None) -> None:
        self._target = target
        self._client = client
        self._recheck = recheck
        self._failing = ""

    @classmethod
    def from_url(cls, url: str) -> GrpcChecker:
        """The checker of a ``grpc://`` URL.

        :raises ConfigurationError: the URL is malformed, or the extra ``grpc`` is not installed.
        """
        value, parameters = parse_checker_url(url, ("continuous", "interval"), "the host")
        try:
            target = _read_target(value)
            recheck = _read_recheck(parameters)
        except ValueError as error:
            raise ConfigurationError([Problem("", str(error))]) from None
        try:
            from gatekeeper.auth.grpc_client import GrpcClient
        except ImportError as error:
            message = f"`grpc://` needs more packages ({error}): pip install 'gatekeeper[grpc]'"
            raise ConfigurationError([Problem("", message)]) from None
        return cls(target, GrpcClient(target), recheck)

    def __repr__(self) -> str:
        return f"<grpc://{self._target}>"

    def check(self, credentials: Credentials) -> Deferred[Verdict]:
        """See :class:`IChecker`."""
        asked = self._client.authenticate(_question_about(credentials))
        return asked.addCallbacks(self._understand, self._failed, callbackArgs=(credentials,))

    def ready(self) -> Deferred[str | None]:
        """See :class:`IReadiness`: what the standard gRPC health service says."""
        return self._client.health().addCallbacks(self._healthy, self._unhealthy)

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._client.close()

    def _understand(self, headers: Headers, credentials: Credentials) -> Verdict:
        try:
            trusted = _read_headers(headers)
        except ValueError as error:
            self._complain(str(error))
            return _UNREACHED
        self._complain("")
        return Grant(
            user=trusted.get(USER, b"").decode("utf-8"),
            key_id=trusted.get(KEY, b"").decode("utf-8"),
            headers=tuple(trusted.items()),
            recheck=self._recheck,
        )

    def _failed(self, failure: Failure) -> Verdict:
        code = _code(failure)
        if code in _DENIALS:
            self._complain("")
            return _DENIALS[code]
        if code != "CANCELLED":  # nobody waits for the answer any more
            self._complain(code)
        return _UNREACHED

    def _complain(self, problem: str) -> None:
        """Log once that it fails, and once that it works again; never the service's own words."""
        if problem == self._failing:
            return
        self._failing = problem
        if problem:
            self.log.error("{checker} fails: {problem}", checker=repr(self), problem=problem)
        else:
            self.log.info("{checker} works again", checker=repr(self))

    def _healthy(self, status: str) -> str | None:
        return None if status == "SERVING" else f"{self._target} says that it is {status}"

    def _unhealthy(self, failure: Failure) -> str | None:
        code = _code(failure)
        if code == "UNIMPLEMENTED":
            return None  # it answers, and has no health service
        return f"{self._target} does not answer: {code}"


def _code(failure: Failure) -> str:
    failure.trap(CallFailedError)
    assert isinstance(failure.value, CallFailedError)
    return failure.value.code


def _read_target(value: str) -> str:
    host, port = split_authority(value)
    if not host or port is None:
        raise ValueError("must be `grpc://HOST:PORT`")
    name = parse_host(host)
    return f"[{name}]:{parse_port(port)}" if ":" in name else f"{name}:{parse_port(port)}"


def _read_recheck(parameters: Mapping[str, str]) -> float | None:
    interval = _INTERVAL
    if "interval" in parameters:
        try:
            interval = parse_duration(parameters["interval"])
        except ValueError as error:
            raise ValueError(f"`interval` {error}") from None
        if not _SHORTEST <= interval <= _LONGEST:
            raise ValueError("`interval` must be between one second and a year")
    continuous = parameters.get("continuous", "false")
    if continuous not in ("true", "false"):
        raise ValueError("`continuous` must be `true` or `false`")
    return interval if continuous == "true" else None


def _question_about(credentials: Credentials) -> Question:
    """The credentials that count stand in ``authorization``, wherever they came from.

    Fields that only we may say are left out, so that nobody passes for somebody else by them.
    """
    headers = [
        (name.decode("latin-1"), _text(value))
        for name, value in credentials.fields
        if name not in _CREDENTIAL_FIELDS and not _is_ours(normalize(name))
    ]
    if credentials.presented:
        headers.append(("authorization", _text(credentials.presented)))
    if credentials.trace_id:
        headers.append(("x-trace-id", credentials.trace_id))
    return Question(
        credentials.url.decode("latin-1"),
        headers,
        credentials.client,
        credentials.count,
        credentials.trace_id,
    )


def _is_ours(name: bytes) -> bool:
    return name.startswith(b"x-sf-") or name == b"x-trace-id"


def _text(value: bytes) -> str:
    """Text for protobuf, which takes nothing but UTF-8: ``?`` for what is none."""
    return _INVALID.sub("?", value.decode("utf-8", "surrogateescape"))


def _read_headers(headers: Headers) -> dict[bytes, bytes]:
    """The trusted headers, the last value of each; what belongs to a connection is left out.

    :raises ValueError: the answer cannot be used.
    """
    trusted: dict[bytes, bytes] = {}
    if len(headers) > _MAX_HEADERS:
        raise ValueError("too many headers in the answer")
    for key, text in headers:
        name, value = key.lower().encode("utf-8"), text.strip().encode("utf-8")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("a header in the answer is malformed")
        if trustworthy(name):
            trusted[name] = value
    if sum(len(name) + len(value) for name, value in trusted.items()) > _MAX_SIZE:
        raise ValueError("the headers in the answer are too large")
    return trusted
