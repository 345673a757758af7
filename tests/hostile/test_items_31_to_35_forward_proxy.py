"""The forward proxy: where its clients may go, and when a tunnel ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, free_port, wait_until
from tests.hostile.house import ALICE, House, Way
from tests.hostile.raw import Answer, Client
from tests.origin import Conversation, Origin, silent

TUNNEL_IDLE = 1.0

#: ``*`` lets nobody go to an address that is not public, whatever the port.
MORE = f"""
[timeouts]
tunnel = {TUNNEL_IDLE}

[[listeners]]
name = "wide"
role = "forward"
bind = "@wide@"
checkers = ["users"]
allow = ["*:*"]

[[listeners]]
name = "selfish"
role = "forward"
bind = "@selfish@"
checkers = ["users"]
allow = ["127.0.0.1:*", "localhost:*", "*:80"]

[[services]]
name = "loop"
from = "/loop"
to = "http://@gateway@/loop"
checkers = []
listeners = ["gateway"]
"""


@pytest.fixture(scope="module")
def forbidden() -> Iterator[Origin]:
    """Somebody on this machine, whom no rule names."""
    with Origin() as origin:
        yield origin


def absolute(house: House, listener: str, authority: str, path: str = "/hostile") -> Answer:
    with Client(house.daemon.address(listener)) as client:
        client.send(
            f"GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n"
            f"Proxy-Authorization: {ALICE}\r\n\r\n".encode()
        )
        return client.answer()


def tunnel(house: House, listener: str, authority: str) -> tuple[Client, Answer]:
    client = Client(house.daemon.address(listener))
    client.send(
        f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        f"Proxy-Authorization: {ALICE}\r\n\r\n".encode()
    )
    return client, client.answer("CONNECT")


def connect(house: House, listener: str, authority: str) -> Answer:
    client, answer = tunnel(house, listener, authority)
    client.socket.close()
    return answer


# --- 31, 32 -------------------------------------------------------------------------------

LOOPBACK = [
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "2130706433",
    "127.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_31_loopback(house: House, forbidden: Origin, host: str) -> None:
    authority = f"{host}:{forbidden.port}"
    assert absolute(house, "wide", authority).status == 403
    assert connect(house, "wide", authority).status == 403
    assert forbidden.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "0xa9fea9fe",
        "2852039166",
    ],
)
def test_31_private_link_local_and_metadata(house: House, host: str) -> None:
    assert absolute(house, "wide", host).status == 403
    assert connect(house, "wide", f"{host}:443").status == 403


@pytest.mark.parametrize("listener", ["gateway", "strict", "proxy", "management", "selfish"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.3", "[::ffff:127.0.0.1]"])
def test_31_our_own_listeners(house: House, listener: str, host: str) -> None:
    """Even where a rule names the address, but not the port."""
    authority = f"{host}:{house.daemon.port(listener)}"
    assert absolute(house, "selfish", authority).status == 403
    assert connect(house, "selfish", authority).status == 403


def test_31_what_is_configured_is_allowed(house: House, forbidden: Origin) -> None:
    authority = f"127.0.0.1:{house.origin.port}"
    assert absolute(house, "proxy", authority, "/good").status == 200
    assert connect(house, "proxy", authority).status == 200
    assert absolute(house, "proxy", f"127.0.0.1:{forbidden.port}").status == 403


def test_31_nobody_without_credentials_learns_what_is_allowed(house: House) -> None:
    for target in (f"127.0.0.1:{house.origin.port}", "127.0.0.1:1", "nowhere.invalid:443"):
        data = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
        answer = house.ask(house.proxy, data, "CONNECT")
        assert answer.status == 407
        assert answer.values("proxy-authenticate")


@pytest.mark.parametrize("host", ["localhost", "localhost."])
def test_32_every_address_of_a_name_is_checked(house: House, forbidden: Origin, host: str) -> None:
    """Both that ``localhost`` has; named, it is what the operator vouches for."""
    authority = f"{host}:{forbidden.port}"
    forbidden.requests.clear()
    assert absolute(house, "wide", authority).status == 403
    assert forbidden.requests == []
    assert absolute(house, "selfish", authority, "/good").status == 200
    assert forbidden.paths == ["/good"]


# --- 33 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("authority", ["192.88.98.1:25", "smtp.invalid:25", "127.0.0.1:22"])
def test_33_ports_outside_of_the_policy(house: House, authority: str) -> None:
    assert absolute(house, "proxy", authority).status == 403
    assert connect(house, "proxy", authority).status == 403


def test_33_refused_exchanges_are_nobodys_usage(house: House) -> None:
    answer = connect(house, "proxy", "smtp.invalid:25")
    logged = house.logged(answer)
    assert logged["reason"] == "destination_not_allowed"
    assert logged["user"] == "alice"


# --- 34 -----------------------------------------------------------------------------------


def test_34_loop_of_our_own(house: House) -> None:
    way = Way(house.gateway.address, "/loop", "gateway.test", "Authorization")
    answer = house.ask(way, way.request("/x", credentials=False))
    assert answer.status == 508
    paths = [line for line in house.daemon.access_log() if line["path"].startswith("/loop")]
    assert len(paths) <= 2


def test_34_our_own_via(house: House, way: Way) -> None:
    (via,) = house.ask(way, way.request("/good")).values("via")
    for value in (via, f"1.0 other, {via}", f"{via}, 1.1 other", via.replace("1.1", "HTTP/1.1")):
        assert house.ask(way, way.request("/hostile", f"Via: {value}")).status == 508
    twice = house.ask(way, way.request("/hostile", "Via: 1.1 other", f"Via: {via}"))
    assert twice.status == 508
    assert house.ask(way, way.request("/good", "Via: 1.1 other")).status == 200
    assert all("hostile" not in request.path for request in house.seen())


# --- 35 -----------------------------------------------------------------------------------


def own_tunnel(house: House) -> Client:
    client, answer = tunnel(house, "proxy", f"127.0.0.1:{house.origin.port}")
    assert answer.status == 200
    return client


def tunnel_end(daemon: Daemon) -> str:
    """Why the last tunnel ended, as the access log has it."""
    connects = [line for line in daemon.access_log() if line["method"] == "CONNECT"]
    reason: str = connects[-1]["reason"]
    return reason


def count_tunnels(daemon: Daemon) -> int:
    lines = daemon.access_log()
    return sum(line["method"] == "CONNECT" and line["status"] == 200 for line in lines)


@pytest.fixture
def ended(house: House) -> Iterator[None]:
    """The tunnel that the test opens is in the access log when it is over."""
    before = count_tunnels(house.daemon)
    yield
    wait_until(lambda: count_tunnels(house.daemon) == before + 1, "the tunnel is logged")


def test_35_idle_tunnel(house: House) -> None:
    before = count_tunnels(house.daemon)
    with own_tunnel(house) as client:
        began = time.monotonic()
        assert client.rest() == b""
        assert time.monotonic() - began > TUNNEL_IDLE / 2
    wait_until(lambda: count_tunnels(house.daemon) == before + 1, "the tunnel is logged")
    assert tunnel_end(house.daemon) == "tunnel_idle"


def test_35_half_open_tunnel_goes_on(house: House, ended: None) -> None:
    """A client that has said all still gets the answer."""

    def until_the_end(conversation: Conversation) -> None:
        received = conversation.read(1 << 20)
        conversation.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d" % len(received))
        conversation.close()

    house.origin.on["/half"] = until_the_end
    with own_tunnel(house) as client:
        client.send(b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 1000)
        client.socket.shutdown(1)
        assert client.answer().body == b"1000"


def test_35_half_open_tunnel_ends(house: House) -> None:
    """A client that has said all, and an upstream that never says anything."""
    ended = threading.Event()
    house.origin.on["/silent"] = silent(ended)
    before = count_tunnels(house.daemon)
    try:
        with own_tunnel(house) as client:
            client.send(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
            client.socket.shutdown(1)
            assert client.rest() == b""
        wait_until(lambda: count_tunnels(house.daemon) == before + 1, "the tunnel is logged")
        assert tunnel_end(house.daemon) == "tunnel_idle"
    finally:
        ended.set()


def test_35_tunnel_whose_client_reads_nothing(house: House) -> None:
    """The bytes of a fast upstream are not kept, and the tunnel is cut."""
    cut = threading.Event()

    def endless(conversation: Conversation) -> None:
        try:
            while True:
                conversation.send(b"x" * 65536)
        finally:
            cut.set()

    house.origin.on["/endless"] = endless
    before = house.daemon.peak_memory
    with own_tunnel(house) as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert cut.wait(20)
    assert house.daemon.peak_memory - before < 32 * 1024 * 1024


def test_35_slow_tunnel_is_not_idle(house: House, ended: None) -> None:
    """Byte after byte, for longer than an idle tunnel may be."""
    with own_tunnel(house) as client:
        request = b"GET /slowly HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        pause = 2 * TUNNEL_IDLE / len(request)
        for position in range(len(request)):
            client.send(request[position : position + 1])
            time.sleep(pause)
        assert client.answer().document["target"] == "/slowly"


def test_35_upstream_that_resets(house: House, ended: None) -> None:
    house.origin.on["/reset"] = lambda conversation: conversation.reset()
    with own_tunnel(house) as client:
        client.send(b"GET /reset HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.rest() == b""


def test_35_nobody_listens(house: House) -> None:
    port = free_port()
    assert connect(house, "selfish", f"127.0.0.1:{port}").status == 502
    assert absolute(house, "selfish", f"127.0.0.1:{port}", "/good").status == 502
