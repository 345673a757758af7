"""How the API writes what is on a chain: addresses in lower case, token ids in 64 hex digits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gatekeeper.credits.pricing import read_address, read_token_id
from gatekeeper.usage.records import Account

Address = Annotated[
    str,
    Field(
        pattern=r"^0x[0-9a-fA-F]{40}$",
        description="An address: `0x` and 40 hex digits, in any case.",
    ),
]
TokenId = Annotated[
    str,
    Field(
        pattern=r"^(?:did:nv:|0x)?[0-9a-fA-F]{64}$",
        description="A token's id in its contract: 64 hex digits, also with `0x` before.",
    ),
]


def token_name(token: str) -> str:
    """A token id as accounts are named by it: in decimal digits."""
    return str(read_token_id(token))


def token_shown(name: str) -> str:
    """An account's name as a token id; what is none stays."""
    return f"0x{int(name):064x}" if _is_token(name) else name


def is_askable(account: Account) -> bool:
    """Whether a chain can be asked about an account: it may be charged to what is no contract."""
    return read_address(account.source) is not None and _is_token(account.name)


def _is_token(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 80 and int(name) < 2**256
