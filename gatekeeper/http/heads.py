"""Message heads: strict parsing (RFC 9112) of a request's and a response's first part.

llhttp (through httptools) reads the field lines. It is lenient in places; what it lets through is
checked here: the first line to the letter, a repeated Host, sizes and counts. A parser costs a
quarter of a microsecond, so each head gets a fresh one and no state outlives a message.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import httptools

from gatekeeper.errors import ProtocolError, Refusal, UpstreamError
from gatekeeper.http import fields as f
from gatekeeper.http.fields import Fields, classify, list_members


class HeadLimits(NamedTuple):
    """Bounds on a head: bytes of the target, bytes of the whole head, number of fields."""

    target: int = 8192
    head: int = 32768
    fields: int = 100


_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_BEGINNING: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(?: [!-~]*(?: [HTP/0-9.]*)?)?\r?")
_HOP_BY_HOP: Final = frozenset({f.HOP, f.FRAMING, f.PROXY_AUTHORIZATION, f.TE})


def bad_request(detail: str) -> ProtocolError:
    """The refusal of a message that is not HTTP/1.1."""
    return ProtocolError("bad_request", detail)


class RequestHead:
    """A request's head, understood.

    ``fields`` are all fields as they came (names in lower case); ``forwarded`` those that may go
    on: no hop-by-hop fields, none that ``Connection`` names, no identity or forwarding fields, no
    Host, no credentials. ``length`` is the body's length, ``None`` where it is chunked.
    """

    minor = 1
    host: bytes | None = None
    authorization: bytes | None = None
    proxy_authorization: bytes | None = None
    length: int | None = 0
    keep_alive = True
    expects_continue = False
    unknown_expectation = False
    accepts_trailers = False
    upgrade: bytes | None = None
    via: bytes | None = None
    traceparent: bytes | None = None

    def __init__(self, method: bytes, target: bytes) -> None:
        self.method = method
        self.target = target
        self.fields: Fields = []
        self.forwarded: Fields = []

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {len(self.fields)} fields>"

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow this head."""
        return self.length != 0

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, ``name`` in lower case."""
        return [value for field, value in self.fields if field == name]


class _Collector:
    """What httptools calls: it only collects."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def check_beginning(data: bytes, limits: HeadLimits) -> None:
    """Look at a request head that is not complete yet: what cannot become one is refused now.

    :raises ProtocolError: 400, 414, 431 or 505.
    """
    line, newline, _ = data.partition(b"\n")
    if newline:
        _check_request_line(line + newline, limits)
    elif len(line) > limits.target + 80:
        raise ProtocolError("target_too_long", "the request target is too long", status=414)
    elif not _BEGINNING.fullmatch(line):
        raise bad_request("this is not an HTTP/1.1 request")
    if len(data) > limits.head:
        raise ProtocolError("head_too_large", "the request head is too large", status=431)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise bad_request("a line does not end in CR LF")


def _check_request_line(data: bytes, limits: HeadLimits) -> re.Match[bytes]:
    match = _REQUEST_LINE.match(data)
    if match is None:
        raise bad_request("the request line is malformed")
    if match.end(2) - match.start(2) > limits.target:
        raise ProtocolError("target_too_long", "the request target is too long", status=414)
    if match.group(3) != b"1":
        raise ProtocolError("bad_version", "HTTP/1.1 is spoken here", status=505)
    if match.group(4) not in b"01":
        raise ProtocolError("bad_version", "HTTP/1.1 is spoken here", status=505)
    return match


def parse_request_head(data: bytes, limits: HeadLimits) -> RequestHead:
    """Read a request head: ``data`` ends in the empty line.

    :raises ProtocolError: 400, 414, 431, 501 or 505; nothing after it may be read as a request.
    """
    if len(data) > limits.head:
        raise ProtocolError("head_too_large", "the request head is too large", status=431)
    line = _check_request_line(data, limits)
    method, target, _, minor = line.groups()
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # CONNECT, or a head that asks for an upgrade: it is complete
    except httptools.HttpParserInvalidMethodError:
        raise ProtocolError("unknown_method", "the method is not known", status=501) from None
    except httptools.HttpParserError as error:
        raise _explain(error, collector.fields) from None
    head = RequestHead(method, target)
    if minor == b"0":
        head.minor = 0
        head.keep_alive = False
    _understand(head, collector.fields, limits)
    return head


def _explain(error: Exception, fields: Fields) -> ProtocolError:
    for name, value in fields:
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            return ProtocolError(
                "bad_transfer_encoding", "the only transfer coding is chunked", status=501
            )
    return bad_request(f"the request is malformed: {error}")


