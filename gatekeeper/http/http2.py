"""HTTP/2's field sections and HTTP/1.1's heads, each written as the other.

One strict parser (:mod:`gatekeeper.http.heads`) judges every message. What HTTP/2 has rules of its
own for is checked here first (RFC 9113, 8.2 and 8.3): a message that breaks them is malformed, and
its stream is reset. What passes can be written down as a head without becoming another message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from hpack.struct import NeverIndexedHeaderTuple

from gatekeeper.errors import GatekeeperError
from gatekeeper.http.fields import Fields, is_field, may_be_trailer
from gatekeeper.http.heads import bad_request

#: Names and values as h2 gives and takes them.
Section: TypeAlias = Iterable[tuple[bytes, bytes]]

_LOWER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PATH: Final = re.compile(rb"/[!-~]*|\*")
_AUTHORITY: Final = re.compile(rb"[!-~]+")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")

#: What belongs to a connection has no place in a stream (RFC 9113, 8.2.2).
_CONNECTION: Final = frozenset(
    b"connection proxy-connection keep-alive transfer-encoding upgrade".split()
)
_NOT_SENT: Final = _CONNECTION | {b"te", b"http2-settings"}
#: Different in every message: to be kept out of the compression's table, or secret.
_NOT_INDEXED: Final = frozenset(
    b"authorization proxy-authorization cookie set-cookie x-request-id traceparent "
    b"content-length x-forwarded-for".split()
)
_REQUEST: Final = frozenset(b":method :scheme :path :authority".split())
_MOST_TRAILERS: Final = 100


class MalformedMessageError(GatekeeperError):
    """A message that breaks HTTP/2's rules: its stream ends with PROTOCOL_ERROR."""


def _split(section: Section, allowed: frozenset[bytes]) -> tuple[dict[bytes, bytes], Fields]:
    """Pseudo-header fields and the others.

    :raises MalformedMessageError: RFC 9113, 8.2.1, 8.2.2 and 8.3.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    for name, value in section:
        if name[:1] == b":":
            if name not in allowed:
                raise MalformedMessageError("an unknown pseudo-header field")
            if fields:
                raise MalformedMessageError("a pseudo-header field behind other fields")
            if name in pseudo:
                raise MalformedMessageError("a pseudo-header field twice")
            pseudo[name] = value
            continue
        if not _LOWER.fullmatch(name):
            raise MalformedMessageError("a malformed field name")
        if not is_field(name, value):
            raise MalformedMessageError("a malformed field value")
        if name in _CONNECTION:
            raise MalformedMessageError("a field of a connection")
        if name == b"te" and value.lower() != b"trailers":
            raise MalformedMessageError("TE is not `trailers`")
        fields.append((name, value))
    return pseudo, fields


def request_head(section: Section, *, ended: bool) -> bytes:
    """A request's header section as an HTTP/1.1 head. ``ended``: no body follows.

    A body of unknown length becomes one in chunks. Where Host and ``:authority`` differ, nobody
    knows what is asked for.

    :raises MalformedMessageError: RFC 9113, 8.3.1.
    :raises ProtocolError: 400.
    """
    pseudo, fields = _split(section, _REQUEST)
    method = pseudo.get(b":method", b"")
    if not _METHOD.fullmatch(method):
        raise MalformedMessageError("no method")
    authority = pseudo.get(b":authority")
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        raise MalformedMessageError("a malformed :authority")
    if method == b"CONNECT":
        if len(pseudo) != 2 or authority is None:
            raise MalformedMessageError("a malformed CONNECT")
        target = authority
    else:
        target = pseudo.get(b":path", b"")
        if pseudo.get(b":scheme") not in (b"http", b"https"):
            raise MalformedMessageError("no scheme that is known")
        if not _PATH.fullmatch(target) or (target == b"*" and method != b"OPTIONS"):
            raise MalformedMessageError("a malformed :path")
    parts = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    if authority is not None:
        parts.append(b"host: %b\r\n" % authority)
    parts += _request_fields(fields, authority, ended)
    parts.append(b"\r\n")
    return b"".join(parts)


def _request_fields(fields: Fields, authority: bytes | None, ended: bool) -> list[bytes]:
    lines: list[bytes] = []
    cookies: list[bytes] = []
    length: bytes | None = None
    for name, value in fields:
        if name == b"host" and authority is not None:
            if value.lower() != authority.lower():
                raise bad_request("Host is not what :authority says")
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"te":
            lines.append(b"te: trailers\r\nconnection: te\r\n")
        elif name == b"content-length":
            if length is not None and length != value:
                raise MalformedMessageError("more than one Content-Length")
            length = value
        else:
            lines.append(b"%b: %b\r\n" % (name, value))
    if cookies:  # crumbs, RFC 9113, 8.2.3
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))
    if length is not None:
        if ended and length.strip(b"0"):
            raise MalformedMessageError("Content-Length, and no body")
        lines.append(b"content-length: %b\r\n" % length)
    elif not ended:
        lines.append(b"transfer-encoding: chunked\r\n")
    return lines


def response_head(section: Section) -> bytes:
    """A response's header section as an HTTP/1.1 head.

    :raises MalformedMessageError: RFC 9113, 8.3.2.
    """
    pseudo, fields = _split(section, frozenset({b":status"}))
    status = pseudo.get(b":status", b"")
    if not _STATUS.fullmatch(status):
        raise MalformedMessageError("no status")
    lines = [b"%b: %b\r\n" % field for field in fields if field[0] != b"te"]
    return b"HTTP/1.1 %b \r\n%b\r\n" % (status, b"".join(lines))


def trailer_fields(section: Section) -> Fields:
    """The trailers of a message that may be passed on.

    :raises MalformedMessageError: as for any section; there are no pseudo-header fields in it.
    """
    _, fields = _split(section, frozenset())
    if len(fields) > _MOST_TRAILERS:
        raise MalformedMessageError("too many trailers")
    return [field for field in fields if may_be_trailer(field[0])]


def response_section(status: int, lines: Iterable[bytes], length: int | None) -> Fields:
    """The header section of a response of ours: field lines, and the body's length if known."""
    section = [(b":status", b"%d" % status), *_sent(lines)]
    if length is not None and status >= 200 and status != 204:
        section.append((b"content-length", b"%d" % length))
    return section


def request_section(head: bytes, scheme: bytes) -> Fields:
    """The header section of a request to an upstream, from the head that HTTP/1.1 would send."""
    line, *lines = head[:-4].split(b"\r\n")
    method, target, _ = line.split(b" ")
    authority = b""
    fields: list[bytes] = []
    accepts_trailers = False
    for each in lines:
        name, _, value = each.partition(b":")
        name = name.lower()
        if name == b"host":
            authority = value.strip()
        elif name == b"te":
            accepts_trailers = True
        else:
            fields.append(each)
    section = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    section.insert(2, (b":authority", authority))
    section += _sent(fields)
    if accepts_trailers:
        section.append((b"te", b"trailers"))
    return section


def _sent(lines: Iterable[bytes]) -> Fields:
    """Field lines as h2 takes them. What is secret, or never the same, stays out of its table."""
    fields: Fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _NOT_SENT:
            continue
        if name in _NOT_INDEXED:
            fields.append(NeverIndexedHeaderTuple(name, value))
        else:
            fields.append((name, value))
    return fields


def body_length(lines: Sequence[tuple[bytes, bytes]]) -> int | None:
    """What Content-Length says, where it is a number."""
    for name, value in lines:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
