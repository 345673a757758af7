"""How the management listener answers: JSON, and problem documents (RFC 9457) for refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from twisted.web.iweb import IRequest

from gatekeeper.errors import Refusal
from gatekeeper.replies import make_reply


def answer(request: IRequest, status: HTTPStatus, document: Mapping[str, object]) -> bytes:
    """A JSON document as the answer's body."""
    fields = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    return write(request, status, fields, json.dumps(document).encode("ascii") + b"\n")


def refuse(request: IRequest, refusal: Refusal) -> bytes:
    """A problem document, or plain text for who prefers it."""
    reply = make_reply(refusal, request.requestHeaders.getRawHeaders(b"accept", []))
    return write(request, reply.status, reply.fields, reply.body)


def write(
    request: IRequest, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes
) -> bytes:
    """An answer; ``body`` is given back, as what klein is to send."""
    request.setResponseCode(status)
    request.setHeader(b"content-length", b"%d" % len(body))
    for name, value in fields:
        request.setHeader(name, value)
    return body