def _understand(head: RequestHead, fields: Fields, limits: HeadLimits) -> None:
    """One pass over the fields: sort them, and find what the proxy itself must know."""
    if len(fields) > limits.fields:
        raise ProtocolError("too_many_fields", "the request has too many fields", status=431)
    seen, forwarded = head.fields, head.forwarded
    named: list[bytes] | None = None
    chunked = False
    for name, value in fields:
        name, kind = classify(name)
        seen.append((name, value))
        if kind == f.KEEP:
            forwarded.append((name, value))
        elif kind == f.HOST:
            if head.host is not None:
                raise bad_request("there is more than one Host")
            head.host = value
        elif kind == f.AUTHORIZATION:
            if head.authorization is not None:
                raise bad_request("there is more than one Authorization")
            head.authorization = value
        elif kind == f.PROXY_AUTHORIZATION:
            if head.proxy_authorization is not None:
                raise bad_request("there is more than one Proxy-Authorization")
            head.proxy_authorization = value
        elif kind == f.CONNECTION:
            named = (named or []) + list_members((value,))
        elif kind == f.CONTENT_LENGTH:
            head.length = _content_length(value)
        elif kind == f.TRANSFER_ENCODING:
            chunked = _is_chunked(value, chunked, head.minor)
        elif kind == f.VIA:
            head.via = value if head.via is None else head.via + b", " + value
            forwarded.append((name, value))
        elif kind == f.TRACEPARENT:
            head.traceparent = b"" if head.traceparent is not None else value
        elif kind == f.UPGRADE:
            head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
        elif kind == f.EXPECT:
            head.expects_continue = value.strip().lower() == b"100-continue"
            head.unknown_expectation = head.unknown_expectation or not head.expects_continue
        elif kind == f.TE:
            head.accepts_trailers = b"trailers" in list_members((value,))
    if chunked:
        head.length = None
    if named is None:
        head.upgrade = None
    else:
        _apply_connection(head, named)
    if head.host is None and head.minor == 1:
        raise bad_request("there is no Host")


def _content_length(value: bytes) -> int:
    value = value.strip(b" \t")
    if not value.isdigit() or len(value) > 18:
        raise bad_request("Content-Length is not a number of bytes")
    return int(value)


def _is_chunked(value: bytes, already: bool, minor: int) -> bool:
    if already or value.strip(b" \t").lower() != b"chunked":
        raise ProtocolError(
            "bad_transfer_encoding", "the only transfer coding is chunked", status=501
        )
    if minor == 0:
        raise bad_request("HTTP/1.0 has no transfer codings")
    return True


def _apply_connection(head: RequestHead, named: list[bytes]) -> None:
    if b"close" in named:
        head.keep_alive = False
    elif head.minor == 0:
        head.keep_alive = b"keep-alive" in named
    if head.upgrade is not None and not _may_upgrade(head, named):
        head.upgrade = None
    if b"te" not in named:
        head.accepts_trailers = False
    gone = frozenset(named)
    if not gone <= {b"close", b"keep-alive", b"upgrade", b"te"}:
        head.forwarded = [field for field in head.forwarded if field[0] not in gone]


def _may_upgrade(head: RequestHead, named: list[bytes]) -> bool:
    """Whether ``Upgrade`` goes on. Never for h2c: a tunnel would carry unchecked requests."""
    if b"upgrade" not in named or head.minor == 0 or head.length != 0:
        return False
    return head.upgrade is not None and b"h2c" not in list_members((head.upgrade,))


class ResponseHead:
    """An upstream's response head, understood. ``length`` is ``None`` where it is not said."""

    __slots__ = ("chunked", "fields", "keep_alive", "length", "reason", "status", "upgrade")

    def __init__(self, status: int, reason: bytes, fields: Fields) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.upgrade: bytes | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {len(self.fields)} fields>"


def bad_response(detail: str) -> UpstreamError:
    """The refusal of an upstream's answer: 502."""
    return UpstreamError("bad_response", f"the upstream broke the protocol: {detail}")


def parse_response_head(data: bytes, limits: HeadLimits) -> ResponseHead:
    """Read a response head: ``data`` ends in the empty line. ``fields`` are those to pass on.

    :raises UpstreamError: 502.
    """
    line = _STATUS_LINE.match(data)
    if line is None:
        raise bad_response("the status line is malformed")
    minor, status, reason = line.groups()
    collector = _Collector()
    try:
        httptools.HttpResponseParser(collector).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise bad_response(str(error)) from None
    if len(collector.fields) > limits.fields:
        raise bad_response("too many fields")
    kept: Fields = []
    head = ResponseHead(int(status), reason or b"", kept)
    head.keep_alive = minor == b"1"
    for field in collector.fields:
        kind = classify(field[0])[1]
        if kind == f.KEEP:
            kept.append(field)
        elif kind == f.CONTENT_LENGTH:
            head.length = _upstream_length(field[1])
        elif kind == f.TRANSFER_ENCODING:
            if minor == b"0" or head.chunked or field[1].strip(b" \t").lower() != b"chunked":
                raise bad_response("the only transfer coding is chunked")
            head.chunked = True
        elif kind == f.CONNECTION:
            _apply_response_connection(head, list_members((field[1],)))
        elif kind == f.UPGRADE:
            head.upgrade = field[1]
        elif kind not in _HOP_BY_HOP:
            kept.append(field)
    return head


def _upstream_length(value: bytes) -> int:
    try:
        return _content_length(value)
    except Refusal as refusal:
        raise bad_response(refusal.detail) from None


def _apply_response_connection(head: ResponseHead, named: list[bytes]) -> None:
    if b"close" in named:
        head.keep_alive = False
    elif b"keep-alive" in named:
        head.keep_alive = True
    gone = frozenset(named) - {b"close", b"keep-alive", b"upgrade"}
    if gone:
        head.fields = [field for field in head.fields if field[0].lower() not in gone]
