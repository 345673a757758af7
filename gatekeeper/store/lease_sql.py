"""Leases in SQL (see :class:`ILeases`), and quotas of users who are gone.

The functions here are generators of statements; SQLite and PostgreSQL differ in little else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect, table
from gatekeeper.store.fitting import fit_account
from gatekeeper.store.leases import Leased, Seen, Wish, share
from gatekeeper.usage.records import Account

# One statement, so that all of it is of one moment: a charge and the lease that it was covered by
# change together.
_FOUND: Final = """
WITH asked (source, name, holder) AS ({table})
SELECT a.source, a.name, a.holder, 'account', a.granted, a.spent, ''
FROM asked JOIN account AS a
    ON a.source = asked.source AND a.name = asked.name AND a.holder = asked.holder
UNION ALL
SELECT c.source, c.name, c.holder, 'charge', c.id, c.credits, ''
FROM asked JOIN charge AS c
    ON c.source = asked.source AND c.name = asked.name AND c.holder = asked.holder
WHERE c.state <> 'burned'
UNION ALL
SELECT asked.source, asked.name, asked.holder, 'burned', coalesce((
    SELECT max(c.id) FROM charge AS c
    WHERE c.source = asked.source AND c.name = asked.name AND c.holder = asked.holder
        AND c.state = 'burned'
), 0), 0, ''
FROM asked
UNION ALL
SELECT s.contract, e.token_id, e.holder, 'burning', s.id, e.burn, ''
FROM settlement AS s
JOIN settlement_entry AS e ON e.settlement = s.id
JOIN asked ON asked.source = s.contract AND asked.name = e.token_id AND asked.holder = e.holder
WHERE s.state = 'mined' AND EXISTS (
    SELECT 1 FROM burn_transaction AS t WHERE t.settlement = s.id AND t.outcome = 'succeeded'
)
UNION ALL
SELECT l.source, l.name, l.holder, 'lease', l.credits, 0, l.owner
FROM asked JOIN lease AS l
    ON l.source = asked.source AND l.name = asked.name AND l.holder = asked.holder
"""

# What changes an account's leases holds this until the end of its transaction: one comes after the
# other, and sees what that has done. The keys are in order, so that nobody waits in a circle.
_LOCK: Final = """
SELECT pg_advisory_xact_lock(CAST(value ->> 0 AS bigint)) FROM json_array_elements(%s::json)
"""

# Relative to what is there, for usage may come in meanwhile. Rows are locked in the order of the
# wishes, in which whoever writes a batch does it, too.
_CHANGE: Final = """
WITH wish (source, name, holder, change) AS ({table})
INSERT INTO lease (owner, source, name, holder, credits, renewed)
SELECT {place}, source, name, holder, change, {now} FROM wish WHERE true
ON CONFLICT (source, name, holder, owner) DO UPDATE
SET credits = CASE WHEN lease.credits + excluded.credits > 0
        THEN lease.credits + excluded.credits ELSE 0 END,
    renewed = excluded.renewed
