"""Header fields and credentials: who it is, and what goes upstream."""

from __future__ import annotations

import base64
import re
import socket
import threading

import pytest
from argon2 import PasswordHasher

from tests.hostile.house import ALICE, House, Way, basic
from tests.hostile.raw import Answer, Client

#: As expensive as `gatekeeper hash-password` makes them: some 30 ms each.
SLOW = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash("slowly")

MORE = f"""
[checkers.slow]
type = "basic"
users = {{ alice = '{SLOW}', ops = '{SLOW}' }}

[[services]]
name = "slow"
from = "/slow"
to = "http://@origin@"
checkers = ["slow"]
listeners = ["gateway"]

[[listeners]]
name = "either"
role = "forward"
bind = "@either@"
checkers = ["users"]
credentials_from = ["proxy-authorization", "authorization"]
allow = ["@origin@"]
"""

OPS = "Bearer s3cret"


def public_way(house: House) -> Way:
    """A public service: its credential fields are not ours."""
    return Way(house.daemon.address("gateway"), "/public", "gateway.test", "Authorization")


def names(answer: Answer) -> list[str]:
    """The names of the fields that came to the upstream."""
    return [name for name, _ in answer.document["fields"]]


def values(answer: Answer, name: str) -> list[str]:
    """The values of a field that came to the upstream."""
    return [value for field, value in answer.document["fields"] if field == name]


# --- 18 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [ALICE, basic("eve", "x"), ""])
def test_18_credentials_twice(house: House, way: Way, second: str) -> None:
    house.refuse(way, way.request("/hostile", f"{way.credentials}: {second}"))


# --- 19 -----------------------------------------------------------------------------------

FORGED = [
    "X-Forwarded-For: 6.6.6.6",
    "X-FORWARDED-PROTO: gopher",
    "x-forwarded-host: 6.6.6.6",
    "X-Forwarded-User: 6.6.6.6",
    "X-Forwarded-Groups: 6.6.6.6",
    "X-Forwarded-Client-Cert: 6.6.6.6",
    "X_Forwarded_For: 6.6.6.6",
    "X-Forwarded_For: 6.6.6.6",
    "x_forwarded-user: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "X_Real_IP: 6.6.6.6",
    "x-real_ip: 6.6.6.6",
    "X-SF-User-Id: 6.6.6.6",
    "x_sf_user_id: 6.6.6.6",
    "X-SF_Meta: 6.6.6.6",
    "X-Authkey: 6.6.6.6",
    "X_Authkey: 6.6.6.6",
    "X-Userinfo: 6.6.6.6",
    "Remote-User: 6.6.6.6",
    "Remote_User: 6.6.6.6",
    "REMOTE_USER: 6.6.6.6",
    "NVM-Anything: 6.6.6.6",
    "nvm_anything: 6.6.6.6",
    "X-Request-Id: 6.6.6.6",
    "Proxy_Authorization: 6.6.6.6",
    "Content_Length: 6",
    "Transfer_Encoding: 6.6.6.6",
    "Proxy-Connection: 6.6.6.6",
    "Keep-Alive: 6.6.6.6",
]


