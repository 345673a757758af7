"""Takes the pictures of the documentation: ``python -m tests.dashboard.screenshot DIRECTORY``.

A day of usage is made up; what is live is made by requests that really run, for half a minute.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.dashboard.conftest import find_chromium
from tests.dashboard.house import House, running_house
from tests.dashboard.screen import Screen

_SECONDS = 40
_USERS = ("alice", "bob", "carol")
_MODELS = "Bearer of-the-models"


def fill(house: House, chance: random.Random) -> None:
    """Make users, a key, and usage of the last 23 hours."""
    for name in _USERS:
        house.add_user(name)
    house.manage("POST", "/v1/keys", {"user": "alice", "label": "of the laptop"})
    now = int(time.time()) // 3600 * 3600
    rows = [
        (service, user, "/", now - hour * 3600, chance.randrange(20, 400), chance.randrange(9000))
        for hour in range(1, 24)
        for service, users in (("wallet", _USERS), ("models", ("dora",)))
        for user in users
    ]
    with contextlib.closing(sqlite3.connect(house.daemon.state_dir / "gatekeeper.sqlite")) as store:
        store.executemany(
            "INSERT INTO usage (service, user_name, path, hour, requests, bytes_in, bytes_out,"
            " units, duration) VALUES (?, ?, ?, ?, ?, 0, 0, ?, 0)",
            rows,
        )
        store.commit()


def work(house: House, chance: random.Random, page: Page, seconds: float) -> None:
    """Send requests for a while, some of them wrong."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(chance.randrange(1, 8)):
            house.ask("/wallet/v0/balance", chance.choice((*_USERS, "mallory")))
        if chance.random() < 0.6:
            house.ask("/models/v1/chat", _MODELS)
        page.wait_for_timeout(150)  # the pages' own requests pass through here, too


def take(browser: Browser, house: House, directory: Path) -> None:
    """The page by day and by night, beside each other in time."""
    chance = random.Random(1)
    schemes: tuple[tuple[str, Any], ...] = (("dashboard", "light"), ("dashboard-dark", "dark"))
    with contextlib.ExitStack() as stack:
        screens = [
            (name, stack.enter_context(Screen(browser, house, color_scheme=scheme)))
            for name, scheme in schemes
        ]
        for _, screen in screens:
            screen.log_in()
        work(house, chance, screens[0][1].page, 0.6 * _SECONDS)
        stack.enter_context(house.streaming("alice"))
        work(house, chance, screens[0][1].page, 0.4 * _SECONDS)
        for name, screen in screens:
            expect(screen.page.locator("#said")).to_be_empty()
            whole = name == "dashboard"
            screen.page.screenshot(path=directory / f"{name}.png", full_page=whole)


def main(directory: Path) -> None:
    """Take the pictures into a directory."""
    with (
        tempfile.TemporaryDirectory() as home,
        running_house(Path(home)) as house,
        sync_playwright() as playwright,
    ):
        path = find_chromium(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        fill(house, random.Random(0))
        take(browser, house, directory)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
