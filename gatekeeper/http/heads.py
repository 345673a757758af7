"""Message heads: strict parsing (RFC 9112) of a request's and a response's first part.

llhttp (through httptools) says whether the field lines are good. It is lenient in places; what it
lets through is checked here: the first line to the letter, a repeated Host, sizes and counts. A
parser costs a quarter of a microsecond, so each head gets a fresh one. It calls nobody: lines that
are good (no bare CR or LF, no folding) are read faster, and passed on as they are, than put
together again from the parser's pieces.

All of this together costs ten times as much. So a request head is not read again that differs from
the one before on its connection in nothing but its path, nor a response head in nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httptools

from gatekeeper.errors import ProtocolError, Refusal, UpstreamError
from gatekeeper.http import fields as f
from gatekeeper.http.fields import Fields, classify, list_members, parse_lines


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on a head: bytes of the target, bytes of the whole head, number of fields."""

    target: int = 8192
    head: int = 32768
    fields: int = 100


_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~]+) HTTP/([0-9]\.[0-9])"
)
_PATH: Final = re.compile(rb"/[!-~]*")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]{0,512}))?")
_COMMON_METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}
)
_BEGINNING: Final = re.compile(
    rb"\r|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(?: (?:[!-~]+(?: [HTP/0-9.]*)?)?)?\r?"
)
_OTHER_CODING: Final = re.compile(
    rb"transfer-encoding:[ \t]*(?!chunked(?:[ \t]*,|[ \t]*$))[!-~][ -~\t]*", re.IGNORECASE
)
_BESIDE_TARGET: Final = 80  # bytes of a request line: the longest method, the version
_LOOKED_AT: Final = 128  # bytes of a request line that is not complete
_HOP_BY_HOP: Final = frozenset({f.HOP, f.FRAMING, f.PROXY_AUTHORIZATION, f.TE, f.REQUEST_ID})
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})
_COMMON_OPTIONS: Final = {
    value: frozenset({value.lower()})
    for value in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade")
}
_NO_TUNNEL: Final = frozenset({b"h2", b"h2c", b"http", b"tls"})


def bad_request(detail: str) -> ProtocolError:
    """The refusal of a message that is not HTTP/1.1."""
    return ProtocolError("bad_request", detail)


class RequestHead:
    """A request's head, understood: nothing of it is changed any more.

    ``rest`` is what followed the request line, read under these ``limits``; ``forwarded`` are the
    field lines that may go on: no hop-by-hop fields, none that ``Connection`` names, no identity or
    forwarding fields, no Host, no credentials. ``length`` is the body's length, ``None`` where it
    is chunked.
    """

    __slots__ = (
        "accepts_trailers",
        "authorization",
        "expects_continue",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "limits",
        "method",
        "minor",
        "proxy_authorization",
        "rest",
        "target",
        "traceparent",
        "unknown_expectation",
        "upgrade",
        "via",
    )

    def __init__(self, method: bytes, target: bytes, rest: bytes, limits: HeadLimits) -> None:
        self.method = method
        self.target = target
        self.rest = rest
        self.limits = limits
        self.forwarded: list[bytes] = []
        self.minor = 1
        self.length: int | None = 0
        self.keep_alive = True
        self.expects_continue = self.unknown_expectation = self.accepts_trailers = False
        self.host: bytes | None = None
        self.authorization: bytes | None = None
        self.proxy_authorization: bytes | None = None
        self.upgrade: bytes | None = None
        self.via: bytes | None = None
        self.traceparent: bytes | None = None

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {len(self.lines)} fields>"

    @property
    def lines(self) -> list[bytes]:
        """The field lines as they came."""
        return _lines(self.rest)

    @property
    def fields(self) -> Fields:
        """All fields: names in lower case, and values."""
        return parse_lines(self.lines)

    def at(self, target: bytes) -> RequestHead:
        """The same request for another target."""
        head = RequestHead(self.method, target, self.rest, self.limits)
        head.forwarded = self.forwarded
        head.length = self.length
        head.keep_alive = self.keep_alive
        head.expects_continue = self.expects_continue
        head.unknown_expectation = self.unknown_expectation
        head.accepts_trailers = self.accepts_trailers
        head.host = self.host
        head.authorization = self.authorization
        head.proxy_authorization = self.proxy_authorization
        head.upgrade = self.upgrade
        head.via = self.via
        head.traceparent = self.traceparent
        return head

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow this head."""
        return self.length != 0

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, ``name`` in lower case."""
        return [value for field, value in self.fields if field == name]


