"""The two ways in: what a request on a listener means.

A door turns a request's head into a :class:`Request`: the one canonical URL, the route, and the
credentials that were presented. It also says which forwarding fields go upstream.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from gatekeeper.errors import ProtocolError, Refusal
from gatekeeper.http.fields import list_members
from gatekeeper.http.heads import RequestHead, bad_request
from gatekeeper.http.target import Authority, Target, parse_authority, parse_target
from gatekeeper.routing import Route, RoutingTable
from gatekeeper.stats import RequestStats

if TYPE_CHECKING:
    from gatekeeper.clientside import ClientSide

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_PROXY_AUTHORIZATION: Final = "proxy-authorization"
_SPECIAL_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})
_KNOWN_REQUESTS: Final = 8192
_KNOWN_TARGET: Final = 256  # longer ones are not worth remembering
_SERVICE_PORTS: Final = frozenset({None, 80, 443})
_ALLOW: Final = ((b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),)


class Request:
    """What a request asks for; it is shared by equal requests, and never changed.

    ``path`` and ``query`` are canonical; ``authority`` is what was asked for (``None``: an
    HTTP/1.0 request without Host). ``label`` is the path as it is metered and logged.
    ``upstream_line`` is what follows the method in the upstream's head, Host included;
    ``consumes_authorization`` tells whether the client's Authorization is for us.
    """

    __slots__ = (
        "authority",
        "consumes_authorization",
        "forwarded",
        "host_label",
        "label",
        "path",
        "query",
        "route",
        "upstream_line",
    )

    def __init__(
        self,
        route: Route,
        scheme: bytes,
        authority: Authority | None,
        path: bytes,
        query: bytes,
        host_field: bytes,
        label: str,
        consumes_authorization: bool,
    ) -> None:
        asked_for = authority.encode() if authority is not None else b""
        self.route = route
        self.authority = authority
        self.path = path
        self.query = query
        self.label = label
        self.host_label = asked_for.decode("ascii")
        self.consumes_authorization = consumes_authorization
        self.upstream_line = b" %b%b HTTP/1.1\r\nhost: %b\r\n" % (
            route.upstream_path(path),
            query,
            host_field,
        )
        self.forwarded = b"x-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n" % (scheme, asked_for)


class Door(ABC):
    """What both doors have in common.

    ``services`` are found here, until :meth:`serve` says otherwise.
    ``pseudonym`` is our name in Via; ``trusted`` the networks whose forwarding fields we believe.
    ``stats`` counts the requests that have no route. ``draining``: each connection's next request
    is its last, for nobody listens here any more.
    """

    is_proxy: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        scheme: bytes,
        pseudonym: bytes,
        trusted: Sequence[Network],
        services: RoutingTable,
    ) -> None:
        self.name = name
        self.stats = RequestStats()
        self.scheme = scheme
        self._pseudonym = pseudonym
        self.services = services
        self.draining = False
        self.trust(trusted)

    def trust(self, networks: Iterable[Network]) -> None:
        """Believe the forwarding fields of peers in these networks from now on."""
        self._trusted = tuple(networks)
        self.trusts: Callable[[str], bool] = lru_cache(maxsize=4096)(self._is_trusted)

    def serve(self, services: RoutingTable) -> None:
        """Find these services from now on."""
        self.services = services

    @abstractmethod
    def understand(self, head: RequestHead) -> Request:
        """What this request means here.

        :raises Refusal: 400, 404, 405, 421 or 508.
        """

    def presented(self, head: RequestHead, request: Request) -> bytes:
        """The value of the credential field, ``b""`` where there is none."""
        return head.authorization or b""

    def _check(self, head: RequestHead) -> None:
        if head.method == b"TRACE":
            raise Refusal("trace", "TRACE is not allowed", status=405, fields=_ALLOW)
        if head.method == b"CONNECT" and not self.is_proxy:
            raise Refusal("connect", "this is no proxy", status=405, fields=_ALLOW)
        if head.via is not None and self._pseudonym in head.via:
            raise Refusal("loop", "the request has been here before", status=508)

    def _is_trusted(self, peer: str) -> bool:
        if not self._trusted:
            return False
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self._trusted)

    def client_address(self, peer: str, head: RequestHead) -> str:
        """The real client's address: the peer's, or what a trusted peer says.

        A trusted peer's single ``X-Real-IP`` wins; else ``X-Forwarded-For``: of one or two
        addresses the first, of three or more the last but one. What is no address is ignored.
        """
        if not self.trusts(peer):
            return peer
        real = head.values(b"x-real-ip")
        if len(real) == 1 and (address := _address(real[0])):
            return address
        chain = list_members(head.values(b"x-forwarded-for"))
        if chain:
            said = _address(chain[0] if len(chain) < 3 else chain[-2])
            if said:
                return said
        return peer

    def forwarding_fields(self, client: ClientSide, head: RequestHead, request: Request) -> bytes:
        """``X-Forwarded-For``, ``-Proto`` and ``-Host`` for the upstream, as lines."""
        peer = client.peer
        if not (self._trusted and self.trusts(peer)):
            return client.forwarded_for + request.forwarded
        earlier = [value for value in head.values(b"x-forwarded-for") if value]
        addresses = b", ".join([*earlier, peer.encode("ascii")])
        scheme = head.values(b"x-forwarded-proto")
        host = head.values(b"x-forwarded-host")
        return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n" % (
            addresses,
            scheme[0] if scheme in ([b"http"], [b"https"]) else self.scheme,
            host[0] if len(host) == 1 else request.host_label.encode("ascii"),
        )


def _address(value: bytes) -> str | None:
    try:
        return str(ipaddress.ip_address(value.decode("ascii").strip()))
    except ValueError:
        return None


class Gateway(Door):
    """The reverse proxy: origin-form requests for the services that are found here."""

    def __init__(
        self,
        name: str,
        scheme: bytes,
        pseudonym: bytes,
        trusted: Sequence[Network],
        services: RoutingTable,
    ) -> None:
        super().__init__(name, scheme, pseudonym, trusted, services)
        self._known: dict[tuple[bytes | None, bytes], Request] = {}

    def serve(self, services: RoutingTable) -> None:
        """Find these services from now on."""
        super().serve(services)
        self._known.clear()

    def understand(self, head: RequestHead) -> Request:
        """Find the service. An absolute-form target's authority goes before Host."""
        if head.via is not None or head.method in _SPECIAL_METHODS:
            self._check(head)
        key = (head.host, head.target)
        request = self._known.get(key)
        if request is None:
            request = self._understand(head)
            if len(head.target) <= _KNOWN_TARGET:
                if len(self._known) >= _KNOWN_REQUESTS:
                    self._known.clear()
                self._known[key] = request
        return request

    def _understand(self, head: RequestHead) -> Request:
        authority = parse_authority(head.host) if head.host is not None else None
        target = parse_target(head.target)
        if target.authority is not None:
            if target.scheme not in (b"http", b"https"):
                raise Refusal("misdirected", "this scheme is not served here", status=421)
            authority = target.authority
        route = self.services.find(authority.host if authority else None, target.path)
        return Request(
            route,
            self.scheme,
            authority,
            target.path,
            target.query,
            route.host_field or (authority.encode() if authority is not None else b""),
            target.path.decode("ascii"),
            route.chain is not None,
        )


