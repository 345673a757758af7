"""The listeners of a configuration: their addresses and certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gatekeeper.importing.nginx_server import Server
from gatekeeper.importing.notes import Notes
from gatekeeper.importing.sources import CertificateFiles
from gatekeeper.importing.toml import Value

STATE_DIR: Final = "/var/lib/gatekeeper"
STATE_DIR_COMMENT: Final = (
    "The embedded store, the management token and the access log go here. It is made at the first "
    "start, by the user that the daemon runs as."
)


def tls(given: CertificateFiles | None, server: Server | None, notes: Notes) -> Mapping[str, Value]:
    """The ``tls`` of a listener: the files that were asked for, else nginx's, else a makeshift."""
    if given is None and server is not None and server.certificate and server.key:
        given = CertificateFiles(server.certificate, server.key)
        notes.carry("ssl_certificate, ssl_certificate_key", "`tls` of the listener")
    if given is not None:
        return {"certificate": given.certificate, "key": given.key}
    notes.leave(
        "ssl_certificate, ssl_certificate_key",
        "no certificate was found; the first start makes a self-signed one. Name yours with "
        "--certificate and --key",
    )
    return {"self_signed": True}


def numbered(name: str, number: int) -> str:
    """``public``, ``public-2``, ``public-3`` …, counted from 0."""
    return name if number == 0 else f"{name}-{number + 1}"
