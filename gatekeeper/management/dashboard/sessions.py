"""Who has logged in to the dashboard: sessions, in memory only.

A session stands for the token that somebody logged in with. Its cookie counts only together with a
second secret that other sites cannot learn, wherever something is to be changed.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from twisted.web.iweb import IRequest

#: Seconds that a session lasts, and that it lasts without a request.
LONGEST: Final = 12 * 3600.0
IDLE: Final = 3600.0

#: The field that carries a session's second secret.
CSRF_FIELD: Final = b"x-csrf-token"

_MOST: Final = 64
_SAFE: Final = (b"GET", b"HEAD")  # RFC 9110, 9.2.1; nothing of ours answers the others


@dataclass(slots=True)
class Session:
    """``authorization`` is the Authorization field that the session stands for."""

    csrf: str = field(repr=False)
    authorization: bytes = field(repr=False)
    begun: float
    used: float


class Sessions:
    """At most ``most`` sessions; where there would be more, the one unused for longest ends.

    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(self, monotonic: Callable[[], float], most: int = _MOST) -> None:
        self._monotonic = monotonic
        self._most = most
        # Found by the digest of the id: how long the search takes tells nothing about the id. The
        # one used last is at the end.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, authorization: bytes) -> tuple[str, Session]:
        """Begin a session that stands for this Authorization field; its id, for a cookie."""
        identifier = secrets.token_urlsafe(32)
        now = self._monotonic()
        session = Session(secrets.token_urlsafe(32), authorization, now, now)
        self._sessions[_digest(identifier.encode("ascii"))] = session
        while len(self._sessions) > self._most:
            self._sessions.popitem(last=False)
        return identifier, session

    def find(self, request: IRequest) -> Session | None:
        """The session of a request's cookie, which is used by that; None where there is none."""
        digest = _presented(request)
        session = self._sessions.get(digest)
        if session is None:
            return None
        now = self._monotonic()
        if now - session.begun >= LONGEST or now - session.used >= IDLE:
            del self._sessions[digest]
            return None
        session.used = now
        self._sessions.move_to_end(digest)
        return session

    def end(self, request: IRequest) -> None:
        """End the session of a request's cookie."""
        self._sessions.pop(_presented(request), None)

    def present(self, request: IRequest) -> None:
        """Put into a request what its session stands for, so that it is an operator's.

        What has an Authorization field keeps it. What may change something needs the session's
        second secret beside the cookie, which a browser sends by itself.
        """
        fields = request.requestHeaders
        if fields.hasHeader(b"authorization"):
            return
        session = self.find(request)
        if session is None:
            return
        if request.method not in _SAFE:
            presented = fields.getRawHeaders(CSRF_FIELD, [])
            secret = presented[0] if len(presented) == 1 else b""
            if not compare_digest(secret, session.csrf.encode("ascii")):
                return
        fields.setRawHeaders(b"authorization", [session.authorization])


def cookie_name(request: IRequest) -> bytes:
    """The name of our cookie. A host's ports share their cookies, so it has the port in it."""
    return b"gatekeeper-%d" % getattr(request.getHost(), "port", 0)


def _presented(request: IRequest) -> bytes:
    return _digest(request.getCookie(cookie_name(request)) or b"")


def _digest(identifier: bytes) -> bytes:
    return sha256(identifier).digest()