@pytest.mark.parametrize("service", ["/echo", "/public", "proxy"])
def test_19_forged_identity_and_forwarding(house: House, service: str) -> None:
    way = (
        house.proxy
        if service == "proxy"
        else Way(house.gateway.address, service, "gateway.test", "Authorization")
    )
    answer = house.ask(way, way.request("/good", *FORGED))
    assert answer.status == 200
    assert "6.6.6.6" not in answer.body.decode()
    assert not any("_" in name for name in names(answer))
    assert values(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert values(answer, "x-forwarded-proto") == ["http"]
    assert values(answer, "x-forwarded-host") == [way.host]
    assert values(answer, "x-forwarded-user") == (["alice"] if service == "/echo" else [])
    assert "content-length" not in names(answer)


def test_19_forged_identity_beside_a_real_one(house: House) -> None:
    data = house.gateway.request("/good", f"Authorization: {OPS}", *FORGED, credentials=False)
    answer = house.ask(house.gateway, data)
    assert values(answer, "x-sf-user-id") == ["ops"]
    assert values(answer, "x-real-ip") == ["127.0.0.1"]


# --- 20 -----------------------------------------------------------------------------------


def test_20_connection_that_names_what_we_check(house: House, way: Way) -> None:
    named = f"Connection: {way.credentials}, x-sf-user-id, host"
    assert house.ask(way, way.request("/good", named)).status == 200
    denied = house.ask(way, way.request("/hostile", named, credentials=False))
    assert denied.status in (401, 407)


def test_20_connection_that_names_what_we_inject(house: House) -> None:
    injected = ["x-sf-user-id", "x-real-ip", "x-forwarded-for", "x-request-id", "host", "via"]
    data = house.gateway.request(
        "/good",
        f"Authorization: {OPS}",
        "Connection: authorization, content-length, " + ", ".join(injected),
        "Content-Length: 5",
        method="POST",
        body=b"hello",
        credentials=False,
    )
    answer = house.ask(house.gateway, data)
    assert answer.status == 200
    assert answer.document["body"] == "hello"
    assert values(answer, "x-sf-user-id") == ["ops"]
    assert set(injected) <= set(names(answer))
    assert "authorization" not in names(answer)


def test_20_what_connection_names_goes_no_further(house: House, way: Way) -> None:
    answer = house.ask(way, way.request("/good", "X-Hop: 1", "X-End: 2", "Connection: x-hop"))
    assert values(answer, "x-end") == ["2"]
    assert not {"x-hop", "connection"} & set(names(answer))


# --- 21 -----------------------------------------------------------------------------------


def test_21_consumed_credentials_never_reach_the_upstream(house: House, way: Way) -> None:
    """The first time they are checked, the second time they are known."""
    for _ in range(2):
        answer = house.ask(way, way.request("/good"))
        assert not {"authorization", "proxy-authorization"} & set(names(answer))


def test_21_proxy_authorization_to_a_gateway(house: House) -> None:
    for way in (house.gateway, public_way(house)):
        answer = house.ask(way, way.request("/good", f"Proxy-Authorization: {ALICE}"))
        assert "proxy-authorization" not in names(answer)


def test_21_open_method_of_a_closed_service(house: House) -> None:
    """What is sent along for us is not the upstream's, even where nobody looks at it."""
    answer = house.ask(house.gateway, house.gateway.request("/good", method="OPTIONS"))
    assert answer.status == 200
    assert "authorization" not in names(answer)


def test_21_authorization_meant_for_the_upstream(house: House) -> None:
    answer = house.ask(house.proxy, house.proxy.request("/good", "Authorization: Bearer theirs"))
    assert values(answer, "authorization") == ["Bearer theirs"]
    way = public_way(house)
    answer = house.ask(way, way.request("/good"))
    assert values(answer, "authorization") == [ALICE]


def test_21_authorization_as_proxy_credentials(house: House) -> None:
    way = Way(house.daemon.address("either"), house.proxy.prefix, house.proxy.host, "Authorization")
    answer = house.ask(way, way.request("/good"))
    assert answer.status == 200
    assert "authorization" not in names(answer)


def test_21_credentials_of_a_service_through_the_proxy(house: House) -> None:
    for field in ("Proxy-Authorization", "Authorization"):
        way = Way(house.proxy.address, "http://named.test", "named.test", field)
        answer = house.ask(way, way.request("/good"))
        assert answer.status == 200
        assert not {"authorization", "proxy-authorization"} & set(names(answer))


# --- 22 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [True, False])
def test_22_trace(house: House, way: Way, credentials: bool) -> None:
    data = way.request("/hostile", method="TRACE", credentials=credentials)
    answer = house.ask(way, data)
    assert answer.status == 405
    assert "TRACE" not in "".join(answer.values("allow"))
    assert "Basic" not in answer.body.decode()
    assert house.seen() == []


# --- 23 -----------------------------------------------------------------------------------


def encoded(raw: bytes) -> str:
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "value",
    [
        encoded(b"alice"),
        encoded(b"alicewonderland"),
        encoded(b""),
        encoded(b":wonderland"),
        encoded(b":"),
        encoded(b"alice\xff:wonderland"),
        encoded(b"alice:wonderl\xe4nd"),
        encoded(b"al\0ice:wonderland"),
        encoded(b"alice:wonder\0land"),
        encoded(b"alice:wonderland\n"),
        encoded(b"alice:wonderland")[:-1],
        encoded(b"alice:wonderland") + "=",
        encoded(b"alice:wonderland") + "====",
        encoded(b"alice:wonderland").replace("=", "", 1) + "!",
        encoded(b"alice:wonderland") + ", Bearer s3cret",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic alice:wonderland",
        "Basic" + encoded(b"alice:wonderland")[6:],
        "Basic Basic " + encoded(b"alice:wonderland")[6:],
        encoded(b"alice:wonderland").replace("Y", "Y ", 1),
        encoded(b"x" * 10_000 + b":wonderland"),
        "Negotiate YWxpY2U6d29uZGVybGFuZA==",
        "Basic\tYWxpY2U6d29uZGVybGFuZA==",
    ],
)
def test_23_malformed_basic(house: House, way: Way, value: str) -> None:
    data = way.request("/hostile", f"{way.credentials}: {value}", credentials=False)
    answer = house.ask(way, data)
    assert answer.status in (400, 401, 407), answer
    assert house.seen() == []


