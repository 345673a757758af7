"""The calls that Golem's providers make, at their paths and in their words.

Definitions are in camel case, ``createdAt`` is a time in RFC 3339, errors are ``{"message": "…"}``.
Services of the configuration, and those made under ``/v1``, are seen here too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service
from gatekeeper.errors import ConfigurationError, Problem, Refusal
from gatekeeper.golem.definitions import (
    Certificate,
    Definition,
    certificate_hash,
    conflict,
    definition_json,
    made_up_name,
    read_definition,
)
from gatekeeper.management import reading
from gatekeeper.management.answers import Invalid
from gatekeeper.management.golem_schema import (
    GolemDefinition,
    GolemService,
    GolemStats,
    GolemTotals,
    GolemUser,
    NewGolemUser,
)
from gatekeeper.management.managed import Managed
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1 import services, users
from gatekeeper.management.v1.models import write_time
from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.store.state import Add, StoredService, StoredUser

table = Table("golem", "golem")

DIALECT: Final = "golem"


@table.get("/services")
async def golem_services(call: Call) -> list[GolemService]:
    """All services."""
    managed = call.managed
    configured = [service.name for service in managed.settings.services]
    stored = [name for name in managed.state.services if name not in configured]
    return [_show(managed, name) for name in (*configured, *stored)]


@table.post("/services", errors=(409,), documented=GolemDefinition)
async def golem_add_service(call: Call, body: Any) -> GolemService:
    """Add a service, which is served at once."""
    managed = call.managed
    taken = {*managed.state.services, *(each.name for each in managed.settings.services)}
    try:
        definition = read_definition(
            body, name=made_up_name(taken), server_names=managed.settings.server_names
        )
        _check_certificate(definition)
    except ConfigurationError as error:
        raise reading.unusable(error.problems) from None
    if definition.name in taken:
        message = f"There is a service `{definition.name}` already."
        raise Refusal("already_there", message, status=409)
    for name in taken:
        problem = (
            conflict(definition, _definition(managed, name)) if _is_golem(managed, name) else None
        )
        if problem is not None:
            raise Invalid("conflict", str(problem), [problem], status=409)
    stored = StoredService(
        definition.name, DIALECT, json.dumps(definition_json(definition)), managed.wall_clock()
    )
    await managed.change(call, "service.add", f"services/{definition.name}", [Add(stored)])
    return _show(managed, definition.name)


@table.get("/services/{service}", errors=(404,))
async def golem_service(call: Call, service: str) -> GolemService:
    """One service."""
    services.find_service(call.managed, service)
    return _show(call.managed, service)


@table.delete("/services/{service}", errors=(404, 409))
async def golem_remove_service(call: Call, service: str) -> None:
    """Remove a service and its users."""
    await services.remove(call, service)


@table.get("/services/{service}/users", errors=(404,))
async def golem_users(call: Call, service: str) -> list[GolemUser]:
    """The users of a service."""
    services.find_service(call.managed, service)
    found = (user for user in call.managed.state.users.values() if user.service == service)
    return [_show_user(user) for user in found]


@table.post("/services/{service}/users", errors=(404, 409))
async def golem_add_user(call: Call, service: str, body: NewGolemUser) -> GolemUser:
    """Add a user to a service."""
    services.find_service(call.managed, service)
    new = users.NewUser(name=body.username, password=body.password)
    return _show_user(await users.add(call, service, new))


@table.get("/services/{service}/users/{user}", errors=(404,))
async def golem_user(call: Call, service: str, user: str) -> GolemUser:
    """One user."""
    return _show_user(users.find_user(call, service, user))


@table.delete("/services/{service}/users/{user}", errors=(404,))
async def golem_remove_user(call: Call, service: str, user: str) -> None:
    """Remove a user."""
    await users.remove(call, users.find_user(call, service, user))


@table.get("/services/{service}/users/{user}/stats", errors=(404,))
async def golem_user_stats(call: Call, service: str, user: str) -> GolemStats:
    """How many requests of a user were let through."""
    paths = await _paths(call, users.find_user(call, service, user))
    return GolemStats(requests=sum(paths.values()))


@table.get("/services/{service}/users/{user}/endpoints/stats", errors=(404,))
async def golem_user_paths(call: Call, service: str, user: str) -> dict[str, int]:
    """How many requests of a user were let through, by path."""
    return await _paths(call, users.find_user(call, service, user))


@table.get("/stats")
async def golem_totals(call: Call) -> GolemTotals:
    """How much there is of everything."""
    state = call.managed.state
    configured = {service.name for service in call.managed.settings.services}
    rows = await _usage(call, UsageQuery(by=("service",)))
    return GolemTotals(
        users=len(state.users),
        services=len(configured | state.services.keys()),
        requests=GolemStats(requests=sum(row.requests for row in rows)),
    )


@table.post("/control/shutdown")
async def golem_shutdown(call: Call) -> None:
    """Stop the daemon: what runs may end first."""
    managed = call.managed
    await managed.note(call, "daemon.stop", "daemon")
    managed.clock.callLater(0, managed.stop)  # once this is answered


async def _paths(call: Call, user: StoredUser) -> dict[str, int]:
    query = UsageQuery(service=user.service, user=user.name, by=("path",))
    return {row.path: row.requests for row in await _usage(call, query)}


async def _usage(call: Call, query: UsageQuery) -> list[UsageRow]:
    rows: list[UsageRow] = []
    await call.managed.flushed()
    await call.managed.store.stream_usage(query, rows.extend)
    return rows


def _is_golem(managed: Managed, name: str) -> bool:
    stored = managed.state.services.get(name)
    return name in managed.definitions or (stored is not None and stored.dialect == DIALECT)


def _definition(managed: Managed, name: str) -> Definition:
    """A service as Golem would have defined it."""
    if name in managed.definitions:
        return managed.definitions[name]
    stored = managed.state.services.get(name)
    if stored is not None and stored.dialect == DIALECT:
        return read_definition(json.loads(stored.definition))
    return _as_definition(services.find_service(managed, name), managed.settings.listeners)


def _as_definition(service: Service, listeners: Sequence[Listener]) -> Definition:
    gateways = [
        each
        for each in listeners
        if each.role == "gateway" and (service.listeners is None or each.name in service.listeners)
    ]
    tls = next((each.tls for each in gateways if each.tls is not None), None)
    certificate = None
    if tls is not None and tls.certificate is not None and tls.key is not None:
        certificate = Certificate(str(tls.certificate), str(tls.key))
    body, response = service.timeouts.body, service.timeouts.response
    return Definition(
        service.name,
        service.from_,
        service.to if isinstance(service.to, str) else service.to[0],  # it knows of one only
        service.description,
        service.hosts,
        tuple(each.bind for each in gateways if each.tls is not None),
        tuple(each.bind for each in gateways if each.tls is None),
        certificate,
        None if body is None else round(body * 1000),
        None if response is None else round(response * 1000),
    )


def _show(managed: Managed, name: str) -> GolemService:
    definition = _definition(managed, name)
    stored = managed.state.services.get(name)
    created = managed.status.started if stored is None else stored.created
    shown = definition_json(definition) | {"createdAt": write_time(created)}
    if definition.certificate is not None:
        try:
            shown["cert"]["hash"] = certificate_hash(definition.certificate.path)
        except (OSError, ValueError):
            del shown["cert"]["hash"]
    return GolemService.model_validate(shown)


def _check_certificate(definition: Definition) -> None:
    if definition.certificate is None:
        return
    try:
        certificate_hash(definition.certificate.path)
    except OSError as error:
        problem = Problem("cert.path", f"cannot be read: {error.strerror}")
        raise ConfigurationError([problem]) from None
    except ValueError as error:
        raise ConfigurationError([Problem("cert.path", str(error))]) from None


def _show_user(user: StoredUser) -> GolemUser:
    return GolemUser(username=user.name, createdAt=write_time(user.created))
