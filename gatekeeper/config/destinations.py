"""Where a forward listener lets its clients go: the syntax of an allow rule."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gatekeeper.config.values import (
    Network,
    parse_host,
    parse_host_pattern,
    parse_network,
    parse_port,
    split_authority,
)


class AllowRule(NamedTuple):
    """One rule. What ``value`` holds depends on ``kind``:

    ``any``: nothing. ``suffix``: what the name ends with, dot first (``.example.com``).
    ``name``: the whole name. ``network``: the network, of one address where the rule names one.
    Names are in lower case. ``port`` is ``None`` for any port.
    """

    kind: Literal["any", "suffix", "name", "network"]
    value: str | Network
    port: int | None


def parse_allow_rule(text: str) -> AllowRule:
    """Parse ``host:port``; the host is ``*``, ``*.suffix``, a name, an address or a network.

    IPv6 stands in brackets, a network's prefix length inside them: ``[fd00::/8]:443``. The port is
    a number or ``*``.

    :raises ValueError: with a sentence for the operator.
    """
    host, port_text = split_authority(text)
    if not host or port_text is None:
        raise ValueError("must be `host:port`, such as `api.example.com:443` or `10.0.0.0/8:*`")
    port = None if port_text == "*" else parse_port(port_text)
    if host == "*":
        return AllowRule("any", "", port)
    if host.startswith("*."):
        return AllowRule("suffix", parse_host_pattern(host)[1:], port)
    if host.startswith("["):
        return AllowRule("network", parse_network(host[1:-1]), port)
    if "/" in host:
        return AllowRule("network", parse_network(host), port)
    name = parse_host(host)
    try:
        return AllowRule("network", parse_network(name), port)
    except ValueError:
        return AllowRule("name", name, port)


def check_allow_rule(text: str) -> str:
    """A rule that :func:`parse_allow_rule` understands, as it is."""
    parse_allow_rule(text)
    return text
