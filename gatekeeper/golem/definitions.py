"""A service as Golem's providers define it: the fields, and what must be true of them.

The same rules hold for files and for the management API. This module has no dependency beside the
standard library, and imports quickly: the runtime program reads definitions, too, and must answer
its supervisor at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatekeeper.errors import Problem
from gatekeeper.golem.fields import (
    Fields,
    InnerFields,
    addresses_of,
    destination_of,
    milliseconds_of,
    name_of,
    path_of,
    prefix_of,
    properties_of,
    server_names_of,
    text_of,
    threads_of,
)

_LARGEST_CERTIFICATE: Final = 1024 * 1024  # bytes


class Certificate(NamedTuple):
    """PEM files: the certificate with its chain, and the private key; absolute paths."""

    path: str
    key_path: str


class Definition(NamedTuple):
    """A service. Timeouts are in milliseconds, addresses ``host:port`` in canonical form.

    ``server_names``, ``cpu_threads`` and ``offer_properties`` are advertised; nothing is done with
    them otherwise.
    """

    name: str
    from_: str
    to: str
    description: str = ""
    server_names: tuple[str, ...] = ()
    bind_https: tuple[str, ...] = ()
    bind_http: tuple[str, ...] = ()
    certificate: Certificate | None = None
    request_timeout: int | None = None
    response_timeout: int | None = None
    cpu_threads: int | None = None
    offer_properties: Mapping[str, Any] = {}


def read_definition(
    raw: object,
    *,
    base: Path | None = None,
    name: str | None = None,
    server_names: tuple[str, ...] | None = None,
) -> Definition:
    """Read a definition from what a JSON document (or TOML, or YAML) holds.

    ``base`` is where relative paths start; there may be none without it. ``name`` is what a
    definition without one is called, see :func:`made_up_name`. ``server_names`` is what it
    advertises without ``serverName``, which is required if that is empty; not if it is ``None``.

    :raises ConfigurationError: with every problem; the paths are fields, such as ``cert.keyPath``.
    """
    fields = Fields(raw)
    fields.read("auth", _auth, None)
    fields.read("user", _no_user_options, None)
    bind_alias = fields.read("bind", addresses_of, ())
    definition = Definition(
        name=fields.read("name", name_of, name),
        from_=fields.read("from", prefix_of),
        to=fields.read("to", destination_of),
        description=fields.read("description", text_of, ""),
        server_names=fields.read("serverName", server_names_of, server_names or ()),
        bind_https=fields.read("bindHttps", addresses_of, bind_alias),
        bind_http=fields.read("bindHttp", addresses_of, ()),
        certificate=fields.read("cert", lambda raw: _certificate(raw, base), None),
        request_timeout=fields.read("requestTimeout", milliseconds_of, None),
        response_timeout=fields.read("responseTimeout", milliseconds_of, None),
        cpu_threads=fields.read("cpuThreads", threads_of, None),
        offer_properties=fields.read("offerProperties", properties_of, {}),
    )
    if bind_alias and "bindHttps" in fields:
        fields.blame("bind", "is another name of `bindHttps`; keep one of them")
    if not fields.has_any("bindHttps", "bindHttp", "bind"):
        fields.blame("bindHttps", "is required, or `bindHttp`")
    if definition.bind_https and "cert" not in fields:
        fields.blame("cert", "is required for HTTPS")
    for address in set(definition.bind_https) & set(definition.bind_http):
        fields.blame("bindHttp", f"`{address}` is for HTTPS already")
    if "name" not in fields and name is None:
        fields.blame("name", "is required")
    if "serverName" not in fields and server_names == ():
        fields.blame("serverName", "is required, as the proxy has no default")
    fields.finish()
    return definition


def definition_json(definition: Definition) -> dict[str, Any]:
    """The definition as the management API has it: camelCase, without what is not set."""
    certificate = definition.certificate
    fields = {
        "name": definition.name,
        "description": definition.description,
        "serverName": list(definition.server_names),
        "bindHttps": list(definition.bind_https),
        "bindHttp": list(definition.bind_http),
        "cert": certificate and {"path": certificate.path, "keyPath": certificate.key_path},
        "from": definition.from_,
        "to": definition.to,
        "auth": {"method": "basic"},
        "requestTimeout": definition.request_timeout,
        "responseTimeout": definition.response_timeout,
        "cpuThreads": definition.cpu_threads,
        "offerProperties": dict(definition.offer_properties),
    }
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def made_up_name(taken: Container[str]) -> str:
    """``service-N``, the first that is not taken."""
    return next(name for n in count() if (name := f"service-{n}") not in taken)


def certificate_hash(path: str | Path) -> str:
    """``sha3:`` and the SHA3-256 of the file's bytes in hex, as clients are told to check it.

    :raises OSError: the file cannot be read.
    :raises ValueError: it is too large for a certificate.
    """
    with open(path, "rb") as file:
        content = file.read(_LARGEST_CERTIFICATE + 1)
    if len(content) > _LARGEST_CERTIFICATE:
        raise ValueError(f"is larger than {_LARGEST_CERTIFICATE} bytes")
    return "sha3:" + hashlib.sha3_256(content).hexdigest()


def conflict(new: Definition, old: Definition) -> Problem | None:
    """Why two services cannot be served together: the field of ``new`` that is to be changed."""
    if new.name == old.name:
        return Problem("name", f"there is a service `{old.name}` already")
    if mixed := _common(new.bind_https, old.bind_http):
        return Problem("bindHttps", f"`{mixed}` is for HTTP in `{old.name}`")
    if mixed := _common(new.bind_http, old.bind_https):
        return Problem("bindHttp", f"`{mixed}` is for HTTPS in `{old.name}`")
    encrypted = _common(new.bind_https, old.bind_https)
    if encrypted and new.certificate != old.certificate:
        return Problem("cert", f"`{old.name}` has another one on `{encrypted}`")
    shared = encrypted or _common(new.bind_http, old.bind_http)
    if shared and _overlap(new.from_, old.from_):
        return Problem("from", f"overlaps with `{old.from_}` of `{old.name}` on `{shared}`")
    return None


def _common(addresses: Iterable[str], others: Container[str]) -> str | None:
    return next((address for address in addresses if address in others), None)


def _overlap(one: str, other: str) -> bool:
    """Whether one prefix is a prefix of the other, in whole segments."""
    shorter, longer = sorted((one.rstrip("/") + "/", other.rstrip("/") + "/"), key=len)
    return longer.startswith(shorter)


def _certificate(raw: Any, base: Path | None) -> Certificate:
    # Who sends back what the API has shown sends the hash, too; it is computed anew.
    fields = InnerFields(raw)
    fields.read("hash", text_of, "")
    certificate = Certificate(
        fields.read("path", lambda raw: path_of(raw, base)),
        fields.read("keyPath", lambda raw: path_of(raw, base)),
    )
    fields.finish()
    return certificate


def _auth(raw: Any) -> None:
    fields = InnerFields(raw)
    fields.read("method", _method)
    fields.finish()


def _method(raw: Any) -> None:
    if raw != "basic":
        raise ValueError("must be `basic`")


def _no_user_options(raw: Any) -> None:
    """Programs that fill in every field send ``null``; nobody has ever used it."""
    raise ValueError("is not supported; leave it out")
