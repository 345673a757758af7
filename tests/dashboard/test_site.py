from __future__ import annotations

import json
from typing import Any

import pytest
from klein import Klein
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.web.iweb import IRequest

from gatekeeper.errors import Refusal
from gatekeeper.management.answers import refuse, write
from gatekeeper.management.attempts import FREE
from gatekeeper.management.dashboard.numbers import Numbers
from gatekeeper.management.dashboard.root import Root
from gatekeeper.management.dashboard.sessions import IDLE
from gatekeeper.management.dashboard.site import Dashboard
from gatekeeper.management.gate import Gate
from gatekeeper.management.site import BoundedRequest, BoundedSite
from gatekeeper.management.token import OperatorToken

TOKEN = "0123456789abcdef"


class Things:
    """An API of two calls, for operators."""

    app = Klein()

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.changes = 0

    @app.route("/v1/things", methods=["GET"])
    def things(self, request: IRequest) -> bytes:
        return self._answer(request, b"things")

    @app.route("/v1/things", methods=["POST"])
    def change(self, request: IRequest) -> bytes:
        return self._answer(request, b"changed")

    def _answer(self, request: IRequest, body: bytes) -> bytes:
        try:
            self.gate.admit(request)
        except Refusal as refusal:
            return refuse(request, refusal)
        self.changes += body == b"changed"
        return write(request, 200, (), body)


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            self.fields[name.lower()] = value

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Asks, and keeps the cookie."""

    def __init__(self, token: str | None = TOKEN, *, secure: bool = False) -> None:
        self.clock = Clock()
        operators = OperatorToken(token) if token is not None else None
        gate = Gate(operators)
        numbers = Numbers(list, list, (), (), self.clock.seconds)
        dashboard = Dashboard(gate, operators, numbers, self.clock.seconds)
        self.api = Things(gate)
        self.sessions = dashboard.sessions
        root = Root(self.api.app.resource(), dashboard.resource(), dashboard.sessions)
        self.site = BoundedSite(root, BoundedRequest, self.clock, most=10, head=4096)
        self.cookie = ""
        self.csrf = ""
        self.secure = secure

    def ask(
        self,
        path: str,
        method: str = "GET",
        document: Any = None,
        peer: str = "192.0.2.1",
        body: bytes = b"",
        **fields: str,
    ) -> Answer:
        transport = StringTransport(
            IPv4Address("TCP", "192.0.2.9", 6668), IPv4Address("TCP", peer, 5555)
        )
        channel = self.site.buildProtocol(None)
        channel.isSecure = lambda: self.secure
        channel.makeConnection(transport)
        sent = json.dumps(document).encode() if document is not None else body
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: 192.0.2.9:6668",
            f"Content-Length: {len(sent)}",
        ]
        if self.cookie:
            lines.append(f"Cookie: {self.cookie}")
        if self.csrf:
            lines.append(f"X-CSRF-Token: {self.csrf}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        channel.dataReceived("\r\n".join((*lines, "", "")).encode("ascii") + sent)
        answer = Answer(transport.value())
        if "set-cookie" in answer.fields:
            self.cookie = answer.fields["set-cookie"].partition(";")[0]
        return answer

    def log_in(self, token: str = TOKEN, peer: str = "192.0.2.1") -> Answer:
        answer = self.ask("/dashboard/session", "POST", {"token": token}, peer)
        if answer.status == 200:
            self.csrf = answer.document["csrf"]
        return answer


@pytest.fixture
def browser() -> Browser:
    return Browser()


class TestFiles:
    def test_the_page(self, browser: Browser) -> None:
        answer = browser.ask("/dashboard")
        assert answer.status == 200
        assert answer.fields["content-type"] == "text/html; charset=utf-8"
        assert answer.body.startswith(b"<!doctype html>")
        assert int(answer.fields["content-length"]) == len(answer.body)

    def test_the_guards(self, browser: Browser) -> None:
        for path in ("/dashboard", "/dashboard/static/main.js"):
            fields = browser.ask(path).fields
            policy = dict(
                each.split(" ", 1) for each in fields["content-security-policy"].split("; ")
            )
            assert policy == {
                "default-src": "'none'",
                "script-src": "'self'",
                "style-src": "'self'",
                "img-src": "'self' data:",
                "connect-src": "'self'",
                "frame-ancestors": "'none'",
                "base-uri": "'none'",
                "form-action": "'self'",
                "require-trusted-types-for": "'script'",
                "trusted-types": "'none'",
            }
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["referrer-policy"] == "no-referrer"
            assert "server" not in fields

    def test_it_loads_nothing_from_elsewhere_and_has_nothing_inline(self, browser: Browser) -> None:
        page = browser.ask("/dashboard").body.decode("utf-8")
        assert "//" not in page.replace("http-equiv", "")
        for forbidden in (" style=", "<style", " onclick", "javascript:"):
            assert forbidden not in page
        assert page.count("<script") == page.count("<script src=")

    def test_all_that_the_page_names_is_there(self, browser: Browser) -> None:
        page = browser.ask("/dashboard").body.decode("utf-8")
        names = {part.partition('"')[0] for part in page.split('"dashboard/static/')[1:]}
        assert "main.js" in names
        assert {browser.ask(f"/dashboard/static/{name}").status for name in names} == {200}

    @pytest.mark.parametrize(
        ("name", "content_type"),
        [
            ("main.js", "text/javascript; charset=utf-8"),
            ("dashboard.css", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
            ("uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
        ],
    )
    def test_types(self, browser: Browser, name: str, content_type: str) -> None:
        assert browser.ask(f"/dashboard/static/{name}").fields["content-type"] == content_type

    @pytest.mark.parametrize(
        "path",
        [
            "/dashboard/static/",
            "/dashboard/static/../site.py",
            "/dashboard/static/%2e%2e/site.py",
            "/dashboard/static/uplot",
            "/dashboard/static/uplot/LICENSE",
            "/dashboard/nothing",
            "/dashboards",
        ],
    )
    def test_nothing_else(self, browser: Browser, path: str) -> None:
        assert browser.ask(path).status == 404

    def test_what_has_not_changed_is_not_sent_again(self, browser: Browser) -> None:
        first = browser.ask("/dashboard/static/main.js")
        again = browser.ask("/dashboard/static/main.js", If_None_Match=first.fields["etag"])
        assert (again.status, again.body) == (304, b"")
        other = browser.ask("/dashboard/static/main.js", If_None_Match='"other"')
        assert (other.status, other.body) == (200, first.body)

    def test_a_slash_too_many(self, browser: Browser) -> None:
        answer = browser.ask("/dashboard/")
        assert (answer.status, answer.fields["location"]) == (308, "../dashboard")

    def test_head(self, browser: Browser) -> None:
        answer = browser.ask("/dashboard", "HEAD")
        assert (answer.status, answer.body) == (200, b"")

    def test_other_methods(self, browser: Browser) -> None:
        answer = browser.ask("/dashboard", "DELETE")
        assert answer.status == 405
        assert answer.fields["allow"] == "GET, HEAD"


class TestLoggingIn:
    def test_the_whole_way(self, browser: Browser) -> None:
        who = {"token_needed": True, "logged_in": False, "csrf": ""}
        assert browser.ask("/dashboard/session").document == who
        assert browser.ask("/dashboard/data").status == 401
        assert browser.ask("/v1/things").status == 401
        answer = browser.log_in()
        assert answer.status == 200
        who = {"token_needed": True, "logged_in": True, "csrf": answer.document["csrf"]}
        assert browser.ask("/dashboard/session").document == who
        assert browser.ask("/dashboard/data").document["services"] == {}
        assert browser.ask("/v1/things").body == b"things"
        assert browser.ask("/v1/things", "POST").body == b"changed"
        assert browser.ask("/dashboard/session", "DELETE").status == 204
        assert browser.cookie == "gatekeeper-6668="
        assert browser.ask("/dashboard/session").document["logged_in"] is False
        assert len(browser.sessions) == 0

    def test_an_old_cookie_is_of_no_use_after_logging_out(self, browser: Browser) -> None:
        browser.log_in()
        cookie = browser.cookie
        browser.ask("/dashboard/session", "DELETE")
        browser.cookie = cookie
        assert browser.ask("/v1/things").status == 401

    def test_the_cookie(self, browser: Browser) -> None:
        cookie = browser.log_in().fields["set-cookie"]
        name, *attributes = cookie.split("; ")
        assert name.startswith("gatekeeper-6668=")
        assert attributes == ["Max-Age=43200", "Path=/", "HttpOnly", "SameSite=Strict"]
        assert TOKEN not in cookie

    def test_the_cookie_over_tls(self) -> None:
        cookie = Browser(secure=True).log_in().fields["set-cookie"]
        assert cookie.split("; ")[-1] == "Secure"

    def test_a_new_session_each_time(self, browser: Browser) -> None:
        browser.log_in()
        before = browser.cookie
        browser.log_in()
        assert browser.cookie != before
        assert len(browser.sessions) == 1

    @pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "0", "é", "a\r\nb: c"])
    def test_a_wrong_token(self, browser: Browser, token: str) -> None:
        answer = browser.log_in(token)
        assert answer.status == 401
        assert answer.document["reason"] == "not_an_operator"
        assert "set-cookie" not in answer.fields
        assert len(browser.sessions) == 0

    def test_blanks_around_the_token(self, browser: Browser) -> None:
        assert browser.log_in(f" {TOKEN}\n").status == 200

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"token": 1}', b"\xff", b"[" * 60000])
    def test_what_is_no_log_in(self, browser: Browser, body: bytes) -> None:
        answer = browser.ask("/dashboard/session", "POST", body=body)
        assert answer.status == 400
        assert answer.document["reason"] == "malformed_log_in"

    def test_who_tries_on_is_slowed_down(self, browser: Browser) -> None:
        for _ in range(FREE):
            assert browser.log_in("wrong").status == 401
        answer = browser.log_in(TOKEN)
        assert answer.status == 429
        assert answer.fields["retry-after"] == "1"
        assert answer.document["detail"] == "Too many wrong tokens; try again in 1 seconds."
        assert browser.log_in(TOKEN, peer="192.0.2.2").status == 200
        browser.clock.advance(1)
        assert browser.log_in(TOKEN).status == 200

    def test_the_log_tells_of_it_without_the_token(self, browser: Browser) -> None:
        with capturedLogs() as events:
            browser.log_in("wrong")
            browser.log_in()
        levels = [event["log_level"].name for event in events]
        assert levels == ["warn", "info"]
        assert all(event["peer"] == "192.0.2.1" for event in events)
        assert TOKEN not in repr(events)
        assert "wrong" not in str([event.get("token") for event in events])

    def test_who_does_nothing_is_logged_out(self, browser: Browser) -> None:
        browser.log_in()
        browser.clock.advance(IDLE)
        assert browser.ask("/v1/things").status == 401
        assert browser.ask("/dashboard/session").document["logged_in"] is False


class TestOtherSites:
    def test_the_cookie_alone_changes_nothing(self, browser: Browser) -> None:
        browser.log_in()
        browser.csrf = ""
        assert browser.ask("/v1/things", "POST").status == 401
        assert browser.ask("/dashboard/session", "DELETE").status == 401
        browser.csrf = "x" * 43
        assert browser.ask("/v1/things", "POST").status == 401
        assert browser.api.changes == 0
        assert len(browser.sessions) == 1

    def test_the_second_secret_alone_neither(self, browser: Browser) -> None:
        browser.log_in()
        browser.cookie = ""
        assert browser.ask("/v1/things", "POST").status == 401
        assert browser.ask("/v1/things").status == 401

    def test_programs_need_no_session(self, browser: Browser) -> None:
        answer = browser.ask("/v1/things", "POST", Authorization=f"Bearer {TOKEN}")
        assert answer.body == b"changed"


class TestOpenToAll:
    @pytest.fixture
    def browser(self) -> Browser:
        return Browser(None)

    def test_nobody_logs_in(self, browser: Browser) -> None:
        who = {"token_needed": False, "logged_in": True, "csrf": ""}
        assert browser.ask("/dashboard/session").document == who
        assert browser.ask("/dashboard/data").status == 200
        assert browser.log_in().status == 409

    def test_pages_of_elsewhere(self, browser: Browser) -> None:
        fields: dict[str, Any] = {
            "Origin": "http://elsewhere.example",
            "Sec_Fetch_Site": "cross-site",
        }
        assert browser.ask("/dashboard/data", **fields).status == 403
        assert browser.ask("/v1/things", "POST", **fields).status == 403
        assert browser.api.changes == 0
