"""Introspection as Nevermined's nginx asks for it: what does this access token open?

``POST /introspect`` with ``Authorization: Bearer TOKEN`` and ``NVM-Requested-Url: URL``. The answer
is 200 with a JSON document for an access token that opens the URL, or for a URL that is open to
everybody; else 401 without a body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from twisted.web.iweb import IRequest

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.interfaces import Credentials, Grant, Opened
from gatekeeper.auth.jwe import TokenError
from gatekeeper.auth.token_claims import AccessToken
from gatekeeper.errors import ProtocolError
from gatekeeper.http.target import Authority, Target, parse_target
from gatekeeper.management.answers import answer, write
from gatekeeper.management.questions import decide, single

REQUESTED_URL: Final = b"nvm-requested-url"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = frozenset({b"http", b"https"})
_UNAUTHORIZED: Final = ((b"www-authenticate", BEARER), (b"cache-control", b"no-store"))


class NeverminedDialect:
    """Answers in this dialect.

    :param name: the listener's.
    :param checkers: those of its checkers that know access tokens.
    :param chain: the same as a chain.

    ``chains`` are those that decide.
    """

    def __init__(self, name: str, checkers: Sequence[AccessTokenChecker], chain: Chain) -> None:
        self._name = name
        self._checkers = tuple(checkers)
        self._chain = chain
        self.chains = (chain,)

    async def ask(self, request: IRequest, peer: str) -> bytes:
        """The body of the answer; its head is set in ``request``. ``peer`` is the asker's address.

        :raises Refusal: 400, a field stands twice; 503, a checker cannot tell.
        """
        presented = single(request, b"authorization")
        target = _requested(single(request, REQUESTED_URL))
        document = None if target is None else await self._find(presented, target, peer)
        if document is None:
            return write(request, HTTPStatus.UNAUTHORIZED, _UNAUTHORIZED, b"")
        return answer(request, HTTPStatus.OK, document)

    async def _find(
        self, presented: bytes, target: Target, peer: str
    ) -> Mapping[str, object] | None:
        """What is said of a URL that may be asked for; None: it may not."""
        authority = target.authority
        if not self._checkers or authority is None:  # no checker lets nobody pass
            return None
        credentials = Credentials(
            presented=presented,
            fields=(),
            method=b"GET",
            url=target.path + target.query,
            service=self._name,
            peer=peer,
            client=peer,
            peer_trusted=False,
            host=authority.host,
            port=authority.port,
        )
        decision = await decide(self._chain, credentials)
        if not isinstance(decision, Grant) or decision.opens is None:
            return None
        opened = decision.opens.find(authority.host, authority.port, target.path)
        if opened is None:
            return None
        # Nobody is identified where the URL is open: no token had a part in it then.
        return describe(decision, opened, self._read(credentials.token) if decision.user else None)

    def _read(self, token: bytes) -> AccessToken | None:
        for checker in self._checkers:
            try:
                return checker.read(token)
            except TokenError:
                continue
        return None


def describe(grant: Grant, opened: Opened, token: AccessToken | None) -> dict[str, object]:
    """The document about a request that may go to ``opened``; what is not known is ``""``.

    ``token`` is the one that opens it; None where everybody may ask.
    """
    headers = {name: value.decode("ascii") for name, value in grant.headers}
    authorization = (opened.authorization or b"").decode("ascii")
    default_port = _DEFAULT_PORTS[opened.scheme]
    return {
        "active": True,
        "user_id": grant.user,
        "owner": headers.get(b"nvm-owner", ""),
        "auth_type": _auth_type(opened, token),
        "upstream_host": Authority(opened.host, opened.port).encode(default_port).decode("ascii"),
        "scope": headers.get(b"nvm-scope", ""),
        "exp": "" if grant.expires is None else int(grant.expires),
        "iat": _or_empty(token.issued if token else None),
        "ercType": _or_empty(token.erc_type if token else None),
        "service_token": authorization.partition(" ")[2],
        "auth_header": authorization,
    }


def _auth_type(opened: Opened, token: AccessToken | None) -> str:
    if opened.authorization is None:
        return "none"
    if token is not None and token.credential.authorization == opened.authorization:
        return token.credential.kind
    return "bearer"  # the backend's own


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value


def _requested(url: bytes) -> Target | None:
    """The URL that is asked about; None where it is none, or two programs could read it apart."""
    try:
        target = parse_target(url)
    except ProtocolError:
        return None
    return target if target.scheme in _SCHEMES else None
