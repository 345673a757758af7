"""How the management listener answers: JSON, and problem documents (RFC 9457) for refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from twisted.web.iweb import IRequest

from gatekeeper.errors import Problem, Refusal
from gatekeeper.replies import make_reply

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"


class Invalid(Refusal):
    """A request of which something cannot be used; ``problems`` name the fields."""

    def __init__(
        self, reason: str, detail: str, problems: Iterable[Problem], *, status: int = 400
    ) -> None:
        super().__init__(reason, detail, status=status)
        self.problems = tuple(problems)


def answer(request: IRequest, status: HTTPStatus, document: Mapping[str, object]) -> bytes:
    """A JSON document as the answer's body."""
    return send_json(request, status, json.dumps(document).encode("ascii") + b"\n")


def refuse(request: IRequest, refusal: Refusal) -> bytes:
    """A problem document, or plain text for who prefers it."""
    reply = make_reply(refusal, request.requestHeaders.getRawHeaders(b"accept", []))
    return write(request, reply.status, reply.fields, reply.body)


def refuse_call(request: IRequest, refusal: Refusal) -> bytes:
    """A problem document, whatever is preferred, for programs; ``errors`` name the fields."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "reason": refusal.told,
    }
    if isinstance(refusal, Invalid):
        document["errors"] = [
            {"field": problem.path, "detail": problem.message} for problem in refusal.problems
        ]
    fields = (*refusal.fields, (b"cache-control", b"no-store"), (b"content-type", PROBLEM))
    return write(request, refusal.status, fields, json.dumps(document).encode("ascii") + b"\n")


def refuse_golem(request: IRequest, refusal: Refusal) -> bytes:
    """The same for those who speak Golem's dialect."""
    message = refusal.detail
    if isinstance(refusal, Invalid):
        message = "; ".join(map(str, refusal.problems)) or message
    body = json.dumps({"message": message}).encode("ascii") + b"\n"
    fields = (*refusal.fields, (b"cache-control", b"no-store"), (b"content-type", JSON))
    return write(request, refusal.status, fields, body)


def send_json(request: IRequest, status: int, body: bytes) -> bytes:
    """JSON that is written already."""
    return write(request, status, ((b"content-type", JSON), (b"cache-control", b"no-store")), body)


def write(
    request: IRequest, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes
) -> bytes:
    """An answer; ``body`` is given back, as what klein is to send."""
    request.setResponseCode(status)
    request.setHeader(b"content-length", b"%d" % len(body))
    for name in {name for name, _ in fields}:
        request.responseHeaders.removeHeader(name)
    for name, value in fields:  # of some there are several, such as WWW-Authenticate
        request.responseHeaders.addRawHeader(name, value)
    return body
