"""Where a forward proxy's clients may go: names before they are resolved, then every address."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeAlias

from gatekeeper.config.destinations import AllowRule
from gatekeeper.config.values import is_address, parse_host
from gatekeeper.errors import Refusal
from gatekeeper.net.addresses import (
    Address,
    Network,
    Reach,
    embedded,
    is_local,
    parse_address,
    reach_of,
)

Ports: TypeAlias = set[int | None]  # None is any port


class OwnAddresses:
    """The addresses and ports that this process listens on now, as the sockets say."""

    def __init__(self, addresses: Iterable[tuple[str, int]] = ()) -> None:
        self._by_port: defaultdict[int, list[Address]] = defaultdict(list)
        for address in addresses:
            self.add(address)

    def add(self, address: tuple[str, int]) -> None:
        """One more."""
        host, port = address
        self._by_port[port].append(parse_address(host))

    def remove(self, address: tuple[str, int]) -> None:
        """Nobody listens there any more."""
        host, port = address
        self._by_port[port].remove(parse_address(host))

    def at(self, port: int) -> list[Address]:
        """Those with this port."""
        return self._by_port.get(port, [])


class DestinationPolicy:
    """A listener's ``allow`` rules.

    ``own_addresses`` are the addresses and ports that this process listens on (all listeners),
    as the sockets say; they may change. Going there is going round in circles or past the
    listeners' checks, so only a rule with exactly this address and port allows it. ``local`` tells
    whether an address is this machine's own.
    """

    def __init__(
        self,
        rules: Iterable[AllowRule],
        own_addresses: OwnAddresses | Iterable[tuple[str, int]],
        local: Callable[[Address], bool] = is_local,
    ) -> None:
        self._anywhere: Ports = set()
        self._names: defaultdict[str, Ports] = defaultdict(set)
        self._suffixes: defaultdict[str, Ports] = defaultdict(set)
        self._networks: defaultdict[Network, Ports] = defaultdict(set)
        for rule in rules:
            self._ports_of(rule).add(rule.port)
        self._own = (
            own_addresses
            if isinstance(own_addresses, OwnAddresses)
            else OwnAddresses(own_addresses)
        )
        self._local = local

    def check_name(self, host: str, port: int) -> str:
        """Check what the client asks for, before anything is resolved.

        ``host`` is a name or an IP address (IPv6 without brackets). Returns it in canonical form:
        lower case, no trailing dot.

        :raises Refusal: 403; ``destination_malformed``, ``destination_not_allowed`` or
            ``destination_private``.
        """
        try:
            name = parse_host(host.removesuffix("."))
        except ValueError:
            raise _malformed("The destination is not a host name or an IP address.") from None
        if not 0 < port < 65536:
            raise _malformed("The destination's port is not a port number.")
        if is_address(name):
            self.check_address(name, port, name)
        elif not (
            _fits(self._anywhere, port)
            or self._is_named(name, port)
            # Whether it is in such a network is known when it is resolved.
            or any(_fits(ports, port) for ports in self._networks.values())
        ):
            raise _not_allowed()
        return name

    def check_address(self, host: str, port: int, ip: str) -> str:
        """Check one of the addresses that ``host`` (in canonical form) was resolved to.

        Returns ``ip``, the address to connect to.

        :raises Refusal: 403; ``destination_not_allowed`` or ``destination_private``.
        """
        address = parse_address(ip)
        named = self._is_named(host, port)
        if not (named or _fits(self._anywhere, port) or self._in_network(address, port)):
            raise _not_allowed()
        for one in (address, *embedded(address)):
            if self._is_own(one, port) or not self._may_reach(one, port, named=named):
                raise _private()
        return ip

    def _ports_of(self, rule: AllowRule) -> Ports:
        if rule.kind == "any":
            return self._anywhere
        if isinstance(rule.value, str):
            return (self._names if rule.kind == "name" else self._suffixes)[rule.value]
        return self._networks[rule.value]

    def _is_named(self, host: str, port: int) -> bool:
        """Whether a rule has the host's name: the operator vouches for where that leads."""
        return _fits(self._names.get(host, ()), port) or any(
            _fits(self._suffixes.get(suffix, ()), port) for suffix in _suffixes(host)
        )

    def _in_network(self, address: Address, port: int) -> bool:
        return any(
            address in network and _fits(ports, port) for network, ports in self._networks.items()
        )

    def _may_reach(self, address: Address, port: int, *, named: bool) -> bool:
        reach = reach_of(address)
        if reach is Reach.PUBLIC or (named and reach is Reach.PRIVATE):
            return True
        return self._in_network(address, port)

    def _is_own(self, address: Address, port: int) -> bool:
        """Whether one of our own listeners is there, and no rule wants to go just there."""
        bound = self._own.at(port)
        if not bound or port in self._networks.get(ipaddress.ip_network(address), ()):
            return False
        if address.is_unspecified or address in bound:
            return True
        if address.is_loopback:
            return any(one.is_loopback or one.is_unspecified for one in bound)
        return any(one.is_unspecified for one in bound) and self._local(address)


def _fits(ports: Collection[int | None], port: int) -> bool:
    return port in ports or None in ports


def _suffixes(name: str) -> Iterator[str]:
    """What ``name`` ends with, beginning at each dot: ``.b.c`` and ``.c`` for ``a.b.c``."""
    at = name.find(".")
    while at >= 0:
        yield name[at:]
        at = name.find(".", at + 1)


def _malformed(detail: str) -> Refusal:
    return Refusal("destination_malformed", detail, status=403)


def _not_allowed() -> Refusal:
    return Refusal(
        "destination_not_allowed",
        "No rule in the proxy's setting `allow` lets you go to this host and port.",
        status=403,
    )


def _private() -> Refusal:
    return Refusal(
        "destination_private",
        "This destination is not on the public Internet, and no rule in the proxy's setting "
        "`allow` names it.",
        status=403,
    )
