"""What runs under a grant ends with it: bodies, WebSockets and CONNECT tunnels, at both doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.auth.token_exchange import fingerprint
from tests.auth.signing import OTHER_RSA, RSA, key_set, public, sign
from tests.auth.support import KEY, OTHER_KEY, token
from tests.daemon import wait_until
from tests.hostile.checkers import Checkpoint, checkpoint
from tests.hostile.issuers import LATER, access_claims, access_token, jwt_claims
from tests.hostile.raw import Client
from tests.operators import keyvals, shut_out
from tests.origin import Conversation

pytestmark = pytest.mark.usefixtures("unmeasured")

_CHUNK = b"5\r\nhello\r\n"
_LENGTH = 1_000_000


def stream(conversation: Conversation) -> None:
    """Begin a body that does not end before the connection does."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNK)
    conversation.read(1)


def stream_of_known_length(conversation: Conversation) -> None:
    """The same with a Content-Length."""
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello" % _LENGTH)
    conversation.read(1)


def mirror(conversation: Conversation) -> None:
    """Switch protocols, and send back what comes."""
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    while piece := conversation.read(1):
        conversation.send(piece)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Checkpoint]:
    with checkpoint(tmp_path) as house:
        for prefix in ("", "/nevermined"):  # a service whose upstream a token names has its own
            house.origin.on[f"{prefix}/stream"] = stream
            house.origin.on[f"{prefix}/sized"] = stream_of_known_length
            house.origin.on[f"{prefix}/socket"] = mirror
        yield house


@dataclass
class Running:
    """An exchange that goes on for as long as it is let.

    A 200 to CONNECT does not say what ``request_id`` it is.
    """

    what: str
    client: Client
    request_id: str
    is_tunnel: bool

    def works(self) -> bool:
        """Whether a byte through the tunnel comes back."""
        self.client.send(b"x")
        return self.client.read(1) == b"x"


class Caller:
    """Somebody who has something running of every kind, under one credential."""

    def __init__(
        self, house: Checkpoint, checker: str, value: str | None = None, *, connect: bool = True
    ) -> None:
        self.house = house
        self.checker = checker
        self.value = value
        self.doors = ["gateway"] if checker == "fields" else ["gateway", "proxy"]
        self.running: list[Running] = []
        for kind in self.doors:
            self._begin(kind, "/stream", _CHUNK)
            self._begin(kind, "/sized", b"hello")
            self._begin(kind, "/socket", b"", "Connection: Upgrade", "Upgrade: websocket")
            if kind == "proxy" and connect:
                self._connect()
        for each in self.running:
            assert each.works() if each.is_tunnel else True

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.running:
            each.client.socket.close()

    def _begin(self, kind: str, path: str, first: bytes, *lines: str) -> None:
        door = self.house.door(self.checker, kind)
        client = door.connect()
        client.send(door.request(path, *lines, value=self.value))
        head = client.head()
        assert head.status == (101 if path == "/socket" else 200), head
        assert client.read(len(first)) == first
        (request_id,) = head.values("x-request-id")
        self.running.append(Running(f"{kind} {path}", client, request_id, path == "/socket"))

    def _connect(self) -> None:
        """A WebSocket inside a tunnel, which the proxy knows nothing of."""
        door = self.house.door(self.checker, "proxy")
        client = door.connect()
        value = self.value or door.entrance.value
        client.send(
            f"CONNECT {door.host} HTTP/1.1\r\nHost: {door.host}\r\n"
            f"Proxy-Authorization: {value}\r\n\r\n".encode()
        )
        head = client.head()
        assert head.status == 200
        client.send(
            f"GET /socket HTTP/1.1\r\nHost: {door.host}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\n\r\n".encode()
        )
        assert client.head().status == 101
        self.running.append(Running("proxy CONNECT", client, "", is_tunnel=True))

    def check_cut(self, reason: str) -> None:
        """All of it ends, and none of it as if it were whole; the log tells why."""
        for each in self.running:
            rest = each.client.rest()  # waits for the end
            assert rest == b"", each.what  # no last chunk, no more of the body
        for each in self.running:
            assert self._logged(each)["reason"] == reason, each.what

    def _logged(self, each: Running) -> dict[str, Any]:
        daemon = self.house.daemon
        if each.request_id:
            return daemon.logged(each.request_id)

        def tunnels() -> list[dict[str, Any]]:
            return [
                line
                for line in daemon.access_log()
                if (line["method"], line["listener"]) == ("CONNECT", f"proxy-{self.checker}")
            ]

        wait_until(tunnels, "the tunnel is in the access log")
        (line,) = tunnels()
        return line

    def check_refused(self, *statuses: int) -> None:
        """The next request does not pass."""
        for kind in self.doors:
            answer = self.house.door(self.checker, kind).ask("/hostile", value=self.value)
            assert answer.status in statuses, answer

    def check_untouched(self) -> None:
        """Everything still runs."""
        for each in self.running:
            if each.is_tunnel:
                assert each.works()
        lines = {line["id"] for line in self.house.daemon.access_log()}
        assert not lines & {each.request_id for each in self.running}


# --- key-value calls ----------------------------------------------------------------------


