"""Services: those of the configuration, which are read-only here, and those made over the API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from gatekeeper.config.model_services import Service
from gatekeeper.errors import Problem, Refusal
from gatekeeper.golem.definitions import read_definition
from gatekeeper.golem.expansion import service_table
from gatekeeper.management.managed import Managed
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.reading import unusable
from gatekeeper.management.redaction import REDACTED, redact_checker
from gatekeeper.management.v1.models import Document, Listing, Origin, Page, Time, page, write_time
from gatekeeper.store.state import Add, Remove, Replace, StoredService

if TYPE_CHECKING:
    from gatekeeper.net.balancing_attempt import UpstreamState

table = Table("services")

#: How a service is written down that is defined as in the configuration file.
DIALECT: Final = "v1"


class ShownUpstream(Document):
    """How one of several upstreams is now."""

    url: str
    state: str = Field(
        description="`up`; `ejected`, it does not answer, and gets a request now and then; `down`, "
        "its health checks say so."
    )
    outstanding: int = Field(description="Requests under way or waiting, and open tunnels.")
    ejections: int = Field(description="How often it was ejected.")


class ShownService(Service):
    """A service, and where it comes from. Checkers that are URLs are shown by their scheme only."""

    origin: Origin = Field(
        description="Those of the `configuration` are read-only; change its file."
    )
    dialect: str = Field(description="How it was defined: `v1` as here, or `golem`.")
    created: Time
    upstreams: tuple[ShownUpstream, ...] = Field(
        default=(), description="With a list in `to`: how they are now."
    )


@table.get("/v1/services")
async def list_services(call: Call, query: Listing) -> Page[ShownService]:
    """All services: those of the configuration, and those made over the API."""
    found = page(_all(call.managed), lambda each: each.name, lambda each: each, query)
    upstreams = await call.managed.upstreams()
    shown = [_with_upstreams(each, upstreams) for each in found.items]
    return found.model_copy(update={"items": shown})


@table.post("/v1/services", status=201, errors=(409, 422))
async def add_service(call: Call, body: Service) -> ShownService:
    """Add a service, which is served at once. Fields are those of the configuration file."""
    managed = call.managed
    refuse_configured(managed, body.name)
    if body.name in managed.state.services:
        raise Refusal("already_there", f"There is a service `{body.name}` already.", status=409)
    stored = _stored(body, managed.wall_clock())
    await managed.change(call, "service.add", f"services/{body.name}", [Add(stored)])
    call.fields.append((b"location", f"/v1/services/{body.name}".encode("ascii")))
    return _with_upstreams(_show_stored(managed, stored), await managed.upstreams())


@table.get("/v1/services/{service}", errors=(404,))
async def show_service(call: Call, service: str) -> ShownService:
    """One service."""
    return _with_upstreams(find_service(call.managed, service), await call.managed.upstreams())


@table.put("/v1/services/{service}", errors=(404, 409, 422))
async def replace_service(call: Call, service: str, body: Service) -> ShownService:
    """Replace a service. Requests that run end under what they began with."""
    managed = call.managed
    refuse_configured(managed, service)
    before = _find_stored(managed, service)
    if body.name != service:
        raise unusable((Problem("name", f"must be `{service}`: a service keeps its name"),))
    stored = _stored(body, before.created)
    await managed.change(call, "service.replace", f"services/{service}", [Replace(stored)])
    return _with_upstreams(_show_stored(managed, stored), await managed.upstreams())


@table.delete("/v1/services/{service}", status=204, errors=(404, 409))
async def remove_service(call: Call, service: str) -> None:
    """Remove a service, its users and their keys. What runs ends in its time."""
    await remove(call, service)


async def remove(call: Call, name: str) -> None:
    """Remove a service that was made over the API.

    :raises Refusal: 404, or 409 for one of the configuration.
    """
    managed = call.managed
    refuse_configured(managed, name)
    stored = _find_stored(managed, name)
    await managed.flushed()
    await managed.change(call, "service.remove", f"services/{name}", [Remove(stored)])


def find_service(managed: Managed, name: str) -> ShownService:
    """A service by its name; of its upstreams, nothing is told.

    :raises Refusal: 404.
    """
    for service in managed.settings.services:
        if service.name == name:
            return _show(managed, service, "configuration", DIALECT, managed.status.started)
    return _show_stored(managed, _find_stored(managed, name))


def refuse_configured(managed: Managed, name: str) -> None:
    """Refuse to change a service of the configuration.

    :raises Refusal: 409.
    """
    if any(service.name == name for service in managed.settings.services):
        detail = f"`{name}` is a service of the configuration file, and can be changed there only."
        raise Refusal("read_only", detail, status=409)


def _find_stored(managed: Managed, name: str) -> StoredService:
    stored = managed.state.services.get(name)
    if stored is None:
        raise Refusal("not_found", "There is no such service.", status=404)
    return stored


def _all(managed: Managed) -> list[ShownService]:
    configured = managed.settings.services
    names = {service.name for service in configured}
    shown = [
        _show(managed, service, "configuration", DIALECT, managed.status.started)
        for service in configured
    ]
    stored = (each for each in managed.state.services.values() if each.name not in names)
    return shown + [_show_stored(managed, each) for each in stored]


def _stored(service: Service, created: float) -> StoredService:
    for number, checker in enumerate(service.checkers):
        if checker.endswith(REDACTED):
            message = "is what is shown of a URL; send the URL itself"
            raise unusable((Problem(f"checkers[{number}]", message),))
    document = service.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return StoredService(service.name, DIALECT, json.dumps(document), created)


def _show_stored(managed: Managed, stored: StoredService) -> ShownService:
    fields: dict[str, Any] = json.loads(stored.definition)
    if stored.dialect != DIALECT:
        fields = service_table(read_definition(fields, name=stored.name))
    service = Service.model_validate(fields)
    return _show(managed, service, "api", stored.dialect, stored.created)


def _show(
    managed: Managed, service: Service, origin: Origin, dialect: str, created: float
) -> ShownService:
    fields = dict(service)
    fields["checkers"] = tuple(map(redact_checker, service.checkers))
    return ShownService.model_construct(
        **fields,
        origin=origin,
        dialect=dialect,
        created=write_time(created),
    )


def _with_upstreams(
    service: ShownService, upstreams: Mapping[str, Sequence[UpstreamState]]
) -> ShownService:
    shown = tuple(
        ShownUpstream(
            url=each.url,
            state=each.state.value,
            outstanding=each.outstanding,
            ejections=each.ejections,
        )
        for each in upstreams.get(service.name, ())
    )
    return service.model_copy(update={"upstreams": shown})
