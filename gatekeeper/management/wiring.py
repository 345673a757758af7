"""From the parts of the daemon to what the management API works on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from gatekeeper.auth.hashing import HashingQueue, ReactorThreads
from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.config.model import Settings
from gatekeeper.golem.definitions import Definition
from gatekeeper.golem.expansion import read_directory
from gatekeeper.management.health import Readiness
from gatekeeper.management.live import DataPlane
from gatekeeper.management.managed import Managed, State, Store
from gatekeeper.management.status import Counts, ListenerState, Status

if TYPE_CHECKING:
    from gatekeeper.credits.selling import Selling
    from gatekeeper.usage.metering import Metering


def manage(
    settings: Settings,
    *,
    readiness: Readiness,
    state: State,
    store: Store,
    plane: DataPlane,
    metering: Metering | None,
    listeners: Callable[[], Iterable[tuple[str, str, tuple[str, int]]]],
    reload: Callable[[], Awaitable[Sequence[str]]],
    stop: Callable[[], object],
    clock: IReactorTime,
    selling: Selling,
    zones: Mapping[str, ITokenCache],
) -> Managed:
    """What the API works on. ``listeners`` tells names, roles, and addresses.

    ``reload`` and ``stop``: see :class:`Managed`.
    """

    def services() -> int:
        configured = {service.name for service in managed.settings.services}
        return len(configured | state.services.keys())

    status = Status(
        readiness,
        Counts(
            traffic=plane.traffic,
            services=services,
            users=lambda: len(state.users),
        ),
        lambda: [
            ListenerState(name=name, role=role, address=_shown(*address))
            for name, role, address in listeners()
        ],
        metering.journal if metering is not None else None,
        metering.flusher if metering is not None else None,
        settings.usage.journal_size,
    )
    managed = Managed(
        settings,
        state,
        store,
        plane.exchanges,
        status,
        HashingQueue(ReactorThreads()),
        metering.flush if metering is not None else _nothing_to_flush,
        reload,
        stop,
        clock,
        definitions=read_definitions(settings),
        upstreams=plane.upstreams,
        balances=selling.balances,
        expire=plane.expire,
        settled=plane.settled,
        zones=zones,
    )
    return managed


def _nothing_to_flush(*, urgent: bool = False) -> Deferred[bool]:
    return succeed(True)


def read_definitions(settings: Settings) -> dict[str, Definition]:
    """The definitions of ``services_dir`` that became services of the configuration, by name."""
    if settings.services_dir is None:
        return {}
    found, _ = read_directory(settings.services_dir, settings.server_names)
    return {definition.name: definition for _, definition in found}


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
