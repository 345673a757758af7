"""Introspection by RFC 7662: who has this token, and until when is it good?

``POST /introspect`` with the form field ``token``, by callers who say who they are (section 2.1).
An unusable token is ``{"active": false}``, whatever is wrong with it (section 2.2).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from twisted.web.iweb import IRequest

from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import Credentials, Deny, Fields, Grant
from gatekeeper.errors import Refusal
from gatekeeper.management.answers import answer
from gatekeeper.management.questions import Form, decide, malformed, not_a_caller, single
from gatekeeper.replies import unauthorized

_INACTIVE: Final = {"active": False}
_TOO_MUCH: Final = 429
#: RFC 6749, section 5.2, which RFC 7662, section 2.3 refers to.
_ERRORS: Final = {400: "invalid_request", 401: "invalid_client"}
_TOKEN: Final = re.compile(r"[ -~]*[!-~][ -~]*")  # what may stand in a header field
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749, section 3.3: one, without blanks


class OAuthDialect:
    """Answers in this dialect.

    :param name: the listener's.
    :param tokens: the checkers that know the tokens.
    :param callers: the checkers that know who may ask; None: nobody may.

    ``chains`` are those that decide.
    """

    def __init__(self, name: str, tokens: Chain, callers: Chain | None) -> None:
        self._name = name
        self._tokens = tokens
        self._callers = callers
        self.chains = (tokens,) if callers is None else (tokens, callers)

    async def ask(self, request: IRequest, form: Form, peer: str) -> bytes:
        """The body of the answer; its head is set in ``request``. ``peer`` is the caller's address.

        :raises Refusal: 403, the caller may not ask; 503, a checker cannot tell; 429.
        """
        try:
            await self._admit(request, peer)
            token = _read_token(form)
        except Refusal as refusal:
            if refusal.status not in _ERRORS:
                raise
            return _refuse(request, refusal)
        grant = await self._find(token, peer)
        return answer(request, HTTPStatus.OK, _INACTIVE if grant is None else describe(grant))

    async def _admit(self, request: IRequest, peer: str) -> None:
        """Let a caller ask.

        :raises Refusal: who it is cannot be told, or it may not.
        """
        presented = single(request, b"authorization")
        if self._callers is None:
            raise not_a_caller()
        fields = tuple(
            (name.lower(), value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        decision = await decide(self._callers, self._credentials(presented, fields, peer))
        if isinstance(decision, Deny):
            raise unauthorized(decision, self._callers.challenges, proxy=False)
        if not decision.user:  # everybody passes, and that is not enough here
            raise not_a_caller()

    async def _find(self, token: str, peer: str) -> Grant | None:
        """What a token stands for; None: it is not usable.

        :raises Refusal: that cannot be told now.
        """
        if not _TOKEN.fullmatch(token):
            return None
        presented = b"Bearer " + token.encode("ascii")
        fields = ((b"authorization", presented),)
        decision = await decide(self._tokens, self._credentials(presented, fields, peer))
        if isinstance(decision, Deny):
            if decision.status == _TOO_MUCH:  # which says nothing of the token
                raise unauthorized(decision, (), proxy=False)
            return None
        # A grant to nobody in particular is one that needs no token.
        return decision if decision.user else None

    def _credentials(self, presented: bytes, fields: Fields, peer: str) -> Credentials:
        return Credentials(
            presented=presented,
            fields=fields,
            method=b"POST",
            url=b"/introspect",
            service=self._name,
            peer=peer,
            client=peer,
            peer_trusted=False,
        )


def describe(grant: Grant) -> dict[str, object]:
    """The document about a token that stands for ``grant``."""
    scope = " ".join(sorted(group for group in grant.groups if _SCOPE.fullmatch(group)))
    document: dict[str, object] = {
        "active": True,
        "sub": grant.user,
        "username": grant.user,
        "token_type": "Bearer",
    }
    if grant.key_id:
        document["client_id"] = grant.key_id
    if scope:
        document["scope"] = scope
    if grant.expires is not None:
        document["exp"] = int(grant.expires)
    return document


def _read_token(form: Form) -> str:
    tokens = [value for name, value in form if name == "token"]
    if len(tokens) != 1:
        raise malformed("Send one form field `token`.")
    return tokens[0]


def _refuse(request: IRequest, refusal: Refusal) -> bytes:
    document = {
        "error": _ERRORS[refusal.status],
        "error_description": refusal.detail,
        "reason": refusal.reason,
    }
    body = answer(request, HTTPStatus(refusal.status), document)
    for name, value in refusal.fields:
        request.responseHeaders.addRawHeader(name, value)
    return body
