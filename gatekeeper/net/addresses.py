"""What an IP address is: public, private, or something that nobody should reach by accident."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Reach(Enum):
    """Who can be meant by an address."""

    PUBLIC = "public"
    PRIVATE = "private"  # this machine, somebody's own network, documentation, reserved
    RESTRICTED = "restricted"  # the link, a group, nobody, a cloud's metadata service


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# IANA's special-purpose address registries (RFC 6890), written out here because what Python calls
# private has changed from one patch release to the next.
_RESTRICTED = _networks(
    "0.0.0.0/8",  # RFC 791: "this network"; the kernel takes 0.0.0.0 for this machine
    "169.254.0.0/16",  # RFC 3927: link-local
    "224.0.0.0/4",  # RFC 1112: multicast
    "255.255.255.255/32",  # RFC 8190: limited broadcast
    "::/128",  # RFC 4291: unspecified
    "fe80::/10",  # RFC 4291: link-local
    "ff00::/8",  # RFC 4291: multicast
    # Metadata services of clouds outside the link-local networks.
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::254/128",  # Amazon
    "fd20:ce::254/128",  # Google
)
_PRIVATE = _networks(
    "10.0.0.0/8",  # RFC 1918
    "100.64.0.0/10",  # RFC 6598: behind a carrier's translator
    "127.0.0.0/8",  # RFC 1122: loopback
    "172.16.0.0/12",  # RFC 1918
    "192.0.0.0/24",  # RFC 6890: protocol assignments
    "192.0.2.0/24",  # RFC 5737: documentation
    "192.88.99.0/24",  # RFC 7526: once 6to4 relays
    "192.168.0.0/16",  # RFC 1918
    "198.18.0.0/15",  # RFC 2544: benchmarks
    "198.51.100.0/24",  # RFC 5737: documentation
    "203.0.113.0/24",  # RFC 5737: documentation
    "240.0.0.0/4",  # RFC 1112: reserved
    "2001:db8::/32",  # RFC 3849: documentation
    "3fff::/20",  # RFC 9637: documentation
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291: all of public IPv6 is in here,
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # but for these (RFC 6052)
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380
_ASSIGNMENTS = ipaddress.IPv6Network("2001::/23")  # RFC 2928: protocol assignments, Teredo too
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291: deprecated, carries an IPv4 address


def parse_address(text: str) -> Address:
    """The address that ``text`` stands for: IPv4-mapped IPv6 as IPv4, a scope (``%eth0``) left out.

    :raises ValueError: it is not an address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def reach_of(address: Address) -> Reach:
    """Who can be meant. What an address carries inside counts apart: see :func:`embedded`."""
    if _is_in(address, _RESTRICTED):
        return Reach.RESTRICTED
    if _is_in(address, _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, ipaddress.IPv4Address) or address in _NAT64 or address in _TEREDO:
        return Reach.PUBLIC
    if address in _GLOBAL_UNICAST and address not in _ASSIGNMENTS:
        return Reach.PUBLIC
    return Reach.PRIVATE


def embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses to which a translator or tunnel may bring what is sent to ``address``."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address.is_unspecified or address.is_loopback:
        return ()  # these two are no IPv4-compatible addresses
    if address in _NAT64 or address in _COMPATIBLE:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def is_local(address: Address) -> bool:
    """Whether ``address`` is one of this machine's own, whatever the interface.

    The kernel is asked which source it would send from: what goes to an own address comes from it.
    Nothing is sent. Where it cannot be found out, the answer is yes.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return parse_address(probe.getsockname()[0]) == address
    except OSError as error:
        # Out of resources; any other error means that nothing leads there.
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