class ForwardProxy(Door):
    """The forward proxy: absolute-form http requests and CONNECT.

    ``route`` is for requests that belong to no service, ``services`` finds those that do, by the
    host names in the configuration.
    """

    is_proxy: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        scheme: bytes,
        pseudonym: bytes,
        trusted: Sequence[Network],
        route: Route,
        services: RoutingTable,
        service_ports: frozenset[int],
        credentials_from: Sequence[str],
    ) -> None:
        super().__init__(name, scheme, pseudonym, trusted, services)
        self.lead(route, service_ports, credentials_from)

    def lead(
        self, route: Route, service_ports: frozenset[int], credentials_from: Sequence[str]
    ) -> None:
        """Lead requests of no service to this route from now on."""
        self._route = route
        self._service_ports = _SERVICE_PORTS | service_ports
        self._credentials_from = tuple(credentials_from)

    def understand(self, head: RequestHead) -> Request:
        """Find what is asked for: a configured service, or somewhere else."""
        self._check(head)
        if head.host is not None:
            parse_authority(head.host)
        if head.method == b"CONNECT":
            return self._understand_connect(head)
        if head.target.startswith(b"/") or head.target == b"*":
            raise ProtocolError(
                "not_a_proxy_request", "this is a proxy: the target must be a full URL"
            )
        target = parse_target(head.target)
        authority = target.authority
        if authority is None or target.scheme not in (b"http", b"https"):
            raise bad_request("the target is not an http URL")
        if authority.port in self._service_ports and self.services.names(authority.host):
            return self._understand_service(head, target, authority)
        if target.scheme == b"https":
            raise bad_request("use CONNECT to reach an https origin through this proxy")
        host_field = authority.encode(80)
        return Request(
            self._route,
            self.scheme,
            authority,
            target.path,
            target.query,
            host_field,
            (host_field + target.path).decode("ascii"),
            self._from_authorization(head),
        )

    def _understand_service(
        self, head: RequestHead, target: Target, authority: Authority
    ) -> Request:
        route = self.services.find(authority.host, target.path)
        return Request(
            route,
            self.scheme,
            authority,
            target.path,
            target.query,
            route.host_field,
            target.path.decode("ascii"),
            route.chain is not None,
        )

    def _understand_connect(self, head: RequestHead) -> Request:
        authority = parse_authority(head.target)
        if authority.port is None:
            raise bad_request("CONNECT needs a port")
        if head.length != 0:
            raise bad_request("CONNECT has no body")
        label = authority.encode()
        return Request(
            self._route,
            self.scheme,
            authority,
            b"",
            b"",
            label,
            label.decode("ascii"),
            self._from_authorization(head),
        )

    def presented(self, head: RequestHead, request: Request) -> bytes:
        """The first credential field that there is; for a service, Authorization is one as well."""
        for source in self._credentials_from:
            value = (
                head.proxy_authorization if source == _PROXY_AUTHORIZATION else head.authorization
            )
            if value:
                return value
        return (head.authorization or b"") if request.route.is_service else b""

    def _from_authorization(self, head: RequestHead) -> bool:
        """Whether it is Authorization that the credentials of a request of no service are in."""
        for source in self._credentials_from:
            if source == _PROXY_AUTHORIZATION:
                if head.proxy_authorization:
                    return False
            elif head.authorization:
                return True
        return False
