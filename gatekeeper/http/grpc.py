"""What gRPC says in place of an HTTP status (gRPC over HTTP/2; HTTP to gRPC status codes)."""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.http.fields import Fields

DEADLINE_EXCEEDED: Final = 4
UNAUTHENTICATED: Final = 16

# As gRPC's table has it, and finer where a status of ours means one thing only.
_CODES: Final = {
    400: 13,  # INTERNAL
    401: UNAUTHENTICATED,
    402: 8,  # RESOURCE_EXHAUSTED
    403: 7,  # PERMISSION_DENIED
    404: 12,  # UNIMPLEMENTED
    405: 12,
    408: DEADLINE_EXCEEDED,
    413: 8,
    421: 12,
    429: 8,
    431: 8,
    500: 13,
    501: 12,
    502: 14,  # UNAVAILABLE
    503: 14,
    504: DEADLINE_EXCEEDED,
}
_UNKNOWN: Final = 2
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)
_UNSAFE: Final = re.compile(rb"[^ -$&-~]")


def is_grpc(content_type: bytes) -> bool:
    """Whether a request of this Content-Type is a gRPC call (gRPC-Web is not)."""
    return _CONTENT_TYPE.fullmatch(content_type) is not None


def code_of(status: int) -> int:
    """The gRPC status code for an HTTP status."""
    return _CODES.get(status, _UNKNOWN)


def status_fields(code: int, message: str) -> Fields:
    """The two fields that end a call. ``message`` is for people."""
    text = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], message.encode("utf-8"))
    return [(b"grpc-status", b"%d" % code), (b"grpc-message", text)]


def only_trailers(code: int, message: str) -> Fields:
    """A whole response in one header block (Trailers-Only), without ``:status``."""
    return [(b"content-type", b"application/grpc"), *status_fields(code, message)]
