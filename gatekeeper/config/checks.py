"""What must be right between the tables of a configuration, once each one is right by itself.

Every check yields problems. It looks at fields that are in order only, so that no problem is the
mere consequence of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gatekeeper.config.balancing import balancing_problems
from gatekeeper.config.burning import burner_problems
from gatekeeper.config.checkers import CheckerTable, CheckerTypes
from gatekeeper.config.drafts import Draft, draft, drafts, sound
from gatekeeper.config.fields import Section
from gatekeeper.config.messages import path_of, suggestion
from gatekeeper.config.metering import meter_problems
from gatekeeper.config.model import Demo, Management, Usage
from gatekeeper.config.model_credits import Burner, Credits
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service
from gatekeeper.config.needs import unmet_needs
from gatekeeper.config.selling import selling_problems
from gatekeeper.config.values import Address, check_name, is_network_bind, parse_bind
from gatekeeper.errors import ConfigurationError, Problem

#: Keys of listeners that not all of them have, and the roles of those that do.
_ROLES = {
    "tls": ("gateway", "forward"),
    "http2": ("gateway",),
    "checkers": ("forward", "introspection"),
    "callers": ("introspection",),
    "credentials_from": ("forward",),
    "allow": ("forward",),
    "credits": ("forward",),
    "rates": ("forward",),
    "quotas": ("forward",),
}

Table = TypeVar("Table", bound=Section)
Named = TypeVar("Named", Listener, Service)


@dataclass(frozen=True, slots=True)
class Drafts:
    """The tables that are checked against each other. ``checkers``: the types as read, by name."""

    listeners: list[Draft[Listener]]
    services: list[Draft[Service]]
    management: list[Draft[Management]]
    demo: list[Draft[Demo]]
    checkers: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Drafts:
        """Draft a raw tree: secrets in their places, paths absolute, not validated."""
        return cls(
            drafts(Listener, raw.get("listeners"), "listeners"),
            drafts(Service, raw.get("services"), "services"),
            _section(Management, raw, "management"),
            _section(Demo, raw, "demo") if "demo" in raw else [],
            _checker_types(raw.get("checkers")),
        )


def cross_check(
    raw: Mapping[str, Any], types: CheckerTypes, checkers: Mapping[str, CheckerTable]
) -> Iterator[Problem]:
    """Everything that is wrong between the tables of a raw tree (see :meth:`Drafts.of`).

    ``checkers`` are the ``[checkers.NAME]`` tables that could be read.
    """
    tables = Drafts.of(raw)
    yield from _repeated_names(tables.listeners)
    yield from _repeated_names(tables.services)
    yield from _repeated_addresses(tables)
    yield from _keys_of_another_role(tables.listeners)
    yield from _missing_keys(tables.listeners)
    yield from _callers_with_tokens(tables.listeners)
    yield from check_services(tables, types, checkers)
    yield from conflicting_services(tables)
    yield from meter_problems(raw.get("services"))
    yield from selling_problems(
        [*_sellers(tables.services), *_sellers(tables.listeners)],
        _one(Credits, raw, "credits"),
        _one(Usage, raw, "usage"),
    )
    yield from burner_problems(_section(Burner, raw, "burner"), _section(Credits, raw, "credits"))
    yield from _open_management(tables.management)
    yield from _demo_without_users(tables)


def check_services(
    tables: Drafts, types: CheckerTypes, checkers: Mapping[str, CheckerTable]
) -> Iterator[Problem]:
    """What is wrong between services and what they name: listeners, checkers; not each other.

    For the parameters see :func:`cross_check`.
    """
    yield from _unknown_listeners(tables)
    yield from _unusable_checkers(tables, types)
    yield from unmet_needs(tables.listeners, tables.services, checkers)
    yield from _actions_beside_others(tables.services)
    yield from _http2_to_nowhere(tables.services)
    yield from balancing_problems(tables.services)


def _section(model: type[Table], raw: Mapping[str, Any], key: str) -> list[Draft[Table]]:
    table = raw.get(key, {})
    return [draft(model, table, key)] if isinstance(table, dict) else []


def _one(model: type[Table], raw: Mapping[str, Any], key: str) -> Table | None:
    """A table that may be missing; ``None`` where some of it cannot be read."""
    table = raw.get(key, {})
    found = draft(model, table, key) if isinstance(table, dict) else None
    return None if found is None or found.broken else found.table


def _sellers(tables: Iterable[Draft[Any]]) -> Iterator[tuple[str, Any]]:
    """Services and listeners as far as what they sell can be read."""
    return sound(tables, "checkers", "credits", "rates", "quotas")


def _checker_types(raw: Any) -> dict[str, Any]:
    tables = raw.items() if isinstance(raw, dict) else ()
    return {name: t.get("type") if isinstance(t, dict) else None for name, t in tables}


def _repeated_names(tables: Iterable[Draft[Named]]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for path, table in sound(tables, "name"):
        earlier = first.setdefault(table.name, path)
        if earlier != path:
            yield Problem(f"{path}.name", f"`{table.name}` is the name of {earlier} already")


def _repeated_addresses(tables: Drafts) -> Iterator[Problem]:
    bound = [
        (f"{path}.bind", item.bind)
        for path, item in sound(tables.listeners, "bind")
        if "bind" in item.model_fields_set or _is_introspection(item)
    ]
    bound += [(f"{path}.bind", item.bind) for path, item in sound(tables.management, "bind")]
    bound += [(f"{path}.origin", item.origin) for path, item in sound(tables.demo, "origin")]
    first: dict[Address, str] = {}
    for path, text in bound:
        if not is_network_bind(text) or (address := parse_bind(text)).port == 0:
            continue
        if address.host == "localhost":
            address = address._replace(host="127.0.0.1")
        earlier = first.setdefault(address, path)
        if earlier != path:
            yield Problem(path, f"`{text}` is the address of `{earlier}` already")


def _keys_of_another_role(listeners: list[Draft[Listener]]) -> Iterator[Problem]:
    for path, listener in sound(listeners, "role"):
        for key, roles in _ROLES.items():
            if key in listener.model_fields_set and listener.role not in roles:
                words = " or ".join(f'"{role}"' for role in roles)
                yield Problem(f"{path}.{key}", f"belongs to a listener with role = {words}")


def _missing_keys(listeners: list[Draft[Listener]]) -> Iterator[Problem]:
    for path, listener in sound(listeners, "bind"):
        if "bind" not in listener.model_fields_set and not _is_introspection(listener):
            yield Problem(f"{path}.bind", "is required")
    for path, listener in sound(listeners, "role", "checkers"):
        if listener.role != "gateway" and listener.checkers is None:
            yield Problem(f"{path}.checkers", f'is required where role = "{listener.role}"')
        if _is_introspection(listener) and listener.checkers == ():
            yield Problem(f"{path}.checkers", "must name a checker that knows the tokens")
    for path, listener in sound(listeners, "role", "callers"):
        if _is_introspection(listener) and listener.callers == ():
            message = "must name a checker; where it is left out, nobody may ask by RFC 7662"
            yield Problem(f"{path}.callers", message)


def _callers_with_tokens(listeners: list[Draft[Listener]]) -> Iterator[Problem]:
    """Who has a token must not be able to ask about others', nor be taken for its own caller."""
    for path, listener in sound(listeners, "checkers", "callers"):
        for i, entry in enumerate(listener.callers or ()):
            if entry in (listener.checkers or ()):
                message = "is in `checkers` already; who may ask needs a checker of their own"
                yield Problem(f"{path}.callers[{i}]", message)


