from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.config.destinations import parse_allow_rule
from gatekeeper.errors import Refusal
from gatekeeper.net.addresses import Address
from gatekeeper.net.destinations import DestinationPolicy

MALFORMED = "destination_malformed"
NOT_ALLOWED = "destination_not_allowed"
PRIVATE = "destination_private"
ANYWHERE = ("*:80", "*:443")


def make_policy(
    *rules: str, own: tuple[tuple[str, int], ...] = (), local: tuple[str, ...] = ()
) -> DestinationPolicy:
    """A policy on a machine whose interfaces have the addresses ``local``."""

    def is_local(address: Address) -> bool:
        return str(address) in local

    return DestinationPolicy(map(parse_allow_rule, rules), own, is_local)


def refused(check: Callable[..., str], *arguments: object) -> str | None:
    """The reason of the refusal, None where there is none."""
    try:
        check(*arguments)
    except Refusal as refusal:
        return refusal.reason if refusal.status == 403 else str(refusal.status)
    return None


class TestSpelling:
    @pytest.mark.parametrize(
        "host",
        [
            "",
            ".",
            "a..b",
            "a.b..",
            ".a",
            "a b",
            "a/b",
            "a:80",
            "a@b",
            "a%2eb",
            "a\x00b",
            "a\nb",
            "b\u00fccher.example",
            "\uff11\uff12\uff17.0.0.1",
            "a" * 64 + ".net",
            "a." * 127 + "a",
            "0x7f000001",
            "2130706433",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "0x7f.0.0.1",
            "127.0.0.0x1",
            "1.2.3.4.5",
            "256.1.1.1",
            "example.0x",
            "example.123",
            "[::1]:80",
            "::1::",
            "fe80::1%eth0",
            "1:2:3",
        ],
    )
    def test_malformed(self, host: str) -> None:
        assert refused(make_policy("*:*").check_name, host, 80) == MALFORMED

    @pytest.mark.parametrize("port", [-1, 0, 65536])
    def test_ports_that_are_none(self, port: int) -> None:
        assert refused(make_policy("*:*").check_name, "example.com", port) == MALFORMED

    @pytest.mark.parametrize(
        ("host", "canonical"),
        [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("my_host.example", "my_host.example"),
            ("8.8.8.8.", "8.8.8.8"),
            ("2606:4700:4700:0::1111", "2606:4700:4700::1111"),
            ("1e100.net", "1e100.net"),
        ],
    )
    def test_canonical(self, host: str, canonical: str) -> None:
        assert make_policy("*:*").check_name(host, 80) == canonical


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "host", "port", "reason"),
        [
            ("*:443", "example.com", 443, None),
            ("*:443", "example.com", 80, NOT_ALLOWED),
            ("*:443", "8.8.8.8", 443, None),
            ("*:443", "8.8.8.8", 22, NOT_ALLOWED),
            ("*:*", "example.com", 65535, None),
            ("api.example.com:443", "api.example.com", 443, None),
            ("api.example.com:443", "API.example.com.", 443, None),
            ("api.example.com:443", "api.example.com", 444, NOT_ALLOWED),
            ("api.example.com:443", "example.com", 443, NOT_ALLOWED),
            ("api.example.com:443", "x.api.example.com", 443, NOT_ALLOWED),
            ("*.example.com:443", "a.example.com", 443, None),
            ("*.example.com:443", "a.b.example.com", 443, None),
            ("*.example.com:443", "example.com", 443, NOT_ALLOWED),
            ("*.example.com:443", "evilexample.com", 443, NOT_ALLOWED),
            ("*.example.com:443", "a.example.com.evil.net", 443, NOT_ALLOWED),
            ("8.8.8.0/24:53", "8.8.8.8", 53, None),
            ("8.8.8.0/24:53", "8.8.9.8", 53, NOT_ALLOWED),
            ("8.8.8.0/24:53", "8.8.8.8", 54, NOT_ALLOWED),
            ("[2606:4700::/32]:443", "2606:4700::1", 443, None),
            ("[2606:4700::/32]:443", "8.8.8.8", 443, NOT_ALLOWED),
        ],
    )
    def test_host_and_port_must_fit_one_rule(
        self, rule: str, host: str, port: int, reason: str | None
    ) -> None:
        assert refused(make_policy(rule).check_name, host, port) == reason

    def test_host_and_port_of_different_rules_do_not_add_up(self) -> None:
        policy = make_policy("a.example:80", "b.example:443")
        assert refused(policy.check_name, "a.example", 443) == NOT_ALLOWED

    def test_a_name_may_turn_out_to_be_in_an_allowed_network(self) -> None:
        policy = make_policy("8.8.8.0/24:53")
        assert refused(policy.check_name, "dns.google", 53) is None
        assert refused(policy.check_address, "dns.google", 53, "8.8.8.8") is None
        assert refused(policy.check_address, "dns.google", 53, "8.8.4.4") == NOT_ALLOWED
        assert refused(policy.check_name, "dns.google", 443) == NOT_ALLOWED

    def test_without_rules_there_is_nowhere_to_go(self) -> None:
        assert refused(make_policy().check_name, "example.com", 443) == NOT_ALLOWED

    def test_the_address_comes_back(self) -> None:
        assert make_policy("*:80").check_address("a.net", 80, "8.8.8.8") == "8.8.8.8"

    def test_the_answer_names_the_setting_and_no_address(self) -> None:
        with pytest.raises(Refusal) as caught:
            make_policy("*:80").check_address("a.net", 80, "10.1.2.3")
        assert "`allow`" in caught.value.detail
        assert "10.1.2.3" not in caught.value.detail


