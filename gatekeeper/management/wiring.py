"""From the parts of the daemon to what the management API works on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from gatekeeper.auth.hashing import HashingQueue, ReactorThreads
from gatekeeper.config.model import Settings
from gatekeeper.golem.definitions import Definition
from gatekeeper.golem.expansion import read_directory
from gatekeeper.management.health import Readiness
from gatekeeper.management.managed import Managed, State, Store
from gatekeeper.management.status import Counts, ListenerState, Status

if TYPE_CHECKING:
    from gatekeeper.net.balancing import UpstreamState
    from gatekeeper.plane import Plane
    from gatekeeper.usage.metering import Metering


def manage(
    settings: Settings,
    *,
    readiness: Readiness,
    state: State,
    store: Store,
    plane: Plane,
    metering: Metering | None,
    connections: Sized,
    listeners: Callable[[], Iterable[tuple[str, str, tuple[str, int]]]],
    reload: Callable[[], Awaitable[Sequence[str]]],
    stop: Callable[[], object],
    clock: IReactorTime,
    upstreams: Callable[[str], Sequence[UpstreamState]],
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
            connections=lambda: len(connections),
            exchanges=lambda: len(plane.live),
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
        plane,
        status,
        HashingQueue(ReactorThreads()),
        metering.flush if metering is not None else _nothing_to_flush,
        reload,
        stop,
        clock,
        definitions=read_definitions(settings),
        upstreams=upstreams,
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