#: Whom the parsers call: nobody.
_NOBODY: Final = object()


def check_beginning(data: bytes, limits: HeadLimits) -> None:
    """Look at a request head that is not complete yet: what cannot become one is refused now.

    This is asked again with every piece that arrives, so it looks at the first line and at the
    last line's end, and not at what is between.

    :raises ProtocolError: 400, 414, 431 or 505.
    """
    longest = limits.target + _BESIDE_TARGET
    newline = data.find(b"\n", 0, longest)
    if newline >= 0:
        if not data.startswith(b"\r\n", newline - 1):
            raise bad_request("the request line does not end in CR LF")
        _read_request_line(data[: newline - 1], limits)
    elif len(data) >= longest:
        raise ProtocolError("target_too_long", "the request target is too long", status=414)
    elif not _BEGINNING.fullmatch(data, 0, _LOOKED_AT):
        raise bad_request("this is not an HTTP/1.1 request")
    if len(data) > limits.head:
        raise ProtocolError("head_too_large", "the request head is too large", status=431)
    newline = data.rfind(b"\n")
    if newline > 0 and data[newline - 1] != 0x0D:
        raise bad_request("a line does not end in CR LF")


def _read_request_line(line: bytes, limits: HeadLimits) -> tuple[bytes, bytes, bool]:
    """Method, target, and whether it is HTTP/1.0. The line's end is not part of it."""
    words = line.split(b" ")
    if len(words) == 3 and words[2] == b"HTTP/1.1" and words[0] in _COMMON_METHODS:
        method, target, version = words[0], words[1], b"1.1"  # llhttp looks at the target
    else:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise bad_request("the request line is malformed")
        method, target, version = match.groups()
    if len(target) > limits.target:
        raise ProtocolError("target_too_long", "the request target is too long", status=414)
    if version == b"1.1":
        return method, target, False
    if version == b"1.0":
        return method, target, True
    if version < b"1":
        raise bad_request("HTTP/0.9 is not spoken here")
    raise ProtocolError("bad_version", "HTTP/1.1 is spoken here", status=505)


def parse_request_head(
    data: bytes, limits: HeadLimits, last: RequestHead | None = None
) -> RequestHead:
    """Read a request head: ``data`` ends in the empty line.

    ``last`` is the one before it on its connection: most clients say the same over and over.

    :raises ProtocolError: 400, 414, 431, 501 or 505; nothing after it may be read as a request.
    """
    if len(data) > limits.head:
        raise ProtocolError("head_too_large", "the request head is too large", status=431)
    end = data.index(b"\r\n")
    rest = data[end:]
    if last is not None and rest == last.rest and limits is last.limits:
        again = _again(last, data[:end])
        if again is not None:
            return again
    method, target, old = _read_request_line(data[:end], limits)
    try:
        httptools.HttpRequestParser(_NOBODY).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # CONNECT, or a head that asks for an upgrade: it is complete
    except httptools.HttpParserInvalidMethodError:
        raise ProtocolError("unknown_method", "the method is not known", status=501) from None
    except httptools.HttpParserError as error:
        raise _explain(error, _lines(rest)) from None
    lines = _lines(rest)
    if len(lines) > limits.fields:
        raise ProtocolError("too_many_fields", "the request has too many fields", status=431)
    head = RequestHead(method, target, rest, limits)
    if old:
        head.minor = 0
        head.keep_alive = False
    _understand(head, lines)
    return head


