"""The token caches, as operators see and change them: the key-value calls of nginx Plus.

``/api/8/http/keyvals/ZONE/`` is a zone; ``tokens`` where nothing else is configured::

    GET     {"key": "value", …}; ?key=K one of them
    POST    {"key": "value"} adds an entry; 201, or 409 where it exists
    PATCH   {"key": "0"} changes one; 204, or 404 where it is missing; null deletes it
    DELETE  empties the zone; 204

Importing this imports the reactor (klein does).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gatekeeper.auth.jose import load_object
from gatekeeper.auth.token_cache import LONGEST, REVOKED, ITokenCache, TokenCacheError
from gatekeeper.auth.token_exchange import is_token, token_lifetime
from gatekeeper.errors import Refusal
from gatekeeper.management.answers import answer, refuse, write
from gatekeeper.management.token import OperatorToken
from gatekeeper.management.v1.tokens import subject, token_id

#: Notes down who has changed what: the request, the action, and its subject.
Note: TypeAlias = Callable[[IRequest, str, str], Awaitable[object]]

#: Where the calls are found, below the management listener's root.
ROOT: Final = "/api/8/http/keyvals/"


class Keyvals:
    """The calls on some zones. What they show is secret, so nothing of it is logged.

    :param zones: the token caches by the names of their zones.
    :param operators: who may call; None: everybody who can reach the listener.
    :param seconds: the wall clock, seconds since the epoch.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        zones: Mapping[str, ITokenCache],
        operators: OperatorToken | None,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._zones = zones
        self._operators = operators
        self._seconds = seconds
        #: Is told of every change; to be set before the first request, if somebody keeps a log.
        self.note: Note | None = None

    def resource(self) -> IResource:
        """What answers below `ROOT`."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/<zone>/", methods=["GET"], strict_slashes=False)
    async def show(self, request: IRequest, zone: str) -> bytes:
        """All entries, or the one that ``key`` names."""
        cache = self._open(request, zone)
        wanted = request.args.get(b"key")
        if wanted is None:
            return answer(request, HTTPStatus.OK, await cache.items())
        if len(wanted) != 1:
            raise _malformed("`key` is given twice")
        key = wanted[0].decode("utf-8", "replace")
        value = await cache.get(key)
        if value is None:
            raise _missing()
        return answer(request, HTTPStatus.OK, {key: value})

    @app.route("/<zone>/", methods=["POST"], strict_slashes=False)
    async def add(self, request: IRequest, zone: str) -> bytes:
        """Add one entry."""
        cache = self._open(request, zone)
        key, value = _read_entry(request)
        if value is None:
            raise _malformed("the value must be a string")
        if await cache.add(key, value, self._lifetime(cache, value)) is not None:
            raise Refusal("key_exists", "There is such a key already.", status=409)
        await self._noted(request, "revoke" if value == REVOKED else "add", zone, key)
        return write(request, HTTPStatus.CREATED, (), b"")

    @app.route("/<zone>/", methods=["PATCH"], strict_slashes=False)
    async def change(self, request: IRequest, zone: str) -> bytes:
        """Change one entry, or delete it."""
        cache = self._open(request, zone)
        key, value = _read_entry(request)
        if value is None:
            action, found = "remove", await cache.delete(key)
        else:
            action = "revoke" if value == REVOKED else "change"
            found = await cache.replace(key, value, self._lifetime(cache, value))
        if not found:
            raise _missing()
        await self._noted(request, action, zone, key)
        return _no_content(request)

    @app.route("/<zone>/", methods=["DELETE"], strict_slashes=False)
    async def empty(self, request: IRequest, zone: str) -> bytes:
        """Empty the zone."""
        await self._open(request, zone).clear()
        await self._noted(request, "empty", zone)
        return _no_content(request)

    @app.handle_errors(Refusal)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        """What is raised here."""
        assert isinstance(failure.value, Refusal)
        return refuse(request, failure.value)

    @app.handle_errors(TokenCacheError)
    def away(self, request: IRequest, failure: Failure) -> bytes:
        """503: the cache cannot do it now."""
        detail = "The tokens cannot be reached, or are too many."
        return refuse(request, Refusal("token_cache_away", detail, status=503))

    @app.handle_errors(HTTPException)
    def no_such_thing(self, request: IRequest, failure: Failure) -> bytes:
        """404 or 405, to operators; others are told nothing."""
        try:
            self._admit(request)
        except Refusal as refusal:
            return refuse(request, refusal)
        if not isinstance(failure.value, MethodNotAllowed):
            return refuse(request, _no_zone())
        allowed = b"DELETE, GET, HEAD, PATCH, POST"
        return refuse(
            request,
            Refusal(
                "method_not_allowed",
                "A zone has other methods.",
                status=405,
                fields=((b"allow", allowed),),
            ),
        )

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """500: our fault. The kind of error goes to the log; its message may show an entry."""
        kind = failure.type.__qualname__ if failure.type else "unknown"
        self._log.error("A key-value call failed: {kind}", kind=kind)
        return refuse(request, Refusal("internal_error", "See the log.", status=500))

    def _open(self, request: IRequest, zone: str) -> ITokenCache:
        self._admit(request)
        if zone not in self._zones:
            raise _no_zone()
        return self._zones[zone]

    def _admit(self, request: IRequest) -> None:
        if self._operators is not None:
            self._operators.check(request.requestHeaders.getRawHeaders(b"authorization", []))

    async def _noted(self, request: IRequest, action: str, zone: str, key: str = "") -> None:
        if self.note is not None:
            where = subject(zone, token_id(key)) if key else f"tokens/{zone}"
            await self.note(request, f"cached-token.{action}", where)

    def _lifetime(self, cache: ITokenCache, value: str) -> float:
        lifetime = token_lifetime(value, cache.ttl, self._seconds())
        if lifetime <= 0:
            raise _malformed("the token has expired")
        return lifetime


def _read_entry(request: IRequest) -> tuple[str, str | None]:
    """The one entry in a request's body."""
    try:
        document: dict[str, Any] = load_object(request.content.read())
    except ValueError:
        raise _malformed('the body must be a JSON object: {"key": "value"}') from None
    if len(document) != 1:
        raise _malformed("the body must hold exactly one entry")
    ((key, value),) = document.items()
    if not key or not key.isprintable() or len(key.encode("utf-8")) > LONGEST:
        raise _malformed("the key must be printable, and not too long")
    if value is not None and not (isinstance(value, str) and is_token(value)):
        raise _malformed("the value must be a string of visible ASCII, and not too long")
    return key, value


def _no_content(request: IRequest) -> bytes:
    request.setResponseCode(HTTPStatus.NO_CONTENT)  # which has no length (RFC 9110, 8.6)
    return b""


def _malformed(detail: str) -> Refusal:
    return Refusal("malformed_entry", detail)


def _missing() -> Refusal:
    return Refusal("key_not_found", "There is no such key.", status=404)


def _no_zone() -> Refusal:
    return Refusal("not_found", "There is no such zone.", status=404)
