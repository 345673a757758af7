from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from gatekeeper.management.dashboard.sessions import (
    CSRF_FIELD,
    IDLE,
    LONGEST,
    Sessions,
    cookie_name,
)

TOKEN = b"Bearer 0123456789abcdef"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock.seconds, most=3)


def make_request(cookie: str = "", method: bytes = b"GET", **fields: bytes | list[bytes]) -> Any:
    request: Any = DummyRequest([b"v1"])
    request.method = method
    cookies = {cookie_name(request): cookie.encode("ascii")} if cookie else {}
    request.getCookie = cookies.get
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        request.requestHeaders.setRawHeaders(name.replace("_", "-").encode("ascii"), values)
    return request


def presented(sessions: Sessions, request: Any) -> list[bytes]:
    sessions.present(request)
    found: list[bytes] = request.requestHeaders.getRawHeaders(b"authorization", [])
    return found


def test_a_cookie_has_the_port_in_its_name() -> None:
    assert cookie_name(make_request()) == b"gatekeeper-80"


def test_a_session_stands_for_the_token(sessions: Sessions) -> None:
    identifier, _ = sessions.begin(TOKEN)
    for method in (b"GET", b"HEAD"):
        assert presented(sessions, make_request(identifier, method)) == [TOKEN]


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43])
def test_no_session(sessions: Sessions, cookie: str) -> None:
    sessions.begin(TOKEN)
    assert presented(sessions, make_request(cookie)) == []
    assert sessions.find(make_request(cookie)) is None


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"BREW"])
def test_what_changes_something_needs_the_second_secret(sessions: Sessions, method: bytes) -> None:
    identifier, session = sessions.begin(TOKEN)
    _, other = sessions.begin(TOKEN)
    right = session.csrf.encode("ascii")
    wrong: list[bytes | list[bytes]] = [
        b"",
        right[:-1],
        other.csrf.encode("ascii"),
        [right, right],
    ]
    assert CSRF_FIELD == b"x-csrf-token"
    assert presented(sessions, make_request(identifier, method)) == []
    for csrf in wrong:
        assert presented(sessions, make_request(identifier, method, x_csrf_token=csrf)) == []
    request = make_request(identifier, method, x_csrf_token=right)
    assert presented(sessions, request) == [TOKEN]


def test_what_a_caller_presents_stays(sessions: Sessions) -> None:
    identifier, _ = sessions.begin(TOKEN)
    request = make_request(identifier, authorization=b"Bearer mine")
    assert presented(sessions, request) == [b"Bearer mine"]


def test_it_ends_when_it_is_not_used(sessions: Sessions, clock: Clock) -> None:
    identifier, _ = sessions.begin(TOKEN)
    clock.advance(IDLE - 1)
    assert sessions.find(make_request(identifier)) is not None
    clock.advance(IDLE - 1)
    assert sessions.find(make_request(identifier)) is not None
    clock.advance(IDLE)
    assert sessions.find(make_request(identifier)) is None
    assert len(sessions) == 0


def test_it_ends_at_last(sessions: Sessions, clock: Clock) -> None:
    identifier, _ = sessions.begin(TOKEN)
    while clock.seconds() + IDLE / 2 < LONGEST:
        clock.advance(IDLE / 2)
        assert sessions.find(make_request(identifier)) is not None
    clock.advance(LONGEST - clock.seconds())
    assert sessions.find(make_request(identifier)) is None


def test_it_is_ended(sessions: Sessions) -> None:
    identifier, _ = sessions.begin(TOKEN)
    other, _ = sessions.begin(TOKEN)
    sessions.end(make_request(identifier))
    sessions.end(make_request("unknown"))
    sessions.end(make_request())
    assert sessions.find(make_request(identifier)) is None
    assert sessions.find(make_request(other)) is not None


def test_the_one_unused_for_longest_makes_room(sessions: Sessions) -> None:
    first, second, third = (sessions.begin(TOKEN)[0] for _ in range(3))
    sessions.find(make_request(first))
    fourth, _ = sessions.begin(TOKEN)
    assert len(sessions) == 3
    assert sessions.find(make_request(second)) is None
    assert all(sessions.find(make_request(each)) for each in (first, third, fourth))


def test_secrets_are_their_own_and_not_shown(sessions: Sessions) -> None:
    (first, one), (second, two) = sessions.begin(TOKEN), sessions.begin(TOKEN)
    assert len({first, second, one.csrf, two.csrf}) == 4
    assert min(map(len, (first, one.csrf))) >= 43  # 256 bits
    assert one.csrf not in repr(one)
    assert "0123456789abcdef" not in repr(one)
