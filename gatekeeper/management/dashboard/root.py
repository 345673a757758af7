"""In front of the management site: requests that have a session.

What a session allows is decided by nobody but the API: its requests get the Authorization field
that the session stands for, and go on as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from gatekeeper.management.dashboard.sessions import Sessions
from gatekeeper.management.gate import Gate
from gatekeeper.management.token import OperatorToken

_OURS: Final = b"dashboard"


class Document(Protocol):
    """What makes the document of ``/dashboard/data``, see :class:`.Numbers`."""

    def document(self) -> Mapping[str, object] | Deferred[Mapping[str, object]]:
        """The numbers now, for JSON."""


class Parts(NamedTuple):
    """What the dashboard is made of.

    ``gate`` tells who may see the numbers; ``token`` is what is to be presented at log-in, None:
    nobody has to log in.
    """

    gate: Gate
    token: OperatorToken | None
    numbers: Document


class Root(Resource):
    """The root of the site: ``dashboard`` answers below ``/dashboard``, ``api`` elsewhere."""

    isLeaf = True

    def __init__(self, api: IResource, dashboard: IResource, sessions: Sessions) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._api = api
        self._dashboard = dashboard
        self._sessions = sessions

    def render(self, request: IRequest) -> bytes | int:
        """Answer a request, or have it answered."""
        self._sessions.present(request)
        resource = self._dashboard if request.postpath[:1] == [_OURS] else self._api
        answered: bytes | int = resource.render(request)
        return answered
