"""From the end of an exchange into a real store, with real threads: everything counts once."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

from gatekeeper.config.model import Usage
from gatekeeper.store.interface import UsageQuery
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.metering import Metering, Spending
from gatekeeper.usage.records import Account, Spent, UsageRecord
from tests.store.support import in_reactor
from tests.usage.journals import journal_files, logged

reactor: Any = installed_reactor


class House:
    """A store, and metering that begins anew as often as a test likes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = SqliteStore(directory / "usage.sqlite", reactor)

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    def metering(self, fsync: str = "interval", accounts: Spending | None = None) -> Metering:
        settings = Usage.model_validate({"fsync": fsync, "flush_interval": 0.01, "records": True})
        return Metering(
            settings,
            self.directory,
            self.store,
            reactor,
            lambda call: reactor.callLater(0, call),
            accounts,
        )

    async def requests(self) -> dict[str, int]:
        """How many requests the store has, by path."""
        rows = await self.store.usage(UsageQuery(by=("path",)))
        return {row.path: row.requests for row in rows}


class Response:
    def __init__(self) -> None:
        self.fate = "held"

    def release(self, number: int) -> None:
        self.fate = "released"

    def withhold(self) -> None:
        self.fate = "withheld"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("fsync", ["none", "interval", "always"])
@in_reactor
async def test_from_the_meter_into_the_store(house: House, record: UsageRecord, fsync: str) -> None:
    await house.store.open()
    metering = house.metering(fsync)
    metering.start()
    response = Response()
    metering.meter.record(record, response)
    while not metering.flusher.written or response.fate == "held":
        await deferLater(reactor, 0.001)
    assert response.fate == "released"
    assert await house.requests() == {"/a": 1}
    metering.meter.record(record, None)
    await metering.stop()
    assert await house.requests() == {"/a": 2}
    assert journal_files(house.journal) == []
    await house.store.close()


@in_reactor
async def test_killed_between_the_commit_and_the_deletion(
    house: House, record: UsageRecord
) -> None:
    """The next process finds a segment that the store has."""
    await house.store.open()
    metering = house.metering()
    metering.journal.append([record, record._replace(path="/b")])
    copy = house.directory / "copy"
    shutil.copytree(house.journal, copy)
    await metering.stop()
    assert await house.requests() == {"/a": 1, "/b": 1}
    for path in copy.glob("*.journal"):
        shutil.copy(path, house.journal)
    again = house.metering()
    assert again.journal.records == 2
    await again.stop()
    assert await house.requests() == {"/a": 1, "/b": 1}
    assert journal_files(house.journal) == []
    await house.store.close()


@in_reactor
async def test_killed_before_the_commit(house: House, record: UsageRecord) -> None:
    await house.store.open()
    first = house.metering()
    first.meter.record(record, None)
    first.meter.drain()
    first.journal.close()  # and nothing else happens in this process
    second = house.metering()
    second.meter.record(record, None)
    await second.stop()
    assert await house.requests() == {"/a": 2}
    await house.store.close()


@in_reactor
async def test_store_that_is_away_at_the_stop(house: House, record: UsageRecord) -> None:
    """Its directory is not there yet."""
    house.store = SqliteStore(house.directory / "later" / "usage.sqlite", reactor)
    metering = house.metering()
    metering.meter.record(record, None)
    with logged("flushing") as events:
        await metering.stop()
    assert [event["log_level"].name for event in events] == ["error", "warn"]
    assert len(journal_files(house.journal)) == 1
    (house.directory / "later").mkdir()
    await house.store.open()
    again = house.metering()
    await again.stop()
    assert await house.requests() == {"/a": 1}
    await house.store.close()


class Told:
    """Accounts, and what they were told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def open(self, journal: Journal) -> None:
        self.told.append(("open", len(journal.closed)))

    def flushed(self, spent: Mapping[Account, int]) -> None:
        self.told.append(dict(spent))

    def lost(self, spent: Iterable[Spent]) -> None:
        self.told.append(list(spent))

    async def close(self, left: int) -> None:
        self.told.append(("close", left))


@in_reactor
async def test_what_accounts_are_told(house: House, record: UsageRecord) -> None:
    """They open when all that an earlier run has left is in the store, and close at the end."""
    spent = Spent("prepaid", "main", "alice", 3)
    killed = house.metering()
    killed.journal.append([record._replace(spent=(spent,))])
    killed.journal.close()
    accounts = Told()
    metering = house.metering(accounts=accounts)
    metering.start()
    assert accounts.told == []
    await house.store.open()
    metering.catch_up()
    await metering.flusher.caught_up
    assert accounts.told == [("open", 0)], "and not of what others have spent"
    metering.meter.record(record._replace(spent=(spent, spent)), None)
    await metering.stop()
    assert accounts.told[1:] == [{Account(*spent[:3]): 6}, ("close", 0)]
    await house.store.close()


@in_reactor
async def test_accounts_are_told_what_is_left(house: House, record: UsageRecord) -> None:
    accounts = Told()
    metering = house.metering(accounts=accounts)
    await house.store.open()
    metering.catch_up()
    metering.journal.append([record])
    await house.store.close()
    await metering.stop()
    assert accounts.told == [("open", 0), ("close", 1)]
