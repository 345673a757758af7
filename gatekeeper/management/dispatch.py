"""From a request to an operation, and from what it returns to an answer."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from gatekeeper.auth.hashing import OverloadError
from gatekeeper.errors import (
    AlreadyThereError,
    ConfigurationError,
    NotThereError,
    Refusal,
    StoreError,
)
from gatekeeper.management import reading
from gatekeeper.management.answers import refuse_call, refuse_golem, send_json, write
from gatekeeper.management.gate import Caller, Gate
from gatekeeper.management.managed import Managed
from gatekeeper.management.operations import Call, Operation, Text

log = Logger()

_GOLEM: Final = (b"services", b"stats", b"control")


class Dispatch:
    """Calls operations."""

    def __init__(self, managed: Managed, gate: Gate) -> None:
        self._managed = managed
        self._gate = gate

    def handler(self, operation: Operation) -> Callable[..., Deferred[bytes]]:
        """What klein calls for an operation's route."""

        def handle(request: IRequest, **parts: str) -> Deferred[bytes]:
            caller = self._gate.admit(request)
            # Who does not wait cancels the waiter; what was begun is done whole.
            waiter: Deferred[bytes] = Deferred()
            ensureDeferred(self._run(operation, request, caller, parts)).addBoth(_pass, waiter)
            return waiter

        handle.__name__ = operation.id
        return handle

    async def _run(
        self, operation: Operation, request: IRequest, caller: Caller, parts: dict[str, str]
    ) -> bytes:
        accept = b",".join(request.requestHeaders.getRawHeaders(b"accept", []))
        call = Call(self._managed, caller, accept.decode("ascii", "replace"))
        arguments: dict[str, Any] = dict(reading.read_segments(parts))
        if operation.query is not None:
            arguments["query"] = reading.read_query(request, operation.query)
        else:
            reading.no_parameters(request)
        untyped = caller.actor != "nobody"
        if operation.body is not None:
            arguments["body"] = reading.read_body(request, operation.body, untyped=untyped)
        elif operation.documented is not None:
            arguments["body"] = reading.read_document(request, untyped=untyped)
        try:
            returned = await operation.handler(call, **arguments)
        except ConfigurationError as error:
            raise reading.unusable(error.problems) from None
        except (AlreadyThereError, NotThereError, StoreError, OverloadError) as error:
            raise _refusal(error) from None
        return _send(operation, request, call, returned)


def is_golem(path: bytes) -> bool:
    """Whether a path is one of those that Golem's programs call."""
    return path[1:].partition(b"/")[0] in _GOLEM


def refuse(request: IRequest, refusal: Refusal) -> bytes:
    """A refusal in the dialect of the path that was asked for."""
    if not is_golem(request.path):
        return refuse_call(request, refusal)
    if refusal.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        refusal.status = HTTPStatus.BAD_REQUEST
    return refuse_golem(request, refusal)


def _pass(result: bytes | Failure, waiter: Deferred[bytes]) -> None:
    if waiter.called:  # nobody waits any more
        if isinstance(result, Failure) and not result.check(Refusal):
            log.failure("An operation of the management API failed", result)
    else:
        waiter.callback(result)  # a failure makes it fail


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, AlreadyThereError):
        return Refusal("already_there", str(error) or "That is there already.", status=409)
    if isinstance(error, NotThereError):
        return Refusal("not_found", str(error) or "There is no such thing.", status=404)
    if isinstance(error, StoreError):
        log.warn("The store does not answer: {error}", error=error)
        return Refusal("store_away", "The store does not answer; see the log.", status=503)
    return Refusal("overloaded", "Too much is being done; try again.", status=503)


def _send(operation: Operation, request: IRequest, call: Call, returned: Any) -> bytes:
    for name, value in call.fields:
        request.responseHeaders.addRawHeader(name, value)
    if isinstance(returned, Text):
        content_type = returned.media_type.encode("ascii") + b"; charset=utf-8"
        fields = ((b"content-type", content_type), (b"cache-control", b"no-store"))
        return write(request, operation.status, fields, returned.text.encode("utf-8"))
    if operation.answer is None:
        request.setResponseCode(operation.status)  # 204, which has no length (RFC 9110, 8.6)
        return b""
    return send_json(
        request,
        operation.status,
        operation.answer.dump_json(
            returned, by_alias=True, exclude_none=operation.dialect == "golem"
        )
        + b"\n",
    )
