"""Header fields and credentials, at every kind of checker and both doors."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator

import pytest

from tests.auth.support import KEY, token
from tests.hostile.checkers import BY_FIELD, EVERY, Checkpoint, Door, checkpoint
from tests.hostile.house import basic
from tests.hostile.issuers import LATER
from tests.hostile.raw import Answer, Client
from tests.hostile.test_items_18_to_25_credentials import FORGED
from tests.origin import Conversation


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    with checkpoint(tmp_path_factory.mktemp("checkers")) as house:
        yield house


DOORS = [*((name, "gateway") for name in EVERY), *((name, "proxy") for name in BY_FIELD)]
FIELD_DOORS = [(name, door) for name, door in DOORS if name in BY_FIELD]


def identify(value: tuple[str, str]) -> str:
    return "-".join(value)


@pytest.fixture(params=DOORS, ids=identify)
def door(house: Checkpoint, request: pytest.FixtureRequest) -> Door:
    """Every checker at every door that it has."""
    return house.door(*request.param)


@pytest.fixture(params=FIELD_DOORS, ids=identify)
def field_door(house: Checkpoint, request: pytest.FixtureRequest) -> Door:
    """Those that go by the credential field."""
    return house.door(*request.param)


def check_refused(door: Door, answer: Answer, *statuses: int) -> None:
    """It was refused, with one of these statuses or that of bad credentials."""
    assert answer.status in (statuses or door.entrance.refusal), answer
    if answer.status in (401, 407):
        challenge = "proxy-authenticate" if answer.status == 407 else "www-authenticate"
        assert answer.values(challenge)
    assert door.house.hostile() == []


# --- 18 -----------------------------------------------------------------------------------


def test_18_credentials_twice(door: Door) -> None:
    """Also where they are not what is checked."""
    good = door.entrance.value or "Bearer x"
    for first, second in ((good, good), (good, "Bearer x"), ("Bearer x", good), (good, "")):
        data = door.request(
            "/hostile",
            *door.entrance.fields,
            f"{door.credentials}: {first}",
            f"{door.credentials}: {second}",
            value="",
        )
        with door.connect() as client:
            client.send(data + door.request("/hostile"))
            assert client.final_answer().status == 400
    assert door.house.hostile() == []


# --- 19, 20, 21: what reaches the upstream ------------------------------------------------


def check_identity(door: Door, *lines: str) -> None:
    """A good request's identity at the upstream is what the checker says, and only that."""
    entrance = door.entrance
    received = door.passed(*lines)
    assert b"6.6.6.6" not in received.raw
    assert not [name for name, _ in received.fields if "_" in name]
    for name, value in entrance.injected:
        assert received.values(name) == [value]
    names = {name for name, _ in received.fields}
    identity = {name for name in names if name.startswith(("x-sf-", "nvm-", "x-authkey"))}
    assert identity == {name for name, _ in entrance.injected}
    user = [entrance.user] if entrance.user and not door.is_proxy else []
    assert received.values("x-forwarded-user") == user


def test_19_forged_identity(door: Door) -> None:
    """At a trusted peer plain names are what it says; spelled with ``_`` they are nobody's."""
    trusting = door.entrance.trusting
    check_identity(door, *(line for line in FORGED if "_" in line or not trusting))


def test_19_forged_identity_at_the_authentication_service(house: Checkpoint) -> None:
    """Nobody is asked about a header that only we may say."""
    for kind in ("gateway", "proxy"):
        door = house.door("grpc", kind)
        check_identity(door, *FORGED, "X-Trace-Id: 6.6.6.6")
        asked = house.service.requests[-1]
        names = [header.key for header in asked.headers]
        assert not [name for name in names if name.replace("_", "-").startswith("x-sf-")]
        assert names.count("x-trace-id") == 1
        assert names.count("authorization") == 1
        assert asked.ip == "127.0.0.1"


def test_19_a_client_that_says_it_is_a_trusted_peer(house: Checkpoint) -> None:
    """Who is trusted is told by the address of the connection, and by nothing that is sent."""
    lines = ["X-SF-User-Id: alice", *house.entrances["fields"].fields]
    lines += ["X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1"]
    request = "\r\n".join(["GET /outer/hostile HTTP/1.1", "Host: x", *lines, "", ""])
    with Client(house.daemon.address("outer")) as client:
        client.send(request.encode())
        assert client.answer().status == 403
    assert house.hostile() == []


