"""Who may call the management listener, and as whom.

Three ways in: the operators' token (RFC 6750), a unix socket that only some may open, or open to
whoever reaches a loopback address. An open listener is still none for web pages: a page that an
operator looks at can send requests to this machine, and a name of its own can be made to point here
(DNS rebinding), so requests must name an address or ``localhost``, and must not come from a page
of elsewhere.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Literal, NamedTuple, TypeAlias

from twisted.web.iweb import IRequest

from gatekeeper.config.values import is_address, split_authority
from gatekeeper.errors import Refusal
from gatekeeper.management.token import OperatorToken

Actor: TypeAlias = Literal["token", "socket", "nobody"]

#: What a page of the management listener itself, or no page at all, says of itself.
_OWN_PAGES: Final = (b"same-origin", b"none")

_UCRED: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Caller(NamedTuple):
    """Who calls, and from where: an IP address, or the user id at the other end of a socket."""

    actor: Actor
    source: str


class Gate:
    """Tells operators from others. ``token``: what they present; None where there is none."""

    def __init__(self, token: OperatorToken | None, *, is_socket: bool = False) -> None:
        self.token = token
        self._is_socket = is_socket

    @property
    def actor(self) -> Actor:
        """How those who pass have shown who they are."""
        if self._is_socket:
            return "socket"
        return "nobody" if self.token is None else "token"

    def admit(self, request: IRequest) -> Caller:
        """Let an operator pass.

        :raises Refusal: 401, no operator; 403, a web page.
        """
        if self._is_socket:
            return Caller("socket", _peer_of(request))
        if self.token is not None:
            self.token.check(request.requestHeaders.getRawHeaders(b"authorization", []))
        else:
            _check_page(request)
        return Caller(self.actor, str(getattr(request.getClientAddress(), "host", "")))


def _check_page(request: IRequest) -> None:
    fields = request.requestHeaders
    hosts = fields.getRawHeaders(b"host", [])
    if not all(map(_is_local, hosts)):
        detail = "Address this listener by its IP address, or as localhost."
        raise Refusal("foreign_host", detail, status=403)
    origins = fields.getRawHeaders(b"origin", [])
    sites = fields.getRawHeaders(b"sec-fetch-site", [])
    own = [b"http://" + host for host in hosts]
    if any(origin not in own for origin in origins) or any(s not in _OWN_PAGES for s in sites):
        detail = "A web page of elsewhere may not call this listener."
        raise Refusal("foreign_page", detail, status=403)


def _is_local(host: bytes) -> bool:
    try:
        name, _ = split_authority(host.decode("ascii"))
    except ValueError:
        return False
    return name.lower() == "localhost" or is_address(name.strip("[]"))


def _peer_of(request: IRequest) -> str:
    """The user who has opened the socket, as the kernel knows it."""
    connection = request.channel.transport.getHandle()  # type: ignore[attr-defined]
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return f"uid {uid}"
