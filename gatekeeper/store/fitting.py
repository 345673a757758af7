"""Makes a batch fit into what every store takes, column by column.

A value that a store refused would stop its batch, and all behind it, for ever. Columns and not
rows, since whole columns are looked at in a few calls, and nearly always fit as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from operator import index
from typing import Any, Final, NamedTuple

from gatekeeper.errors import BatchRejected
from gatekeeper.usage.records import Account, Batch, Counted, CounterKey, Spent, UsageRecord

Column = Sequence[Any]

#: Longest text in bytes. A key of PostgreSQL's B-tree takes about 2 700 bytes in all, which the
#: first four share.
LONGEST: Final = {
    "service": 256,
    "user": 768,
    "path": 1408,
    "model": 128,
    "node": 256,
    "id": 64,
    "key_id": 256,
    "method": 64,
    "reason": 64,
    "did": 256,
    "owner": 256,
}

#: The same for what an account is named by.
LONGEST_SOURCE: Final = 64
LONGEST_NAME: Final = 1024
LONGEST_HOLDER: Final = 1024

#: The path of a single record, which is in no key.
LONGEST_RECORDED_PATH: Final = 8192

#: The largest whole number, and the largest status.
LARGEST: Final = 2**63 - 1
LARGEST_STATUS: Final = 2**31 - 1

#: The last second and hour: of the year 9998, so that they have a date in every time zone.
LATEST: Final = 253_370_764_799
LATEST_HOUR: Final = LATEST // 3600 * 3600

_LONGEST_DURATION: Final = 1e12


_NOTHING_SPENT: Final[list[Column]] = [()] * 4


class Fitted(NamedTuple):
    """A batch that fits: its key, and columns of the counters, the records, and what was spent.

    The columns are in the order of :data:`CounterKey` and :class:`Counted`, of
    :class:`UsageRecord`, and of :class:`Spent`. No two counters have the same key, nor two
    accounts: ``charged`` are those on a chain, ``drawn`` those of the store.
    """

    key: tuple[str, int, int]
    counters: list[Column]
    records: list[Column]
    charged: list[Column] = _NOTHING_SPENT
    drawn: list[Column] = _NOTHING_SPENT


def fit(batch: Batch) -> Fitted:
    """Make a batch fit: numbers are clamped, texts changed as little as possible.

    :raises BatchRejected: it cannot be made to fit.
    """
    try:
        if not (0 <= batch.worker <= LARGEST_STATUS and 0 <= batch.sequence <= LARGEST):
            raise ValueError("its number is out of range")
        node = fit_text(batch.node, LONGEST["node"])
        return Fitted(
            (node, batch.worker, batch.sequence),
            _counter_columns(batch.counters),
            _record_columns(batch.records),
            *_spent_columns(batch.spent),
        )
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BatchRejected(f"the store cannot take this batch: {error}") from error


def _counter_columns(counters: Mapping[CounterKey, Counted]) -> list[Column]:
    if not counters:
        return [()] * (5 + len(Counted._fields))
    service, user, path, model, hour = zip(*counters, strict=True)
    keys: list[Column] = [
        _texts(service, LONGEST["service"]),
        _texts(user, LONGEST["user"]),
        _texts(path, LONGEST["path"]),
        _texts(model, LONGEST["model"]),
        _integers(hour, LATEST_HOUR),
    ]
    sums = [
        _floats(column, _LONGEST_DURATION) if name == "duration" else _integers(column)
        for name, column in zip(Counted._fields, zip(*counters.values(), strict=True), strict=True)
    ]
    if keys == [service, user, path, model, hour]:
        return [*keys, *sums]
    return _merged(zip(*keys, strict=True), zip(*sums, strict=True))


def _merged(keys: Iterable[tuple[Any, ...]], sums: Iterable[tuple[Any, ...]]) -> list[Column]:
    """Add up the rows whose keys have become the same."""
    merged: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for key, row in zip(keys, sums, strict=True):
        if (other := merged.get(key)) is not None:
            row = tuple(min(one + two, LARGEST) for one, two in zip(row, other, strict=True))
        merged[key] = row
    return [*zip(*merged, strict=True), *zip(*merged.values(), strict=True)]


def _record_columns(records: Sequence[UsageRecord]) -> list[Column]:
    if not records:
        return [()] * len(UsageRecord._fields)
    fitted: list[Column] = []
    for name, column in zip(UsageRecord._fields, zip(*records, strict=True), strict=True):
        if name == "path":
            fitted.append(_texts(column, LONGEST_RECORDED_PATH))
        elif name in LONGEST:
            fitted.append(_texts(column, LONGEST[name]))
        elif name == "start":
            fitted.append(_floats(column, LATEST))
        elif name == "duration":
            fitted.append(_floats(column, _LONGEST_DURATION))
        elif name == "spent":
            fitted.append(_spent_texts(column))
        else:
            fitted.append(_integers(column, LARGEST_STATUS if "status" in name else LARGEST))
    return fitted


def _spent_texts(column: Sequence[Sequence[Spent]]) -> Sequence[str]:
    if not any(column):
        return ("[]",) * len(column)
    return [
        json.dumps([(*fit_account(each), min(max(each.amount, 0), LARGEST)) for each in spent])
        for spent in column
    ]


def _spent_columns(spent: Mapping[Account, int]) -> tuple[list[Column], list[Column]]:
    if not spent:
        return _NOTHING_SPENT, _NOTHING_SPENT
    sums: dict[Account, int] = {}
    for account, amount in spent.items():
        if index(amount) < 0:
            raise ValueError("what was spent is negative")
        account = fit_account(account)
        sums[account] = min(sums.get(account, 0) + amount, LARGEST)
    rows = [(*account, amount) for account, amount in sums.items() if amount]
    charged = [row for row in rows if Account(*row[:3]).is_on_chain]
    drawn = [row for row in rows if not Account(*row[:3]).is_on_chain]
    return _columns(charged), _columns(drawn)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Column]:
    return [*zip(*rows, strict=True)] or _NOTHING_SPENT


def fit_account(account: Account | Spent) -> Account:
    """Return the account as the stores have it."""
    return Account(
        fit_text(account.source, LONGEST_SOURCE),
        fit_text(account.name, LONGEST_NAME),
        fit_text(account.holder, LONGEST_HOLDER),
    )


def _integers(column: Column, largest: int = LARGEST) -> Column:
    if set(map(type, column)) == {int} and min(column) >= 0 and max(column) <= largest:
        return column
    return tuple(min(max(int(value), 0), largest) for value in column)


def _floats(column: Column, largest: float) -> Column:
    if isfinite(sum(column)) and min(column) >= 0 and max(column) <= largest:
        return column
    # NaN compares as false with everything: max() makes it 0.
    return tuple(min(max(0.0, value), float(largest)) for value in column)


def _texts(column: Column, longest: int) -> Column:
    together = "".join(column)
    if together.isascii() and "\0" not in together and max(map(len, column)) <= longest:
        return column
    return tuple(fit_text(text, longest) for text in column)


def fit_text(text: str, longest: int) -> str:
    """Return ``text``, or what is nearest to it among the texts that every store takes.

    NUL and surrogates are replaced. Of a text that is too long the beginning stays, with a digest
    of the whole, so that two users never become one.
    """
    if text.isascii() and len(text) <= longest and "\0" not in text:
        return text
    encoded = text.encode("utf-8", "replace").replace(b"\0", b"\xef\xbf\xbd")
    if len(encoded) > longest:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        encoded = (
            encoded[: longest - 36].decode("utf-8", "ignore").encode() + f"...{digest}".encode()
        )
    return encoded.decode("utf-8")
