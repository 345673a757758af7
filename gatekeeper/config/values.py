"""Single values of the configuration, as pure functions from text.

Each takes the text of one setting and gives back its parsed or canonical form; each raises
``ValueError`` with a sentence for the operator that never repeats the text, for it may hold a
secret (a password in a URL).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

from gatekeeper.errors import ProtocolError
from gatekeeper.http.target import canonical_path
from gatekeeper.usage.units.paths import parse_path

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[^:]*))?")
# RFC 9110 section 5.6.2, without the lower-case letters: methods are case-sensitive, and a
# lower-case one in a configuration is a slip.
_METHOD = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
# RFC 3986 section 3.3, pchar. "%" and ";" are not for prefixes: what two parsers may read
# differently has no place in the choice of a service.
_PREFIX = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@/-]+")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_PLAIN_URL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%\[\]-]*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_AMOUNT = re.compile(r"(?:[0-9]{1,12}|10{12})(?:\.[0-9]{1,15})?(?:e-(?:0[0-9]|1[0-5]))?")
_MOST_PATHS = 8

#: Processes that serve requests.
MOST_WORKERS = 64
_MOST_ITEMS = 64

Item = TypeVar("Item")


class Address(NamedTuple):
    """Where to listen: an IP address in its canonical form, or ``localhost``; and a port."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback


class Upstream(NamedTuple):
    """An upstream's URL in parts. ``path`` begins with ``/``, or is empty as in ``http://host``."""

    scheme: str
    host: str
    port: int
    path: str


def check_name(text: str) -> str:
    """A name of the operator's choice, as it is."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            "must be 1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter or digit"
        )
    return text


def parse_port(text: str, lowest: int = 1) -> int:
    """A port number in plain decimal digits, from ``lowest`` to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ValueError(f"the port must be a number from {lowest} to 65535")
    return int(text)


def split_authority(text: str) -> tuple[str, str | None]:
    """Split ``host:port`` or ``[v6]:port`` into the host, brackets kept, and the port's text."""
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise ValueError("must be `host:port`, with brackets around an IPv6 address: `[::1]:443`")
    return match["host"], match["port"]


def parse_bind(text: str) -> Address:
    """An address to listen on: ``127.0.0.1:80``, ``[::]:443``, ``localhost:0``."""
    host, port = split_authority(text)
    if port is None:
        raise ValueError("must be `address:port`; the port is missing")
    number = parse_port(port, lowest=0)
    if host == "localhost":
        return Address(host, number)
    try:
        if host.startswith("["):
            return Address(str(ipaddress.IPv6Address(host[1:-1])), number)
        return Address(str(ipaddress.IPv4Address(host)), number)
    except ValueError:
        raise ValueError(
            "must be `address:port`, the address an IP address (IPv6 in brackets) or `localhost`"
        ) from None


def check_bind(text: str) -> str:
    """An address that :func:`parse_bind` understands, as it is."""
    parse_bind(text)
    return text


def check_management_bind(text: str) -> str:
    """As :func:`check_bind`, or ``none``, or ``unix:`` and the absolute path of a socket."""
    path = unix_path(text)
    if path is None:
        return text if text == "none" else check_bind(text)
    if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "replace")) > 100:
        raise ValueError("`unix:` must be followed by an absolute path of at most 100 bytes")
    return text


def unix_path(bind: str) -> str | None:
    """The path in ``unix:/path``; None where it is no such thing."""
    return bind[5:] if bind.startswith("unix:") else None


def is_network_bind(bind: str) -> bool:
    """Whether the management's ``bind`` is an address that :func:`parse_bind` understands."""
    return bind != "none" and unix_path(bind) is None


def parse_mode(text: str) -> int:
    """The permissions of a file in octal digits, for its owner and group only."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("must be permissions in octal digits: `0600`, or `0660`")
    mode = int(text, 8)
    if mode & 0o117 or not mode & 0o200:
        raise ValueError("must let the owner read and write, perhaps the group: `0600`, `0660`")
    return mode


def check_mode(text: str) -> str:
    """Permissions that :func:`parse_mode` understands, as they are."""
    parse_mode(text)
    return text


def parse_host(text: str) -> str:
    """A host name in lower case, or an IP address in canonical form, IPv6 without brackets.

    Numbers that only some resolvers take for an address (``0x7f000001``, ``127.1``) are refused.
    """
    if not text.isascii():
        raise ValueError("must be ASCII; write an international name as `xn--…`")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare and "%" not in bare:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise ValueError("must be a host name or an IP address, without a port") from None
    name = text.lower()
    labels = name.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError("must be a host name or an IP address in its usual form") from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must be a host name or an IP address")
    return name


def parse_host_pattern(text: str) -> str:
    """As :func:`parse_host`, or ``*.suffix`` in lower case: any depth below the suffix."""
    if not text.startswith("*."):
        return parse_host(text)
    suffix = parse_host(text[2:])
    if is_address(suffix):
        raise ValueError("`*.` goes before a host name, not an address")
    return f"*.{suffix}"


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> Network:
    """A network, or an address as the network of one: ``10.0.0.0/8``, ``::1``."""
    try:
        return _unmapped(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or a network such as `10.0.0.0/8`") from None
    raise ValueError(f"has bits set beyond the network's prefix; did you mean `{network}`?")


def _unmapped(network: Network) -> Network:
    """IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2) as IPv4, which is what peers are known by."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def check_network(text: str) -> str:
    """A network in canonical form."""
    return str(parse_network(text))


def check_method(text: str) -> str:
    """A request method in upper case, as it is."""
    if not _METHOD.fullmatch(text):
        raise ValueError("must be a request method in upper case, such as `GET`")
    return text