def test_23_megabyte_of_basic(house: House, way: Way) -> None:
    value = encoded(b"alice:" + b"x" * 1_000_000)
    refused = way.request("/hostile", f"{way.credentials}: {value}", credentials=False)
    house.refuse(way, refused, (400, 401, 407, 431))


# --- 24 -----------------------------------------------------------------------------------


def anonymous(wire: bytes) -> bytes:
    """An answer without what is different in each: its id and its date."""
    wire = re.sub(rb"date: [^\r]*", b"date: -", wire)
    wire = re.sub(rb"x-request-id: [0-9a-f]{32}", b"x-request-id: -", wire)
    return re.sub(rb'"request_id": "[0-9a-f]{32}"', b'"request_id": "-"', wire)


def test_24_unknown_user_and_wrong_password(house: House, way: Way) -> None:
    wires = []
    for user in ("alice", "nobody", "root", "ops"):
        value = basic(user, "wrong")
        fields = (f"{way.credentials}: {value}", "Connection: close")
        with way.connect() as client:
            client.send(way.request("/hostile", *fields, credentials=False))
            wires.append(anonymous(client.rest()))
    assert wires[0].startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 407 "))
    assert len(set(wires)) == 1, wires


# --- 25 -----------------------------------------------------------------------------------


def test_25_wrong_passwords_do_not_stop_the_others(house: House) -> None:
    """While more wrong passwords wait than will ever be checked, others are served.

    Who is known already, who needs no password, and who comes from elsewhere with a right one.
    """
    slow = Way(house.gateway.address, "/slow", "gateway.test", "Authorization")
    ended = threading.Event()
    statuses: list[int] = []

    def flood(number: int) -> None:
        with slow.connect() as client:
            count = 0
            while not ended.is_set():
                count += 1
                value = basic("alice", f"{number} {count}")
                client.send(slow.request("/hostile", f"Authorization: {value}", credentials=False))
                statuses.append(client.answer().status)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    try:
        with house.gateway.connect() as client:
            for _ in range(20):
                client.send(house.gateway.request("/good"))
                assert client.answer().status == 200
        with Client(slow.address, source="127.9.9.9") as client:
            right = f"Authorization: {basic('ops', 'slowly')}"
            client.send(slow.request("/good", right, credentials=False))
            assert client.answer().status == 200
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(statuses) <= {401, 503}
    assert 401 in statuses


def test_25_connections_that_do_not_wait_for_the_verdict(house: House) -> None:
    """The work that nobody waits for any more does not hold up what comes after it."""
    slow = Way(house.gateway.address, "/slow", "gateway.test", "Authorization")
    for number in range(200):
        with slow.connect() as client:
            value = basic("alice", f"gone {number}")
            client.send(slow.request("/hostile", f"Authorization: {value}", credentials=False))
            client.socket.shutdown(socket.SHUT_RDWR)
    assert house.ask(house.gateway, house.gateway.request("/good")).status == 200
