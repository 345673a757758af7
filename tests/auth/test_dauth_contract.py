"""What dauth's users rely on, through a real daemon and a real authentication service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from tests.auth.authentication_service import AuthenticationService, answer_of
from tests.daemon import Daemon, wait_until
from tests.hostile.raw import Answer, BrokenTransferError, Client
from tests.origin import Conversation, Origin

CONFIGURATION = """
state_dir = "state"
management = { bind = "@management@" }

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"
trusted_peers = ["127.0.0.2"]

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = ["grpc://@auth@?continuous=true&interval=1s"]
allow = ["@origin@"]
"""

SERVICE = """
[[services]]
name = "{name}"
from = "/{name}"
to = "http://@origin@"
checkers = {checkers}
"""

SECRET = "s3cret-Value"
CHECKERS = {
    "public": "[]",
    "null": '["null://"]',
    "trust": '["trust://"]',
    "allowed": '["trust://?allowed=X-Sf-User-Id,x-custom"]',
    "secret": f'["secret://{SECRET}?user_id=ops&api_key_id=k1&meta=m"]',
    "grpc": '["grpc://@auth@"]',
    "continuous": '["grpc://@auth@?continuous=true&interval=1s"]',
    "open": f'["secret://{SECRET}"]\nopen_methods = ["OPTIONS"]',
}
SERVICES = "".join(SERVICE.format(name=name, checkers=value) for name, value in CHECKERS.items())

TRUSTED, STRANGER = "127.0.0.2", "127.0.0.1"
BEARER = f"Authorization: Bearer {SECRET}"


@dataclass
class House:
    daemon: Daemon
    origin: Origin
    auth: AuthenticationService

    def connect(self, listener: str = "gateway", peer: str = STRANGER) -> Client:
        return Client(self.daemon.address(listener), source=peer)

    def ask(self, path: str, *fields: str, peer: str = STRANGER, method: str = "GET") -> Answer:
        """One request through the gateway."""
        with self.connect(peer=peer) as client:
            lines = [f"{method} {path} HTTP/1.1", "Host: h", *fields, "", ""]
            client.send("\r\n".join(lines).encode("latin-1"))
            return client.answer(method)

    def proxied(self, *fields: str) -> Answer:
        """One request through the forward proxy."""
        with self.connect("proxy") as client:
            authority = f"127.0.0.1:{self.origin.port}"
            lines = [f"GET http://{authority}/x HTTP/1.1", f"Host: {authority}", *fields, "", ""]
            client.send("\r\n".join(lines).encode("latin-1"))
            return client.answer()

    def logged(self, answer: Answer) -> dict[str, object]:
        (request_id,) = answer.values("x-request-id")
        return self.daemon.logged(request_id)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Origin() as origin, AuthenticationService() as auth:
        ports = {"origin": origin.port, "auth": auth.port}
        directory = tmp_path_factory.mktemp("dauth")
        # Daemonized: gRPC must get over the fork.
        with Daemon(directory, CONFIGURATION + SERVICES, ports=ports, daemonized=True) as daemon:
            yield House(daemon, origin, auth)
        assert {row["user"] for row in daemon.usage()} <= {"alice", "ops"}
        assert SECRET not in daemon.log
        assert SECRET not in (daemon.state_dir / "access.log").read_text()


@pytest.fixture
def house(running: House) -> Iterator[House]:
    running.auth.reset()
    running.origin.requests.clear()
    running.origin.on.clear()
    yield running
    running.daemon.check_log()


def come_back(house: House) -> None:
    """Start the service, and wait until every checker has found it."""
    house.auth.start()
    paths = ("/grpc/x", "/continuous/x")
    wait_until(
        lambda: all(house.ask(path).status == 200 for path in paths), "the service is found again"
    )


def identity(answer: Answer) -> dict[str, list[str]]:
    """The trusted headers that the upstream has got."""
    assert answer.status == 200, answer
    found: dict[str, list[str]] = {}
    for name, value in answer.document["fields"]:
        if name.replace("_", "-").startswith("x-sf-") or name in ("x-real-ip", "x-custom"):
            found.setdefault(name, []).append(value)
    return found


# --- trusted headers ------------------------------------------------------------------------

FORGED = [
    "X-Sf-User-Id: root",
    "x-sf-api-key-id: root",
    "X_Sf_User_Id: root",
    "x-sf_meta: root",
    "X-SF-SUBSTREAMS-PARALLEL-JOBS: root",
    "x-sf-: root",
    "X-Real-IP: 203.0.113.66",
]


@pytest.mark.parametrize("service", ["public", "null", "secret", "open", "grpc", "continuous"])
def test_what_the_client_claims_is_removed_on_every_path(house: House, service: str) -> None:
    for peer in (STRANGER, TRUSTED):
        answer = house.ask(f"/{service}/x", BEARER, *FORGED, peer=peer)
        assert "root" not in answer.body.decode()
        if peer == STRANGER:
            assert "203.0.113.66" not in answer.body.decode()


def test_it_is_removed_where_a_method_is_open(house: House) -> None:
    answer = house.ask("/open/x", *FORGED, method="OPTIONS")
    assert identity(answer) == {}


# --- null:// --------------------------------------------------------------------------------


def test_null_trusts_nothing(house: House) -> None:
    for fields in ([], [BEARER], ["Authorization: nonsense", *FORGED]):
        answer = house.ask("/null/x", *fields)
        assert identity(answer) == {}
        assert house.logged(answer)["user"] == ""


# --- trust:// -------------------------------------------------------------------------------

CLAIMS = [
    "X-Sf-User-Id: alice",
    "x-sf-user-id: mallory",
    "X-Sf-Api-Key-Id: k1",
    "X-Sf-Meta: m",
    "X-Custom: 1",
    "X-Custom: 2",
]


def test_trust_keeps_the_first_value_of_each(house: House) -> None:
    answer = house.ask("/trust/x", *CLAIMS, peer=TRUSTED)
    assert identity(answer) == {
        "x-sf-user-id": ["alice"],
        "x-sf-api-key-id": ["k1"],
        "x-sf-meta": ["m"],
        "x-custom": ["1"],
    }
    line = house.logged(answer)
    assert (line["user"], line["key_id"]) == ("alice", "k1")


def test_trust_keeps_just_the_allowed(house: House) -> None:
    answer = house.ask("/allowed/x", *CLAIMS, peer=TRUSTED)
    assert identity(answer) == {"x-sf-user-id": ["alice"], "x-custom": ["1"]}


@pytest.mark.parametrize("service", ["trust", "allowed"])
def test_trust_is_for_trusted_peers(house: House, service: str) -> None:
    assert house.ask(f"/{service}/x", *CLAIMS).status == 403
    assert house.origin.requests == []


# --- secret:// ------------------------------------------------------------------------------

OPS = {
    "x-sf-user-id": ["ops"],
    "x-sf-api-key-id": ["k1"],
    "x-sf-meta": ["m"],
    "x-real-ip": [STRANGER],
}


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR   ", ""])
def test_the_secret(house: House, scheme: str) -> None:
    answer = house.ask("/secret/x", f"Authorization: {scheme}{SECRET}")
    assert identity(answer) == OPS
    assert house.logged(answer)["user"] == "ops"
    assert all(name != "authorization" for name, _ in answer.document["fields"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 401),
        (["Authorization: Bearer wrong"], 401),
        ([f"Authorization: Bearer {SECRET.lower()}"], 401),
        ([f"Authorization: Bearer {SECRET}x"], 401),
        ([f"Authorization: Basic {SECRET}"], 401),
        ([f"Authorization: Bearer {SECRET}, Bearer wrong"], 401),
        ([BEARER, "Authorization: Bearer wrong"], 400),
        (["Authorization: Bearer wrong", BEARER], 400),
        ([BEARER, BEARER], 400),
    ],
)
def test_not_the_secret(house: House, fields: list[str], status: int) -> None:
    answer = house.ask("/secret/x", *fields)
    assert answer.status == status
    if status == 401:
        assert answer.values("www-authenticate")[0].startswith("Bearer ")
    assert SECRET not in answer.body.decode()
    assert house.origin.requests == []


# --- OPTIONS --------------------------------------------------------------------------------


def test_options_pass_where_the_service_says_so(house: House) -> None:
    assert house.ask("/open/x", method="OPTIONS").status == 200
    assert house.ask("/open/x").status == 401
    for service in ("secret", "grpc"):
        house.auth.code = grpc.StatusCode.UNAUTHENTICATED
        assert house.ask(f"/{service}/x", method="OPTIONS").status == 401


# --- the real address -----------------------------------------------------------------------

ADDRESSES = [
    ([], None),
    (["X-Real-IP: 203.0.113.1"], "203.0.113.1"),
    (["X-Real-IP: 203.0.113.1", "X-Forwarded-For: 203.0.113.2"], "203.0.113.1"),
    (["X-Real-IP: 203.0.113.1", "X-Real-IP: 203.0.113.3"], None),
    (["X-Real-IP: 203.0.113.1", "X-Real-IP: 203.0.113.3", "X-Forwarded-For: 203.0.113.2"],
     "203.0.113.2"),
    (["X-Real-IP: 2001:db8::1"], "2001:db8::1"),
    (["X-Real-IP: nonsense"], None),
    (["X-Forwarded-For: 203.0.113.1"], "203.0.113.1"),
    (["X-Forwarded-For: 203.0.113.1, 203.0.113.2"], "203.0.113.1"),
    (["X-Forwarded-For: 203.0.113.1, 203.0.113.2, 203.0.113.3"], "203.0.113.2"),
    (["X-Forwarded-For: 203.0.113.1,203.0.113.2,203.0.113.3,203.0.113.4"], "203.0.113.3"),
    (["X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 203.0.113.2", "X-Forwarded-For: 10.0.0.1"],
     "203.0.113.2"),
    (["X-Forwarded-For: , 203.0.113.1,, ,203.0.113.2 ,"], "203.0.113.1"),
    (["X-Forwarded-For: unknown"], None),
    (["X-Forwarded-For: "], None),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "address"), ADDRESSES)
def test_the_real_address(house: House, fields: list[str], address: str | None) -> None:
    for peer, expected in ((TRUSTED, address or TRUSTED), (STRANGER, STRANGER)):
        assert identity(house.ask("/secret/x", BEARER, *fields, peer=peer))["x-real-ip"] == [
            expected
        ]
        house.auth.requests.clear()
        house.ask("/grpc/x", *fields, peer=peer)
        assert [request.ip for request in house.auth.requests] == [expected]


# --- grpc:// --------------------------------------------------------------------------------


def test_the_service_is_asked(house: House) -> None:
    house.auth.answer = answer_of(
        ("X-Sf-User-Id", "alice"),
        ("x-sf-api-key-id", "k1"),
        ("X-Sf-Substreams-Parallel-Jobs", "7"),
        ("Connection", "x-custom"),
    )
    answer = house.ask(
        "/grpc/a%20b/c?d=e&f",
        "Authorization: Bearer t",
        "X-Twice: 1",
        "X-Twice: 2",
        "X-Latin: caf\xe9",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        *FORGED[:-1],
        "X-Trace-Id: forged",
    )
    assert identity(answer) == {
        "x-sf-user-id": ["alice"],
        "x-sf-api-key-id": ["k1"],
        "x-sf-substreams-parallel-jobs": ["7"],
    }
    line = house.logged(answer)
    assert (line["user"], line["key_id"]) == ("alice", "k1")
    assert all(name != "authorization" for name, _ in answer.document["fields"])
    (request,) = house.auth.requests
    assert (request.url, request.ip, request.auth_count) == ("/grpc/a%20b/c?d=e&f", STRANGER, 1)
    headers = [(each.key, each.value) for each in request.headers]
    assert ("authorization", "Bearer t") in headers
    assert [value for key, value in headers if key == "x-twice"] == ["1", "2"]
    assert ("x-latin", "caf?") in headers
    assert ("host", "h") in headers
    traces = [value for key, value in headers if key == "x-trace-id"]
    assert traces == ["0af7651916cd43dd8448eb211c80319c"]
    assert "root" not in str(request)


@pytest.mark.parametrize(
    ("code", "status", "proxied"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 401, 407),
        (grpc.StatusCode.PERMISSION_DENIED, 403, 403),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, 429),
        (grpc.StatusCode.INTERNAL, 503, 503),
        (grpc.StatusCode.UNKNOWN, 503, 503),
    ],
)
def test_statuses(house: House, code: grpc.StatusCode, status: int, proxied: int) -> None:
    house.auth.code, house.auth.details = code, "secret words"
    for answer, expected, field in (
        (house.ask("/grpc/x", BEARER), status, "www-authenticate"),
        (house.proxied(f"Proxy-{BEARER}"), proxied, "proxy-authenticate"),
    ):
        assert answer.status == expected
        assert "secret words" not in answer.body.decode()
        assert bool(answer.values(field)) == (status == 401)
    assert house.origin.requests == []


def test_no_connection(house: House) -> None:
    assert house.ask("/grpc/x").status == 200
    house.auth.stop()
    assert house.ask("/grpc/x").status == 503
    come_back(house)


def test_every_request_is_asked_about(house: House) -> None:
    for _ in range(3):
        assert house.ask("/grpc/x", BEARER).status == 200
    assert [request.auth_count for request in house.auth.requests] == [1, 1, 1]


def test_through_the_forward_proxy(house: House) -> None:
    answer = house.proxied("Proxy-Authorization: Bearer p", "Authorization: Bearer o", *FORGED)
    assert answer.status == 200
    (request,) = house.auth.requests
    headers = [(each.key, each.value) for each in request.headers]
    assert [value for key, value in headers if key.endswith("authorization")] == ["Bearer p"]
    fields = answer.document["fields"]
    assert ["authorization", "Bearer o"] in fields
    assert all(name != "proxy-authorization" for name, _ in fields)


# --- asking again ---------------------------------------------------------------------------


def drip(conversation: Conversation) -> None:
    """An answer that goes on and on."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        conversation.send(b"1\r\nx\r\n")
        time.sleep(0.05)


