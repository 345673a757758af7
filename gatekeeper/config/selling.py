"""What must be right where requests cost credits, or are limited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gatekeeper.config.model import Usage
from gatekeeper.config.model_credits import Credits
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.config.model_services import Service
from gatekeeper.errors import Problem

#: Keys of ``credits`` that have no meaning where documents say the prices.
_PREPAID: Final = ("pool", "charge", "amount", "minimum", "maximum", "required")
#: Those that have none with prices of a kind.
_MEANINGLESS: Final = {"fixed": ("maximum", "assumed"), "units": ("amount",)}


def selling_problems(
    sellers: Iterable[tuple[str, Service | Listener]], credits: Credits | None, usage: Usage | None
) -> Iterator[Problem]:
    """What is wrong with what services and listeners (each with its path) ask of callers.

    ``credits`` and ``usage`` are the tables of these names, ``None``: they cannot be read.
    """
    for path, seller in sellers:
        sold = seller.credits
        if sold is not None:
            yield from _contradictions(f"{path}.credits", sold)
            if sold.source == "chain" and credits is not None:
                yield from _nowhere_to_ask(f"{path}.credits", credits)
        for key, there in (("credits", sold is not None), ("quotas", bool(seller.quotas))):
            if not there:
                continue
            if not seller.checkers:
                yield Problem(f"{path}.{key}", "needs `checkers`: nobody can be charged otherwise")
            if usage is not None and not usage.enabled:
                yield Problem(f"{path}.{key}", "needs `usage.enabled = true`")
        for number, quota in enumerate(seller.quotas):
            if quota.assumed > quota.units:
                where = f"{path}.quotas[{number}].assumed"
                yield Problem(where, "must not be more than `units`")
        yield from _repeated(f"{path}.rates", ((each.per, each.by) for each in seller.rates))
        yield from _repeated(f"{path}.quotas", ((each.per, each.by) for each in seller.quotas))


def _contradictions(path: str, sold: ServiceCredits) -> Iterator[Problem]:
    if sold.source == "chain":
        for key in _PREPAID:
            if key in sold.model_fields_set:
                yield Problem(f"{path}.{key}", 'has no meaning where source = "chain"')
        return
    if sold.minimum is not None and sold.maximum is not None and sold.minimum > sold.maximum:
        yield Problem(f"{path}.minimum", "must not be more than `maximum`")
    for key in _MEANINGLESS.get(sold.charge, ()):
        if key in sold.model_fields_set:
            yield Problem(f"{path}.{key}", f'has no meaning where charge = "{sold.charge}"')


def _repeated(path: str, kinds: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Two quotas of a kind would count everything twice, in the same account."""
    seen = set[tuple[str, str]]()
    for number, (per, by) in enumerate(kinds):
        if (per, by) in seen:
            yield Problem(f"{path}[{number}]", f"there is one per {per} by {by} already")
        seen.add((per, by))


def _nowhere_to_ask(path: str, credits: Credits) -> Iterator[Problem]:
    for key in ("rpc_url", "marketplace_url"):
        if getattr(credits, key) is None:
            yield Problem(f"{path}.source", f"`chain` needs `credits.{key}`")