INTERNAL = [
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "10.0.0.1",
    "100.64.0.1",
    "192.168.0.1",
    "fd00::1",
    "203.0.113.9",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::80ff:fffe",
    "::127.0.0.1",
]
NEVER_BY_NAME = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fe80::1%2",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "168.63.129.16",
    "fd00:ec2::254",
]


class TestAddressesThatAreNotPublic:
    @pytest.mark.parametrize("ip", INTERNAL + NEVER_BY_NAME)
    def test_anywhere_does_not_mean_here(self, ip: str) -> None:
        assert refused(make_policy("*:*").check_address, "a.net", 80, ip) == PRIVATE

    @pytest.mark.parametrize("ip", [ip for ip in INTERNAL + NEVER_BY_NAME if "%" not in ip])
    def test_nor_when_asked_for_as_they_are(self, ip: str) -> None:
        assert refused(make_policy("*:*").check_name, ip, 80) == PRIVATE

    @pytest.mark.parametrize("rule", ["db.corp.example:80", "*.corp.example:80"])
    @pytest.mark.parametrize("ip", INTERNAL)
    def test_the_operator_vouches_for_names(self, rule: str, ip: str) -> None:
        policy = make_policy(rule, "*:443")
        assert refused(policy.check_address, "db.corp.example", 80, ip) is None
        assert refused(policy.check_address, "db.corp.example", 443, ip) == PRIVATE
        assert refused(policy.check_address, "other.example", 443, ip) == PRIVATE

    @pytest.mark.parametrize("ip", NEVER_BY_NAME)
    def test_but_not_for_these(self, ip: str) -> None:
        policy = make_policy("db.corp.example:80")
        assert refused(policy.check_address, "db.corp.example", 80, ip) == PRIVATE

    @pytest.mark.parametrize(
        ("rule", "ip"),
        [
            ("127.0.0.1:80", "127.0.0.1"),
            ("127.0.0.0/8:80", "127.9.9.9"),
            ("127.0.0.1:80", "::ffff:127.0.0.1"),
            ("[::1]:80", "::1"),
            ("169.254.169.254:80", "169.254.169.254"),
            ("169.254.0.0/16:80", "169.254.169.254"),
            ("[fe80::/10]:80", "fe80::1%2"),
            ("0.0.0.0:80", "0.0.0.0"),
            ("224.0.0.1:80", "224.0.0.1"),
        ],
    )
    def test_a_network_or_address_opens_what_it_contains(self, rule: str, ip: str) -> None:
        policy = make_policy(rule, "*:*")
        assert refused(policy.check_address, "a.net", 80, ip) is None
        assert refused(policy.check_address, "a.net", 81, ip) == PRIVATE

    def test_what_is_inside_must_be_allowed_by_itself(self) -> None:
        rules = ("[64:ff9b::/96]:80", "10.0.0.0/8:80", "*:80")
        policy = make_policy(*rules)
        assert refused(policy.check_address, "a.net", 80, "64:ff9b::8.8.8.8") is None
        assert refused(policy.check_address, "a.net", 80, "64:ff9b::10.0.0.1") is None
        assert refused(policy.check_address, "a.net", 80, "64:ff9b::192.168.0.1") == PRIVATE

    @pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST"])
    def test_localhost_is_a_name_like_others(self, host: str) -> None:
        policy = make_policy("*:80")
        name = policy.check_name(host, 80)
        assert refused(policy.check_address, name, 80, "127.0.0.1") == PRIVATE


class TestOurOwnListeners:
    OWN = (("127.0.0.1", 3128), ("0.0.0.0", 443), ("::", 8443), ("10.0.0.1", 8080))
    LOCAL = ("10.0.0.1", "203.0.113.7", "2606:4700::7", "8.8.8.7")

    def refused(self, ip: str, port: int, *rules: str) -> str | None:
        policy = make_policy(*rules, own=self.OWN, local=self.LOCAL)
        return refused(policy.check_address, "a.corp.example", port, ip)

    @pytest.mark.parametrize(
        ("ip", "port"),
        [
            ("127.0.0.1", 3128),
            ("127.0.0.2", 3128),
            ("::1", 3128),
            ("::ffff:127.0.0.1", 3128),
            ("64:ff9b::7f00:1", 3128),
            ("0.0.0.0", 3128),
            ("10.0.0.1", 8080),
            ("8.8.8.7", 443),
            ("127.0.0.1", 443),
            ("127.1.2.3", 443),
            ("::1", 443),
            ("2606:4700::7", 8443),
            ("8.8.8.7", 8443),
            ("2002:808:807::", 443),
        ],
    )
    def test_no_way_there(self, ip: str, port: int) -> None:
        rules = ("*:*", "*.corp.example:*", "0.0.0.0/0:*", "[::/0]:*", "127.0.0.1:*")
        assert self.refused(ip, port, *rules) == PRIVATE

    @pytest.mark.parametrize(
        ("ip", "port"), [("8.8.8.8", 443), ("8.8.8.7", 80), ("10.0.0.1", 3128), ("10.0.0.2", 8080)]
    )
    def test_other_addresses_and_ports_are_others(self, ip: str, port: int) -> None:
        assert self.refused(ip, port, "*.corp.example:*") is None

    @pytest.mark.parametrize(
        ("rule", "ip", "port"),
        [
            ("127.0.0.1:3128", "127.0.0.1", 3128),
            ("127.0.0.1:3128", "::ffff:127.0.0.1", 3128),
            ("[::1]:3128", "::1", 3128),
            ("8.8.8.7:443", "8.8.8.7", 443),
        ],
    )
    def test_just_this_address_and_port_may_be_allowed(self, rule: str, ip: str, port: int) -> None:
        assert self.refused(ip, port, rule) is None
