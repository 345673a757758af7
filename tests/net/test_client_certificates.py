from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs

from gatekeeper.auth.client_certificate import read_place
from gatekeeper.config.model_listeners import TLS, Certificate
from gatekeeper.errors import ConfigurationError
from gatekeeper.net.client_ca import ClientAuthorities
from gatekeeper.net.tls import ServerTLS
from tests.authority import Authority, Issued
from tests.net.tls_peers import Handshake, Pair, anybody, replace_file

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class House:
    """A listener that asks for certificates of one authority, and clients with all sorts."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.authority = Authority(directory, "Ours")
        self.stranger = Authority(directory, "Theirs")
        self.ca_file = directory / "clients.pem"
        self.ca_file.write_bytes(self.authority.file.read_bytes())
        pair = Pair(directory, "default", "gate.example.com")
        more = Pair(directory, "more", "more.example.com")
        self.server = ServerTLS(
            TLS(
                certificate=pair.certificate,
                key=pair.key,
                sni=(Certificate(certificate=more.certificate, key=more.key),),
                client_ca=self.ca_file,
                **settings,
            ),
            directory,
            "public",
        )

    def trust(self, *authorities: Authority) -> None:
        """Replace the file of authorities."""
        replace_file(self.ca_file, b"".join(each.file.read_bytes() for each in authorities))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def client(
    shown: Issued | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = anybody()
    context.maximum_version = version
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def connect(
    house: House, shown: Issued | ssl.SSLContext | None, name: str = "gate.example.com", **more: Any
) -> Handshake:
    context = shown if isinstance(shown, ssl.SSLContext) else client(shown)
    return Handshake(house.server.context, context, name, **more)


def user(done: Handshake) -> tuple[str, ...] | None:
    certificate = done.server.getpeercert()
    return read_place(certificate, "subject.CN") if certificate else None


@pytest.mark.parametrize("name", ["gate.example.com", "more.example.com", "other.example.com"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_ours(house: House, name: str, version: ssl.TLSVersion) -> None:
    alice = house.authority.issue("alice")
    assert user(connect(house, client(alice, version), name)) == ("alice",)


@pytest.mark.parametrize("name", ["gate.example.com", "more.example.com", None])
@pytest.mark.parametrize("version", VERSIONS)
def test_somebody_elses(house: House, name: Any, version: ssl.TLSVersion) -> None:
    mallory = house.stranger.issue("alice")
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed|unknown ca"):
        connect(house, client(mallory, version), name)


@pytest.mark.parametrize("version", VERSIONS)
def test_required(house: House, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(house, client(None, version))


def test_optional(tmp_path: Path) -> None:
    house = House(tmp_path, client_certificates="optional")
    assert user(connect(house, None)) is None
    assert user(connect(house, house.authority.issue("alice"))) == ("alice",)
    with pytest.raises(ssl.SSLError):
        connect(house, house.stranger.issue("alice"))


def test_nobody_is_asked_without_authorities(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "default", "gate.example.com")
    server = ServerTLS(TLS(certificate=pair.certificate, key=pair.key), tmp_path, "public")
    alice = Authority(tmp_path).issue("alice")
    done = Handshake(server.context, client(alice), "gate.example.com")
    assert user(done) is None


class TestChange:
    def test_other_authorities(self, house: House) -> None:
        alice, bob = house.authority.issue("alice"), house.stranger.issue("bob")
        assert house.server.reload_if_changed() is False
        house.trust(house.stranger)
        assert house.server.reload_if_changed() is True
        for name in ("gate.example.com", "more.example.com"):
            assert user(connect(house, bob, name)) == ("bob",)
            with pytest.raises(ssl.SSLError):
                connect(house, alice, name)

    def test_one_more(self, house: House) -> None:
        house.trust(house.authority, house.stranger)
        house.server.reload_if_changed()
        assert user(connect(house, house.authority.issue("alice"))) == ("alice",)
        assert user(connect(house, house.stranger.issue("bob"))) == ("bob",)

    @pytest.mark.parametrize("content", [b"", b"x", None])
    def test_a_file_that_cannot_be_used(self, house: House, content: bytes | None) -> None:
        alice = house.authority.issue("alice")
        if content is None:
            house.ca_file.unlink()
        else:
            replace_file(house.ca_file, content)
        with capturedLogs() as events:
            assert house.server.reload_if_changed() is False
            assert house.server.reload_if_changed() is False
        assert [event["log_level"] for event in events] == [LogLevel.error]
        assert user(connect(house, alice)) == ("alice",)
        house.trust(house.stranger)
        assert house.server.reload_if_changed() is True
        with pytest.raises(ssl.SSLError):
            connect(house, alice)

    def test_another_file_with_the_same_authorities(self, house: House) -> None:
        house.trust(house.authority)
        assert house.server.reload_if_changed() is False

    def test_a_pair_that_is_broken_meanwhile_is_tried_again(
        self, house: House, tmp_path: Path
    ) -> None:
        good = (tmp_path / "more.pem").read_bytes()
        replace_file(tmp_path / "more.pem", b"x")
        house.trust(house.stranger)
        with capturedLogs():
            house.server.reload_if_changed()
        replace_file(tmp_path / "more.pem", good)
        assert house.server.reload_if_changed() is True
        bob = house.stranger.issue("bob")
        assert user(connect(house, bob, "more.example.com")) == ("bob",)


class TestSessions:
    """A resumed session's certificate is not verified again."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_they_are_resumed(self, house: House, version: ssl.TLSVersion) -> None:
        context = client(house.authority.issue("alice"), version)
        first = connect(house, context)
        again = connect(house, context, session=first.client.session)
        assert again.client.session_reused
        assert user(again) == ("alice",)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("name", ["gate.example.com", "more.example.com"])
    def test_not_past_a_change_of_the_authorities(
        self, house: House, version: ssl.TLSVersion, name: str
    ) -> None:
        context = client(house.authority.issue("alice"), version)
        first = connect(house, context, name)
        house.trust(house.stranger)
        house.server.reload_if_changed()
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake_failure|handshake failure|CALLBACK"):
            connect(house, context, name, session=first.client.session)

    def test_sessions_from_after_the_change(self, house: House, tmp_path: Path) -> None:
        now = time.time() - 10
        authorities = ClientAuthorities(house.ca_file, True, lambda: now)
        house.trust(house.stranger)
        assert authorities.reload_if_changed() is True
        context = client(house.authority.issue("alice"))
        first = connect(house, context)
        again = connect(house, context, session=first.client.session)
        assert authorities.outdates(again.server) is False
        assert authorities.outdates(first.server) is False
        now += 20
        house.trust(house.authority)
        assert authorities.reload_if_changed() is True
        assert authorities.outdates(again.server) is True
        assert authorities.outdates(first.server) is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_authorities_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    settings = TLS(self_signed=True, client_ca=file)
    with pytest.raises(ConfigurationError) as caught:
        ServerTLS(settings, tmp_path, "public")
    (problem,) = caught.value.problems
    assert problem.path == "tls.client_ca"
    assert message in problem.message
