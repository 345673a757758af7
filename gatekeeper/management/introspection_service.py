"""An introspection listener as a service. Does not import the reactor before it starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import make_chain
from gatekeeper.auth.revoked import Revoked
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.values import parse_network
from gatekeeper.management.nevermined_dialect import REQUESTED_URL, NeverminedDialect
from gatekeeper.management.oauth_dialect import OAuthDialect
from gatekeeper.management.site import BoundedRequest, SiteService

_CONNECTIONS: Final = 1024  # without keep-alive, nginx makes one for each request
_HEAD: Final = 40960  # bytes; nginx passes on its client's: by default, up to 32 KiB


class IntrospectionRequest(BoundedRequest):
    """A request whose body is not waited for where the head is all that there is to the question.

    An nginx announces the body of its own client's request, and sends none.
    """

    def gotLength(self, length: int | None) -> None:
        """See :class:`BoundedRequest`."""
        if length == 0 or not self.requestHeaders.hasHeader(REQUESTED_URL):
            super().gotLength(length)
            return
        super().gotLength(0)
        self.channel.length = 0
        self.channel.persistent = False  # what comes yet, if anything does, is no request
        self.responseHeaders.setRawHeaders(b"connection", [b"close"])


class IntrospectionService(SiteService):
    """Tells other programs what tokens are worth.

    :param listening: the listener's socket.
    :param listener: its settings; it names at least one checker.
    :param checkers: all that there are, by name or URL; they stay the caller's.
    :param cache: where verdicts are kept.
    :param revoked: knows tokens that count no more.
    """

    def __init__(
        self,
        listening: socket.socket,
        listener: Listener,
        checkers: Mapping[str, IChecker],
        cache: VerdictCache,
        revoked: Revoked | None = None,
    ) -> None:
        name = f"Introspection {listener.name}"
        super().__init__(
            name, listening, self._root, IntrospectionRequest, most=_CONNECTIONS, head=_HEAD
        )
        self._nevermined, self._oauth = make_dialects(listener, checkers, cache, revoked)
        self.listener_name = listener.name
        self._trusted = [parse_network(network) for network in listener.trusted_peers]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The chains that decide here."""
        return (*self._nevermined.chains, *self._oauth.chains)

    def _root(self, _: IReactorTime) -> IResource:
        from gatekeeper.management.introspection import Introspection

        return Introspection(self._nevermined, self._oauth, self._trusted).resource()


def make_dialects(
    listener: Listener,
    checkers: Mapping[str, IChecker],
    cache: VerdictCache,
    revoked: Revoked | None = None,
) -> tuple[NeverminedDialect, OAuthDialect]:
    """What answers on a listener; for the parameters see :class:`IntrospectionService`."""
    name, tokens, callers = listener.name, listener.checkers or (), listener.callers
    access_tokens = {
        each: checker
        for each in tokens
        if isinstance(checker := checkers[each], AccessTokenChecker)
    }

    def chain(kind: str, names: Sequence[str]) -> Chain:
        return make_chain(f"introspection:{name}:{kind}", names, checkers, cache, revoked)

    nevermined = NeverminedDialect(
        name, list(access_tokens.values()), chain("access-tokens", list(access_tokens))
    )
    return nevermined, OAuthDialect(
        name, chain("tokens", tokens), chain("callers", callers) if callers else None
    )
