"""What an operator does at the page, in a real browser, with a real daemon behind it."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gatekeeper.auth.token_exchange import fingerprint
from tests.daemon import wait_until
from tests.dashboard.house import House, running_house
from tests.dashboard.screen import Screen

pytestmark = pytest.mark.usefixtures("unmeasured")

PHONE = {"width": 360, "height": 740}


def number(locator: Locator) -> int:
    return int(locator.inner_text().replace(",", ""))


def ended(client: socket.socket) -> bool:
    """Whether nothing more comes."""
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


class TestTheWatch:
    """What the other tests rely on: that nothing goes wrong unseen."""

    def test_what_the_policy_forbids_is_seen(self, screen: Screen) -> None:
        page = screen.open()
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.append("window.ran = true");
              document.body.append(script);
            }"""
        )
        assert page.evaluate("window.ran") is None
        assert len(screen.complaints) >= 1
        screen.complaints.clear()

    def test_what_goes_elsewhere_is_seen(self, screen: Screen) -> None:
        page = screen.open()
        failed = page.evaluate("fetch('http://192.0.2.1/').then(() => false, () => true)")
        assert failed
        assert screen.complaints  # it is forbidden already
        screen.complaints.clear()


class TestLoggingIn:
    def test_with_a_wrong_token_first(self, screen: Screen) -> None:
        screen.refused = {401}
        page = screen.open()
        field = page.get_by_label("Management token")
        expect(field).to_be_focused()
        field.fill("not the token")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the management token.")
        expect(page.get_by_role("heading", name="Now")).to_be_hidden()
        field.fill(screen.house.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Now")).to_be_visible()
        expect(page.get_by_text("Ready", exact=True)).to_be_visible()
        expect(field).to_have_value("")

    def test_what_the_browser_keeps(self, screen: Screen) -> None:
        page = screen.log_in()
        (cookie,) = screen.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert screen.house.token not in str(screen.context.storage_state())
        kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]
        page.reload()
        expect(page.get_by_role("heading", name="Now")).to_be_visible()

    def test_logging_out(self, screen: Screen) -> None:
        page = screen.log_in()
        cookies = screen.context.cookies()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Management token")).to_be_visible()
        assert screen.context.cookies() == []
        screen.context.add_cookies(cookies)  # type: ignore[arg-type]  # as they came
        answer = screen.context.request.get(f"{screen.origin}/v1/services")
        assert answer.status == 401

    def test_when_the_session_ends(self, screen: Screen) -> None:
        screen.refused = {401}
        page = screen.log_in()
        screen.context.clear_cookies()
        expect(page.get_by_role("alert")).to_have_text("The session has ended. Log in again.")
        expect(page.get_by_role("heading", name="Now")).to_be_hidden()
        expect(page.get_by_label("Management token")).to_be_focused()
        page.keyboard.type(screen.house.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Now")).to_be_visible()

    def test_where_nobody_has_to(self, chromium: Browser, tmp_path: Path) -> None:
        with running_house(tmp_path, auth="none") as house, Screen(chromium, house) as screen:
            page = screen.open()
            expect(page.get_by_text("No log-in is asked for")).to_be_visible()
            expect(page.get_by_role("button", name="Log out")).to_be_hidden()
            expect(screen.tile("Requests since the start")).to_have_text("0")
            house.add_user("nora")
            expect(screen.row("users", "nora")).to_be_visible()
            page.get_by_role("button", name="Disable nora of wallet").click()
            expect(screen.row("users", "nora", "disabled")).to_be_visible()


class TestNumbers:
    def test_they_move_while_requests_run(self, screen: Screen) -> None:
        house = screen.house
        house.add_user("mona")
        page = screen.log_in()
        requests = screen.tile("Requests since the start")
        total = page.locator("#usage").get_by_text("In total")
        expect(total).to_be_visible()
        before, used = number(requests), total.inner_text()
        for _ in range(7):
            assert house.ask("/wallet/x", "mona") == 200
        expect(requests).to_have_text(f"{before + 7:,}")
        expect(total).not_to_have_text(used)
        expect(screen.row("users", "mona").locator("[data-label=Requests]")).to_have_text("7")
        expect(screen.row("services", "wallet").locator("[data-label=Requests]")).not_to_have_text(
            "0"
        )
        for caption in ("Requests per second", "Duration", "Verdicts per second", "Usage by hour"):
            expect(page.get_by_role("img", name=caption)).to_be_visible()

    def test_the_numbers_of_a_chart_as_a_table(self, screen: Screen) -> None:
        page = screen.log_in()
        rate = page.locator("#rate")
        expect(rate.get_by_role("img")).to_be_visible()
        rate.get_by_text("As a table").click()
        expect(rate.get_by_role("columnheader", name="wallet")).to_be_visible()

    def test_usage_by_user(self, screen: Screen) -> None:
        screen.house.add_user("ugo")
        assert screen.house.ask("/wallet/x", "ugo") == 200
        page = screen.log_in()
        usage = page.locator("#usage")
        usage.get_by_label("by", exact=True).select_option("user")
        expect(usage.get_by_role("listitem").filter(has_text="ugo")).to_be_visible()
        expect(page.locator("#usage-service option")).to_have_count(3)
        usage.get_by_label("of", exact=True).select_option("models")
        expect(usage.get_by_role("listitem").filter(has_text="ugo")).to_be_hidden()
        usage.get_by_label("Of", exact=True).select_option("units")
        usage.get_by_label("in", exact=True).select_option("7")
        expect(usage.get_by_text("Usage by day (UTC): units")).to_be_visible()

    def test_refusals(self, screen: Screen) -> None:
        assert screen.house.ask("/nowhere") == 404
        page = screen.log_in()
        page.get_by_text("What was refused, or failed").click()
        rows = page.locator("#rate details .table tbody tr")
        expect(rows.first).to_be_visible()

    def test_the_journal(self, screen: Screen) -> None:
        page = screen.log_in()
        journal = page.locator("#journal")
        for fact in ("Waiting for the store", "Flushing", "Check: store"):
            expect(journal.get_by_text(fact)).to_be_visible()
        expect(screen.tile("Journal")).to_have_text("good")


class TestUsers:
    def test_who_is_disabled_gets_nothing_more(self, screen: Screen) -> None:
        house = screen.house
        house.add_user("alice")
        assert house.ask("/wallet/x", "alice") == 200
        page = screen.log_in()
        page.get_by_role("button", name="Disable alice of wallet").click()
        expect(page.get_by_role("status")).to_have_text("alice of wallet was disabled.")
        assert house.ask("/wallet/x", "alice") == 401
        page.get_by_role("button", name="Enable alice of wallet").click()
        expect(page.get_by_role("status")).to_have_text("alice of wallet was enabled.")
        assert house.ask("/wallet/x", "alice") == 200

    def test_who_is_removed_gets_nothing_more(self, screen: Screen) -> None:
        house = screen.house
        house.add_user("bob")
        assert house.ask("/wallet/x", "bob") == 200
        page = screen.log_in()
        button = page.get_by_role("button", name="Remove bob of wallet")
        button.click()
        screen.agree("Leave it")
        expect(button).to_be_focused()
        assert house.ask("/wallet/x", "bob") == 200
        button.click()
        screen.agree("Remove the user")
        expect(button).to_be_hidden()
        assert house.ask("/wallet/x", "bob") == 401

    def test_who_was_removed_elsewhere_already(self, screen: Screen) -> None:
        screen.refused = {404}
        house = screen.house
        house.add_user("carl")
        page = screen.log_in()
        button = page.get_by_role("button", name="Remove carl of wallet")
        button.click()
        house.manage("DELETE", "/v1/services/wallet/users/carl")
        screen.agree("Remove the user")
        expect(page.get_by_role("status")).to_contain_text("That was not done.")
        expect(button).to_be_hidden()

    def test_a_name_is_text(self, screen: Screen) -> None:
        name = "<img src=x onerror=alert(1)>"
        screen.house.add_user(name)
        page = screen.log_in()
        expect(screen.row("users", name)).to_be_visible()
        assert page.locator("img").count() == 0
        page.get_by_role("button", name=f"Disable {name} of wallet").click()
        expect(screen.row("users", name, "disabled")).to_be_visible()


class TestCredits:
    def test_what_was_granted(self, screen: Screen) -> None:
        page = screen.log_in()
        section = page.locator("#credits")
        expect(section.get_by_text("Nobody was granted any credits.")).to_be_visible()
        expect(section.get_by_text("Nothing is owed on a chain.")).to_be_visible()
        grant = {"user": "clara", "credits": 12_345, "pool": "maps"}
        screen.house.manage("POST", "/v1/credits/grants", grant)
        row = screen.row("credits", "clara", "maps")
        expect(row.locator("[data-label=Left]")).to_have_text("12,345")
        screen.house.manage("POST", "/v1/credits/grants", {**grant, "credits": -45})
        expect(row.locator("[data-label=Left]")).to_have_text("12,300")
        expect(row.locator("[data-label=Spent]")).to_have_text("0")


class TestRevoking:
    def test_a_key(self, screen: Screen) -> None:
        made = screen.house.manage("POST", "/v1/keys", {"user": "kim", "label": "of the laptop"})
        page = screen.log_in()
        expect(screen.row("keys", made["id"], "of the laptop", "kim", "good")).to_be_visible()
        assert made["secret"] not in page.content()
        page.get_by_role("button", name=f"Disable the key {made['id']}").click()
        expect(screen.row("keys", made["id"], "disabled")).to_be_visible()
        page.get_by_role("button", name=f"Revoke the key {made['id']}").click()
        screen.agree("Revoke it")
        expect(screen.row("keys", made["id"])).to_be_hidden()
        assert screen.house.manage("GET", "/v1/keys")["items"] == []

    def test_a_cached_token(self, screen: Screen) -> None:
        house, credentials = screen.house, "Bearer of-the-models"
        assert house.ask("/models/x", credentials) == 200
        page = screen.log_in()
        page.get_by_role("button", name="Show").click()
        key = fingerprint(credentials.encode())
        expect(screen.row("tokens", key, "has a token")).to_be_visible()
        assert "a-token" not in page.content()
        page.get_by_role("button", name=f"Revoke {key}").click()
        screen.agree("Revoke it")
        expect(screen.row("tokens", key, "revoked")).to_be_visible()
        assert house.ask("/models/x", credentials) == 403

    def test_a_live_exchange(self, screen: Screen) -> None:
        house = screen.house
        house.add_user("lena")
        page = screen.log_in()
        expect(page.get_by_text("No request runs now.")).to_be_visible()
        with house.streaming("lena") as client:
            row = screen.row("exchanges", "GET /wallet/stream", "lena", "wallet")
            expect(row).to_be_visible()
            row.get_by_role("button", name="Cut").click()
            screen.agree("Cut it")
            assert ended(client)
            expect(row).to_be_hidden()

    def test_a_service(self, screen: Screen) -> None:
        house = screen.house
        made = {"name": "extra", "from": "/extra", "to": house.origin.url, "checkers": ["users"]}
        house.manage("POST", "/v1/services", made)
        page = screen.log_in()
        expect(screen.row("services", "extra", "over the API")).to_be_visible()
        expect(screen.row("services", "wallet").get_by_role("button")).to_be_hidden()
        page.get_by_role("button", name="Remove the service extra").click()
        screen.agree("Remove it")
        expect(screen.row("services", "extra")).to_be_hidden()
        assert house.ask("/extra/x", "alice") == 404


class TestTrouble:
    def test_a_part_that_cannot_be_had(self, screen: Screen) -> None:
        screen.refused = {503}
        problem = {"status": 503, "detail": "The store does not answer; see the log."}
        screen.context.route("**/v1/users?*", lambda route: route.fulfill(status=503, json=problem))
        page = screen.log_in()
        words = "The store does not answer; see the log. It is tried again."
        expect(page.locator("#users .problem")).to_have_text(words)
        expect(page.locator("#rate").get_by_role("img")).to_be_visible()
        screen.context.unroute("**/v1/users?*")
        expect(page.locator("#users .problem")).to_be_hidden()

    def test_who_tried_too_often(self, screen: Screen) -> None:
        screen.refused = {429}
        problem = {"detail": "Too many wrong tokens; try again in 8 seconds."}
        screen.context.route(
            "**/dashboard/session",
            lambda route: (
                route.fulfill(status=429, json=problem)
                if route.request.method == "POST"
                else route.fallback()
            ),
        )
        page = screen.open()
        page.get_by_label("Management token").fill("x")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text(problem["detail"])

    def test_nothing_yet(self, chromium: Browser, tmp_path: Path) -> None:
        with running_house(tmp_path) as house, Screen(chromium, house) as screen:
            page = screen.log_in()
            for words in ("No request runs now.", "There is no such user.", "There is no key."):
                expect(page.get_by_text(words)).to_be_visible()
            expect(page.get_by_text("Nothing was used in this time.")).to_be_visible()
            expect(screen.tile("95 % took less than")).to_have_text("no request yet")


def contrast(page: Page, selector: str) -> float:
    """The contrast of an element's text (WCAG 2.2, relative luminance)."""
    pair: list[list[float]] = page.evaluate(
        """(selector) => {
          const element = document.querySelector(selector);
          let ground = element;
          const clear = (e) => getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)";
          while (clear(ground)) ground = ground.parentElement;
          const ink = getComputedStyle(element).color;
          return [ink, getComputedStyle(ground).backgroundColor].map((colour) =>
            colour.match(/[0-9.]+/g).slice(0, 3).map(Number));
        }""",
        selector,
    )
    bright = sorted(map(luminance, pair))
    return (bright[1] + 0.05) / (bright[0] + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class TestSeeing:
    def test_on_a_phone(self, chromium: Browser, house: House) -> None:
        house.add_user("paula")
        house.add_user("a-rather-long-name-that-nobody-can-break-" + "x" * 60)
        options: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
        with Screen(chromium, house, **options) as screen, house.streaming("paula"):
            screen.open()
            assert screen.width() <= PHONE["width"]
            page = screen.log_in()
            expect(screen.row("exchanges", "paula")).to_be_visible()
            expect(screen.row("users", "a-rather-long-name")).to_be_visible()
            expect(screen.row("services", "models")).to_be_visible()
            expect(page.locator("#usage").get_by_text("In total")).to_be_visible()
            for summary in page.locator("summary:visible").all():
                summary.click()
            assert screen.width() <= PHONE["width"]
            for button in page.locator("main button:visible").all():
                box = button.bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= PHONE["width"]
                assert box["height"] >= 24  # WCAG 2.2, 2.5.8

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_by_day_and_night(self, chromium: Browser, house: House, scheme: Any) -> None:
        with Screen(chromium, house, color_scheme=scheme) as screen:
            page = screen.log_in()
            expect(page.locator("#state")).to_be_visible()
            expect(page.locator("#rate").get_by_role("img")).to_be_visible()
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            parts = [float(part) for part in re.findall(r"[0-9.]+", ground)[:3]]
            assert (luminance(parts) > 0.5) == (scheme == "light")
            for selector in ("h2", "dt", "dd", "#state", "nav a", "caption", "#log-out", "summary"):
                assert contrast(page, selector) >= 4.5, selector

    def test_the_change_of_day_and_night(self, screen: Screen) -> None:
        page = screen.log_in()
        canvas = page.locator("#rate canvas")
        expect(canvas).to_be_visible()
        before = canvas.element_handle()
        page.emulate_media(color_scheme="dark")
        expect(page.locator("#rate canvas")).to_be_visible()
        assert before is not None
        wait_until(lambda: not before.evaluate("element => element.isConnected"), "a new chart")

    def test_who_wants_no_motion(self, screen: Screen) -> None:
        page = screen.open()
        scrolling = "getComputedStyle(document.documentElement).scrollBehavior"
        assert page.evaluate(scrolling) == "auto"
        page.emulate_media(reduced_motion="no-preference")
        assert page.evaluate(scrolling) == "smooth"


class TestKeyboardOnly:
    FOCUSED = """() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const name = element.getAttribute("aria-label") || element.textContent.trim();
      return [element.tagName, name, style.outlineStyle, parseFloat(style.outlineWidth)];
    }"""

    def tab_to(self, page: Page, wanted: str) -> list[str]:
        """Press the tabulator until something has the focus; what had it on the way."""
        seen: list[str] = []
        for _ in range(150):
            page.keyboard.press("Tab")
            tag, name, outline, width = page.evaluate(self.FOCUSED)
            if tag == "BODY":
                continue
            assert outline != "none", f"{tag} {name} shows no focus"
            assert width >= 2
            seen.append(name)
            if name == wanted:
                return seen
        raise AssertionError(f"{wanted} is not reached: {seen}")

    def test_all_the_way(self, screen: Screen) -> None:
        house = screen.house
        house.add_user("kate")
        page = screen.open()
        expect(page.get_by_label("Management token")).to_be_focused()
        page.keyboard.type(house.token)
        page.keyboard.press("Enter")
        expect(screen.row("users", "kate")).to_be_visible()
        expect(page.locator("#rate").get_by_text("As a table")).to_be_visible()
        seen = self.tab_to(page, "Disable kate of wallet")
        assert seen.index("Now") < seen.index("Usage") < seen.index("As a table")
        page.keyboard.press("Space")
        button = page.get_by_role("button", name="Enable kate of wallet")
        expect(button).to_be_focused()  # it is the same one still
        assert house.ask("/wallet/x", "kate") == 401
        self.tab_to(page, "Remove kate of wallet")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Leave it")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Remove kate of wallet")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Remove the user")).to_be_focused()
        page.keyboard.press("Enter")
        expect(screen.row("users", "kate")).to_be_hidden()

    def test_the_link_to_the_content(self, screen: Screen) -> None:
        page = screen.log_in()
        page.reload()
        expect(page.get_by_role("heading", name="Now")).to_be_visible()
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()

    def test_everything_has_a_name(self, screen: Screen) -> None:
        screen.house.add_user("zoe")
        page = screen.log_in()
        expect(screen.row("users", "zoe")).to_be_visible()
        nameless = page.evaluate(
            """[...document.querySelectorAll("main :is(button, select, input, a, summary)")]
            .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
            .map((e) => e.outerHTML)"""
        )
        assert nameless == []
        for table in page.locator("main table:visible").all():
            assert table.locator("caption").inner_text()
            assert table.locator("th[scope=col]").count() >= 2
        assert page.locator("h1").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"
