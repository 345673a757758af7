"""Usage on its way into the store: the journal, and the flushing of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from gatekeeper.metrics import families

if TYPE_CHECKING:
    from gatekeeper.usage.flushing import Flusher
    from gatekeeper.usage.journal import Journal


class RecordingCollector:
    """A journal, as far as its segments wait for nobody else to move them into the store."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        journal = self._journal
        yield families.JOURNAL_RECORDS.one(journal.own_records)
        yield families.JOURNAL_BYTES.one(journal.own_bytes)
        yield families.JOURNAL_AGE.one(journal.age)
        yield families.JOURNAL_FAILING.one(journal.failing)
        yield families.JOURNAL_FULL.one(journal.full)
        yield families.JOURNAL_APPENDED.one(journal.appended)
        yield families.JOURNAL_REFUSED.one(journal.refused)


class UsageCollector(RecordingCollector):
    """The journal, which is bounded by ``limit`` bytes, and what moves it into the store."""

    def __init__(self, journal: Journal, limit: int, flusher: Flusher) -> None:
        super().__init__(journal)
        self._limit = limit
        self._flusher = flusher

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        yield from super().collect()
        yield families.JOURNAL_LIMIT.one(self._limit)
        flusher = self._flusher
        yield families.FLUSH_LAG.one(flusher.lag)
        yield families.FLUSH_FAILING.one(flusher.failing_since is not None)
        yield families.FLUSH_BATCHES.one(flusher.written)
        yield families.FLUSH_FAILURES.one(flusher.failures)
        yield families.FLUSH_SET_ASIDE.one(flusher.rejected)
