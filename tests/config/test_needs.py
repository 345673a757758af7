"""Checkers that are of use only on listeners that have something."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError

CHECKERS = """
[checkers.plain]
type = "exchange"
url = "http://127.0.0.1:8000/auth"

[checkers.original]
type = "exchange"
url = "http://127.0.0.1:8000/auth"
credential = ["remote-user", "x-forwarded-for", "user-agent"]

[checkers.mtls]
type = "client-certificate"
"""


class Directory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str) -> Settings:
        file = self.path / "gatekeeper.toml"
        file.write_text(f'state_dir = "state"\n{text}\n{CHECKERS}')
        return load(file, checker_types(), environ={})

    def problems(self, text: str) -> list[tuple[str, str]]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text)
        return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "ca.pem").touch()
    return Directory(tmp_path)


def gateway(name: str, more: str = "") -> str:
    return f'[[listeners]]\nname = "{name}"\nrole = "gateway"\nbind = "127.0.0.1:0"\n{more}\n'


def forward(checkers: str, more: str = "") -> str:
    return (
        '[[listeners]]\nname = "proxy"\nrole = "forward"\nbind = "127.0.0.1:0"\n'
        f"checkers = {checkers}\n{more}\n"
    )


def service(checkers: str, more: str = "") -> str:
    return (
        f'[[services]]\nname = "acme"\nto = "http://127.0.0.1:1"\ncheckers = {checkers}\n{more}\n'
    )


TRUSTED = 'trusted_peers = ["127.0.0.1"]'
ASKS = 'tls = { self_signed = true, client_ca = "ca.pem" }'
TLS = "tls = { self_signed = true }"


class TestTrustedPeers:
    def test_authorization_needs_none(self, directory: Directory) -> None:
        directory.load(gateway("a") + service('["plain"]'))

    def test_a_gateway_that_has_them(self, directory: Directory) -> None:
        directory.load(gateway("a", TRUSTED) + service('["original"]'))

    def test_every_gateway_must_have_them(self, directory: Directory) -> None:
        text = gateway("a", TRUSTED) + gateway("b")
        assert directory.problems(text + service('["plain", "original"]')) == [
            (
                "services[0].checkers[1]",
                "`original` needs `trusted_peers` in listeners[1] (`b`)",
            )
        ]
        directory.load(text + service('["original"]', 'listeners = ["a"]'))

    def test_a_forward_proxy(self, directory: Directory) -> None:
        directory.load(forward('["original"]', TRUSTED))
        assert directory.problems(forward('["plain", "original", "trust://"]')) == [
            ("listeners[0].checkers[1]", "`original` needs `trusted_peers`"),
            ("listeners[0].checkers[2]", "`trust://` needs `trusted_peers`"),
        ]


class TestClientCertificates:
    def test_one_gateway_must_ask(self, directory: Directory) -> None:
        directory.load(gateway("a") + gateway("b", ASKS) + service('["mtls"]'))

    @pytest.mark.parametrize("tls", ["", TLS])
    def test_nobody_asks(self, directory: Directory, tls: str) -> None:
        problem = (
            "services[0].checkers[1]",
            "`mtls` needs `tls.client_ca` in a listener of this service",
        )
        checkers = '["plain", "mtls"]'
        assert directory.problems(gateway("a", tls) + service(checkers)) == [problem]
        both = gateway("a", tls) + gateway("b", ASKS)
        assert directory.problems(both + service(checkers, 'listeners = ["a"]')) == [problem]

    def test_a_forward_proxy(self, directory: Directory) -> None:
        directory.load(forward('["mtls"]', ASKS))
        assert directory.problems(forward('["mtls"]')) == [
            ("listeners[0].checkers[0]", "`mtls` needs `tls.client_ca`")
        ]

    def test_a_listener_that_cannot_be_read_may_be_the_one(self, directory: Directory) -> None:
        text = gateway("a") + gateway("b", "tls = 1") + service('["mtls"]')
        assert [path for path, _ in directory.problems(text)] == ["listeners[1].tls"]


class TestAuthorities:
    def test_required_by_default(self, directory: Directory) -> None:
        tls = directory.load(gateway("a", ASKS)).listeners[0].tls
        assert tls is not None
        assert tls.client_certificates == "required"
        assert tls.client_ca == directory.path / "ca.pem"

    def test_a_file_that_cannot_be_read(self, directory: Directory) -> None:
        (directory.path / "ca.pem").unlink()
        assert directory.problems(gateway("a", ASKS)) == [
            (
                "listeners[0].tls.client_ca",
                f"`{directory.path}/ca.pem` cannot be read: No such file or directory",
            )
        ]

    def test_no_authorities(self, directory: Directory) -> None:
        tls = 'tls = { self_signed = true, client_certificates = "optional" }'
        assert directory.problems(gateway("a", tls)) == [
            ("listeners[0].tls.client_certificates", "belongs beside `client_ca`")
        ]


@pytest.mark.parametrize(
    ("jwks", "expected"),
    [
        ("jwks.json", "{}/jwks.json"),
        ("/keys/jwks.json", "/keys/jwks.json"),
        ("https://login.example.com/jwks", "https://login.example.com/jwks"),
    ],
)
def test_keys_from_a_file_or_a_url(directory: Directory, jwks: str, expected: str) -> None:
    settings = directory.load(
        gateway("a")
        + f'[checkers.jwt]\ntype = "jwt"\njwks = "{jwks}"\nissuer = "i"\naudience = "a"\n'
    )
    found = getattr(settings.checkers["jwt"].settings, "jwks")  # noqa: B009 - any model
    assert str(found) == expected.format(directory.path)


def test_problems_of_a_jwt_checker(directory: Directory) -> None:
    text = '[checkers.jwt]\ntype = "jwt"\njwks = "ftp://h/x"\nissuer = 7\nalgorithms = ["HS256"]\n'
    found = dict(directory.problems(gateway("a") + text))
    assert found["checkers.jwt.jwks"] == "must be an `http://` or `https://` URL, or a file"
    assert found["checkers.jwt.issuer"] == "must be a string"
    assert found["checkers.jwt.audience"] == "is required"
    assert found["checkers.jwt.algorithms[0]"].startswith("must be")
