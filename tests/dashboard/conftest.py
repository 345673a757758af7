"""A real browser, and a real daemon to look at with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.dashboard.house import House, running_house
from tests.dashboard.screen import Screen

#: Debian's package, then other names of the same.
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium(own: str) -> str:
    """The path of a Chromium: the machine's, or playwright's ``own``."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    if Path(own).exists():
        return own
    if "CI" in os.environ:
        pytest.fail("there is no Chromium: install the package `chromium`")
    pytest.skip("there is no Chromium on this machine: install the package `chromium`")


@pytest.fixture(scope="module")  # no longer: Playwright's event loop is in the way of others
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright.chromium.executable_path)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which root cannot have
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daemon with services, users, and an upstream."""
    with running_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def screen(chromium: Browser, house: House) -> Iterator[Screen]:
    """A page of the daemon, nobody logged in, on a desk in daylight."""
    with Screen(chromium, house) as screen:
        yield screen
