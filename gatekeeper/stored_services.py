"""Services that operators have made: from what the store holds to what can be served.

The configuration's services and listeners come first, and stay as they are. A stored service that
does not fit beside them, or beside another one, is left out, and it is said why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from gatekeeper.config.checkers import CheckerTable, CheckerTypes
from gatekeeper.config.checks import Drafts, check_services, conflicting_services
from gatekeeper.config.drafts import Draft
from gatekeeper.config.fields import Section
from gatekeeper.config.files import check_service_files
from gatekeeper.config.messages import problems_of
from gatekeeper.config.metering import meter_problems
from gatekeeper.config.model import Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service
from gatekeeper.config.selling import selling_problems
from gatekeeper.config.values import is_network_bind, parse_bind
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.golem.definitions import Definition, read_definition
from gatekeeper.golem.expansion import (
    CHECKER,
    SERVICE_FIELDS,
    listener_name,
    listener_table,
    service_table,
)
from gatekeeper.store.state import StoredService

#: How a service is written down: as in the configuration file, or as a definition of Golem's.
V1: Final = "v1"
GOLEM: Final = "golem"


class Understood(NamedTuple):
    """A stored service: what is served, the gateways of its own, and what fields are called.

    ``fields`` are the stored definition's fields by the paths of service and listeners.
    """

    service: Service
    listeners: tuple[Listener, ...] = ()
    fields: Mapping[str, str] = {}

    def told(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems with the fields that the stored definition has."""
        return [Problem(self.fields.get(path, path), message) for path, message in problems]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be served beside the configuration, and why some services are not."""

    services: dict[str, Understood] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)

    @property
    def listeners(self) -> dict[str, tuple[Listener, Understood]]:
        """The gateways that are to be there by name, each with the first service that has it."""
        found: dict[str, tuple[Listener, Understood]] = {}
        for each in self.services.values():
            for listener in each.listeners:
                found.setdefault(listener.name, (listener, each))
        return found

    def drop(self, name: str, problems: Iterable[Problem]) -> None:
        """Leave a service out."""
        self.problems[name] = self.services.pop(name).told(problems)


def understand(stored: StoredService) -> Understood:
    """Read a stored service.

    :raises ConfigurationError: with all that is wrong with it alone; paths are its fields.
    """
    try:
        raw: Any = json.loads(stored.definition)
    except ValueError:
        raise ConfigurationError([Problem("", "is not JSON")]) from None
    if stored.dialect == GOLEM:
        understood = _golem(read_definition(raw, name=stored.name))
    elif stored.dialect == V1:
        understood = Understood(_validated(raw))
    else:
        raise ConfigurationError([Problem("", f"is in a dialect `{stored.dialect}`: unknown")])
    if understood.service.name != stored.name:
        raise ConfigurationError([Problem("name", f"must be `{stored.name}`")])
    return understood


def _validated(raw: Any) -> Service:
    try:
        service = Service.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigurationError(list(problems_of(error, Service))) from None
    problems = [
        Problem(key, "must be an absolute path")
        for key, path in (("ca_file", service.ca_file), ("actions_file", service.actions_file))
        if path is not None and not path.is_absolute()
    ]
    problems += _inside(meter_problems([raw]), "services[0]")
    if problems:
        raise ConfigurationError(problems)
    return service


def _golem(definition: Definition) -> Understood:
    addresses = definition.bind_https + definition.bind_http
    fields = dict(SERVICE_FIELDS)
    for address in addresses:
        encrypted = address in definition.bind_https
        fields[f"{listener_name(address)}.bind"] = "bindHttps" if encrypted else "bindHttp"
        fields[f"{listener_name(address)}.tls.certificate"] = "cert.path"
        fields[f"{listener_name(address)}.tls.key"] = "cert.keyPath"
        fields[f"{listener_name(address)}.tls"] = "cert"
    return Understood(
        Service.model_validate(service_table(definition), by_alias=True, by_name=False),
        tuple(
            Listener.model_validate(listener_table(definition, address), by_alias=True)
            for address in addresses
        ),
        fields,
    )


class Planner:
    """Makes plans. ``types`` are the checkers that are installed."""

    def __init__(self, settings: Settings, types: CheckerTypes) -> None:
        self._settings = settings
        self._types = types
        self._checkers = {CHECKER: CheckerTable("basic", Section()), **settings.checkers}
        self._understood: dict[StoredService, Understood] = {}

    def plan(self, stored: Sequence[StoredService]) -> Plan:
        """Say what can be served. Where two do not fit together, the earlier one stays."""
        plan = Plan()
        known, self._understood = self._understood, {}
        configured = {service.name for service in self._settings.services}
        listeners = {listener.name: listener for listener in self._settings.listeners}
        for each in stored:
            try:
                understood = self._understood[each] = known.get(each) or understand(each)
                problems = (
                    [Problem("name", "is the name of a service of the configuration")]
                    if each.name in configured
                    else list(self._problems(understood, listeners, plan))
                )
            except ConfigurationError as error:
                plan.problems[each.name] = list(error.problems)
                continue
            if problems:
                plan.problems[each.name] = understood.told(problems)
                continue
            plan.services[each.name] = understood
            for listener in understood.listeners:
                listeners.setdefault(listener.name, listener)
        self._drop_conflicting(plan, list(listeners.values()))
        return plan

    def _problems(
        self, understood: Understood, listeners: Mapping[str, Listener], plan: Plan
    ) -> Iterator[Problem]:
        """What is wrong with a service beside these listeners, but for services of other kinds."""
        for listener in understood.listeners:
            yield from self._unusable_address(listener, listeners)
        there = {**listeners, **{each.name: each for each in understood.listeners}}
        draft = Draft("new", understood.service, frozenset[str]())
        tables = self._drafts(there.values(), [draft])
        yield from _inside(check_services(tables, self._types, self._checkers), "new")
        yield from _inside(check_service_files([draft]), "new")
        selling = [("new", understood.service)]
        yield from _inside(
            selling_problems(selling, self._settings.credits, self._settings.usage), "new"
        )
        own = {listener.name for listener in understood.listeners}
        others = [
            *self._settings.services,
            *(each.service for each in plan.services.values()),
        ]
        for other in others:
            if own.intersection(other.listeners or ()) and _overlap(
                understood.service.from_, other.from_
            ):
                yield Problem("from", f"overlaps with `{other.from_}` of `{other.name}`")

    def _unusable_address(
        self, listener: Listener, listeners: Mapping[str, Listener]
    ) -> Iterator[Problem]:
        known = listeners.get(listener.name)
        if known is not None and known.tls != listener.tls:
            if known.tls is not None and listener.tls is not None:
                yield Problem(f"{listener.name}.tls", f"another one is used on `{listener.bind}`")
            else:
                kind = "HTTP" if known.tls is None else "HTTPS"
                yield Problem(f"{listener.name}.bind", f"`{listener.bind}` is for {kind} already")
            return
        taken = [(each.bind, f"of listener `{name}`") for name, each in listeners.items()]
        taken.append((self._settings.management.bind, "of the management"))
        for bind, whose in taken if known is None else ():
            if is_network_bind(bind) and parse_bind(bind) == parse_bind(listener.bind):
                yield Problem(f"{listener.name}.bind", f"`{bind}` is the address {whose}")

    def _drop_conflicting(self, plan: Plan, listeners: Sequence[Listener]) -> None:
        services = [*self._settings.services, *(each.service for each in plan.services.values())]
        drafts = [Draft(each.name, each, frozenset[str]()) for each in services]
        for path, message in conflicting_services(self._drafts(listeners, drafts)):
            name = path.removesuffix(".from")
            if name in plan.services:
                plan.drop(name, [Problem("from", f"service {message}")])

    def _drafts(self, listeners: Iterable[Listener], services: Sequence[Draft[Service]]) -> Drafts:
        return Drafts(
            [Draft(f"listener `{each.name}`", each, frozenset[str]()) for each in listeners],
            list(services),
            [],
            [],
            {name: table.type for name, table in self._checkers.items()},
        )


def _inside(problems: Iterable[Problem], path: str) -> Iterator[Problem]:
    """Those of one table, with paths inside of it."""
    for problem in problems:
        if problem.path.startswith(f"{path}."):
            yield Problem(problem.path.removeprefix(f"{path}."), problem.message)


def _overlap(one: str, other: str) -> bool:
    """Whether one prefix is a prefix of the other, in whole segments."""
    shorter, longer = sorted((one.rstrip("/") + "/", other.rstrip("/") + "/"), key=len)
    return longer.startswith(shorter)
