"""Journals to try things out on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.segments import decode_blocks, scan

T = TypeVar("T")

NOW = 1_000_000.0


def at_once(function: Callable[[], T], /) -> Deferred[T]:
    """Instead of a thread."""
    return maybeDeferred(function)


def make_journal(directory: Path, **options: Any) -> Journal:
    """A journal without threads, of the node ``n``."""
    defaults = {
        "size": 1_000_000, "node": "n", "in_thread": at_once, "now": lambda: NOW, "fsync": "none",
    }  # fmt: skip
    return Journal(directory, **{**defaults, **options})


def records_in(path: Path) -> list[UsageRecord]:
    """All records in good blocks of a segment."""
    data = path.read_bytes()
    return decode_blocks(data, scan(data).blocks)


def journal_files(directory: Path) -> list[str]:
    """The names of all files but the locks and the notes of those who run."""
    ours = ("lock", "owners", "undelivered")
    return sorted(
        path.name for path in directory.iterdir() if path.name.rpartition(".")[2] not in ours
    )


@contextmanager
def logged(*namespaces: str) -> Iterator[list[LogEvent]]:
    """Collects what modules of ``gatekeeper.usage`` log."""
    found: list[LogEvent] = []
    wanted = {f"gatekeeper.usage.{name}" for name in namespaces}

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_namespace"] in wanted:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield found
    finally:
        globalLogPublisher.removeObserver(observe)


def levels(events: list[LogEvent]) -> list[str]:
    """How grave each event is."""
    return [event["log_level"].name for event in events]