def _again(last: RequestHead, line: bytes) -> RequestHead | None:
    """The last head with another request line; ``None``: that has to be read like any other.

    What is good for one path is good for any, so this is only for paths.
    """
    method, _, path = line.partition(b" ")
    target, _, version = path.partition(b" ")
    if version != b"HTTP/1.1" or method != last.method or last.minor == 0:
        return None
    if target == last.target:
        return last
    if (
        len(target) > last.limits.target
        or method not in _COMMON_METHODS
        or not _PATH.fullmatch(last.target)
        or not _PATH.fullmatch(target)
    ):
        return None
    return last.at(target)


def _lines(data: bytes, end: int = 0) -> list[bytes]:
    """The field lines of a head whose first line ends at ``end``."""
    return data[end + 2 : -4].split(b"\r\n") if len(data) > end + 4 else []


def _explain(error: Exception, lines: list[bytes]) -> ProtocolError:
    codings = [line for line in lines if line[:18].lower() == b"transfer-encoding:"]
    if codings and _OTHER_CODING.fullmatch(codings[0]):
        return ProtocolError(
            "bad_transfer_encoding", "the only transfer coding is chunked", status=501
        )
    return bad_request(f"the request is malformed: {error}")


def _understand(head: RequestHead, lines: list[bytes]) -> None:
    """One pass over the fields: sort them, and find what the proxy itself must know."""
    forwarded = head.forwarded
    options: frozenset[bytes] = frozenset()
    for line in lines:
        name, _, value = line.partition(b":")
        kind = classify(name)[1]
        if kind == f.KEEP:
            forwarded.append(line)
            continue
        value = value.strip(b" \t")
        if kind == f.HOST:
            if head.host is not None:
                raise bad_request("there is more than one Host")
            head.host = value
        elif kind == f.AUTHORIZATION:
            if head.authorization is not None:
                raise bad_request("there is more than one Authorization")
            head.authorization = value
        elif kind == f.CONNECTION:
            options |= _connection_options(value)
        elif kind == f.CONTENT_LENGTH:
            head.length = _content_length(value)
        elif kind == f.TRANSFER_ENCODING:
            _check_coding(value, head.minor)
            head.length = None
        elif kind == f.PROXY_AUTHORIZATION:
            if head.proxy_authorization is not None:
                raise bad_request("there is more than one Proxy-Authorization")
            head.proxy_authorization = value
        elif kind == f.VIA:
            head.via = value if head.via is None else head.via + b", " + value
            forwarded.append(line)
        elif kind == f.TRACEPARENT:
            head.traceparent = b"" if head.traceparent is not None else value
        elif kind == f.UPGRADE:
            head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
        elif kind == f.EXPECT:
            _expect(head, value)
        elif kind == f.DATE:
            forwarded.append(line)
        elif kind == f.TE:
            head.accepts_trailers = head.accepts_trailers or b"trailers" in list_members((value,))
    if head.host is None and head.minor == 1:
        raise bad_request("there is no Host")
    if head.expects_continue and (head.minor == 0 or head.length == 0):
        head.expects_continue = False  # to be ignored, RFC 9110, 10.1.1
    if options:
        _apply_connection(head, options)
    else:
        head.upgrade = None
        head.accepts_trailers = False


def _content_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise bad_request("Content-Length is not a number of bytes")
    return int(value)


def _check_coding(value: bytes, minor: int) -> None:
    if value.lower() != b"chunked":
        raise ProtocolError(
            "bad_transfer_encoding", "the only transfer coding is chunked", status=501
        )
    if minor == 0:
        raise bad_request("HTTP/1.0 has no transfer codings")


def _expect(head: RequestHead, value: bytes) -> None:
    if value.lower() == b"100-continue":
        head.expects_continue = True
    else:
        head.unknown_expectation = True


def _connection_options(value: bytes) -> frozenset[bytes]:
    return _COMMON_OPTIONS.get(value) or frozenset(list_members((value,)))


def _apply_connection(head: RequestHead, options: frozenset[bytes]) -> None:
    if b"close" in options:
        head.keep_alive = False
    elif head.minor == 0:
        head.keep_alive = b"keep-alive" in options
    if head.upgrade is not None and not _may_upgrade(head, options):
        head.upgrade = None
    if b"te" not in options:
        head.accepts_trailers = False
    if not options <= _OPTIONS:
        head.forwarded = _without(options, head.forwarded)


