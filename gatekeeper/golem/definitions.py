"""A service as Golem's providers define it: the fields, and what must be true of them.

The same rules hold for files and for the management API. This module has no dependency beside the
standard library, and imports quickly: the runtime program reads definitions, too, and must answer
its supervisor at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os.path
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gatekeeper.config import values
from gatekeeper.errors import ConfigurationError, Problem

T = TypeVar("T")

_LONGEST_TIMEOUT: Final = 366 * 24 * 3_600_000  # milliseconds, as in the configuration
_MOST_THREADS: Final = 65_536
_LONGEST_TEXT: Final = 65_536
_LARGEST_CERTIFICATE: Final = 1024 * 1024  # bytes
_DEEPEST: Final = 16
_LARGEST_PROPERTIES: Final = 262_144  # characters


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
    server_names: Sequence[str] | None = None,
) -> Definition:
    """Read a definition from what a JSON document (or TOML, or YAML) holds.

    ``base`` is where relative paths start; there may be none without it. ``name`` is what a
    definition without one is called, ``server_names`` what it advertises without ``serverName``:
    one of them must be there, unless ``None`` leaves that to somebody else.

    :raises ConfigurationError: with every problem; the paths are fields, such as ``cert.keyPath``.
    """
    fields = _Fields(raw)
    fields.read("auth", _auth, None)
    fields.read("user", _no_user_options, None)
    bind_alias = fields.read("bind", _addresses, ())
    definition = Definition(
        name=fields.read("name", _name, name),
        from_=fields.read("from", _prefix),
        to=fields.read("to", _destination),
        description=fields.read("description", _text, ""),
        server_names=fields.read("serverName", _server_names, tuple(server_names or ())),
        bind_https=fields.read("bindHttps", _addresses, bind_alias),
        bind_http=fields.read("bindHttp", _addresses, ()),
        certificate=fields.read("cert", lambda raw: _certificate(raw, base), None),
        request_timeout=fields.read("requestTimeout", _milliseconds, None),
        response_timeout=fields.read("responseTimeout", _milliseconds, None),
        cpu_threads=fields.read("cpuThreads", _threads, None),
        offer_properties=fields.read("offerProperties", _properties, {}),
    )
    if bind_alias and "bindHttps" in fields:
        fields.blame("bind", "is another name of `bindHttps`; keep one of them")
    if not fields.has_any("bindHttps", "bindHttp", "bind"):
        fields.blame("bindHttps", "is required, or `bindHttp`")
    if definition.bind_https and "cert" not in fields:
        fields.blame("cert", "is required for HTTPS")
    for address in set(definition.bind_https) & set(definition.bind_http):
        fields.blame("bindHttp", f"`{address}` is for HTTPS already")
    if server_names is not None and not definition.server_names:
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


# --- reading fields -----------------------------------------------------------------------------

_REQUIRED: Final[Any] = object()


class _Fields:
    """The fields of a definition. ``null`` is as good as a field that is left out."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise ConfigurationError([Problem("", "must be an object with the service's fields")])
        self._given = {key: value for key, value in raw.items() if value is not None}
        self._known: set[str] = set()
        self._problems: list[Problem] = []

    def __contains__(self, field: str) -> bool:
        return field in self._given

    def has_any(self, *fields: str) -> bool:
        return any(field in self._given for field in fields)

    def blame(self, field: str, message: str) -> None:
        self._problems.append(Problem(field, message))

    def read(self, field: str, parse: Callable[[Any], T], default: Any = _REQUIRED) -> T | Any:
        """The field's value; what is wrong with it becomes a problem, and the default its value."""
        self._known.add(field)
        if field not in self._given:
            if default is _REQUIRED:
                self.blame(field, "is required")
            return default
        try:
            return parse(self._given[field])
        except ConfigurationError as error:
            for path, message in error.problems:
                self.blame(field + path, message)
        except ValueError as error:
            self.blame(field, str(error))
        return default

    def finish(self) -> None:
        """Raise what has come together."""
        for field in self._given.keys() - self._known:
            self.blame(_shown(field), "unknown field" + _suggestion(field, self._known))
        if self._problems:
            raise ConfigurationError(sorted(self._problems))


def _shown(field: object) -> str:
    """A field's name as anybody may have written it, fit for a message."""
    text = str(field)[:100]
    return text if text.isidentifier() else json.dumps(text)


