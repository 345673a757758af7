"""Checkers that have gone are closed with their token caches, and that is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gatekeeper.auth.token_cache import MemoryTokenCache
from gatekeeper.auth.token_exchange import TokenExchangeSettings
from gatekeeper.checkers import KEPT, Checkers
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.model import Settings
from gatekeeper.config.model_listeners import Listener
from tests.auth.directories import FakeDirectory
from tests.auth.support import outcome


class SlowZone(MemoryTokenCache):
    """A token cache that takes its time to close."""

    closing: Deferred[None] | None = None

    def close(self) -> Deferred[None]:
        assert self.closing is None, "once"
        self.closing = Deferred()
        return self.closing


class House:
    """Checkers that can be exchanged; each has its zone."""

    def __init__(self, state_dir: Path) -> None:
        self.clock = Clock()
        self.zones: dict[str, SlowZone] = {}
        self._state_dir = state_dir
        self.checkers = Checkers(
            self._settings("one", "two"),
            self._make_zone,
            FakeDirectory(),
            lambda _: None,
            self.clock.seconds,
        )

    def has(self, *names: str) -> None:
        """Let there be these."""
        self.checkers.commit(self.checkers.prepare(self._settings(*names)))

    def close_retired(self) -> None:
        self.clock.advance(KEPT)
        self.checkers.close_retired([])

    def end(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.checkers.close())

    def _make_zone(self, zone: str, ttl: float) -> SlowZone:
        self.zones[zone] = SlowZone(ttl)
        return self.zones[zone]

    def _settings(self, *names: str) -> Settings:
        asked = {
            name: TokenExchangeSettings.model_validate(
                {"url": f"https://{name}.example/", "zone": name}
            )
            for name in names
        }
        return Settings(
            state_dir=self._state_dir,
            listeners=(Listener(name="public", role="gateway", bind="127.0.0.1:0"),),
            checkers={name: CheckerTable("exchange", each) for name, each in asked.items()},
        )


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def closed(house: House, zone: str) -> None:
    closing = house.zones[zone].closing
    assert closing is not None
    closing.callback(None)


def test_one_that_has_gone_is_closed_later(house: House) -> None:
    house.has("one")
    house.checkers.close_retired([])
    assert house.zones["two"].closing is None
    house.close_retired()
    assert house.zones["two"].closing is not None
    assert house.zones["one"].closing is None
    house.close_retired()


@pytest.mark.parametrize("begun", [False, True], ids=["retired", "being closed"])
def test_the_end_waits_for_those_that_have_gone(house: House, begun: bool) -> None:
    house.has("one")
    if begun:
        house.close_retired()
    ending = house.end()
    closed(house, "one")
    assert outcome(ending) == []
    closed(house, "two")
    assert outcome(ending) == [None]


def test_one_that_cannot_be_closed_keeps_nobody_waiting(house: House) -> None:
    house.has("one")
    with capturedLogs() as logged:
        house.close_retired()
        closing = house.zones["two"].closing
        assert closing is not None
        closing.errback(RuntimeError("stuck"))
        ending = house.end()
        closed(house, "one")
        assert outcome(ending) == [None]
    (event,) = (each for each in logged if "log_failure" in each)
    assert event["log_failure"].getErrorMessage() == "stuck"
