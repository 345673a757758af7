"""What the two SQL stores have in common: how texts are made to fit, and the usage query."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.usage.records import Batch

#: A batch's key is kept for so long, in seconds; it must not be repeated later than that.
KEEP_BATCHES: Final = 30 * 86400

#: Longest text in bytes. A key of PostgreSQL's B-tree takes about 2 700 bytes in all.
LONGEST: Final = {"service": 256, "user": 768, "path": 1536}

_GROUPS: Final = {
    "service": "service",
    "user": "user_name",
    "path": "path",
    "hour": "hour",
    "day": "hour / 86400 * 86400",
}

StoredRow = tuple[str, str, str, int, int, int, int, int, float]


def stored_rows(batch: Batch) -> list[StoredRow]:
    """Return a batch's counters as rows that a store is sure to take.

    A text that it would refuse would stop this batch, and all behind it, for ever.
    """
    return [
        (
            _fit(service, LONGEST["service"]),
            _fit(user, LONGEST["user"]),
            _fit(path, LONGEST["path"]),
            hour,
            *counted,
        )
        for (service, user, path, hour), counted in batch.counters.items()
    ]


def usage_sql(query: UsageQuery, placeholder: str) -> tuple[str, list[str | int]]:
    """Return the SELECT for a query, and its parameters; its columns are those of UsageRow.

    :raises ValueError: ``by`` has something that rows cannot be grouped by.
    """
    if unknown := set(query.by) - _GROUPS.keys():
        raise ValueError(f"usage cannot be grouped by {', '.join(sorted(unknown))}")
    time = "hour" if "hour" in query.by else "day" if "day" in query.by else None
    columns = [
        *(_GROUPS[name] if name in query.by else "''" for name in ("service", "user", "path")),
        _GROUPS[time] if time else "NULL",
        *(f"CAST(sum({name}) AS bigint)" for name in ("requests", "bytes_in", "bytes_out")),
        "CAST(sum(units) AS bigint)",
        "sum(duration)",
    ]
    conditions: list[str] = []
    parameters: list[str | int] = []
    for condition, value in (
        ("service =", query.service),
        ("user_name =", query.user),
        ("hour >=", query.since),
        ("hour <", query.until),
    ):
        if value is not None:
            conditions.append(f"{condition} {placeholder}")
            parameters.append(value)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    groups = ", ".join(dict.fromkeys(_GROUPS[name] for name in query.by))
    # Without groups there would be a row of NULLs where nothing was used.
    tail = f" GROUP BY {groups} ORDER BY {groups}" if groups else " HAVING count(*) > 0"
    # Nothing from outside gets into the text: names come from _GROUPS, values are parameters.
    return f"SELECT {', '.join(columns)} FROM usage{where}{tail}", parameters  # noqa: S608


def usage_rows(rows: list[tuple[object, ...]]) -> list[UsageRow]:
    """Turn what the SELECT gave into rows of a report."""
    return [UsageRow._make(row) for row in rows]


def _fit(text: str, longest: int) -> str:
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
