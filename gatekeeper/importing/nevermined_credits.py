"""From the variables of the chain to ``[credits]``, and to what is sold for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gatekeeper.importing.notes import Notes
from gatekeeper.importing.toml import Table, Value


class Selling(NamedTuple):
    """``table`` is ``[credits]``; ``keys`` go to the service and the listener that sell."""

    table: Table | None
    keys: Mapping[str, Value]


def selling(chain: Mapping[str, Value], marketplace: Value | None, notes: Notes) -> Selling:
    """How requests are paid for: with credits on the chain, where it is known whom to ask.

    ``chain`` has the keys of ``[credits]`` that variables stand for, ``marketplace`` is the URL
    that prices are asked for at.
    """
    if not chain:
        return Selling(None, {})
    values = dict(chain)
    if marketplace is not None:
        values["marketplace_url"] = marketplace
    table = Table(
        "[credits]",
        values,
        {
            "": "The chain that requests are paid on. What is owed there is burned by "
            "`twistd gatekeeper-burner`: docs/credits.rst.",
            "marketplace_url": "Where prices are asked for.",
        },
    )
    if "rpc_url" in values and "marketplace_url" in values:
        notes.carry("WEB3_PROVIDER_URL", "`credits` of the service and of the forward proxy")
        return Selling(table, {"credits": {"source": "chain"}})
    if "rpc_url" in values:
        notes.leave("MARKETPLACE_API_URL", "is not set, and so nobody is charged on the chain")
    return Selling(table, {})