def _suggestion(field: object, known: Iterable[str]) -> str:
    import difflib  # not worth its time where nothing is wrong

    near = difflib.get_close_matches(str(field)[:100], sorted(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("must be a string")
    if len(raw) > _LONGEST_TEXT:
        raise ValueError(f"must have at most {_LONGEST_TEXT} characters")
    return raw


def _name(raw: Any) -> str:
    return values.check_name(_text(raw))


def _prefix(raw: Any) -> str:
    # A slash at the end has always been allowed, and means nothing.
    return values.check_prefix(_text(raw).rstrip("/") or "/")


def _destination(raw: Any) -> str:
    return values.check_upstream(_text(raw))


def _several(raw: Any, parse: Callable[[Any], str]) -> tuple[str, ...]:
    """One, or a list of them, each once."""
    if not isinstance(raw, list):
        return (parse(raw),)
    if not raw:
        raise ValueError("must not be empty")
    found: dict[str, None] = {}
    problems = []
    for i, item in enumerate(raw):
        try:
            found[parse(item)] = None
        except ValueError as error:
            problems.append(Problem(f"[{i}]", str(error)))
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def _addresses(raw: Any) -> tuple[str, ...]:
    return _several(raw, _address)


def _address(raw: Any) -> str:
    host, port = values.parse_bind(_text(raw))
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    host = "127.0.0.1" if host == "localhost" else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _server_names(raw: Any) -> tuple[str, ...]:
    return _several(raw, _server_name)


def _server_name(raw: Any) -> str:
    text = _text(raw)
    if not 1 <= len(text) <= 253 or not text.isprintable() or " " in text:
        raise ValueError("must be a domain name or an address")
    return text


def _certificate(raw: Any, base: Path | None) -> Certificate:
    # Who sends back what the API has shown sends the hash, too; it is computed anew.
    fields = _Dotted(raw)
    fields.read("hash", _text, "")
    certificate = Certificate(
        fields.read("path", lambda raw: _path(raw, base)),
        fields.read("keyPath", lambda raw: _path(raw, base)),
    )
    fields.finish()
    return certificate


class _Dotted(_Fields):
    """The fields of an object inside a definition."""

    def blame(self, field: str, message: str) -> None:
        super().blame(f".{field}", message)


def _path(raw: Any, base: Path | None) -> str:
    text = _text(raw)
    if not text or "\0" in text:
        raise ValueError("must be a path")
    if base is None and not os.path.isabs(text):
        raise ValueError("must be an absolute path")
    return os.path.normpath(os.path.join(base or "/", text))


def _auth(raw: Any) -> None:
    fields = _Dotted(raw)
    method = fields.read("method", _text)
    if "method" in fields and method != "basic":
        fields.blame("method", "must be `basic`")
    fields.finish()


def _no_user_options(raw: Any) -> None:
    """Programs that fill in every field send ``null``; nobody has ever used it."""
    raise ValueError("is not supported; leave it out")


def _milliseconds(raw: Any) -> int:
    return _number(raw, _LONGEST_TIMEOUT, "milliseconds")


def _threads(raw: Any) -> int:
    return _number(raw, _MOST_THREADS, "threads")


def _number(raw: Any, most: int, what: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= most:
        raise ValueError(f"must be a whole number of {what}, from 1 to {most}")
    return raw


def _properties(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError("must be an object")
    if _size(raw) > _LARGEST_PROPERTIES:
        raise ValueError(f"must not be larger than {_LARGEST_PROPERTIES} characters")
    return raw


def _size(raw: Any, depth: int = 0) -> int:
    """About how many characters a JSON value is long, as far as that is not too many.

    YAML's aliases make a small file hold a lot: what counts is what would be written.
    """
    if depth > _DEEPEST:
        raise ValueError(f"must not be nested deeper than {_DEEPEST}")
    if isinstance(raw, str):
        return len(raw) + 2
    if raw is None or isinstance(raw, int) or (isinstance(raw, float) and math.isfinite(raw)):
        return 8
    if isinstance(raw, dict):
        raw = [*raw, *raw.values()] if all(isinstance(key, str) for key in raw) else None
    if not isinstance(raw, list):
        raise ValueError("must hold what JSON can hold only, with strings as keys")
    size = 2
    for item in raw:
        if size <= _LARGEST_PROPERTIES:
            size += _size(item, depth + 1)
    return size
