"""What some checkers need of the listeners that they are asked on, or they never say yes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.drafts import Draft, sound
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service
from gatekeeper.errors import Problem


def unmet_needs(
    listeners: Sequence[Draft[Listener]],
    services: Sequence[Draft[Service]],
    checkers: Mapping[str, CheckerTable],
) -> Iterator[Problem]:
    """Checkers that believe what the peer says, and listeners that do not say who it may be.

    And checkers of client certificates that no listener asks for.
    """
    yield from _trust_without_peers(listeners, services, checkers)
    yield from _certificates_nobody_asks_for(listeners, services, checkers)


def _trust_without_peers(
    listeners: Sequence[Draft[Listener]],
    services: Sequence[Draft[Service]],
    checkers: Mapping[str, CheckerTable],
) -> Iterator[Problem]:
    for path, listener in sound(listeners, "checkers", "trusted_peers"):
        for i, entry in enumerate(listener.checkers or ()):
            if _trusts(entry, checkers) and not listener.trusted_peers:
                message = f"{_called(entry)} needs `trusted_peers`"
                yield Problem(f"{path}.checkers[{i}]", message)
    gateways = [
        (path, listener)
        for path, listener in sound(listeners, "name", "role", "trusted_peers")
        if listener.role == "gateway"
    ]
    for path, service in sound(services, "checkers", "listeners"):
        for i, entry in enumerate(service.checkers):
            if not _trusts(entry, checkers):
                continue
            for where, gateway in gateways:
                if _is_found_on(service, gateway) and not gateway.trusted_peers:
                    message = (
                        f"{_called(entry)} needs `trusted_peers` in {where} (`{gateway.name}`)"
                    )
                    yield Problem(f"{path}.checkers[{i}]", message)


def _certificates_nobody_asks_for(
    listeners: Sequence[Draft[Listener]],
    services: Sequence[Draft[Service]],
    checkers: Mapping[str, CheckerTable],
) -> Iterator[Problem]:
    readable = list(sound(listeners, "name", "role", "tls"))
    for path, listener in sound(listeners, "checkers", "tls"):
        for i, entry in enumerate(listener.checkers or ()):
            if _reads_certificates(entry, checkers) and not _asks(listener):
                message = f"{_called(entry)} needs `tls.client_ca`"
                yield Problem(f"{path}.checkers[{i}]", message)
    if len(readable) < len(listeners):
        return  # one that cannot be read may be the one that asks
    for path, service in sound(services, "checkers", "listeners"):
        found = [listener for _, listener in readable if _is_found_on(service, listener)]
        for i, entry in enumerate(service.checkers):
            if _reads_certificates(entry, checkers) and found and not any(map(_asks, found)):
                message = f"{_called(entry)} needs `tls.client_ca` in a listener of this service"
                yield Problem(f"{path}.checkers[{i}]", message)


def _is_found_on(service: Service, listener: Listener) -> bool:
    return listener.role == "gateway" and (
        service.listeners is None or listener.name in service.listeners
    )


def _asks(listener: Listener) -> bool:
    return listener.tls is not None and listener.tls.client_ca is not None


def _trusts(entry: str, checkers: Mapping[str, CheckerTable]) -> bool:
    scheme, separator, _ = entry.partition("://")
    return scheme == "trust" if separator else _needs("needs_trusted_peers", entry, checkers)


def _reads_certificates(entry: str, checkers: Mapping[str, CheckerTable]) -> bool:
    return _needs("needs_client_ca", entry, checkers)


def _needs(what: str, entry: str, checkers: Mapping[str, CheckerTable]) -> bool:
    table = checkers.get(entry)
    return table is not None and bool(getattr(table.settings, what, False))


def _called(entry: str) -> str:
    return "`trust://`" if "://" in entry else f"`{entry}`"
