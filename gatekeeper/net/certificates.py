"""A server's certificate and key: read from files, checked, read again when the files change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem

Signature: TypeAlias = tuple[tuple[int, int, int] | None, ...]


def file_signature(*files: Path) -> Signature:
    """What changes when one of ``files`` is replaced or rewritten; None for one that is missing."""
    return tuple(map(_stat, files))


class Loaded(NamedTuple):
    """A certificate ready to be served; ``names`` are its DNS names, in lower case."""

    context: ssl.SSLContext
    names: frozenset[str]
    fingerprint: str


class CertificateFiles:
    """One pair of PEM files: the certificate with its chain, and the private key.

    ``make_context`` makes the context that the pair is loaded into; ``path`` is where the pair
    stands in the configuration (``tls``), for messages.

    :raises ConfigurationError: the pair cannot be served; paths such as ``tls.key``.
    """

    _log = Logger()

    def __init__(
        self, certificate: Path, key: Path, path: str, make_context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._path = path
        self._make_context = make_context
        # Taken before reading: a change that happens while we read is seen afterwards.
        self._signature: Signature | None = file_signature(certificate, key)
        self._refused: Signature | None = None
        self.loaded = self._load()

    def reload_if_changed(self) -> bool:
        """Whether ``loaded`` is a new one. A pair that cannot be served changes nothing.

        It is tried again at every call (certificate and key are rarely replaced in one instant),
        but logged once for each state of the files.
        """
        signature = file_signature(self._certificate, self._key)
        if signature == self._signature:
            return False
        try:
            self.loaded = self._load()
        except ConfigurationError as error:
            if signature != self._refused:
                self._refused = signature
                self._log.error(
                    "The changed certificate is not used, the old one stays: {problem}",
                    problem=str(error),
                )
            return False
        self._signature = signature
        self._refused = None
        self._log.info(
            "New certificate from {file}, SHA-256 fingerprint {fingerprint}",
            file=str(self._certificate),
            fingerprint=self.loaded.fingerprint,
        )
        return True

    def renew(self) -> None:
        """Take the pair for changed: what ``make_context`` makes has become another."""
        self._signature = None

    def _load(self) -> Loaded:
        at_certificate, at_key = f"{self._path}.certificate", f"{self._path}.key"
        leaf = _parse_certificate(_read(self._certificate, at_certificate), at_certificate)
        key = _parse_key(_read(self._key, at_key), at_key)
        if leaf.public_key() != key.public_key():
            raise _problem(at_key, f"this is not the key of the certificate {self._certificate}")
        context = self._make_context()
        try:
            # An empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise _problem(
                at_certificate, f"{self._certificate} cannot be used: {error.strerror or error}"
            ) from None
        return Loaded(context, _dns_names(leaf), _fingerprint(leaf))


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _problem(path: str, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(path, message)])


def _read(file: Path, path: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _problem(path, f"{file} cannot be read: {error.strerror}") from None


def _parse_certificate(data: bytes, path: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except ValueError:
        raise _problem(path, "the file holds no certificate in PEM form") from None


def _parse_key(data: bytes, path: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(data, None)
    except TypeError:
        raise _problem(path, "the key is encrypted; give it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _problem(path, "the file holds no private key in PEM form") from None


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    """The subject alternative names; the subject's CN names nobody any more (RFC 9525)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