def switch(conversation: Conversation) -> None:
    """A WebSocket, as far as the proxy can tell."""
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    while data := conversation.read(1):
        conversation.send(data)


def counts(house: House) -> list[int]:
    return [request.auth_count for request in house.auth.requests]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, None]
)
def test_a_running_answer_is_cut(house: House, code: grpc.StatusCode | None) -> None:
    house.origin.on["/drip"] = drip
    with house.connect() as client:
        client.send(f"GET /continuous/drip HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n\r\n".encode())
        wait_until(lambda: counts(house) == [1, 2], "it is asked again")
        house.auth.code = code
        if code is None:
            house.auth.stop()
        with pytest.raises(BrokenTransferError):  # never a clean end of the body
            client.answer()
    if code is None:
        come_back(house)


def test_a_websocket_is_closed(house: House) -> None:
    house.origin.on["/switch"] = switch
    with house.connect() as client:
        client.send(
            b"GET /continuous/switch HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n"
        )
        assert client.answer().status == 101
        client.send(b"x")
        assert client.read(1) == b"x"
        house.auth.code = grpc.StatusCode.UNAUTHENTICATED
        assert client.rest() == b""
    assert counts(house) == [1, 2]


def test_a_tunnel_is_closed(house: House) -> None:
    authority = f"127.0.0.1:{house.origin.port}"
    with house.connect("proxy") as client:
        client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert client.answer("CONNECT").status == 200
        client.send(b"GET /x HTTP/1.1\r\nHost: o\r\n\r\n")
        assert client.answer().status == 200
        house.auth.code = grpc.StatusCode.UNAUTHENTICATED
        assert client.rest() == b""
    assert counts(house) == [1, 2]


def test_what_is_not_continuous_goes_on(house: House) -> None:
    house.origin.on["/switch"] = switch
    with house.connect() as client:
        client.send(
            b"GET /grpc/switch HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n"
        )
        assert client.answer().status == 101
        house.auth.code = grpc.StatusCode.UNAUTHENTICATED
        with house.connect() as other:  # is asked again meanwhile, and cut
            other.send(
                b"GET /continuous/switch HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n"
            )
            assert other.answer().status == 401
        client.send(b"x")
        assert client.read(1) == b"x"
    assert counts(house) == [1, 1]
