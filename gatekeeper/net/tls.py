"""TLS contexts: a listener's, with certificates chosen by name and changed while running, and ours
as a client."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from gatekeeper.config.model_listeners import TLS
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.certificates import CertificateFiles, Loaded, Signature, file_signature
from gatekeeper.net.client_ca import ClientAuthorities
from gatekeeper.net.selfsigned import ensure_self_signed

PROTOCOLS = ["http/1.1"]
HTTP2 = "h2"
# For TLS 1.2, what Mozilla's "intermediate" names: forward secrecy and authenticated encryption.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Looked at in one call, so that many certificates do not hold up the loop (two stats each).
CHECKED_AT_ONCE = 64


_log = Logger()


class Names:
    """Which certificate is served under which name (RFC 6066, section 3; RFC 9525, section 6.3).

    The first of ``certificates`` is the default. An exact name wins over a wildcard, an earlier
    certificate over a later one.
    """

    def __init__(self, certificates: list[Loaded]) -> None:
        self._default = certificates[0].context
        self._contexts: dict[str, ssl.SSLContext] = {}
        for certificate in certificates:
            for name in certificate.names:
                self._contexts.setdefault(name, certificate.context)

    def find(self, server_name: str | None) -> ssl.SSLContext:
        """The context for what the client asked for; the default for anything unknown."""
        if server_name is None:
            return self._default
        name = server_name.lower()
        # A wildcard stands for exactly one label, so there is exactly one to look for.
        wildcard = "*." + name.partition(".")[2]
        return self._contexts.get(name) or self._contexts.get(wildcard) or self._default


class ServerTLS:
    """One listener's certificates and the context that it listens with.

    ``context`` stays the same for the listener's life; the certificate is put in at each handshake
    by name, so that new certificates are served without listening anew. Connections that are
    open keep what they have. ``fingerprint`` is the default certificate's.

    ``http2``: clients may choose HTTP/2 (ALPN, RFC 7301).

    With ``client_ca`` clients are asked for a certificate; one that is shown and no good ends the
    handshake. New authorities hold for new connections, sessions from before do not count.

    :raises ConfigurationError: with *all* certificates that cannot be served; paths such as
        ``tls.key`` and ``tls.sni[2].certificate``, or ``tls.client_ca``.
    """

    def __init__(
        self, settings: TLS, state_dir: Path, listener_name: str, *, http2: bool = False
    ) -> None:
        self._http2 = http2
        self._clients = _open_client_ca(settings)
        self._certificates = _open_certificates(settings, state_dir, self._make_context)
        self._turn = cycle(self._certificates)
        self._names = self._index()
        self.context = self._make_context()
        self.context.sni_callback = self._choose
        _log.info(
            "Listener {listener}: certificate's SHA-256 fingerprint {fingerprint}",
            listener=listener_name,
            fingerprint=self.fingerprint,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the default certificate: upper-case hex with colons."""
        return self._certificates[0].loaded.fingerprint

    def reload_if_changed(self) -> bool:
        """Serve certificates whose files have changed; whether there were any.

        To be called about every second. Each call looks at a bounded number, in turn. Files that
        cannot be used are logged, and the certificate that is in use stays.
        """
        if self._clients is not None and self._clients.reload_if_changed():
            for files in self._certificates:
                files.renew()
        turn = islice(self._turn, min(CHECKED_AT_ONCE, len(self._certificates)))
        changed = [files for files in turn if files.reload_if_changed()]
        if changed:
            self._names = self._index()
        return bool(changed)

    def _index(self) -> Names:
        return Names([files.loaded for files in self._certificates])

    def _make_context(self) -> ssl.SSLContext:
        context = _server_context()
        if self._http2:
            context.set_alpn_protocols([HTTP2, *PROTOCOLS])
        if self._clients is not None:
            self._clients.prepare(context)
        return context

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        if self._clients is not None and self._clients.outdates(connection):
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        connection.context = self._names.find(name)
        return None


def ignore_malformed_server_names() -> None:
    """Keep clients from writing tracebacks into the log. To be called once per process.

    CPython decodes the server name as ASCII before it calls us. Where that fails it ends the
    handshake, as it should, but also reports an exception that nobody can catch.
    """
    before = sys.unraisablehook

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if not (
            isinstance(unraisable.exc_value, UnicodeDecodeError)
            and unraisable.exc_value.object == unraisable.object
        ):
            before(unraisable)

    sys.unraisablehook = report


def _open_client_ca(settings: TLS) -> ClientAuthorities | None:
    if settings.client_ca is None:
        return None
    return ClientAuthorities(settings.client_ca, settings.client_certificates == "required")


def _open_certificates(
    settings: TLS, state_dir: Path, make_context: Callable[[], ssl.SSLContext]
) -> list[CertificateFiles]:
    pairs: list[tuple[Path, Path, str]] = []
    if settings.certificate is not None and settings.key is not None:
        pairs.append((settings.certificate, settings.key, "tls"))
    elif settings.self_signed:
        pairs.append((*_self_signed(state_dir), "tls"))
    else:
        raise _problem("tls", "give `certificate` and `key`, or `self_signed = true`")
    for number, more in enumerate(settings.sni):
        pairs.append((more.certificate, more.key, f"tls.sni[{number}]"))
    opened: list[CertificateFiles] = []
    problems: list[Problem] = []
    for certificate, key, path in pairs:
        try:
            opened.append(CertificateFiles(certificate, key, path, make_context))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return opened


def _self_signed(state_dir: Path) -> tuple[Path, Path]:
    try:
        both = ensure_self_signed(state_dir)
    except OSError as error:
        reason = f"the certificate cannot be kept in {state_dir}: {error.strerror}"
        raise _problem("tls.self_signed", reason) from None
    return both, both


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _harden(context)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(PROTOCOLS)


class _Trust(NamedTuple):
    signature: Signature
    context: ssl.SSLContext


_trusted: dict[tuple[Path | None, bool], _Trust] = {}


def client_context(ca_file: Path | None, *, http2: bool = False) -> ssl.SSLContext:
    """The context for connections to https upstreams; it verifies certificate and host name.

    ``ca_file`` holds the authorities that are believed, in PEM form (None: the system's). Contexts
    are shared; a changed file is read anew by the next call, and if it cannot be used then the
    old one stays in force and an error is logged. There is no way not to verify. ``http2``: that
    is what we offer to speak, and nothing else.

    :raises ConfigurationError: the file cannot be read or holds no certificate; path ``ca_file``.
    """
    signature = () if ca_file is None else file_signature(ca_file)
    trust = _trusted.get((ca_file, http2))
    if trust is not None and trust.signature == signature:
        return trust.context
    try:
        context = _client_context(ca_file)
        if http2:
            context.set_alpn_protocols([HTTP2])
    except ConfigurationError as error:
        if trust is None:
            raise
        _log.error(
            "The changed authorities are not used, the old ones stay: {problem}", problem=str(error)
        )
        context = trust.context
    _trusted[ca_file, http2] = _Trust(signature, context)
    return context


def _client_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, host name included
    _harden(context)
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise _problem("ca_file", f"{ca_file} holds no certificate in PEM form") from None
    except OSError as error:
        raise _problem("ca_file", f"{ca_file} cannot be read: {error.strerror}") from None
    return context


def _problem(path: str, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(path, message)])