RETURNING source, name, holder, credits
"""


@dataclass(slots=True)
class _Found:
    """What the store knows of an account; ``leased`` by ``owner``, and by all others."""

    granted: int = 0
    spent: int = 0
    charges: set[int] = field(default_factory=set)
    burning: set[tuple[int, int]] = field(default_factory=set)
    burned: int = 0
    had: int = 0
    others: int = 0

    @property
    def seen(self) -> Seen:
        return Seen(frozenset(self.charges), frozenset(self.burning), self.burned)


def see(dialect: Dialect, accounts: Sequence[Account]) -> Steps[list[Seen]]:
    """See :meth:`ILeases.see`."""
    fitted = [fit_account(account) for account in accounts]
    found = yield from _find(dialect, fitted, "")
    return [found[account].seen for account in fitted]


def lease(dialect: Dialect, owner: str, wishes: Sequence[Wish]) -> Steps[list[Leased]]:
    """See :meth:`ILeases.lease`."""
    fitted = [fit_account(wish.account) for wish in wishes]
    if dialect.name == "postgres":
        yield _LOCK, (json.dumps([[each] for each in sorted({*map(_lock_key, fitted)})]),)
    found = yield from _find(dialect, fitted, owner)
    changes: dict[Account, int] = {}
    free: dict[Account, int | None] = {}
    for account, wish in zip(fitted, wishes, strict=True):
        changes[account], free[account] = _change(found[account], account, wish)
    to_do = {each: n for each, n in changes.items() if n or found[each].had}
    leased = yield from _apply(dialect, owner, to_do)
    return [
        Leased(leased.get(account, 0), max(changes[account], 0), free[account])
        for account in fitted
    ]


def _change(found: _Found, account: Account, wish: Wish) -> tuple[int, int | None]:
    """How much a lease changes, and what is free then, if that can be told."""
    in_all = found.granted + wish.allowance
    if account.is_on_chain:
        balance = wish.balance
        if balance is None or not balance.seen.still_holds(found.seen):
            return -min(max(wish.give, 0), found.had), None
        in_all = balance.credits
    return share(wish, found.had, in_all, found.spent + found.others)


def _find(
    dialect: Dialect, accounts: Iterable[Account], owner: str
) -> Steps[dict[Account, _Found]]:
    found = {account: _Found() for account in accounts}
    if not found:
        return found
    text = _FOUND.format(table=table(dialect, "text", "text", "text"))
    for *account, kind, one, two, whose in (yield text, (json.dumps([*found]),)):
        this = found[Account._make(account)]
        if kind == "account":
            this.granted += one
            this.spent += two
        elif kind == "charge":
            this.charges.add(one)
            this.spent += two
        elif kind == "burned":
            this.burned = one
        elif kind == "burning":
            this.burning.add((one, two))
            this.spent -= two
        elif whose == owner:
            this.had = one
        else:
            this.others += one
    return found


def _apply(dialect: Dialect, owner: str, changes: dict[Account, int]) -> Steps[dict[Account, int]]:
    """Change leases, and renew them; what they have then."""
    if not changes:
        return {}
    text = _CHANGE.format(
        table=table(dialect, "text", "text", "text", "bigint"),
        place=dialect.placeholder,
        now=dialect.now,
    )
    rows = yield text, (json.dumps([(*each, changes[each]) for each in sorted(changes)]), owner)
    leased = {Account._make(account): max(credits, 0) for *account, credits in rows}
    if not all(leased.values()):
        place = dialect.placeholder
        # Below 0 is what was freed by somebody else, who thought that we had ended.
        yield f"DELETE FROM lease WHERE owner = {place} AND credits <= 0", (owner,)  # noqa: S608
    return leased


def release(dialect: Dialect, owners: Sequence[str], older: float) -> Steps[int]:
    """See :meth:`ILeases.release`."""
    rows = yield (
        f"DELETE FROM lease WHERE owner IN ({table(dialect, 'text')}) "  # noqa: S608
        f"OR renewed < {dialect.now} - {dialect.placeholder} RETURNING 1",
        (json.dumps([[owner] for owner in owners]), older),
    )
    return len(rows)


def _lock_key(account: Account) -> int:
    digest = blake2b(json.dumps(account).encode(), digest_size=8, person=b"lease").digest()
    return int.from_bytes(digest, "big", signed=True)


def quotas_of(dialect: Dialect) -> str:
    """A condition: it is a quota of a user. Its parameters: see :func:`quota_values`."""
    place = dialect.placeholder
    names = f"(name >= {place} AND name < {place})"
    return f"source = 'quota' AND holder = {place} AND ({names} OR {names})"


def quota_values(service: str, user: str) -> tuple[str, ...]:
    """The parameters of :func:`quotas_of`: ``/`` is right before ``0``."""
    # Whose key it was does not count: no key has the id of another one.
    kinds = (f"{service}/{kind}" for kind in ("user", "keyless"))
    return (user, *(f"{kind}{end}" for kind in kinds for end in "/0"))
