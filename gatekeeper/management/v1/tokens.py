"""Cached tokens: what `exchange` checkers keep for credentials, and who is shut out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field

from gatekeeper.auth.token_cache import REVOKED, TokenCacheError
from gatekeeper.auth.token_exchange import fingerprint
from gatekeeper.errors import Refusal
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.models import Document, Listing, Page, page

table = Table("tokens")

_FINGERPRINT: Final = re.compile("[0-9a-f]{32}")


class CachedToken(Document):
    """A credential that a token is kept for, or that is shut out. The token is not shown."""

    zone: str
    id: str = Field(description="The `key_id` in usage and logs.")
    key: str = Field(description="What stands for the credential: its fingerprint, if a secret.")
    revoked: bool


class TokenListing(Listing):
    """Which cached tokens."""

    zone: str = Field(default="", max_length=255, description="Of this zone only.")


@table.get("/v1/tokens")
async def list_tokens(call: Call, query: TokenListing) -> Page[CachedToken]:
    """The cached tokens of all zones, or of one."""
    zones = [zone for zone in call.managed.zones if query.zone in ("", zone)]
    found = [
        CachedToken(zone=zone, id=token_id(key), key=key, revoked=value == REVOKED)
        for zone in zones
        for key, value in (await _items(call, zone)).items()
    ]
    return page(found, lambda token: f"{token.zone}/{token.id}", lambda token: token, query)


@table.delete("/v1/tokens/{zone}/{token}", status=204, errors=(404,))
async def revoke_cached_token(call: Call, zone: str, token: str) -> None:
    """Shut out whoever a cached token is for, for as long as entries live. What runs ends."""
    keys = [key for key in await _items(call, zone) if token_id(key) == token]
    if not keys:
        raise Refusal("not_found", "There is no such token; it may have expired.", status=404)
    try:
        for key in keys:
            await call.managed.zones[zone].revoke(key)
    except TokenCacheError as error:
        raise _away() from error
    await call.managed.note(call, "cached-token.revoke", subject(zone, token))


def token_id(key: str) -> str:
    """What a key of a zone is called in logs: its fingerprint, or itself where it is one."""
    return key if _FINGERPRINT.fullmatch(key) else fingerprint(key.encode("utf-8"))


def subject(zone: str, token: str) -> str:
    """What the audit log calls a cached token."""
    return f"tokens/{zone}/{token}"


async def _items(call: Call, zone: str) -> Mapping[str, str]:
    if zone not in call.managed.zones:
        raise Refusal("not_found", "There is no such zone.", status=404)
    try:
        return await call.managed.zones[zone].items()
    except TokenCacheError as error:
        raise _away() from error


def _away() -> Refusal:
    return Refusal("token_cache_away", "The tokens cannot be reached, or are too many.", status=503)
