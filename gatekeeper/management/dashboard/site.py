"""``/dashboard``: the page, its files, who is logged in, and its numbers.

Importing this imports the reactor (klein does)::

    GET     /dashboard           the page, to everybody: it has no number in it
    GET     /dashboard/static/…  what belongs to it
    GET     /dashboard/session   whether a token is asked for, and whether the caller is logged in
    POST    /dashboard/session   {"token": "…"} logs in
    DELETE  /dashboard/session   logs out
    GET     /dashboard/data      the numbers, see `numbers`
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from klein import Klein
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gatekeeper.errors import Refusal
from gatekeeper.management.answers import answer, refuse, write
from gatekeeper.management.attempts import Attempts
from gatekeeper.management.dashboard.files import File, load_files
from gatekeeper.management.dashboard.root import Document, Parts, Root
from gatekeeper.management.dashboard.sessions import LONGEST, Sessions, cookie_name
from gatekeeper.management.gate import Gate
from gatekeeper.management.token import OperatorToken

#: What the page may do: nothing but what we serve ourselves, and no text becomes a script.
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
_GUARDS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Dashboard:
    """What answers below ``/dashboard``.

    :param gate: tells who may see the numbers.
    :param token: what is to be presented at log-in; None: nobody has to log in.
    :param numbers: makes the numbers.
    :param monotonic: seconds of a clock that nobody sets.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        gate: Gate,
        token: OperatorToken | None,
        numbers: Document,
        monotonic: Callable[[], float],
    ) -> None:
        self.sessions = Sessions(monotonic)
        self._attempts = Attempts(monotonic)
        self._gate = gate
        self._token = token
        self._numbers = numbers
        self._files = load_files()

    def resource(self) -> IResource:
        """What answers; paths begin with ``/dashboard``."""
        resource: IResource = self.app.resource()
        return resource

    # --- the page -------------------------------------------------------------------------

    @app.route("/dashboard", methods=["GET"])
    def page(self, request: IRequest) -> bytes:
        """The page."""
        return _send(request, self._files["index.html"])

    @app.route("/dashboard/", methods=["GET"])
    def tidy(self, request: IRequest) -> bytes:
        """The page's links hold without the last slash."""
        return write(request, HTTPStatus.PERMANENT_REDIRECT, [(b"location", b"../dashboard")], b"")

    @app.route("/dashboard/static/<path:name>", methods=["GET"])
    def file(self, request: IRequest, name: str) -> bytes:
        """What belongs to the page."""
        if name not in self._files:
            raise _nothing()
        return _send(request, self._files[name])

    @app.route("/dashboard/data", methods=["GET"])
    async def data(self, request: IRequest) -> bytes:
        """The numbers now."""
        self._gate.admit(request)
        document: Callable[[], Any] = self._numbers.document
        return answer(request, HTTPStatus.OK, await maybeDeferred(document))

    # --- logging in and out ---------------------------------------------------------------

    @app.route("/dashboard/session", methods=["GET"])
    def show(self, request: IRequest) -> bytes:
        """Who one is. Only pages of our own can read the answer, and so the second secret."""
        session = self.sessions.find(request)
        document = {
            "token_needed": self._token is not None,
            "logged_in": session is not None or self._token is None,
            "csrf": session.csrf if session is not None else "",
        }
        return answer(request, HTTPStatus.OK, document)

    @app.route("/dashboard/session", methods=["POST"])
    def log_in(self, request: IRequest) -> bytes:
        """Log in with the operators' token."""
        if self._token is None:
            raise Refusal("log_in_needless", "Nobody has to log in here.", status=409)
        peer = request.getClientAddress().host
        wait = math.ceil(self._attempts.wait(peer))
        if wait:
            fields = ((b"retry-after", b"%d" % wait),)
            detail = f"Too many wrong tokens; try again in {wait} seconds."
            raise Refusal("too_many_log_ins", detail, status=429, fields=fields)
        authorization = b"Bearer " + _read_token(request)
        try:
            self._token.check([authorization])
        except Refusal:
            self._attempts.failed(peer)
            self._log.warn("A wrong token at the dashboard's log-in, from {peer}", peer=peer)
            raise
        self._attempts.succeeded(peer)
        self.sessions.end(request)
        identifier, session = self.sessions.begin(authorization)
        _set_cookie(request, identifier, int(LONGEST))
        self._log.info("Somebody at {peer} has logged in to the dashboard", peer=peer)
        return answer(request, HTTPStatus.OK, {"csrf": session.csrf})

    @app.route("/dashboard/session", methods=["DELETE"])
    def log_out(self, request: IRequest) -> bytes:
        """End the session."""
        self._gate.admit(request)
        self.sessions.end(request)
        _set_cookie(request, "", 0)
        request.setResponseCode(HTTPStatus.NO_CONTENT)  # which has no length (RFC 9110, 8.6)
        return b""

    # --- when it goes wrong ---------------------------------------------------------------

    @app.handle_errors(Refusal)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        """What is raised here."""
        assert isinstance(failure.value, Refusal)
        return refuse(request, failure.value)

    @app.handle_errors(HTTPException)
    def no_such_thing(self, request: IRequest, failure: Failure) -> bytes:
        """404 or 405."""
        error = failure.value
        if not isinstance(error, MethodNotAllowed):
            return refuse(request, _nothing())
        allowed = ", ".join(sorted(error.valid_methods or ()))
        fields = ((b"allow", allowed.encode("ascii")),)
        detail = f"This can be asked for with {allowed}."
        return refuse(request, Refusal("method_not_allowed", detail, status=405, fields=fields))

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """500: our fault, told to the log."""
        self._log.failure("The dashboard failed", failure)
        return refuse(request, Refusal("internal_error", "See the log.", status=500))


def mount(api: IResource, parts: Parts, clock: IReactorTime) -> IResource:
    """The root of a site that is ``api`` with the dashboard beside it."""
    dashboard = Dashboard(parts.gate, parts.token, parts.numbers, clock.seconds)
    return Root(api, dashboard.resource(), dashboard.sessions)


def _send(request: IRequest, file: File) -> bytes:
    for name, value in _GUARDS:
        request.setHeader(name, value)
    request.setHeader(b"cache-control", b"no-cache")  # kept, and asked about each time
    request.setHeader(b"etag", file.tag)
    if file.tag in request.requestHeaders.getRawHeaders(b"if-none-match", []):
        request.setResponseCode(HTTPStatus.NOT_MODIFIED)
        return b""
    return write(request, HTTPStatus.OK, [(b"content-type", file.content_type)], file.body)


def _read_token(request: IRequest) -> bytes:
    try:
        document = json.loads(request.content.read())
    except (ValueError, RecursionError):
        document = None
    token = document.get("token") if isinstance(document, dict) else None
    if not isinstance(token, str):
        raise Refusal("malformed_log_in", 'Send {"token": "…"}.')
    return token.strip().encode("utf-8", "replace")


def _set_cookie(request: IRequest, value: str, lifetime: int) -> None:
    """Set our cookie, for ``lifetime`` seconds (RFC 6265, 4.1)."""
    cookie = b"%b=%b; Max-Age=%d; Path=/; HttpOnly; SameSite=Strict" % (
        cookie_name(request),
        value.encode("ascii"),
        lifetime,
    )
    request.responseHeaders.addRawHeader(
        b"set-cookie", cookie + b"; Secure" if request.isSecure() else cookie
    )


def _nothing() -> Refusal:
    return Refusal("not_found", "There is nothing here.", status=404)
