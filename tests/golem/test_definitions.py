from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.definitions import (
    Certificate,
    Definition,
    certificate_hash,
    conflict,
    definition_json,
    made_up_name,
    read_definition,
)

SMALL: dict[str, Any] = {
    "name": "acme",
    "bindHttp": "127.0.0.1:80",
    "from": "/acme",
    "to": "http://127.0.0.1:10000",
}
FULL: dict[str, Any] = {
    "name": "acme",
    "description": "ACME service v1.42",
    "serverName": ["service.acme.com", "1.2.3.4"],
    "bindHttps": ["0.0.0.0:443", "[::]:443"],
    "bindHttp": ["0.0.0.0:80"],
    "cert": {"path": "/secure/server.cert", "keyPath": "/secure/server.key"},
    "from": "/acme",
    "to": "http://127.0.0.1:10000/v1",
    "auth": {"method": "basic"},
    "requestTimeout": 30_000,
    "responseTimeout": 1_500,
    "cpuThreads": 2,
    "offerProperties": {"a": [1, None, {"b": 2.5}]},
}
CERT = {"path": "/c.pem", "keyPath": "/k.pem"}


def read(**changes: Any) -> Definition:
    return read_definition(SMALL | changes)


def problems(raw: Any, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        read_definition(raw, **options)
    return [(path, message) for path, message in caught.value.problems]


class TestReading:
    def test_a_small_one(self) -> None:
        assert read_definition(SMALL) == Definition(
            "acme", "/acme", "http://127.0.0.1:10000", bind_http=("127.0.0.1:80",)
        )

    def test_every_field(self) -> None:
        assert read_definition(FULL) == Definition(
            name="acme",
            from_="/acme",
            to="http://127.0.0.1:10000/v1",
            description="ACME service v1.42",
            server_names=("service.acme.com", "1.2.3.4"),
            bind_https=("0.0.0.0:443", "[::]:443"),
            bind_http=("0.0.0.0:80",),
            certificate=Certificate("/secure/server.cert", "/secure/server.key"),
            request_timeout=30_000,
            response_timeout=1_500,
            cpu_threads=2,
            offer_properties={"a": [1, None, {"b": 2.5}]},
        )

    def test_what_is_written_reads_as_it_was(self) -> None:
        assert definition_json(read_definition(FULL)) == FULL
        again = definition_json(read_definition(SMALL))
        assert again == SMALL | {"bindHttp": ["127.0.0.1:80"], "auth": {"method": "basic"}}

    def test_null_is_as_good_as_nothing(self) -> None:
        """As a program sends it that fills in every field."""
        optional = dict.fromkeys([*(FULL.keys() - SMALL.keys()), "user"])
        assert read(**optional) == read()

    def test_bind_is_another_name(self) -> None:
        assert read(bind="1.2.3.4:443", cert=CERT) == read(bindHttps="1.2.3.4:443", cert=CERT)

    def test_addresses_in_one_spelling(self) -> None:
        found = read(bindHttp=["localhost:80", "127.0.0.1:80", "[0:0::1]:080"]).bind_http
        assert found == ("127.0.0.1:80", "[::1]:80")

    @pytest.mark.parametrize(
        ("given", "meant"), [("/acme/", "/acme"), ("/", "/"), ("/a/b/", "/a/b")]
    )
    def test_a_slash_at_the_end_of_a_prefix(self, given: str, meant: str) -> None:
        assert read(**{"from": given}).from_ == meant

    def test_names_are_given_where_there_is_none(self) -> None:
        raw = {key: value for key, value in SMALL.items() if key != "name"}
        assert read_definition(raw, name="service-3").name == "service-3"
        assert read_definition(SMALL, name="service-3").name == "acme"

    def test_one_server_name(self) -> None:
        assert read(serverName="acme.com").server_names == ("acme.com",)

    def test_the_server_name_that_is_the_default(self) -> None:
        definition = read_definition(SMALL, server_names=("a.example", "b.example"))
        assert definition.server_names == ("a.example", "b.example")
        assert read_definition(SMALL).server_names == ()
        assert problems(SMALL | {"serverName": 1}, server_names=()) == [
            ("serverName", "must be a string")
        ]
        assert problems(SMALL, server_names=()) == [
            ("serverName", "is required, as the proxy has no default")
        ]

    def test_relative_paths(self, tmp_path: Path) -> None:
        cert = {"path": "tls/../c.pem", "keyPath": "/k.pem"}
        raw = SMALL | {"bindHttps": "1.2.3.4:443", "cert": cert}
        definition = read_definition(raw, base=tmp_path)
        assert definition.certificate == Certificate(f"{tmp_path}/c.pem", "/k.pem")
        assert problems(raw) == [("cert.path", "must be an absolute path")]

    def test_a_hash_that_comes_back(self) -> None:
        cert = CERT | {"hash": "sha3:00"}
        assert read(bindHttps="1.2.3.4:443", cert=cert) == read(bindHttps="1.2.3.4:443", cert=CERT)


class TestProblems:
    def test_all_of_them(self) -> None:
        raw = {"name": "a b", "bindHttp": ["x"], "cert": {"path": 1}, "auth": {"method": "digest"}}
        assert [path for path, _ in problems(raw)] == [
            "auth.method",
            "bindHttp[0]",
            "cert.keyPath",
            "cert.path",
            "from",
            "name",
            "to",
        ]

    @pytest.mark.parametrize("raw", [None, [], "x", 1])
    def test_no_object(self, raw: Any) -> None:
        assert problems(raw) == [("", "must be an object with the service's fields")]

    def test_missing_fields(self) -> None:
        assert problems({}) == [
            ("bindHttps", "is required, or `bindHttp`"),
            ("from", "is required"),
            ("name", "is required"),
            ("to", "is required"),
        ]

    def test_unknown_fields(self) -> None:
        assert problems(SMALL | {"bindHtps": "1.2.3.4:443", "zz": 1}) == [
            ("bindHtps", "unknown field; did you mean `bindHttps`?"),
            ("zz", "unknown field"),
        ]
        unknown = {"path": "/c", "keyPath": "/k", "keypath": "/k"}
        assert problems(SMALL | {"cert": unknown}) == [
            ("cert.keypath", "unknown field; did you mean `keyPath`?")
        ]

    def test_names_of_unknown_fields_that_harm(self) -> None:
        raw = SMALL | {"\x1b[2J": 1, "x" * 5000: 1}
        raw[True] = 1  # type: ignore[index] # as YAML has it
        paths = [path for path, _ in problems(raw)]
        assert paths == ['"\\u001b[2J"', "True", "x" * 100]

    def test_both_names_for_one_field(self) -> None:
        raw = SMALL | {"bind": "1.2.3.4:443", "bindHttps": "1.2.3.4:443", "cert": CERT}
        assert problems(raw) == [("bind", "is another name of `bindHttps`; keep one of them")]

    def test_https_without_a_certificate(self) -> None:
        assert problems(SMALL | {"bindHttps": "1.2.3.4:443"}) == [("cert", "is required for HTTPS")]

    def test_one_address_for_both(self) -> None:
        raw = SMALL | {"bindHttps": "127.0.0.1:80", "cert": CERT}
        assert problems(raw) == [("bindHttp", "`127.0.0.1:80` is for HTTPS already")]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""),
            ("name", "../acme"),
            ("name", 1),
            ("description", 1),
            ("serverName", []),
            ("serverName", ""),
            ("serverName", "a\nb"),
            ("serverName", 1),
            ("bindHttp", []),
            ("bindHttp", {}),
            ("bindHttp", "80"),
            ("bindHttp", "127.0.0.1"),
            ("bindHttp", "127.0.0.1:0"),
            ("bindHttp", "example.com:80"),
            ("cert", "/c.pem"),
            ("from", "acme"),
            ("from", "/a//b"),
            ("from", "/a/../b"),
            ("from", "/%61cme"),
            ("to", "127.0.0.1:80"),
            ("to", "grant"),
            ("to", "file:///etc/passwd"),
            ("to", "http://u:p@127.0.0.1/"),
            ("auth", "basic"),
            ("user", {}),
            ("requestTimeout", 0),
            ("requestTimeout", -1),
            ("requestTimeout", 1.5),
            ("requestTimeout", True),
            ("requestTimeout", "1000"),
            ("responseTimeout", 10**15),
            ("cpuThreads", 0),
            ("description", "\ud800"),
            ("offerProperties", {"a": ["\udfff"]}),
            ("offerProperties", {"\ud800": 1}),
            ("offerProperties", []),
            ("offerProperties", {1: 2}),
            ("offerProperties", {"a": float("nan")}),
            ("offerProperties", {"a": {"b": float("inf")}}),
            ("offerProperties", {"a": b"bytes"}),
            ("offerProperties", {"a": "x" * 300_000}),
        ],
    )
    def test_values_that_are_wrong(self, field: str, value: Any) -> None:
        ((path, message),) = problems(SMALL | {field: value})
        assert path == field
        assert message

    def test_properties_that_are_nested_too_deeply(self) -> None:
        inner: Any = {}
        for _ in range(10_000):
            inner = {"x": inner}
        ((path, message),) = problems(SMALL | {"offerProperties": inner})
        assert (path, message) == ("offerProperties", "must not be nested deeper than 16")

    def test_properties_that_grow(self) -> None:
        """A little YAML with aliases stands for a lot."""
        laughs: Any = ["ha"] * 10
        for _ in range(12):
            laughs = [laughs] * 10
        ((path, message),) = problems(SMALL | {"offerProperties": {"x": laughs}})
        assert path == "offerProperties"
        assert "larger than" in message