NAMED = (
    "authorization, proxy-authorization, x-sf-user-id, x-authkey, nvm-user-id, x-forwarded-user, "
    "remote-user, user-agent, x-real-ip, host"
)


def test_20_connection_that_names_what_counts(door: Door) -> None:
    """Neither what is checked nor what is injected can be taken away."""
    check_identity(door, f"Connection: {NAMED}")
    if door.entrance.refusal:
        check_refused(door, door.ask("/hostile", f"Connection: {NAMED}", value=""))


def test_21_consumed_credentials(door: Door) -> None:
    """They go no further, under no name: the first time they are checked, and later."""
    entrance = door.entrance
    secret = entrance.value.partition(" ")[2]
    for _ in range(2):
        received = door.passed()
        assert received.values("proxy-authorization") == []
        if entrance.consumed:
            assert received.values("authorization") == []
            assert not secret or secret.encode() not in received.raw


def test_21_credentials_that_are_not_for_the_checker(door: Door) -> None:
    """What is in the other field is the upstream's, but never Proxy-Authorization."""
    other = "Authorization" if door.is_proxy else "Proxy-Authorization"
    received = door.passed(f"{other}: Bearer theirs")
    assert received.values("proxy-authorization") == []
    opened_by_token = door.entrance.name == "nevermined"  # that says what the upstream gets
    expected = ["Bearer theirs"] if door.is_proxy and not opened_by_token else []
    assert received.values("authorization") == expected
    if not door.entrance.consumed:
        received = door.passed("Authorization: Bearer theirs")
        assert received.values("authorization") == ["Bearer theirs"]


# --- 22 -----------------------------------------------------------------------------------


def test_22_trace(door: Door) -> None:
    for value in (None, ""):
        answer = door.ask("/hostile", value=value, method="TRACE")
        check_refused(door, answer, 405)
        assert "TRACE" not in "".join(answer.values("allow"))


# --- 23 -----------------------------------------------------------------------------------


def encoded(raw: bytes) -> str:
    return "Basic " + base64.b64encode(raw).decode()


