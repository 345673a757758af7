"""Keys: secrets that programs present. A user may have several, so that they can be changed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gatekeeper.auth.key import new_key
from gatekeeper.errors import Refusal
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.models import (
    Document,
    Expires,
    Groups,
    Label,
    Listing,
    Page,
    Time,
    UserName,
    maybe_time,
    page,
    parse_time,
    write_time,
)
from gatekeeper.management.v1.services import find_service
from gatekeeper.store.state import Add, Remove, Replace, StoredKey

table = Table("keys")

Service = Annotated[
    str | None,
    Field(max_length=255, description="The only service that it is good for; `null`: all."),
]


class Key(Document):
    """A key, without its secret."""

    id: str
    user: str
    service: Service
    label: str
    created: Time
    disabled: bool
    expires: Expires
    groups: Groups


class CreatedKey(Key):
    """A key that was just made: this is the only time that its secret is shown."""

    secret: str = Field(repr=False)


class NewKey(Document):
    """A key to be made."""

    user: UserName = Field(description="Whose usage it counts as.")
    service: Service = None
    label: Label = Field(default="", description="What it is for.")
    disabled: bool = False
    expires: Expires = None
    groups: Groups = ()


class KeyChange(Document):
    """What is to be changed; what is left out stays."""

    label: Label | None = Field(default=None, description="`null`: it stays.")
    disabled: bool | None = Field(default=None, description="`null`: it stays.")
    expires: Expires = None
    groups: Groups | None = Field(default=None, description="`null`: they stay.")


class KeyListing(Listing):
    """Which keys."""

    user: str = Field(default="", max_length=255, description="Of this user only.")
    service: str = Field(default="", max_length=255, description="For this service only.")


@table.get("/v1/keys")
async def list_keys(call: Call, query: KeyListing) -> Page[Key]:
    """The keys, without their secrets."""
    found = (
        key
        for key in call.managed.state.keys.values()
        if query.user in ("", key.user) and query.service in ("", key.service)
    )
    return page(found, lambda key: key.id, _show, query)


@table.post("/v1/keys", status=201, errors=(404,))
async def create_key(call: Call, body: NewKey) -> CreatedKey:
    """Make a key. Its secret is in the answer, and cannot be shown again."""
    managed = call.managed
    if body.service is not None:
        find_service(managed, body.service)
    made = new_key()
    key = StoredKey(
        made.id,
        body.service or "",
        body.user,
        made.digest,
        managed.wall_clock(),
        body.label,
        body.disabled,
        None if body.expires is None else parse_time(body.expires),
        body.groups,
    )
    detail = body.model_dump(mode="json")
    await managed.change(call, "key.create", f"keys/{key.id}", [Add(key)], **detail)
    call.fields.append((b"location", f"/v1/keys/{key.id}".encode("ascii")))
    return CreatedKey(**_show(key).model_dump(), secret=made.presented)


@table.get("/v1/keys/{key}", errors=(404,))
async def show_key(call: Call, key: str) -> Key:
    """One key, without its secret."""
    return _show(_find(call, key))


@table.patch("/v1/keys/{key}", errors=(404,))
async def change_key(call: Call, key: str, body: KeyChange) -> Key:
    """Change a key: label, groups, until when; disable, enable."""
    before, given = _find(call, key), body.model_fields_set
    expires = None if body.expires is None else parse_time(body.expires)
    changed = before._replace(
        label=before.label if body.label is None else body.label,
        disabled=before.disabled if body.disabled is None else body.disabled,
        groups=before.groups if body.groups is None else body.groups,
        expires=expires if "expires" in given else before.expires,
    )
    detail = body.model_dump(mode="json", include=given)
    await call.managed.change(call, "key.change", f"keys/{key}", [Replace(changed)], **detail)
    return _show(changed)


@table.delete("/v1/keys/{key}", status=204, errors=(404,))
async def revoke_key(call: Call, key: str) -> None:
    """Revoke a key: it is gone, and nothing is granted for it any more."""
    found = _find(call, key)
    await call.managed.change(
        call, "key.revoke", f"keys/{key}", [Remove(found)], user=found.user, label=found.label
    )


def _find(call: Call, key: str) -> StoredKey:
    found = call.managed.state.keys.get(key)
    if found is None:
        raise Refusal("not_found", "There is no such key.", status=404)
    return found


def _show(key: StoredKey) -> Key:
    return Key(
        id=key.id,
        user=key.user,
        service=key.service or None,
        label=key.label,
        created=write_time(key.created),
        disabled=key.disabled,
        expires=maybe_time(key.expires),
        groups=key.groups,
    )
