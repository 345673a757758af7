from __future__ import annotations

import asyncio
import datetime
import gc
import hashlib
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.logger import LogLevel, capturedLogs

from gatekeeper.config.model_listeners import TLS, Certificate
from gatekeeper.errors import ConfigurationError
from gatekeeper.net import tls
from gatekeeper.net.selfsigned import LIFETIME, ensure_self_signed
from gatekeeper.net.tls import ServerTLS, client_context, ignore_malformed_server_names
from tests.net.tls_peers import (
    Handshake,
    Pair,
    anybody,
    fingerprint,
    make_pem,
    replace_file,
    trusting,
)


def make_settings(default: Pair, *more: Pair) -> TLS:
    return TLS(
        certificate=default.certificate,
        key=default.key,
        sni=tuple(Certificate(certificate=pair.certificate, key=pair.key) for pair in more),
    )


def served(server: ServerTLS, name: str | None) -> str:
    """The fingerprint of what a client that asks for ``name`` is shown."""
    return Handshake(server.context, anybody(), name).served


@pytest.fixture
def default(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "default", "gate.example.com", "127.0.0.1")


class TestHandshake:
    def test_a_client_that_verifies_is_content(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        done = Handshake(server.context, trusting(default.certificate), "gate.example.com")
        assert done.served == fingerprint(default.certificate)
        assert done.client.version() == "TLSv1.3"
        assert done.client.compression() is None

    def test_http_1_is_chosen_of_what_the_client_speaks(
        self, tmp_path: Path, default: Pair
    ) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        done = Handshake(server.context, trusting(default.certificate), "gate.example.com")
        assert done.server.selected_alpn_protocol() == "http/1.1"
        assert done.client.selected_alpn_protocol() == "http/1.1"

    def test_tls_1_2_has_forward_secrecy(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        client = trusting(default.certificate)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        cipher = Handshake(server.context, client, "gate.example.com").client.cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE-")
        assert cipher[1] == "TLSv1.2"

    def test_tls_1_2_without_forward_secrecy_is_refused(
        self, tmp_path: Path, default: Pair
    ) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        client = anybody()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA")
        with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
            Handshake(server.context, client, "gate.example.com")

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_tls_1_1_is_refused(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        client = anybody()
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="PROTOCOL"):
            Handshake(server.context, client, "gate.example.com")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_session_is_resumed(
        self, tmp_path: Path, default: Pair, version: ssl.TLSVersion
    ) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        client = trusting(default.certificate)
        client.maximum_version = version
        first = Handshake(server.context, client, "gate.example.com")
        again = Handshake(server.context, client, "gate.example.com", session=first.client.session)
        assert not first.client.session_reused
        assert again.client.session_reused

    def test_renegotiation_is_off(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        assert server.context.options & ssl.OP_NO_RENEGOTIATION


class TestServerNames:
    @pytest.fixture
    def server(self, tmp_path: Path, default: Pair) -> ServerTLS:
        pairs = [
            Pair(tmp_path, "wildcard", "*.example.org", "example.org"),
            Pair(tmp_path, "exact", "api.example.org", "API2.Example.org"),
            Pair(tmp_path, "later", "example.org", "gate.example.com", "later.net"),
        ]
        return ServerTLS(make_settings(default, *pairs), tmp_path, "public")

    @pytest.mark.parametrize(
        ("name", "stem"),
        [
            ("gate.example.com", "default"),
            ("www.example.org", "wildcard"),
            ("WWW.Example.ORG", "wildcard"),
            ("example.org", "wildcard"),
            ("api.example.org", "exact"),
            ("api2.example.org", "exact"),
            ("a.b.example.org", "default"),  # a wildcard is one label
            ("xexample.org", "default"),
            ("org", "default"),
            ("later.net", "later"),
            ("unknown.net", "default"),
            ("*.example.org", "wildcard"),
            (None, "default"),
        ],
    )
    def test_the_certificate_fits_the_name(
        self, server: ServerTLS, tmp_path: Path, name: str | None, stem: str
    ) -> None:
        assert served(server, name) == fingerprint(tmp_path / f"{stem}.pem")

    def test_the_subject_names_nobody(self, tmp_path: Path, default: Pair) -> None:
        nameless = Pair(tmp_path, "nameless")  # its CN is "test"
        server = ServerTLS(make_settings(default, nameless), tmp_path, "public")
        assert served(server, "test") == fingerprint(default.certificate)

    def test_the_fingerprint_is_the_default_certificates(
        self, server: ServerTLS, default: Pair
    ) -> None:
        assert server.fingerprint.replace(":", "").lower() == fingerprint(default.certificate)
        assert len(server.fingerprint) == 32 * 3 - 1

    def test_a_name_that_is_not_ascii_ends_the_handshake_only(
        self, server: ServerTLS, default: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reported: list[sys.UnraisableHookArgs] = []
        monkeypatch.setattr(sys, "unraisablehook", reported.append)
        ignore_malformed_server_names()
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = anybody().wrap_bio(to_client, to_server, server_hostname="gate.example.com")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = to_server.read().replace(b"gate.example.com", b"gate\xff\xffxample.com")
        to_server.write(hello)
        with pytest.raises(ssl.SSLError):
            server.context.wrap_bio(to_server, to_client, server_side=True).do_handshake()
        assert served(server, None) == fingerprint(default.certificate)
        assert reported == []

    def test_other_exceptions_that_nobody_can_catch_are_reported(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reported: list[sys.UnraisableHookArgs] = []
        monkeypatch.setattr(sys, "unraisablehook", reported.append)
        ignore_malformed_server_names()

        class Broken:
            def __del__(self) -> None:
                b"\xff".decode("ascii")

        Broken()
        gc.collect()
        assert [type(args.exc_value) for args in reported] == [UnicodeDecodeError]


class TestChangedFiles:
    def test_nothing_changed(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        assert not server.reload_if_changed()

    def test_the_same_context_serves_the_new_certificate(
        self, tmp_path: Path, default: Pair
    ) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        context, before = server.context, served(server, "gate.example.com")
        default.write("gate.example.com")
        assert server.reload_if_changed()
        assert server.context is context
        assert served(server, "gate.example.com") == fingerprint(default.certificate) != before
        assert server.fingerprint.replace(":", "").lower() == fingerprint(default.certificate)
        assert not server.reload_if_changed()

    def test_names_change_too(self, tmp_path: Path, default: Pair) -> None:
        other = Pair(tmp_path, "other", "old.example.org")
        server = ServerTLS(make_settings(default, other), tmp_path, "public")
        other.write("new.example.org")
        assert server.reload_if_changed()
        assert served(server, "old.example.org") == fingerprint(default.certificate)
        assert served(server, "new.example.org") == fingerprint(other.certificate)

    def test_half_of_a_new_pair_waits_for_the_other(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        before = fingerprint(default.certificate)
        certificate, key = make_pem("gate.example.com")
        replace_file(default.certificate, certificate)
        with capturedLogs() as events:
            assert not server.reload_if_changed()
            assert not server.reload_if_changed()
        assert [event["log_level"] for event in events] == [LogLevel.error]  # once per change
        assert "tls.key" in events[0]["problem"]
        assert served(server, None) == before
        replace_file(default.key, key)
        assert server.reload_if_changed()
        assert served(server, None) == fingerprint(default.certificate) != before

    @pytest.mark.parametrize("damage", [b"", b"garbage", None])
    def test_broken_files_keep_the_old_certificate(
        self, tmp_path: Path, default: Pair, damage: bytes | None
    ) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        before = fingerprint(default.certificate)
        whole = default.certificate.read_bytes()
        if damage is None:
            default.certificate.unlink()
        else:
            default.certificate.write_bytes(damage)
        with capturedLogs() as events:
            assert not server.reload_if_changed()
        assert len(events) == 1
        assert served(server, None) == before
        replace_file(default.certificate, whole)
        assert server.reload_if_changed()
        assert served(server, None) == before

    def test_of_many_certificates_some_are_looked_at_in_turn(
        self, tmp_path: Path, default: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tls, "CHECKED_AT_ONCE", 2)
        others = [Pair(tmp_path, f"pair{number}", f"{number}.net") for number in range(4)]
        server = ServerTLS(make_settings(default, *others), tmp_path, "public")
        others[3].write("3.net")
        assert [server.reload_if_changed() for _ in range(5)] == [False, False, True, False, False]


class TestMistakes:
    def problems(self, tls_settings: TLS, tmp_path: Path) -> dict[str, str]:
        with pytest.raises(ConfigurationError) as caught:
            ServerTLS(tls_settings, tmp_path, "public")
        return {problem.path: problem.message for problem in caught.value.problems}

    def test_a_key_that_does_not_fit(self, tmp_path: Path, default: Pair) -> None:
        default.key.write_bytes(make_pem("x.example")[1])
        problems = self.problems(make_settings(default), tmp_path)
        assert list(problems) == ["tls.key"]
        assert "not the key of the certificate" in problems["tls.key"]

    def test_all_at_once(self, tmp_path: Path, default: Pair) -> None:
        first, second = Pair(tmp_path, "first", "a.net"), Pair(tmp_path, "second", "b.net")
        default.certificate.write_text("garbage")
        first.key.unlink()
        second.key.write_text("garbage")
        problems = self.problems(make_settings(default, first, second), tmp_path)
        assert list(problems) == ["tls.certificate", "tls.sni[0].key", "tls.sni[1].key"]
        assert "No such file" in problems["tls.sni[0].key"]

    def test_an_encrypted_key(self, tmp_path: Path, default: Pair) -> None:
        key = serialization.load_pem_private_key(default.key.read_bytes(), None)
        default.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        assert "passphrase" in self.problems(make_settings(default), tmp_path)["tls.key"]

    def test_a_key_that_is_too_weak_to_serve_with(self, tmp_path: Path, default: Pair) -> None:
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        certificate, key = make_pem("gate.example.com", key=weak)
        default.certificate.write_bytes(certificate)
        default.key.write_bytes(key)
        problems = self.problems(make_settings(default), tmp_path)
        assert list(problems) == ["tls.certificate"]
        assert "KEY_TOO_SMALL" in problems["tls.certificate"]

    def test_neither_files_nor_self_signed(self, tmp_path: Path) -> None:
        assert list(self.problems(TLS(), tmp_path)) == ["tls"]

    def test_no_place_for_a_self_signed_certificate(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        problems = self.problems(TLS(self_signed=True), tmp_path / "file")
        assert list(problems) == ["tls.self_signed"]


class TestSelfSigned:
    NOW = datetime.datetime.now(datetime.UTC)

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
    def test_clients_that_trust_it_accept_it(self, tmp_path: Path, name: str) -> None:
        server = ServerTLS(TLS(self_signed=True), tmp_path, "public")
        client = trusting(tmp_path / "self-signed.pem")
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        done = Handshake(server.context, client, name)
        assert done.served == server.fingerprint.replace(":", "").lower()

    def test_the_hosts_name_is_in_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "Box.lan")
        server = ServerTLS(TLS(self_signed=True), tmp_path, "public")
        Handshake(server.context, trusting(tmp_path / "self-signed.pem"), "box.lan")

    def test_a_host_name_that_is_none_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "what_ is this?")
        server = ServerTLS(TLS(self_signed=True), tmp_path, "public")
        Handshake(server.context, trusting(tmp_path / "self-signed.pem"), "localhost")

    def test_it_is_kept(self, tmp_path: Path) -> None:
        first = ServerTLS(TLS(self_signed=True), tmp_path / "state", "public")
        again = ServerTLS(TLS(self_signed=True), tmp_path / "state", "other")
        assert first.fingerprint == again.fingerprint

    def test_only_the_owner_can_read_the_key(self, tmp_path: Path) -> None:
        serving = ensure_self_signed(tmp_path / "state")
        assert stat.S_IMODE(serving.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        public = tmp_path / "state" / "self-signed.pem"
        assert b"PRIVATE" not in public.read_bytes()
        assert sorted(p.name for p in public.parent.iterdir()) == [
            "self-signed-key.pem",
            "self-signed.pem",
        ]

    def test_it_is_made_anew_when_it_has_expired(self, tmp_path: Path) -> None:
        ensure_self_signed(tmp_path, self.NOW - LIFETIME)
        first = fingerprint(tmp_path / "self-signed.pem")
        ensure_self_signed(tmp_path, self.NOW - datetime.timedelta(hours=2))
        assert fingerprint(tmp_path / "self-signed.pem") == first
        ensure_self_signed(tmp_path, self.NOW)
        assert fingerprint(tmp_path / "self-signed.pem") != first

    def test_it_is_made_anew_when_it_is_damaged(self, tmp_path: Path) -> None:
        serving = ensure_self_signed(tmp_path)
        certificate = (tmp_path / "self-signed.pem").read_bytes()
        for damage in (b"", certificate, make_pem("x.net")[1] + certificate):
            serving.write_bytes(damage)
            ServerTLS(TLS(self_signed=True), tmp_path, "public")
        assert (tmp_path / "self-signed.pem").read_bytes() in serving.read_bytes()
        assert (tmp_path / "self-signed.pem").read_bytes() != certificate

    def test_curl_accepts_it(self, tmp_path: Path) -> None:
        server = ServerTLS(TLS(self_signed=True), tmp_path, "public")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(30)
            answering = threading.Thread(target=answer_once, args=(listening, server.context))
            answering.start()
            port = listening.getsockname()[1]
            curl = ["curl", "-sS", "--noproxy", "*", "--cacert", str(tmp_path / "self-signed.pem")]
            url = f"https://localhost:{port}/"
            done = subprocess.run([*curl, "-4", url], capture_output=True, timeout=60, check=False)
            answering.join()
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")


def answer_once(listening: socket.socket, context: ssl.SSLContext) -> None:
    accepted, _ = listening.accept()
    accepted.settimeout(30)
    with context.wrap_socket(accepted, server_side=True) as connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


class TestClient:
    def test_who_is_trusted(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        context = client_context(default.certificate)
        done = Handshake(server.context, context, "gate.example.com")
        assert done.client.selected_alpn_protocol() == "http/1.1"
        Handshake(server.context, context, "127.0.0.1")

    def test_another_name(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            Handshake(server.context, client_context(default.certificate), "example.com")

    @pytest.mark.parametrize("own", [True, False])
    def test_another_authority(self, tmp_path: Path, default: Pair, own: bool) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")
        ca_file = Pair(tmp_path, "other", "gate.example.com").certificate if own else None
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
            Handshake(server.context, client_context(ca_file), "gate.example.com")

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_tls_1_1_is_refused(self, default: Pair) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(default.certificate, default.key)
        server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_1
        server.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="PROTOCOL"):
            Handshake(server, client_context(default.certificate), "gate.example.com")

    def test_contexts_are_shared_until_the_file_changes(
        self, tmp_path: Path, default: Pair
    ) -> None:
        first = client_context(default.certificate)
        assert client_context(default.certificate) is first
        default.write("gate.example.com")
        server = ServerTLS(make_settings(default), tmp_path, "public")
        second = client_context(default.certificate)
        assert second is not first
        Handshake(server.context, second, "gate.example.com")
        assert client_context(None) is client_context(None)

    @pytest.mark.parametrize("damage", [b"garbage", None])
    def test_a_file_that_breaks_later_keeps_the_old(
        self, default: Pair, damage: bytes | None
    ) -> None:
        first = client_context(default.certificate)
        if damage is None:
            default.certificate.unlink()
        else:
            default.certificate.write_bytes(damage)
        with capturedLogs() as events:
            assert client_context(default.certificate) is first
            assert client_context(default.certificate) is first
        assert [event["log_level"] for event in events] == [LogLevel.error]
        default.write("gate.example.com")
        assert client_context(default.certificate) is not first

    @pytest.mark.parametrize("content", ["", "garbage", None])
    def test_a_file_that_cannot_be_used(self, tmp_path: Path, content: str | None) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            client_context(file)
        assert [problem.path for problem in caught.value.problems] == ["ca_file"]
        assert str(file) in str(caught.value)


class TestOnTheLoop:
    """The same over real sockets, by the loop that the daemon runs on."""

    def test_a_new_certificate_without_listening_anew(self, tmp_path: Path, default: Pair) -> None:
        server = ServerTLS(make_settings(default), tmp_path, "public")

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(5))
            await writer.drain()
            writer.close()

        async def served_by(port: int) -> str:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=client_context(default.certificate),
                server_hostname="gate.example.com",
            )
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return hashlib.sha256(certificate).hexdigest()

        async def run() -> None:
            listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server.context)
            async with listening:
                port = listening.sockets[0].getsockname()[1]
                first = fingerprint(default.certificate)
                assert await served_by(port) == first
                default.write("gate.example.com")
                with pytest.raises(ssl.SSLCertVerificationError):
                    await served_by(port)  # the client has read the new file, the server has not
                assert server.reload_if_changed()
                assert await served_by(port) == fingerprint(default.certificate) != first

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
