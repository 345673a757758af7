"""Revocations: tokens that count no more, although they have not expired."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from gatekeeper.auth.revoked import jti_digest, token_digest
from gatekeeper.errors import Problem
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.reading import unusable
from gatekeeper.management.v1.models import (
    Document,
    Listing,
    Page,
    Time,
    page,
    parse_time,
    write_time,
)
from gatekeeper.store.state import Add, Replace, Revocation

table = Table("revocations")

_YEAR: Final = 366 * 86400.0

Secret = Annotated[str, Field(min_length=1, max_length=16384, pattern=r"^[!-~]+$")]

Id = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class Revoked(Document):
    """A token that counts no more, by the SHA-256 of it or of its `jti`."""

    digest: str
    until: Time
    created: Time


class NewRevocation(Document):
    """What is to count no more: a token, or all tokens with a `jti`. One of the two."""

    token: Secret | None = Field(default=None, repr=False, description="The token itself.")
    jti: Id | None = Field(default=None, description="The claim `jti` of the token.")
    until: Time | None = Field(
        default=None,
        description="When the token has expired, and the revocation can be forgotten; a year from "
        "now if left out.",
    )


@table.get("/v1/revocations")
async def list_revocations(call: Call, query: Listing) -> Page[Revoked]:
    """The revocations that still matter."""
    now = call.managed.wall_clock()
    found = (each for each in call.managed.state.revocations.values() if each.until > now)
    return page(found, lambda each: each.digest, _show, query)


@table.post("/v1/revocations", status=201)
async def revoke_token(call: Call, body: NewRevocation) -> Revoked:
    """Revoke a token. What runs under it ends."""
    managed, now = call.managed, call.managed.wall_clock()
    if body.jti is None and body.token is not None:
        digest = token_digest(body.token.encode("utf-8"))
    elif body.jti is not None and body.token is None:
        digest = jti_digest(body.jti)
    else:
        raise unusable((Problem("token", "give either `token` or `jti`"),))
    until = now + _YEAR if body.until is None else parse_time(body.until)
    if until <= now:
        raise unusable((Problem("until", "must be in the future"),))
    before = managed.state.revocations.get(digest)
    if before is None:
        revocation = Revocation(digest, until, now)
        change: Any = Add(revocation)
    else:
        revocation = before._replace(until=max(until, before.until))
        change = Replace(revocation)
    await managed.change(
        call, "token.revoke", f"revocations/{digest}", [change], until=write_time(revocation.until)
    )
    return _show(revocation)


def _show(revocation: Revocation) -> Revoked:
    return Revoked(
        digest=revocation.digest,
        until=write_time(revocation.until),
        created=write_time(revocation.created),
    )
