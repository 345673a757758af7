"""The certificate that is made on first start, for trying things out before there is a real one."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.files import write_atomically

# Clients that follow the CA/Browser Forum's baseline requirements refuse longer lives.
LIFETIME = datetime.timedelta(days=397)
# Clocks differ: a certificate that begins this very second is "not yet valid" elsewhere.
BACKDATED = datetime.timedelta(hours=1)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*\Z")


def ensure_self_signed(state_dir: Path, now: datetime.datetime | None = None) -> Path:
    """Find or make the self-signed certificate; re-make it when it is broken or has expired.

    Returns the file to serve from, ``self-signed-key.pem``: key and certificate in one (mode
    0600), so that the two are never seen apart. Beside it ``self-signed.pem`` holds the
    certificate alone, for clients (``curl --cacert``). ``now`` is the time (aware; the clock's
    if left out).

    :raises OSError: ``state_dir`` cannot be read or written.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    serving = state_dir / "self-signed-key.pem"
    public = state_dir / "self-signed.pem"
    certificate = _existing(serving, now)
    if certificate is None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = make_certificate(key, now)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomically(serving, private + _pem(certificate))
    if not public.exists() or public.read_bytes() != _pem(certificate):
        write_atomically(public, _pem(certificate), mode=0o644)
    return serving


def make_certificate(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    """A server's certificate for this host, signed with its own ``key`` (RFC 5280).

    It is a leaf, not an authority: who trusts it trusts nothing else by it.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gatekeeper self-signed")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_own_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _existing(serving: Path, now: datetime.datetime) -> x509.Certificate | None:
    """The certificate that was made earlier, if it can still be served."""
    try:
        data = serving.read_bytes()
    except FileNotFoundError:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(data)
        key = serialization.load_pem_private_key(data, None)
    except ValueError:
        return None
    fits = certificate.public_key() == key.public_key()
    return certificate if fits and now < certificate.not_valid_after_utc else None


def _own_names() -> Iterator[x509.GeneralName]:
    yield x509.DNSName("localhost")
    host = socket.gethostname().lower()
    if host != "localhost" and _HOST_NAME.match(host):
        yield x509.DNSName(host)
    for address in ("127.0.0.1", "::1"):
        yield x509.IPAddress(ipaddress.ip_address(address))


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