def _is_introspection(listener: Listener) -> bool:
    # Its role may be one that cannot be read.
    return getattr(listener, "role", None) == "introspection"


def _unknown_listeners(tables: Drafts) -> Iterator[Problem]:
    if len(list(sound(tables.listeners, "name", "role"))) < len(tables.listeners):
        return  # a name that cannot be read may be the one that is asked for
    roles = {listener.name: listener.role for _, listener in sound(tables.listeners)}
    gateways = [name for name, role in roles.items() if role == "gateway"]
    for path, service in sound(tables.services, "listeners"):
        for i, name in enumerate(service.listeners or ()):
            if name not in roles:
                near = suggestion(name, gateways)
                yield Problem(f"{path}.listeners[{i}]", f"no listener is called `{name}`{near}")
            elif roles[name] != "gateway":
                yield Problem(f"{path}.listeners[{i}]", f"`{name}` is not a gateway")


def _unusable_checkers(tables: Drafts, types: CheckerTypes) -> Iterator[Problem]:
    for path, entry in _checker_entries(tables):
        scheme, separator, _ = entry.partition("://")
        if not separator:
            yield from _unknown_checker(path, entry, tables.checkers)
        elif scheme not in types.schemes:
            known = ", ".join(f"`{name}://`" for name in sorted(types.schemes)) or "none"
            yield Problem(path, f"no checker has a URL of this scheme; known: {known}")
        else:
            yield from _unusable_url(path, entry, types)


