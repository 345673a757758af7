"""One daemon and one upstream for each module, checked after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.hostile.house import CONFIGURATION, USERS, House, Way
from tests.origin import Origin


@pytest.fixture(scope="module", autouse=True)
def _unmeasured(unmeasured: None) -> None:
    """See there: tests/e2e measure the same programs."""


@pytest.fixture(scope="module")
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A daemon with an upstream.

    The module's ``MORE`` is added to the configuration. In the end nobody is in the usage who
    never proved who he is, and no path with ``hostile`` in it, which is what the modules call
    that which must be refused.
    """
    directory: Path = tmp_path_factory.mktemp("house")
    with Origin() as origin:
        more = getattr(request.module, "MORE", "")
        daemon = Daemon(directory, CONFIGURATION + more, ports={"origin": origin.port})
        with daemon:
            yield House(daemon, origin)
        for row in daemon.usage():
            assert row["user"] in USERS, row
            assert "hostile" not in row["path"], row
            assert "smuggled" not in row["path"], row


@pytest.fixture(autouse=True)
def _nothing_unforeseen(house: House) -> Iterator[None]:
    """After each test the daemon is there, and its log has no traceback."""
    house.origin.requests.clear()
    house.origin.on.clear()
    yield
    assert house.daemon.is_running
    house.daemon.check_log()


@pytest.fixture(params=["gateway", "proxy"])
def way(request: pytest.FixtureRequest, house: House) -> Way:
    """Both doors, one after the other."""
    found: Way = getattr(house, request.param)
    return found