def _check_segments(path: str) -> None:
    segments = path.split("/")[1:]
    if "" in segments[:-1]:
        raise ValueError("must not contain `//`")
    if "." in segments or ".." in segments:
        raise ValueError("must not contain `.` or `..` as a segment")


def check_prefix(text: str) -> str:
    """A path prefix of whole segments in canonical form, ``/`` for everything; as it is."""
    if not text.startswith("/"):
        raise ValueError("must be a path that starts with `/`")
    if "*" in text:
        raise ValueError("must not contain `*`: it is a prefix, all paths below it are meant")
    if not _PREFIX.fullmatch(text):
        raise ValueError("must be a plain path: no query, no `%`, no blanks, ASCII only")
    _check_segments(text)
    if text != "/" and text.endswith("/"):
        raise ValueError("must not end with `/`")
    return text


def check_path_pattern(text: str) -> str:
    """A pattern of an access rule, as it is: spelt like the canonical paths that it is for."""
    if not text.startswith("/"):
        raise ValueError("must start with `/`")
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path pattern: no query, no blanks, ASCII only")
    try:
        canonical = canonical_path(text.encode())
    except ProtocolError as error:
        raise ValueError(f"fits no request: {error.detail}") from None
    if canonical != text.encode():
        raise ValueError("fits no request: `%` in upper case, and only where it is needed")
    *inner, last = text.split("/")
    if "**" in inner:
        raise ValueError("`**` may only stand at the end")
    if any("*" in segment and segment != "*" for segment in inner) or (
        "*" in last and last not in ("*", "**")
    ):
        raise ValueError("`*` and `**` must be whole segments")
    return text


def parse_upstream(text: str) -> Upstream:
    """The URL of an upstream: ``http`` or ``https``, a host, perhaps a port and a path."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError("must be a URL that starts with `http://` or `https://`")
    if "?" in rest or "#" in rest:
        raise ValueError("must not have a query or a fragment")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise ValueError("must not hold a user name or password")
    host, port = split_authority(authority)
    if not host:
        raise ValueError("must be a URL with a host")
    if slash and not _PATH.fullmatch(slash + path):
        raise ValueError("must have a plain path: no blanks, ASCII only")
    _check_segments(slash + path)
    number = parse_port(port) if port is not None else {"http": 80, "https": 443}[scheme]
    return Upstream(scheme, parse_host(host), number, slash + path)


def check_upstream(text: str) -> str:
    """A URL that :func:`parse_upstream` understands, as it is."""
    parse_upstream(text)
    return text


def check_destination(text: str) -> str:
    """A service's ``to``: an upstream's URL, or ``grant``."""
    return text if text == "grant" else check_upstream(text)


def check_http_url(text: str) -> str:
    """A URL to ask, as it is: ``http`` or ``https``, a host, perhaps port, path and query.

    :raises ValueError: without the text, which may hold a secret.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must be a URL that starts with `http://` or `https://`")
    if "#" in text:
        raise ValueError("must not have a fragment")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password")
    host, port = split_authority(parts.netloc)
    if not host:
        raise ValueError("must be a URL with a host")
    parse_host(host)
    if port is not None:
        parse_port(port)
    if not _PLAIN_URL.fullmatch(text):
        raise ValueError("must be a plain URL: no blanks, ASCII only")
    return text


def check_health_path(text: str) -> str:
    """What an upstream is asked for by its health checks, as it is: a path, perhaps a query."""
    path, _, query = text.partition("?")
    if not path.startswith("/") or not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise ValueError("must be a path that starts with `/`, perhaps with a query; ASCII only")
    return text


def check_store_url(text: str) -> str:
    """The URL of a store, as it is."""
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest.strip("/"):
        return text
    if scheme == "postgresql" and rest:
        return text
    raise ValueError("must be `sqlite:///FILE` or `postgresql://user@host/database`")


def check_field_name(text: str) -> str:
    """The name of a header field (RFC 9110, 5.1), as it is."""
    if not _FIELD_NAME.fullmatch(text):
        raise ValueError("must be the name of a header field")
    return text


def check_workers(value: Any) -> Any:
    """How many processes: a number, or ``auto``."""
    if value != "auto" and (type(value) is not int or not 1 <= value <= MOST_WORKERS):
        raise ValueError(f"must be a number from 1 to {MOST_WORKERS}, or `auto`")
    return value


def one_or_more(value: Any) -> Any:
    """A string that stands for a list of one; a list, or anything else, as it is."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def some(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items of a list, as they are: one at least, and few."""
    if not 1 <= len(items) <= _MOST_ITEMS:
        raise ValueError(f"must be a list of 1 to {_MOST_ITEMS}")
    return items


def check_json_paths(texts: Sequence[str]) -> Sequence[str]:
    """Paths into a JSON document, as they are: one at least, and few."""
    if not 1 <= len(texts) <= _MOST_PATHS:
        raise ValueError(f"must be a path, or a list of 1 to {_MOST_PATHS}")
    for text in texts:
        parse_path(text)
    return texts


def exact_amount(value: Any) -> Any:
    """A number, or a string that says one, as the decimal that it is written as.

    What TOML has made a binary fraction is taken for the shortest decimal that gives it: the one
    that was written, up to 15 digits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    if not _AMOUNT.fullmatch(str(value)):
        raise ValueError(
            "must be a number from 0 to 10^12, with at most 15 digits behind the point"
        )
    return Decimal(str(value))


def check_model_name(text: str) -> str:
    """A key of a price list, as it is: a name, or the beginning of names and a ``*``."""
    if not 1 <= len(text.encode("utf-8", "replace")) <= 128 or "*" in text[:-1]:
        raise ValueError("must be the name of a model; a `*` may stand at its end only")
    return text
