from __future__ import annotations

import ipaddress
import socket

import pytest

from gatekeeper.net.addresses import Reach, embedded, is_local, parse_address, reach_of

PUBLIC = [
    "8.8.8.8",
    "1.0.0.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:200::",
    "::ffff:8.8.8.8",
]
PRIVATE = [
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "255.255.255.254",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001:2::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
]
RESTRICTED = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
]


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        *((text, Reach.PUBLIC) for text in PUBLIC),
        *((text, Reach.PRIVATE) for text in PRIVATE),
        *((text, Reach.RESTRICTED) for text in RESTRICTED),
    ],
)
def test_reach(text: str, reach: Reach) -> None:
    assert reach_of(parse_address(text)) is reach


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2002:7f00:1::", ["127.0.0.1"]),
        ("2002:a00:1:1:2:3:4:5", ["10.0.0.1"]),
        ("64:ff9b::a9fe:a9fe", ["169.254.169.254"]),
        ("64:ff9b::8.8.8.8", ["8.8.8.8"]),
        # Teredo: the server, and the client with its bits turned over.
        ("2001:0:0a00:1::f5ff:fffd", ["10.0.0.1", "10.0.0.2"]),
        ("::10.0.0.1", ["10.0.0.1"]),
        ("::", []),
        ("::1", []),
        ("2606:4700:4700::1111", []),
        ("8.8.8.8", []),
    ],
)
def test_embedded(text: str, inside: list[str]) -> None:
    assert [str(address) for address in embedded(parse_address(text))] == inside


def test_a_mapped_address_is_an_ipv4_address() -> None:
    assert parse_address("::ffff:1.2.3.4") == ipaddress.IPv4Address("1.2.3.4")


def test_a_scope_does_not_matter() -> None:
    assert parse_address("fe80::1%eth0") == parse_address("fe80::1")


class TestLocal:
    def test_the_loopback(self) -> None:
        assert is_local(parse_address("127.0.0.1"))

    def test_the_interface_that_leads_elsewhere(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("198.51.100.1", 9))
            except OSError:
                own = "127.0.0.1"  # there is no other interface
            else:
                own = probe.getsockname()[0]
        assert is_local(parse_address(own))

    @pytest.mark.parametrize("text", ["198.51.100.1", "2001:db8::1", "255.255.255.255"])
    def test_elsewhere(self, text: str) -> None:
        assert not is_local(parse_address(text))

    def test_yes_where_it_cannot_be_found_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(*_: object) -> socket.socket:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(socket, "socket", exhausted)
        assert is_local(parse_address("198.51.100.1"))
