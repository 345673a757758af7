"""The request target and the authority: one canonical spelling, or a refusal.

What is routed, authorized, metered and forwarded is this one spelling. Whatever two parsers could
read differently (dot segments, empty segments, encoded slashes and dots, path parameters that
hide a dot segment, double encoding, overlong UTF-8) is refused with 400.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gatekeeper.errors import ProtocolError


class Authority(NamedTuple):
    """Host and port. ``host`` is lower case, without a trailing dot and without brackets."""

    host: str
    port: int | None

    def encode(self, default_port: int | None = None) -> bytes:
        """``host`` or ``host:port`` as it stands in a Host field, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port is None or self.port == default_port:
            return host.encode("ascii")
        return f"{host}:{self.port}".encode("ascii")


class Target(NamedTuple):
    """A request target: ``authority`` and ``scheme`` only in absolute form.

    ``path`` is canonical; ``query`` begins with ``?`` or is empty and is forwarded as it came.
    """

    scheme: bytes
    authority: Authority | None
    path: bytes
    query: bytes


# Segments of unreserved characters that cannot be a dot segment: nearly every request.
_PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?")
_PCHARS: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")
_QUERY: Final = re.compile(rb"[!\"$-~]*")  # visible ASCII but '#'
_ESCAPE: Final = re.compile(rb"%(..?)?", re.DOTALL)
_PARAMETERS: Final = re.compile(rb";|%3B")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{2}")
_DOUBLE: Final = re.compile(rb"%25[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)


def bad_target(detail: str) -> ProtocolError:
    """The refusal of a request target."""
    return ProtocolError("bad_target", detail)


def canonical_path(raw: bytes) -> bytes:
    """The one spelling of a path.

    Percent-encoded unreserved characters are decoded, hex digits put in upper case (RFC 3986,
    6.2.2).

    :raises ProtocolError: 400, where the path is malformed or ambiguous.
    """
    if raw and _PLAIN.fullmatch(raw):
        return raw
    if not raw.startswith(b"/"):
        raise bad_target("the path does not begin with '/'")
    if not _PCHARS.fullmatch(raw):
        raise bad_target("the path has a character that must be percent-encoded")
    path = _ESCAPE.sub(_unescape, raw)
    if _DOUBLE.search(path):  # only now: `%25%32e` has become `%252e`
        raise bad_target("the path is percent-encoded twice")
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_target("the path is not UTF-8") from None
    for segment in path[1:].split(b"/")[:-1]:
        _check_segment(segment, last=False)
    _check_segment(path.rpartition(b"/")[2], last=True)
    return path


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match.group(1)
    if digits is None or not _HEX.fullmatch(digits):
        raise bad_target("'%' is not followed by two hex digits")
    value = int(digits, 16)
    if value in _UNRESERVED:
        return bytes((value,))
    if value < 0x20 or value == 0x7F or value in b"/\\":
        raise bad_target("the path has an encoded slash, backslash or control character")
    return b"%" + digits.upper()


def _check_segment(segment: bytes, *, last: bool) -> None:
    name = _PARAMETERS.split(segment, 1)[0]
    if name in (b".", b".."):
        raise bad_target("the path has a dot segment")
    if not name and (segment or not last):
        raise bad_target("the path has an empty segment")


@lru_cache(maxsize=4096)
def parse_authority(raw: bytes) -> Authority:
    """Read ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``.

    :raises ProtocolError: 400; userinfo, a zone, an empty host or port are refused.
    """
    text = raw.decode("latin-1").lower()
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ProtocolError("bad_host", "the host is malformed")
        try:
            host = ipaddress.IPv6Address(literal).compressed if "%" not in literal else ""
        except ValueError:
            host = ""
        port_text, has_port = rest[1:], bool(rest)
    else:
        host, colon, port_text = text.partition(":")
        has_port = bool(colon)
        if len(host) > 254 or not _NAME.fullmatch(host):
            host = ""
    host = host.removesuffix(".")
    if not host:
        raise ProtocolError("bad_host", "the host is malformed")
    if not has_port:
        return Authority(host, None)
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise ProtocolError("bad_host", "the port is malformed")
    port = int(port_text)
    if not 0 < port < 65536:
        raise ProtocolError("bad_host", "the port is out of range")
    return Authority(host, port)


def parse_target(raw: bytes) -> Target:
    """Read a target in origin form (``/path?query``) or absolute form.

    The other two forms belong to their methods: see :func:`parse_authority` for CONNECT; ``*``
    is for OPTIONS, and the caller's to accept.

    :raises ProtocolError: 400.
    """
    if raw.startswith(b"/"):
        path, mark, query = raw.partition(b"?")
        if mark:
            if not _QUERY.fullmatch(query):
                raise bad_target("the query has a character that must be percent-encoded")
            query = b"?" + query
        return Target(b"", None, canonical_path(path), query)
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        raise bad_target("the target is neither a path nor a URL")
    scheme, authority, rest = absolute.groups()
    if b"@" in authority:
        raise bad_target("the target has user information")
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    target = parse_target(rest)
    return Target(scheme.lower(), parse_authority(authority), target.path, target.query)
