"""Header field names: what a proxy does with each of them (RFC 9110, 7.6.1).

``classify`` is asked for every field of every message, so it is a table: a bounded one, that fills
with the names as they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

Fields: TypeAlias = list[tuple[bytes, bytes]]

#: Kinds of field. What is above ``KEEP`` is not forwarded as it came.
KEEP: Final = 0
HOP: Final = 1  # belongs to one connection
FRAMING: Final = 2  # where the message ends: the codec writes its own
RESERVED: Final = 3  # identity and forwarding: only we may say these
HOST: Final = 4
AUTHORIZATION: Final = 5
PROXY_AUTHORIZATION: Final = 6
CONNECTION: Final = 7
UPGRADE: Final = 8
EXPECT: Final = 9
TE: Final = 10
CONTENT_LENGTH: Final = 11
TRANSFER_ENCODING: Final = 12
VIA: Final = 13
TRACEPARENT: Final = 14
REQUEST_ID: Final = 15
DATE: Final = 16

_KINDS: Final[dict[bytes, int]] = {
    b"keep-alive": HOP,
    b"proxy-connection": HOP,
    b"proxy-authenticate": HOP,
    b"proxy-authentication-info": HOP,
    b"proxy": HOP,  # no field at all, but CGI makes the variable HTTP_PROXY of it
    b"http2-settings": HOP,
    b"trailer": FRAMING,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"content-length": CONTENT_LENGTH,
    b"host": HOST,
    b"authorization": AUTHORIZATION,
    b"proxy-authorization": PROXY_AUTHORIZATION,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"te": TE,
    b"via": VIA,
    b"traceparent": TRACEPARENT,
    b"x-request-id": REQUEST_ID,
    b"date": DATE,
    b"forwarded": RESERVED,
    b"x-real-ip": RESERVED,
    b"x-trace-id": RESERVED,
    b"x-authkey": RESERVED,
    b"x-userinfo": RESERVED,
    b"remote-user": RESERVED,
}

#: A field whose name begins so is ours to set.
_RESERVED_PREFIXES: Final = (b"x-forwarded-", b"x-sf-", b"nvm-")

#: Fields that must not come as trailers (RFC 9110, 6.5.1): framing, routing, authentication,
#: request modifiers, content metadata, response control.
_NO_TRAILERS: Final = frozenset(
    b"age authentication-info cache-control content-encoding content-range content-type cookie "
    b"date expires if-match if-modified-since if-none-match if-range if-unmodified-since location "
    b"max-forwards pragma range retry-after set-cookie vary warning www-authenticate".split()
)

_TABLE_SIZE: Final = 4096
_LONGEST_NAME: Final = 64  # that is remembered


_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


def is_field(name: bytes, value: bytes) -> bool:
    """Whether these can be a field line's name and value (RFC 9110, 5.1 and 5.5)."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def normalize(name: bytes) -> bytes:
    """The name as many upstreams read it: lower case, ``_`` as ``-`` (CGI makes them equal)."""
    return name.lower().replace(b"_", b"-")


class _Table(dict[bytes, tuple[bytes, int]]):
    """What is known of the names seen so far. It begins anew when it is full."""

    def __missing__(self, name: bytes) -> tuple[bytes, int]:
        lower = name.lower()
        kind = _KINDS.get(lower, KEEP)
        if kind == KEEP:
            plain = normalize(lower)
            if plain.startswith(_RESERVED_PREFIXES) or (plain != lower and plain in _KINDS):
                kind = RESERVED
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _TABLE_SIZE:
                self.clear()
            self[name] = (lower, kind)
        return lower, kind


#: ``classify(name)`` is the name in lower case and its kind.
#:
#: A spelling with ``_`` of a name that means something to a proxy is ``RESERVED``: it is no such
#: field, but an upstream may take it for one.
classify: Final[Callable[[bytes], tuple[bytes, int]]] = _Table().__getitem__


def may_be_trailer(name: bytes) -> bool:
    """Whether a field of this name (lower case) may be forwarded in a trailer section."""
    return classify(name)[1] == KEEP and normalize(name) not in _NO_TRAILERS


def list_members(values: Iterable[bytes]) -> list[bytes]:
    """The members of a list field (RFC 9110, 5.6.1) in lower case, empty ones left out."""
    return [
        member for value in values for raw in value.split(b",") if (member := raw.strip().lower())
    ]


def parse_lines(lines: Iterable[bytes]) -> Fields:
    """Field lines without their ends, known to be good, as names (in lower case) and values."""
    fields: Fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        fields.append((classify(name)[0], value.strip(b" \t")))
    return fields


def field_lines(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Field lines as they go on the wire, without their ends."""
    return [b"%b: %b" % field for field in fields]


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Field lines as they go on the wire, without the empty line at the end."""
    parts: list[bytes] = []
    for name, value in fields:
        parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)
