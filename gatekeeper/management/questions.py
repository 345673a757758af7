"""What the two dialects of introspection have in common."""

from __future__ import annotations

from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest

from gatekeeper.auth.chain import Chain, Decision
from gatekeeper.auth.interfaces import Credentials, Deny, Grant, Unavailable
from gatekeeper.errors import Refusal

#: The fields of a form, names and values, in order.
Form: TypeAlias = list[tuple[str, str]]


def malformed(detail: str) -> Refusal:
    """The refusal of a question that can be understood in more ways than one, or in none."""
    return Refusal("malformed_introspection", detail)


def not_a_caller() -> Refusal:
    """The refusal of somebody who may not ask."""
    return Refusal("not_a_caller", "You may not ask about tokens here.", status=403)


def single(request: IRequest, name: bytes) -> bytes:
    """The value of a field that stands in a request once; empty where it does not.

    :raises Refusal: it stands there more often.
    """
    values = request.requestHeaders.getRawHeaders(name, [])
    if len(values) > 1:
        raise malformed(f"The field `{name.decode('ascii')}` stands there more than once.")
    return values[0] if values else b""


async def decide(chain: Chain, credentials: Credentials) -> Grant | Deny:
    """What a chain says.

    :raises Refusal: 503, it cannot tell now.
    """
    decision = chain.check(credentials)
    if isinstance(decision, Deferred):
        # Who does not wait cancels this one; the checkers' work goes on, and may be remembered.
        waiter: Deferred[Decision] = Deferred()
        decision.addCallback(waiter.callback)
        decision = await waiter
    if isinstance(decision, Unavailable):
        raise Refusal(decision.reason, decision.detail, status=503)
    return decision
