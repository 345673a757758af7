"""The partitions of single records in PostgreSQL: one for each day (UTC) of their start."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from gatekeeper.store.days import DAY
from gatekeeper.store.postgres_link import Connection

#: The advisory lock that whoever makes partitions takes.
_LOCK: Final = 0x6761746B6566

#: So long the dropping of a partition waits for those who read.
LOCK_TIMEOUT: Final = "2s"

_PARTITIONS: Final = """
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'usage_record'::regclass
"""


class Partitions:
    """Makes partitions that are missing, and remembers which ones are there."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    async def make(self, connection: Connection, starts: Iterable[float]) -> None:
        """Make those that records with these ``starts`` go into, in a transaction of its own."""
        days = {int(start // DAY) * DAY for start in starts}
        if days <= self._known:
            return
        await connection.query("BEGIN")
        # Two nodes that need the same one take turns.
        await connection.query("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        there = {name for (name,) in await connection.query(_PARTITIONS)}
        for day in sorted(days - self._known):
            name = _name(day)
            if name not in there:
                # ATTACH, for CREATE TABLE ... PARTITION OF would wait for everyone who reads. One
                # that somebody has detached, and not renamed, is attached again.
                await connection.query(
                    f"CREATE TABLE IF NOT EXISTS {name} (LIKE usage_record INCLUDING ALL)"
                )
                await connection.query(
                    f"ALTER TABLE usage_record ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ({day}) TO ({day + DAY})"
                )
        await connection.query("COMMIT")
        self._known |= days

    def forget(self) -> None:
        """Look again the next time: another node may have dropped one."""
        self._known.clear()


async def drop_partitions(connection: Connection, before: int) -> int:
    """Drop the partitions of the days before ``before``, and return how many they were."""
    dropped = 0
    for (name,) in await connection.query(_PARTITIONS):
        day = _day(name)
        if day is not None and day < before:
            # All who read and write wait for it meanwhile: rather not for long.
            await connection.query(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.query(f"DROP TABLE IF EXISTS {name}")
            dropped += 1
    return dropped


def _name(day: int) -> str:
    return f"usage_record_{datetime.fromtimestamp(day, UTC):%Y%m%d}"


def _day(name: str) -> int | None:
    """Return the day of a partition of that name, ``None`` where it is not one of ours."""
    match = re.fullmatch(r"usage_record_(\d{4})(\d\d)(\d\d)", name, re.ASCII)
    if match is None:
        return None
    year, month, day = map(int, match.groups())
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())