def _checker_entries(tables: Drafts) -> Iterator[tuple[str, str]]:
    for path, listener in sound(tables.listeners, "checkers"):
        for i, entry in enumerate(listener.checkers or ()):
            yield f"{path}.checkers[{i}]", entry
    for path, listener in sound(tables.listeners, "callers"):
        for i, entry in enumerate(listener.callers or ()):
            yield f"{path}.callers[{i}]", entry
    for path, service in sound(tables.services, "checkers"):
        for i, entry in enumerate(service.checkers):
            yield f"{path}.checkers[{i}]", entry


def _unknown_checker(path: str, name: str, known: Iterable[str]) -> Iterator[Problem]:
    if name in known:
        return
    try:
        check_name(name)
    except ValueError:
        # Not shown: it may be a URL with a slip in it, and the URL may hold a secret.
        yield Problem(path, "must be the name of a checker or a URL such as `trust://`")
    else:
        near = suggestion(name, known)
        yield Problem(path, f"there is no table `checkers.{name}`{near}")


def _unusable_url(path: str, url: str, types: CheckerTypes) -> Iterator[Problem]:
    scheme = url.partition("://")[0]
    try:
        types.schemes[scheme](url)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Problem(f"{path}.{problem.path}" if problem.path else path, problem.message)


def conflicting_services(tables: Drafts) -> Iterator[Problem]:
    """Services that would be found at the same place; the earlier one may stay."""
    gateways = {
        listener.name
        for _, listener in sound(tables.listeners, "name", "role")
        if listener.role == "gateway"
    }
    first: dict[tuple[str, str, str], str] = {}
    for path, service in sound(tables.services, "from_", "hosts", "listeners"):
        # Services without `listeners` meet each other even where no gateway is.
        places = {*gateways, "*"} if service.listeners is None else set(service.listeners)
        earlier = {
            first.setdefault((place, host, service.from_), path)
            for place in places
            for host in service.hosts or ("",)
        }
        for other in sorted(earlier - {path}):
            message = f"{other} has the same `from` for the same host on the same listener"
            yield Problem(f"{path}.from", message)


def _actions_beside_others(services: list[Draft[Service]]) -> Iterator[Problem]:
    """An action file is all the rules that there are, and asks for the groups of somebody."""
    for path, service in sound(services, "actions_file", "access"):
        if service.actions_file is not None and service.access:
            yield Problem(f"{path}.actions_file", "takes the place of `access`; keep one of them")
    for path, service in sound(services, "actions_file", "checkers"):
        if service.actions_file is not None and not service.checkers:
            message = "needs `checkers`: without them nobody is in a group"
            yield Problem(f"{path}.actions_file", message)


def _http2_to_nowhere(services: list[Draft[Service]]) -> Iterator[Problem]:
    for path, service in sound(services, "http2", "to"):
        if service.http2 == "always" and service.to == "grant":
            yield Problem(f"{path}.http2", '`always` needs a fixed upstream in `to`, not "grant"')


def _open_management(management: list[Draft[Management]]) -> Iterator[Problem]:
    for path, table in sound(management, "bind", "auth"):
        is_open = table.auth == "none" and is_network_bind(table.bind)
        if is_open and not parse_bind(table.bind).loopback:
            message = "`none` is for a loopback address only; change it, or `management.bind`"
            yield Problem(f"{path}.auth", message)


def _demo_without_users(tables: Drafts) -> Iterator[Problem]:
    for path, demo in sound(tables.demo, "users"):
        if demo.users not in tables.checkers:
            message = f"there is no table `{path_of(('checkers', demo.users))}`"
            yield Problem(f"{path}.users", message)
        elif tables.checkers[demo.users] not in (None, "basic"):
            yield Problem(f"{path}.users", f'`{demo.users}` is not a checker with type = "basic"')