def test_an_operator_shuts_a_caller_out(house: Checkpoint) -> None:
    """By the fingerprint of the credential, as the zone shows it."""
    house.auth.tokens["Bearer exchange-too"] = "token-of-another"
    house.users.add(fingerprint(b"Bearer exchange-too"))
    with (
        Caller(house, "tokens") as caller,
        Caller(house, "tokens", "Bearer exchange-too") as other,
        Caller(house, "secret") as elsewhere,
    ):
        key = fingerprint(b"Bearer exchange-me")
        status, entries = keyvals(house.daemon, "GET")
        assert (status, entries[key]) == (200, "token-of-a-bearer")
        shut_out(house.daemon, key)
        caller.check_cut("grant_revoked")
        caller.check_refused(403)
        other.check_untouched()
        elsewhere.check_untouched()
        assert keyvals(house.daemon, "PATCH", entry={key: None}) == (204, None)
        house.door("tokens").passed()  # let in again
        other.check_untouched()


def test_an_operator_shuts_a_caller_out_who_is_named_by_fields(house: Checkpoint) -> None:
    with Caller(house, "fields") as caller, Caller(house, "tokens") as elsewhere:
        assert keyvals(house.daemon, "GET", "fields")[1].keys() == {"alice:192.0.2.7:test/1"}
        shut_out(house.daemon, "alice:192.0.2.7:test/1", "fields")
        caller.check_cut("grant_revoked")
        answer = house.door("fields").ask("/hostile")
        assert (answer.status, answer.document["reason"]) == (403, "revoked")
        elsewhere.check_untouched()


# --- what was granted is looked at again --------------------------------------------------


def remove_key(house: Checkpoint) -> None:
    (house.daemon.directory / "keys.properties").write_text(f"key003={OTHER_KEY}\n")


def replace_key_set(house: Checkpoint) -> None:
    (house.daemon.directory / "keys.json").write_bytes(key_set(public(OTHER_RSA, "rsa")))


def deny(house: Checkpoint) -> None:
    house.service.knows = "somebody else"


@pytest.mark.parametrize(
    ("checker", "take_back"),
    [("keys", remove_key), ("legacy", remove_key), ("jwt", replace_key_set), ("grpc", deny)],
)
def test_credentials_that_do_not_count_any_more(
    house: Checkpoint, checker: str, take_back: Callable[[Checkpoint], None]
) -> None:
    with Caller(house, checker) as caller, Caller(house, "secret") as elsewhere:
        take_back(house)
        caller.check_cut("grant_withdrawn")
        caller.check_refused(401, 407)
        elsewhere.check_untouched()


def test_another_key_of_the_same_file_goes_on(house: Checkpoint) -> None:
    house.users.add("003")
    other = token({"id": "003", "exp": LATER}, key=OTHER_KEY).decode()
    with Caller(house, "keys") as caller, Caller(house, "keys", other) as bystander:
        remove_key(house)
        caller.check_cut("grant_withdrawn")
        bystander.check_untouched()


def test_the_authentication_service_counts_its_answers(house: Checkpoint) -> None:
    """What it is asked again about is the same request; nothing ends while it grants."""
    with Caller(house, "grpc") as caller:
        began = len(house.service.requests)
        enough = began + 2 * len(caller.running)
        wait_until(lambda: len(house.service.requests) >= enough, "it is asked again")
        again = [request for request in house.service.requests if request.auth_count > 1]
        assert {request.auth_count for request in again} >= {2}
        caller.check_untouched()


# --- expiry -------------------------------------------------------------------------------


def soon() -> int:
    """Soon, and not before everything has begun."""
    return int(time.time()) + 5


def test_an_api_key_token_ends_in_mid_body(house: Checkpoint) -> None:
    value = token({"id": "001", "exp": soon()}, key=KEY).decode()
    with Caller(house, "keys", value) as caller, Caller(house, "keys") as other:
        caller.check_cut("grant_expired")
        caller.check_refused(401, 407)
        other.check_untouched()


def test_a_jwt_ends_in_mid_body(house: Checkpoint) -> None:
    value = sign(RSA, "RS256", {**jwt_claims(), "exp": soon()}, kid="rsa").decode()
    with Caller(house, "jwt", value) as caller, Caller(house, "jwt") as other:
        caller.check_cut("grant_expired")
        caller.check_refused(401, 407)
        other.check_untouched()


def test_an_access_token_ends_in_mid_body(house: Checkpoint) -> None:
    value = f"Bearer {access_token({**access_claims(house.origin.port), 'exp': soon()})}"
    with (
        Caller(house, "nevermined", value, connect=False) as caller,
        Caller(house, "nevermined", connect=False) as other,
    ):
        caller.check_cut("grant_expired")
        caller.check_refused(401, 407)
        other.check_untouched()


# --- what was used until then -------------------------------------------------------------


def test_what_is_cut_is_counted_once(house: Checkpoint) -> None:
    with Caller(house, "fields") as caller:
        shut_out(house.daemon, "alice:192.0.2.7:test/1", "fields")
        caller.check_cut("grant_revoked")
        caller.check_refused(403)
        house.daemon.stop()
    rows = {row["path"]: row for row in house.daemon.usage() if row["user"] == "alice"}
    assert {path: row["requests"] for path, row in rows.items()} == {
        "/fields/stream": 1,
        "/fields/sized": 1,
        "/fields/socket": 1,
    }
    assert rows["/fields/stream"]["bytes_out"] == rows["/fields/sized"]["bytes_out"] == 5
    assert rows["/fields/socket"]["bytes_out"] == 1
