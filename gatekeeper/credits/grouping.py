"""Which charges make a settlement, and what of it can be burned. Nothing here asks anybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from typing import NamedTuple

from gatekeeper.credits.pricing import Token


class Charge(NamedTuple):
    """What a payer owes: ``id`` is the store's, ``holder`` an address, ``since`` the epoch's."""

    id: int
    token: Token
    holder: str
    credits: int
    since: float


class Entry(NamedTuple):
    """The sum of one payer's charges for one token; ``burn`` of its credits are burned."""

    holder: str
    token_id: int
    credits: int
    burn: int
    charges: tuple[int, ...] = ()

    @property
    def short(self) -> int:
        """What cannot be collected now: it becomes a charge of its own."""
        return self.credits - self.burn


class Group(NamedTuple):
    """What one transaction burns: entries of one contract, no payer's token twice."""

    contract: str
    entries: tuple[Entry, ...]


def due(
    charges: Iterable[Charge],
    now: float,
    interval: float,
    amount: int | None,
    busy: Container[tuple[Token, str]] = (),
) -> list[Charge]:
    """The charges whose turn it is: all of a payer's, once it is time or there is enough.

    It is time when the oldest has waited for ``interval`` seconds; it is enough when they come to
    ``amount`` credits (``None``: never). A charge of nothing is never due, nor is that of a payer
    who is ``busy``: what is being burned is still in the balance, and must not be counted on.
    """
    by_payer: dict[tuple[Token, str], list[Charge]] = defaultdict(list)
    for charge in charges:
        if charge.credits > 0 and (charge.token, charge.holder) not in busy:
            by_payer[charge.token, charge.holder].append(charge)
    found = []
    for owed in by_payer.values():
        waited = now - min(charge.since for charge in owed)
        enough = amount is not None and sum(charge.credits for charge in owed) >= amount
        if waited >= interval or enough:
            found += owed
    return found


def group(charges: Iterable[Charge], most: int) -> list[Group]:
    """Charges as settlements of up to ``most`` entries, each payer's token in one of them."""
    sums: dict[str, dict[tuple[str, int], list[Charge]]] = defaultdict(lambda: defaultdict(list))
    for charge in charges:
        sums[charge.token.contract][charge.holder, charge.token.id].append(charge)
    groups = []
    for contract, payers in sums.items():
        entries = [
            _entry(holder, token_id, [each.credits for each in owed], [each.id for each in owed])
            for (holder, token_id), owed in payers.items()
        ]
        groups += [
            Group(contract, tuple(entries[at : at + most])) for at in range(0, len(entries), most)
        ]
    return groups


def fit(entries: Iterable[Entry], balances: Iterable[int]) -> list[Entry]:
    """The entries with as much to burn as the payers have; nothing is lost of ``credits``."""
    return [
        entry._replace(burn=min(entry.credits, balance))
        for entry, balance in zip(entries, balances, strict=True)
    ]


def burnable(entries: Iterable[Entry]) -> list[tuple[str, int, int]]:
    """What a transaction burns: (holder, token id, amount). Burning 0 is never asked for."""
    return [(entry.holder, entry.token_id, entry.burn) for entry in entries if entry.burn > 0]


async def separate(
    entries: Sequence[Entry], works: Callable[[Sequence[Entry]], Awaitable[bool]]
) -> tuple[list[Entry], list[Entry]]:
    """The entries that can be burned together, and those that cannot be burned at all.

    A transaction fails as a whole and does not say for whom, so halves are tried: about
    ``2 * b * log2(n)`` tries for ``b`` bad ones of ``n``.
    """
    if not entries or await works(entries):
        return list(entries), []
    if len(entries) == 1:
        return [], list(entries)
    middle = len(entries) // 2
    good, bad = await separate(entries[:middle], works)
    more_good, more_bad = await separate(entries[middle:], works)
    return good + more_good, bad + more_bad


def _entry(holder: str, token_id: int, credits: list[int], charges: list[int]) -> Entry:
    total = sum(credits)
    return Entry(holder, token_id, total, total, tuple(charges))
