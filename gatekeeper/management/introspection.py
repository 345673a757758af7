"""``POST /introspect``: other programs ask about tokens, in either of two dialects.

A request with ``NVM-Requested-Url`` is Nevermined's, and has no body; another one with a form is
RFC 7662's. Importing this imports the reactor (klein does).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gatekeeper.errors import Refusal
from gatekeeper.management.answers import refuse
from gatekeeper.management.nevermined_dialect import REQUESTED_URL, NeverminedDialect
from gatekeeper.management.oauth_dialect import OAuthDialect
from gatekeeper.management.questions import Form, malformed, not_a_caller

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORM: Final = b"application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 16


class Introspection:
    """The introspection listener's one resource.

    :param nevermined: answers in Nevermined's dialect, which shows the upstreams' credentials.
    :param oauth: answers by RFC 7662.
    :param trusted: networks that may ask in Nevermined's dialect, beside the machine itself.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self, nevermined: NeverminedDialect, oauth: OAuthDialect, trusted: Sequence[Network]
    ) -> None:
        self._nevermined = nevermined
        self._oauth = oauth
        self._trusted = tuple(trusted)

    def resource(self) -> IResource:
        """The root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/introspect", methods=["POST"])
    async def introspect(self, request: IRequest) -> bytes:
        """Tell what a token is worth."""
        peer = _plain(request.getClientAddress().host)
        if not request.requestHeaders.hasHeader(REQUESTED_URL):
            form = _read_form(request)
            if form is not None:
                return await self._oauth.ask(request, form, str(peer))
        if not (peer.is_loopback or any(peer in network for network in self._trusted)):
            raise not_a_caller()
        return await self._nevermined.ask(request, str(peer))

    @app.handle_errors(Refusal)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        """What is raised here."""
        assert isinstance(failure.value, Refusal)
        return refuse(request, failure.value)

    @app.handle_errors(HTTPException)
    def no_such_thing(self, request: IRequest, failure: Failure) -> bytes:
        """404 or 405."""
        if not isinstance(failure.value, MethodNotAllowed):
            return refuse(request, Refusal("not_found", "There is nothing here.", status=404))
        fields = ((b"allow", b"POST"),)
        refusal = Refusal("method_not_allowed", "Use POST.", status=405, fields=fields)
        return refuse(request, refusal)

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """500: our fault. The kind of error goes to the log; its message may show a token."""
        kind = failure.type.__qualname__ if failure.type else "unknown"
        self._log.error("An introspection failed: {kind}", kind=kind)
        return refuse(request, Refusal("internal_error", "See the log.", status=500))


def _read_form(request: IRequest) -> Form | None:
    """The form in a request's body; None where it has none."""
    content_types = request.requestHeaders.getRawHeaders(b"content-type", [])
    if [each.partition(b";")[0].strip().lower() for each in content_types] != [_FORM]:
        return None
    try:
        text = request.content.read().decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise malformed("The form is malformed, or has too many fields.") from None


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The peer's address; IPv4 also where it comes in an IPv6 one (RFC 4291, 2.5.5.2)."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