def test_made_up_names() -> None:
    assert made_up_name(set()) == "service-0"
    assert made_up_name({"service-0", "service-2"}) == "service-1"


class TestCertificateHash:
    def test_it_is_of_the_bytes(self, tmp_path: Path) -> None:
        file = tmp_path / "server.cert"
        file.write_bytes(b"")
        # FIPS 202's value for the empty message.
        assert certificate_hash(file) == (
            "sha3:a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
        )
        file.write_bytes(b"-----BEGIN\r\n\x00\xff")
        digest = hashlib.new("sha3_256", b"-----BEGIN\r\n\x00\xff").hexdigest()
        assert certificate_hash(str(file)) == f"sha3:{digest}"

    def test_a_device_is_none(self) -> None:
        with pytest.raises(ValueError, match="is larger than"):
            certificate_hash("/dev/zero")

    def test_it_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            certificate_hash(tmp_path / "missing")


class TestConflicts:
    BASE = read()

    @pytest.mark.parametrize(
        ("mine", "theirs", "meet"),
        [
            ("/acme", "/acme", True),
            ("/acme/x", "/acme", True),
            ("/acme", "/acme/x", True),
            ("/acme/", "/acme/x", True),
            ("/acme", "/acmeevil", False),
            ("/acmeevil", "/acme", False),
            ("/acme", "/other", False),
            ("/", "/acme", True),
            ("/acme", "/", True),
            ("/a/b", "/a/c", False),
        ],
    )
    def test_prefixes(self, mine: str, theirs: str, meet: bool) -> None:
        found = conflict(read(name="other", **{"from": mine}), read(**{"from": theirs}))
        assert (found is not None and found.path == "from") is meet

    def test_other_addresses_are_another_matter(self) -> None:
        assert conflict(read(name="other", bindHttp="127.0.0.1:81"), self.BASE) is None

    def test_one_address_of_several_is_enough(self) -> None:
        several = read(name="other", bindHttp=["127.0.0.1:81", "localhost:80"])
        assert conflict(several, self.BASE) == (
            "from",
            "overlaps with `/acme` of `acme` on `127.0.0.1:80`",
        )

    def test_names(self) -> None:
        found = conflict(read(bindHttp="127.0.0.1:81"), self.BASE)
        assert found == ("name", "there is a service `acme` already")

    def test_http_where_https_is(self) -> None:
        encrypted = read(name="other", bindHttp=None, bindHttps="127.0.0.1:80", cert=CERT)
        assert conflict(encrypted, self.BASE) == (
            "bindHttps",
            "`127.0.0.1:80` is for HTTP in `acme`",
        )
        assert conflict(self.BASE, encrypted) == (
            "bindHttp",
            "`127.0.0.1:80` is for HTTPS in `other`",
        )

    def test_two_certificates(self) -> None:
        one = read(bindHttps="1.2.3.4:443", cert=CERT)
        other = read(
            name="other",
            bindHttp=None,
            bindHttps="1.2.3.4:443",
            cert=CERT | {"path": "/d.pem"},
            **{"from": "/other"},
        )
        assert conflict(other, one) == ("cert", "`acme` has another one on `1.2.3.4:443`")
        assert conflict(other._replace(certificate=one.certificate), one) is None