MALFORMED = {
    "nothing": "",
    "a blank scheme": "Basic",
    "basic without colon": encoded(b"alice"),
    "basic of nothing": encoded(b""),
    "basic, nobody": encoded(b":wonderland"),
    "basic, no utf-8": encoded(b"alice\xff:wonderland"),
    "basic, nul": encoded(b"alice\0:wonderland"),
    "basic, newline": encoded(b"alice:wonderland\n"),
    "basic, other padding": encoded(b"alice:wonderland").rstrip("="),
    "basic, more padding": encoded(b"alice:wonderland") + "==",
    "basic, no base64": "Basic !!!!",
    "basic, plain": "Basic alice:wonderland",
    "basic, two": encoded(b"alice:wonderland") + ", Bearer s3cret",
    "basic, long": encoded(b"alice:" + b"x" * 9000),
    "bearer of nothing": "Bearer",
    "bearer of blanks": "Bearer    ",
    "bearer, dots": "Bearer ..",
    "bearer, many dots": "Bearer " + "." * 5000,
    "bearer, no base64": "Bearer !.!.!",
    "bearer, five of nothing": "Bearer ....",
    "bearer, 8-bit": "Bearer \xff\xfe\xfd",
    "bearer, invalid utf-8 in parts": "Bearer \xe9.\xe9.\xe9",
    "bearer, tab": "Bearer\ts3cret",
    "bearer, prefix": "Bearer s3cre",
    "bearer, suffix": "Bearer s3cretx",
    "bearer, two": "Bearer s3cret, Bearer s3cret",
    "bearer, long": "Bearer " + "x" * 9000,
    "other scheme": "Negotiate YWxpY2U6d29uZGVybGFuZA==",
    "digest": 'Digest username="alice", realm="Service access", nonce="", uri="/", response=""',
    "bearer as basic": "Basic s3cret",
    "userinfo": "alice:192.0.2.7:test/1",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_23_malformed_credentials(house: Checkpoint, value: str) -> None:
    for name, kind in FIELD_DOORS:
        door = house.door(name, kind)
        check_refused(door, door.ask("/hostile", value=value))


@pytest.mark.parametrize("missing", range(3))
def test_23_malformed_fields_of_a_trusted_peer(house: Checkpoint, missing: int) -> None:
    """Whoever sits before us cannot be made to say another name by what its client sends."""
    door = house.door("fields")
    lines = list(door.entrance.fields)
    del lines[missing]
    check_refused(door, door.ask("/hostile", *lines, value=""))
    for user in ("alice:192.0.2.7", "al\xffice", "", "alice\x85"):
        lines = [f"Remote-User: {user}", *door.entrance.fields[1:]]
        check_refused(door, door.ask("/hostile", *lines, value=""), 400, 401, 403)
    twice = ["Remote-User: mallory", *door.entrance.fields]
    check_refused(door, door.ask("/hostile", *twice, value=""), 403)
    assert door.house.auth.requests[-1].values("x-userinfo") != ["alice:192.0.2.7:test/1"]


def test_23_a_megabyte(door: Door) -> None:
    for scheme in ("Basic", "Bearer"):
        value = f"{scheme} " + "eA.=" * 250_000
        with door.connect() as client:
            client.try_to_send(door.request("/hostile", value=value))
            answer = client.final_answer()
        check_refused(door, answer, 431)


# --- 24 -----------------------------------------------------------------------------------


def anonymous(door: Door, value: str) -> bytes:
    """An answer without what is different in each: its id and its date."""
    with door.connect() as client:
        client.send(door.request("/hostile", "Connection: close", value=value))
        wire = client.rest()
    wire = re.sub(rb"date: [^\r]*", b"date: -", wire)
    return re.sub(rb"[0-9a-f]{32}", b"-", wire)


def key_token(key_id: str, key: str) -> str:
    return token({"id": key_id, "exp": LATER}, key=key).decode()


WHO = {
    "basic": [basic(user, "wrong") for user in ("alice", "nobody", "ops")],
    "keys": [key_token(key_id, KEY) for key_id in ("003", "002", "nobody")],
    "legacy": [key_token(key_id, KEY) for key_id in ("003", "002", "nobody")],
    "oauth": ["Bearer opaque-2", "Bearer s3cret"],
    "tokens": ["Bearer exchange-you", basic("alice", "wrong")],
    "grpc": ["Bearer known", basic("alice", "wrong")],
}


@pytest.mark.parametrize("kind", ["gateway", "proxy"])
@pytest.mark.parametrize("name", WHO)
def test_24_nobody_is_told_who_exists(house: Checkpoint, name: str, kind: str) -> None:
    door = house.door(name, kind)
    answers = {anonymous(door, value) for value in WHO[name]}
    assert len(answers) == 1, answers
    (wire,) = answers
    assert int(wire.split(b" ", 2)[1]) in door.entrance.refusal


# --- 25 -----------------------------------------------------------------------------------

_AT_ONCE = 64


@pytest.mark.parametrize(("name", "path"), [("oauth", "/introspect"), ("tokens", "/auth")])
def test_25_wrong_credentials_that_a_server_thinks_about(
    house: Checkpoint, name: str, path: str
) -> None:
    """While a server is busy with more wrong ones than it is asked at once, others are served."""
    slow, known = house.door(name), house.door(name)
    known.passed()
    given_up = threading.Event()
    ordinary = house.auth.on[path]

    def think(conversation: Conversation) -> None:
        given_up.wait(30)
        ordinary(conversation)

    house.auth.on[path] = think
    answers: list[Answer] = []

    def try_one(number: int) -> None:
        answers.append(slow.ask("/hostile", value=f"Bearer wrong-{number}"))

    threads = [threading.Thread(target=try_one, args=(n,)) for n in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            for other in EVERY:
                if other not in ("oauth", "tokens", "fields"):
                    house.door(other).passed()
        assert house.daemon.management("/healthz")[0] == 200
    finally:
        given_up.set()
        for thread in threads:
            thread.join()
        house.auth.on[path] = ordinary
    assert len(answers) == _AT_ONCE
    assert {answer.status for answer in answers} <= {503, *slow.entrance.refusal}
    assert house.hostile() == []
    known.passed()
