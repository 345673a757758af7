"""The page in a browser, watched: nothing may go wrong unseen, and nothing go elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect

from tests.daemon import PATIENCE
from tests.dashboard.house import House

expect.set_options(timeout=PATIENCE * 1000)

#: What Chromium says by itself of an answer that is expected here.
_EXPECTED = "Failed to load resource: the server responded with a status of "


class Screen:
    """A browser's window on the dashboard of ``house``; further ``options`` are playwright's.

    ``refused`` are the statuses of 400 and above that are expected to be seen.
    """

    def __init__(self, browser: Browser, house: House, **options: Any) -> None:
        self.house = house
        self.refused: set[int] = set()
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        options = {
            "viewport": {"width": 1280, "height": 900},
            "reduced_motion": "reduce",
            **options,
        }
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.route("**/*", self._route)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.context.close()
        if error is None:
            assert self.complaints == []
            assert self.elsewhere == []

    @property
    def origin(self) -> str:
        """Where the page is served."""
        return self.house.daemon.url("management")

    def open(self) -> Page:
        """Open the page."""
        self.page.goto(f"{self.origin}/dashboard")
        return self.page

    def log_in(self) -> Page:
        """Open the page, and log in."""
        page = self.open()
        page.get_by_label("Management token").fill(self.house.token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Now")).to_be_visible()
        return page

    def tile(self, name: str) -> Locator:
        """A number at the top."""
        return self.page.locator("#tiles > div", has_text=name).locator("dd")

    def row(self, section: str, *texts: str) -> Locator:
        """The row of a section's table that has these texts."""
        found = self.page.locator(f"#{section} > .content > .table tbody tr")
        for text in texts:
            found = found.filter(has_text=text)
        return found

    def agree(self, deed: str) -> None:
        """Answer the question that is asked."""
        self.page.get_by_role("dialog").get_by_role("button", name=deed).click()

    def width(self) -> int:
        """How wide the page's content is, in CSS pixels."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth")
        return found

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if any(message.text.startswith(f"{_EXPECTED}{status}") for status in self.refused):
            return
        self.complaints.append(message.text)

    def _route(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((f"{self.origin}/", "data:")):
            route.continue_()
        else:
            self.elsewhere.append(url)
            route.abort()
