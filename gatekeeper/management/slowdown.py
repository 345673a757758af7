"""In front of the management site: who tries one bearer token after the other is answered late.

A request with the right token, or with none, is never held.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from gatekeeper.errors import Refusal
from gatekeeper.management.attempts import Attempts
from gatekeeper.management.token import OperatorToken

#: The longest that an answer is held, in seconds, and how many are at once: others are given soon,
#: so that connections are left for operators.
LONGEST: Final = 5.0
MOST: Final = 32

log = Logger()


class Slowdown(Resource):
    """The root of a site that is ``root``, for callers who know ``token``."""

    isLeaf = True

    def __init__(self, root: IResource, token: OperatorToken, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._root = root
        self._token = token
        self._clock = clock
        self._attempts = Attempts(clock.seconds)
        self._held = 0

    def render(self, request: IRequest) -> bytes | int:
        """Answer a request, sooner or later."""
        pause = self._pause(request)
        if not pause or self._held >= MOST:
            answered: bytes | int = self._root.render(request)
            return answered
        self._held += 1
        held = self._clock.callLater(pause, self._release, request)
        request.notifyFinish().addErrback(self._gone, held)  # type: ignore[attr-defined]
        return NOT_DONE_YET

    def _pause(self, request: IRequest) -> float:
        authorization = request.requestHeaders.getRawHeaders(b"authorization", [])
        if not authorization:
            return 0.0
        try:
            self._token.check(authorization)
        except Refusal:
            peer = request.getClientAddress().host
            self._attempts.failed(peer)
            return min(self._attempts.wait(peer), LONGEST)
        return 0.0

    def _release(self, request: IRequest) -> None:
        self._held -= 1
        log.warn("Wrong tokens from {peer}", peer=request.getClientAddress().host)
        request.render(self._root)  # type: ignore[attr-defined]

    def _gone(self, _: Failure, held: IDelayedCall) -> None:
        """Nobody waits any more, for this answer or for its rest."""
        if held.active():
            held.cancel()
            self._held -= 1
