from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gatekeeper.errors import JournalError, StoreError
from gatekeeper.metrics.usage import UsageCollector
from gatekeeper.usage.records import UsageRecord
from tests.metrics.reading import sample, samples
from tests.usage.journals import NOW, journal_files
from tests.usage.test_flushing import INTERVAL, Setup

LIMIT = 1_000_000
RECORD = UsageRecord(
    "id", NOW, 0.1, "acme", "alice", "k1", "GET", "/a", 200, 200, 0, 5, 1, "ok"
)  # fmt: skip


class House(Setup):
    """A journal and a flusher, and what is told of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(RECORD, directory)
        self.collector = UsageCollector(self.journal, LIMIT, self.flusher)

    def read(self, name: str) -> float:
        return samples(self.collector.collect())[sample(name)]

    def read_all(self) -> dict[str, float]:
        told = samples(self.collector.collect())
        assert all(labels == () for _, labels in told)
        return {name.removeprefix("gatekeeper_"): value for (name, _), value in told.items()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "journal")


def test_at_rest(house: House) -> None:
    told = house.read_all()
    assert told.pop("journal_limit_bytes") == LIMIT
    assert len(told) == 12
    assert set(told.values()) == {0}


def test_usage_that_waits(house: House) -> None:
    house.use("/a", "/b")
    assert house.read("journal_records") == 2
    (name,) = journal_files(house.directory)
    size = (house.directory / name).stat().st_size
    assert house.read("journal_bytes") == size > 0
    assert house.read("journal_appended_records_total") == 2
    house.intervals()
    assert house.read("journal_records") == house.read("journal_bytes") == 0
    assert house.read("journal_appended_records_total") == 2
    assert house.read("flush_batches_total") == 1


def test_its_age(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.use()
    monkeypatch.setattr(house.journal, "_now", lambda: NOW + 7)
    assert house.read("journal_age_seconds") == 7


def test_a_store_that_is_away(house: House) -> None:
    house.store.error = StoreError("is away")
    house.use()
    house.intervals(2)
    assert house.read("flush_failing") == 1
    assert house.read("flush_failures_total") >= 1
    assert house.read("flush_lag_seconds") == 2 * INTERVAL
    assert house.read("flush_batches_total") == 0
    house.store.error = None
    house.intervals(4)
    assert house.read("flush_failing") == 0
    assert house.read("flush_lag_seconds") < INTERVAL
    assert house.read("flush_batches_total") == 1


def test_a_batch_that_nobody_takes(house: House) -> None:
    house.store.rejects = {1}
    house.use()
    house.intervals()
    assert house.read("flush_set_aside_total") == 1


def test_a_disk_that_is_full(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(house.journal, "_write", full)
    with pytest.raises(JournalError):
        house.use()
    assert house.read("journal_failing") == house.read("journal_full") == 1
    assert house.read("journal_refused_records_total") == 1
    assert house.read("journal_appended_records_total") == 0
