"""Users: who may use a service, with a password."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field

from gatekeeper.errors import Refusal
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.models import (
    Document,
    Expires,
    Groups,
    Listing,
    Page,
    Password,
    Time,
    UserName,
    maybe_time,
    page,
    parse_time,
    write_time,
)
from gatekeeper.management.v1.services import find_service
from gatekeeper.store.state import Add, Remove, Replace, StoredUser

table = Table("users")


class User(Document):
    """A user of one service."""

    service: str
    name: str
    created: Time
    disabled: bool
    expires: Expires
    groups: Groups


class NewUser(Document):
    """A user to be added."""

    name: UserName
    password: Password = Field(repr=False)
    disabled: bool = False
    expires: Expires = None
    groups: Groups = ()


class UserChange(Document):
    """What is to be changed; what is left out stays."""

    password: Password | None = Field(default=None, repr=False, description="`null`: it stays.")
    disabled: bool | None = Field(default=None, description="`null`: it stays.")
    expires: Expires = None
    groups: Groups | None = Field(default=None, description="`null`: they stay.")


class UserListing(Listing):
    """Which users."""

    service: str = Field(default="", max_length=255, description="Of this service only.")


@table.get("/v1/users")
async def list_all_users(call: Call, query: UserListing) -> Page[User]:
    """The users of all services, or of one."""
    users = call.managed.state.users.values()
    found = (user for user in users if query.service in ("", user.service))
    return page(found, lambda user: f"{user.service}/{user.name}", _show, query)


@table.get("/v1/services/{service}/users", errors=(404,))
async def list_users(call: Call, service: str, query: Listing) -> Page[User]:
    """The users of a service."""
    find_service(call.managed, service)
    users = call.managed.state.users.values()
    found = (user for user in users if user.service == service)
    return page(found, lambda user: user.name, _show, query)


@table.post("/v1/services/{service}/users", status=201, errors=(404, 409))
async def add_user(call: Call, service: str, body: NewUser) -> User:
    """Add a user to a service, also to one of the configuration."""
    find_service(call.managed, service)
    user = await add(call, service, body)
    location = f"/v1/services/{quote(service, safe='')}/users/{quote(user.name, safe='')}"
    call.fields.append((b"location", location.encode("ascii")))
    return _show(user)


@table.get("/v1/services/{service}/users/{user}", errors=(404,))
async def show_user(call: Call, service: str, user: str) -> User:
    """One user."""
    return _show(find_user(call, service, user))


@table.patch("/v1/services/{service}/users/{user}", errors=(404,))
async def change_user(call: Call, service: str, user: str, body: UserChange) -> User:
    """Change a user: password, groups, until when; disable, enable."""
    managed, found = call.managed, find_user(call, service, user)
    given = body.model_fields_set
    hashed = (
        await managed.hash(call, found.name, body.password) if body.password is not None else None
    )
    before = find_user(call, service, user)  # it may have changed meanwhile
    changed = before._replace(
        password=before.password if hashed is None else hashed,
        disabled=before.disabled if body.disabled is None else body.disabled,
        groups=before.groups if body.groups is None else body.groups,
        expires=_seconds(body.expires) if "expires" in given else before.expires,
    )
    detail = body.model_dump(mode="json", include=given - {"password"})
    if hashed is not None:
        detail["password"] = "changed"  # noqa: S105 - it says that, not what
    await managed.change(call, "user.change", subject(changed), [Replace(changed)], **detail)
    return _show(changed)


@table.delete("/v1/services/{service}/users/{user}", status=204, errors=(404,))
async def remove_user(call: Call, service: str, user: str) -> None:
    """Remove a user, and the keys that the user has."""
    await remove(call, find_user(call, service, user))


def find_user(call: Call, service: str, name: str) -> StoredUser:
    """A user of a service.

    :raises Refusal: 404.
    """
    find_service(call.managed, service)
    found = call.managed.state.users.get((service, name))
    if found is None:
        raise Refusal("not_found", "There is no such user.", status=404)
    return found


async def add(call: Call, service: str, new: NewUser) -> StoredUser:
    """Add a user; what was used under the name before does not count for it.

    :raises Refusal: 409, there is one of this name.
    """
    managed = call.managed
    if (service, new.name) in managed.state.users:  # before work is done for nothing
        raise Refusal("already_there", f"There is a user `{new.name}` already.", status=409)
    hashed = await managed.hash(call, new.name, new.password)
    # What a user of this name has used who was removed must not come later than the new one.
    if not await managed.flushed(urgent=True):
        why = "The store does not take usage now, so that no user can be added; see the log."
        raise Refusal("store_away", why, status=503)
    user = StoredUser(
        service,
        new.name,
        hashed,
        managed.wall_clock(),
        new.disabled,
        _seconds(new.expires),
        new.groups,
    )
    detail = new.model_dump(mode="json", exclude={"name", "password"})
    await managed.change(call, "user.add", subject(user), [Add(user)], **detail)
    return user


async def remove(call: Call, user: StoredUser) -> None:
    """Remove a user, whose usage stays under another name; see :meth:`.IState.change`."""
    await call.managed.flushed()
    await call.managed.change(call, "user.remove", subject(user), [Remove(user)])


def subject(user: StoredUser) -> str:
    """What the audit log calls a user."""
    return f"services/{user.service}/users/{user.name}"


def _seconds(time: str | None) -> float | None:
    return None if time is None else parse_time(time)


def _show(user: StoredUser) -> User:
    return User(
        service=user.service,
        name=user.name,
        created=write_time(user.created),
        disabled=user.disabled,
        expires=maybe_time(user.expires),
        groups=user.groups,
    )