def _without(names: frozenset[bytes], lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def _may_upgrade(head: RequestHead, options: frozenset[bytes]) -> bool:
    """Whether ``Upgrade`` goes on.

    Never to another HTTP, nor to TLS: that tunnel would carry requests that nobody checks.
    """
    if b"upgrade" not in options or head.minor == 0 or head.length != 0 or head.upgrade is None:
        return False
    names = {re.split(b"[/-]", protocol)[0] for protocol in list_members((head.upgrade,))}
    return bool(names) and names.isdisjoint(_NO_TUNNEL)


class ResponseHead:
    """An upstream's response head, understood: nothing of it is changed any more.

    ``data`` is what it was read from, under these ``limits``. ``lines`` are the field lines to pass
    on; ``length`` is ``None`` where it is not said.
    """

    __slots__ = (
        "chunked",
        "data",
        "dated",
        "keep_alive",
        "length",
        "limits",
        "lines",
        "reason",
        "status",
        "upgrade",
    )

    def __init__(self, data: bytes, limits: HeadLimits, status: int, reason: bytes) -> None:
        self.data = data
        self.limits = limits
        self.status = status
        self.reason = reason
        self.lines: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.dated = False
        self.keep_alive = True
        self.upgrade: bytes | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {len(self.lines)} fields>"


def bad_response(detail: str) -> UpstreamError:
    """The refusal of an upstream's answer: 502."""
    return UpstreamError("bad_response", f"the upstream broke the protocol: {detail}")


@lru_cache(maxsize=256)
def _read_status_line(line: bytes) -> tuple[bytes, int, bytes]:
    """The minor version, the status, the reason phrase."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise bad_response("the status line is malformed")
    minor, status, reason = match.groups()
    return minor, int(status), reason or b""


def parse_response_head(
    data: bytes, limits: HeadLimits, last: ResponseHead | None = None
) -> ResponseHead:
    """Read a response head: ``data`` ends in the empty line.

    ``last`` is the one before it on its connection: it may well be the same.

    Identity and forwarding fields are passed on: in a response they say nothing to us. A request
    id is not, we have our own.

    :raises UpstreamError: 502.
    """
    if last is not None and data == last.data and limits is last.limits:
        return last
    if len(data) > limits.head:
        raise bad_response("the head is too large")
    end = data.index(b"\r\n")
    minor, status, reason = _read_status_line(data[:end])
    try:
        httptools.HttpResponseParser(_NOBODY).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise bad_response(str(error)) from None
    lines = _lines(data, end)
    if len(lines) > limits.fields:
        raise bad_response("too many fields")
    head = ResponseHead(data, limits, status, reason)
    kept = head.lines
    options: frozenset[bytes] = frozenset()
    for line in lines:
        name, _, value = line.partition(b":")
        kind = classify(name)[1]
        if kind == f.KEEP:
            kept.append(line)
            continue
        value = value.strip(b" \t")
        if kind == f.CONTENT_LENGTH:
            head.length = _upstream_length(value)
        elif kind == f.CONNECTION:
            options |= _connection_options(value)
        elif kind == f.TRANSFER_ENCODING:
            if minor == b"0" or head.chunked or value.lower() != b"chunked":
                raise bad_response("the only transfer coding is chunked")
            head.chunked = True
        elif kind == f.UPGRADE:
            head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
        elif kind not in _HOP_BY_HOP:
            kept.append(line)
            head.dated = head.dated or kind == f.DATE
    head.keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    if not options <= _OPTIONS:
        head.lines = _without(options, kept)
    if (head.status < 200 or head.status == 204) and (head.chunked or head.length):
        if head.status != 204:
            raise bad_response("an informational response has a body")
        head.keep_alive = False  # there may be one, and it must not become the next response
    return head


def _upstream_length(value: bytes) -> int:
    try:
        return _content_length(value)
    except Refusal as refusal:
        raise bad_response(refusal.detail) from None
