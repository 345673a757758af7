"""All operations of the API."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from gatekeeper.management import golem_dialect
from gatekeeper.management.gate import Actor
from gatekeeper.management.openapi import openapi
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1 import (
    credits,
    credits_charges,
    credits_ledger,
    exchanges,
    keys,
    process,
    revocations,
    services,
    tokens,
    usage,
    users,
)

_table = Table("document")


@_table.get("/v1/openapi.json")
async def show_document(call: Call) -> dict[str, Any]:
    """This document."""
    return describe(call.caller.actor)


OPERATIONS: Final = [
    operation
    for table in (
        services.table,
        users.table,
        keys.table,
        revocations.table,
        tokens.table,
        usage.table,
        credits.table,
        credits_charges.table,
        credits_ledger.table,
        exchanges.table,
        process.table,
        golem_dialect.table,
        _table,
    )
    for operation in table.operations
]


@cache
def describe(actor: Actor) -> dict[str, Any]:
    """The OpenAPI document, for callers who show in this way who they are."""
    return openapi(OPERATIONS, actor)
