"""The request's head as it goes upstream: what is removed, and what we say ourselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatekeeper.auth.interfaces import Grant, Opened
from tests.memory import Message
from tests.world import (
    CLIENT,
    GATEWAY,
    GUARDED,
    VIA,
    World,
    guarded_world,
    public_world,
    worlds,
)

world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

TRUSTING = GATEWAY | {"trusted_peers": ["198.51.100.0/24", "2001:db8::/32"]}


def get(*fields: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"host: shop.example", *fields))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)


def forwarded(
    world: World, request: bytes, listener: str = "public", peer: str = CLIENT
) -> Message:
    """What goes upstream for a request."""
    world.connect(listener, peer).sends(request)
    return world.upstream().message()


class TestWhatIsRemoved:
    @pytest.mark.parametrize(
        "field",
        [
            b"X-Forwarded-User: root",
            b"x_forwarded_user: root",
            b"X-Forwarded_User: root",
            b"X-FORWARDED-GROUPS: wheel",
            b"x-sf-user-id: 1",
            b"X_SF_USER_ID: 1",
            b"nvm-user: 1",
            b"NVM_User: 1",
            b"Remote-User: root",
            b"REMOTE_USER: root",
            b"X-Real-IP: 127.0.0.1",
            b"x_real_ip: 127.0.0.1",
            b"Forwarded: for=127.0.0.1",
            b"X-Authkey: key",
            b"X-UserInfo: root",
            b"X_Trace_Id: 1",
            b"X_Request_Id: 1",
            b"Proxy-Authorization: Basic eDp5",
            b"PROXY_AUTHORIZATION: Basic eDp5",
            b"Proxy-Connection: keep-alive",
            b"Keep-Alive: timeout=5",
            b"Content_Length: 5",
            b"Transfer_Encoding: chunked",
            b"HTTP2-Settings: AAMA",
            b"Upgrade: websocket",
            b"TE: trailers",
            b"Trailer: x",
            b"X-Forwarded-: 1",
        ],
    )
    def test_identity_forwarding_and_hop_by_hop_fields(self, world: World, field: bytes) -> None:
        request = forwarded(world, get(field, b"x-kept: yes"))
        name, _, value = field.partition(b": ")
        assert request.values(name) == request.values(name.upper()) == []
        assert value not in [value for _, value in request.fields]
        assert request.names() == {
            b"host",
            b"x-kept",
            b"x-forwarded-for",
            b"x-forwarded-proto",
            b"x-forwarded-host",
            b"x-request-id",
            b"traceparent",
            b"via",
        }

    def test_what_connection_names(self, world: World) -> None:
        request = forwarded(
            world,
            get(b"connection: X-Hop, close", b"x-hop: 1", b"connection: x-other", b"X-Other: 2"),
        )
        names = {name.lower() for name in request.names()}
        assert names.isdisjoint({b"x-hop", b"x-other", b"connection"})

    def test_but_not_what_we_say_ourselves(self, guarded: World) -> None:
        request = forwarded(
            guarded,
            get(
                b"authorization: Basic eDp5",
                b"connection: authorization, x-forwarded-user, x-forwarded-for, via, host, "
                b"x-request-id",
            ),
        )
        assert guarded.gate.asked[0].presented == b"Basic eDp5"
        assert request.values(b"x-forwarded-user") == [b"alice"]
        assert request.values(b"x-forwarded-for") == [CLIENT.encode()]
        assert request.values(b"host") == [b"origin.example"]
        assert request.values(b"via") == [VIA]
        assert request.values(b"x-request-id") == [b"%032x" % 1]


class TestWhatIsAdded:
    def test_from_nobody_trusted(self, world: World) -> None:
        request = forwarded(
            world,
            get(
                b"X-Forwarded-For: 192.0.2.66",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-Host: evil.example",
                b"X-Real-IP: 192.0.2.66",
            ),
        )
        assert request.values(b"x-forwarded-for") == [CLIENT.encode()]
        assert request.values(b"x-forwarded-proto") == [b"http"]
        assert request.values(b"x-forwarded-host") == [b"shop.example"]
        assert world.log.entries == []

    def test_from_a_trusted_peer(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[TRUSTING])
        request = forwarded(
            world,
            get(
                b"X-Forwarded-For: 192.0.2.66",
                b"X-Forwarded-For: 192.0.2.67",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-Host: outside.example",
            ),
        )
        assert request.values(b"x-forwarded-for") == [b"192.0.2.66, 192.0.2.67, " + CLIENT.encode()]
        assert request.values(b"x-forwarded-proto") == [b"https"]
        assert request.values(b"x-forwarded-host") == [b"outside.example"]

    def test_what_a_trusted_peer_cannot_mean(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[TRUSTING])
        request = forwarded(
            world,
            get(
                b"X-Forwarded-Proto: gopher",
                b"X-Forwarded-Host: a",
                b"X-Forwarded-Host: b",
            ),
        )
        assert request.values(b"x-forwarded-for") == [CLIENT.encode()]
        assert request.values(b"x-forwarded-proto") == [b"http"]
        assert request.values(b"x-forwarded-host") == [b"shop.example"]

    def test_somebody_else_is_not_trusted_there(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[TRUSTING])
        request = forwarded(world, get(b"X-Forwarded-For: 192.0.2.66"), peer="203.0.113.9")
        assert request.values(b"x-forwarded-for") == [b"203.0.113.9"]

    @pytest.mark.parametrize(
        "given",
        [
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be",
        ],
    )
    def test_a_trace_goes_on(self, world: World, given: bytes) -> None:
        request = forwarded(world, get(b"traceparent: " + given, b"tracestate: a=b"))
        assert request.values(b"traceparent") == [given]
        assert request.values(b"tracestate") == [b"a=b"]

    @pytest.mark.parametrize(
        "given",
        [
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"nonsense",
            b"",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ],
    )
    def test_or_a_new_one_begins(self, world: World, given: bytes) -> None:
        request = forwarded(world, get(b"traceparent: " + given))
        assert request.values(b"traceparent") == [b"00-%032x-%016x-00" % (1, 1)]

    def test_via_of_others_stays(self, world: World) -> None:
        request = forwarded(world, get(b"via: 1.0 fred", b"via: 1.1 gatekeeper-other"))
        assert request.values(b"via") == [b"1.0 fred", b"1.1 gatekeeper-other", VIA]


class TestClientAddress:
    @pytest.mark.parametrize(
        ("fields", "address"),
        [
            ((), CLIENT),
            ((b"x-real-ip: 192.0.2.66",), "192.0.2.66"),
            ((b"x-real-ip: 192.0.2.66", b"x-forwarded-for: 192.0.2.1"), "192.0.2.66"),
            ((b"x-real-ip: 2001:DB8::1",), "2001:db8::1"),
            ((b"x-real-ip: a", b"x-forwarded-for: 192.0.2.1"), "192.0.2.1"),
            ((b"x-real-ip: 192.0.2.66", b"x-real-ip: 192.0.2.67"), CLIENT),
            ((b"x-forwarded-for: 192.0.2.1",), "192.0.2.1"),
            ((b"x-forwarded-for: 192.0.2.1, 192.0.2.2",), "192.0.2.1"),
            ((b"x-forwarded-for: 192.0.2.1", b"x-forwarded-for: 192.0.2.2"), "192.0.2.1"),
            ((b"x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3",), "192.0.2.2"),
            ((b"x-forwarded-for: 1.1.1.1, 192.0.2.1, 192.0.2.2, 192.0.2.3",), "192.0.2.2"),
            ((b"x-forwarded-for: unknown",), CLIENT),
            ((b"x-forwarded-for: 192.0.2.1:80",), CLIENT),
            ((b"x-forwarded-for: \xff",), CLIENT),
            ((b"x-forwarded-for: , ",), CLIENT),
        ],
    )
    def test_as_a_trusted_peer_tells_it(
        self, make_world: MakeWorld, fields: tuple[bytes, ...], address: str
    ) -> None:
        world = make_world(listeners=[TRUSTING], services=[GUARDED])
        world.gate.answer = Grant(user="alice", real_ip=True)
        client = world.connect()
        client.sends(get(*fields))
        (asked,) = world.gate.asked
        assert (asked.peer, asked.client, asked.peer_trusted) == (CLIENT, address, True)
        upstream = world.upstream()
        assert upstream.message().values(b"x-real-ip") == [address.encode()]
        upstream.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert world.entry.client == address

    def test_others_are_who_they_are(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[TRUSTING], services=[GUARDED])
        world.connect(peer="203.0.113.9").sends(get(b"x-real-ip: 192.0.2.66"))
        (asked,) = world.gate.asked
        assert (asked.client, asked.peer_trusted) == ("203.0.113.9", False)
        assert b"x-real-ip" not in world.upstream().message().names()

    @pytest.mark.parametrize(
        ("peer", "trusted"),
        [("::ffff:198.51.100.7", True), ("2001:db8::7", True), ("2001:db9::7", False)],
    )
    def test_peers_of_either_family(self, make_world: MakeWorld, peer: str, trusted: bool) -> None:
        world = make_world(listeners=[TRUSTING], services=[GUARDED])
        world.connect(peer=peer).sends(get())
        assert world.gate.asked[0].peer_trusted is trusted


class TestWhatAGrantDecides:
    def test_the_upstream_is_asked_for_the_host_that_it_opens(self, guarded: World) -> None:
        class Elsewhere:
            def find(self, host: str, port: int | None, path: bytes) -> Opened | None:
                assert (host, port, path) == ("shop.example", None, b"/a")
                return Opened("https", "api.example.com", 443, b"Bearer upstream")

        guarded.gate.answer = Grant(user="alice", opens=Elsewhere())
        sent = forwarded(guarded, get(b"authorization: Bearer ours", target=b"/a"))
        assert sent.values(b"host") == [b"api.example.com"]
        assert sent.values(b"authorization") == [b"Bearer upstream"]

    def test_its_fields_do_not_come_as_trailers(self, guarded: World) -> None:
        guarded.gate.answer = Grant(user="alice", headers=((b"x-api-user", b"alice"),))
        chunked = get(b"transfer-encoding: chunked", method=b"POST")
        body = b"1\r\na\r\n0\r\nx_api_user: root\r\nx-sum: 1\r\n\r\n"
        guarded.connect().sends(chunked + body)
        sent = guarded.upstream().received()
        assert b"x-api-user: alice\r\n" in sent
        assert b"root" not in sent
        assert sent.endswith(b"0\r\nx-sum: 1\r\n\r\n")

    @pytest.mark.parametrize(
        "grant",
        [
            {"user": "a\r\nx-admin: 1"},
            {"user": "\ud800"},
            {"headers": ((b"x-a", b"1\n"),)},
            {"headers": ((b"x a", b"1"),)},
            {"authorization": b"Bearer a\r\nx: y"},
        ],
    )
    def test_what_cannot_stand_in_a_field_is_no_grant(self, grant: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"field|surrogates"):
            Grant(**grant)


def test_any_web_page_may_read_it(make_world: MakeWorld) -> None:
    world = make_world(services=[GUARDED | {"cors": True, "checkers": []}])
    client = world.connect()
    client.sends(get())
    world.upstream().sends(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    answer = client.message()
    assert answer.values(b"access-control-allow-origin") == [b"*"]
    exposed = answer.values(b"access-control-expose-headers")
    assert exposed == [b"Authorization,NVMCreditsConsumed"]
