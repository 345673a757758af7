"""The daemon itself: how it is, what it was configured to do, and who has changed what."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from gatekeeper.management.operations import Call, Table
from gatekeeper.management.redaction import redact
from gatekeeper.management.status import Health
from gatekeeper.management.v1.models import DECIMAL, Document, Time, write_time

table = Table("daemon")


class Reloaded(Document):
    """The configuration was read again."""

    status: Literal["reloaded"]
    needs_restart: list[str] = Field(
        description="Keys that have other values in the file, which take effect at a restart."
    )


class Change(Document):
    """A change that an operator made."""

    number: int
    time: Time
    actor: Annotated[
        str,
        Field(
            description="How it was known who that is: `token`; `socket`; `nobody`: it was not, "
            "the listener is open."
        ),
    ]
    source: str = Field(description="From where: an address, or the user of the system.")
    action: str
    subject: str
    detail: dict[str, Any]


class AuditListing(Document):
    """Which part of the audit log."""

    limit: Annotated[
        int, Field(ge=1, le=1000, description="So many items at the most."), DECIMAL
    ] = 100
    before: Annotated[int, Field(ge=1, le=2**53), DECIMAL] | None = Field(
        default=None, description="Only what came before the change of this number."
    )


class AuditPage(Document):
    """A part of the audit log, the newest first."""

    items: list[Change]
    next: int | None = Field(description="Give it as `before` to get what is older; `null`: none.")


@table.get("/v1/health")
async def show_health(call: Call) -> Health:
    """How the daemon is."""
    return await call.managed.status.report(call.managed.clock)


@table.get("/v1/configuration")
async def show_configuration(call: Call) -> dict[str, Any]:
    """The configuration that the daemon runs with; secrets are shown as `***`."""
    document: dict[str, Any] = redact(call.managed.settings)
    return document


@table.post("/v1/reload", errors=(422,))
async def reload(call: Call) -> Reloaded:
    """Read the configuration and the files that it names again, as SIGHUP does.

    Either all of it takes effect or, where something in it cannot be used, nothing.
    """
    keys = await call.managed.reload()
    await call.managed.note(call, "daemon.reload", "daemon", needs_restart=keys)
    return Reloaded(status="reloaded", needs_restart=list(keys))


@table.get("/v1/audit")
async def list_changes(call: Call, query: AuditListing) -> AuditPage:
    """What operators have changed, the newest first."""
    found = await call.managed.store.audit(query.limit + 1, query.before)
    items = [
        Change(
            number=number,
            time=write_time(entry.time),
            actor=entry.actor,
            source=entry.source,
            action=entry.action,
            subject=entry.subject,
            detail=json.loads(entry.detail),
        )
        for number, entry in found[: query.limit]
    ]
    return AuditPage(items=items, next=items[-1].number if len(found) > len(items) else None)
