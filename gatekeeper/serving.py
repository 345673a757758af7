"""Services while the daemon runs: those of the configuration, and stored ones beside them.

A stored service may have addresses of its own: they are opened with it, and closed when no service
has them any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Final

from twisted.logger import Logger

from gatekeeper.assembly import Assembly
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import make_url_checker
from gatekeeper.config.checkers import CheckerTypes
from gatekeeper.config.model import Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.listening import Bound, Listening
from gatekeeper.store.state import StoredService
from gatekeeper.stored_services import Plan, Planner

log = Logger()

#: Seconds after which services that could not be served are tried again.
_RETRY: Final = 5.0


class Prepared:
    """Addresses that are bound for services to come."""

    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}

    def cancel(self) -> None:
        """They do not come: close the sockets."""
        while self.bound:
            self.bound.popitem()[1].cancel()


class Serving:
    """Everything that is served.

    ``checkers`` are all that there are, by name or URL; those that only a stored service names are
    added.

    :param seconds: a clock that nobody sets.
    """

    def __init__(
        self,
        settings: Settings,
        types: CheckerTypes,
        checkers: MutableMapping[str, IChecker],
        assembly: Assembly,
        listening: Listening,
        seconds: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._types = types
        self._planner = Planner(settings, types)
        self._checkers = checkers
        self._assembly = assembly
        self._listening = listening
        self._seconds = seconds
        #: The stored services that are not served, and why.
        self.problems: Mapping[str, Sequence[Problem]] = {}
        self._stored: Mapping[str, StoredService] = {}
        self._dynamic: set[str] = set()
        self._prepared = _NOTHING
        self._retry_at = 0.0
        self._stopped = False

    def stop(self) -> None:
        """Nothing changes any more."""
        self._stopped = True

    def reload(self) -> None:
        """Read changed access rules, and try again what could not be served."""
        self._assembly.reload()
        if self.problems and self._seconds() >= self._retry_at:
            self.apply(self._stored)

    def reconfigure(self, settings: Settings) -> None:
        """Serve the services of these settings from now on, and what is stored and fits to them.

        Where they are at odds, the settings win. See :meth:`.Assembly.adopt`.
        """
        self._settings = settings
        self._planner = Planner(settings, self._types)
        # An address of their own may have become one of the configuration's.
        self._dynamic -= {listener.name for listener in settings.listeners}
        self.apply(self._stored)

    # --- stored services ------------------------------------------------------------------

    def check(self, service: StoredService) -> None:
        """Look whether a service could be served beside, or in place of, what there is.

        :raises ConfigurationError: it could not; the paths are its fields.
        """
        self._prepare({**self._stored, service.name: service}).cancel()

    def prepare(self, services: Mapping[str, StoredService]) -> Prepared:
        """Make ready for these stored services, so that :meth:`apply` cannot fail for a new one.

        :raises ConfigurationError: one that is new or has changed cannot be served; the paths are
            its fields. Nothing is left open then.
        """
        self._prepared = self._prepare(services)
        return self._prepared

    def _prepare(self, services: Mapping[str, StoredService]) -> Prepared:
        same = {n: each for n, each in services.items() if self._stored.get(n) == each}
        changed = [each for name, each in services.items() if name not in same]
        plan = self._planner.plan([*same.values(), *changed])
        problems = [problem for each in changed for problem in plan.problems.get(each.name, ())]
        if problems:
            raise ConfigurationError(problems)
        prepared = Prepared()
        try:
            for name, (listener, understood) in plan.listeners.items():
                if not self._is_open(name):
                    try:
                        prepared.bound[name] = self._bind(listener)
                    except ConfigurationError as error:
                        if any(listener in plan.services[each.name].listeners for each in changed):
                            problems += understood.told(error.problems)
            for each in changed:
                problems += self._unusable(plan, each.name)
            if problems:
                raise ConfigurationError(problems)
        except BaseException:
            prepared.cancel()
            raise
        return prepared

    def apply(self, services: Mapping[str, StoredService]) -> None:
        """Serve these stored services from now on, beside those of the configuration.

        Those that cannot be served are left out and logged; see :attr:`problems`.
        """
        if self._stopped:
            return
        prepared, self._prepared = self._prepared, _NOTHING
        self._stored = services
        in_order = sorted(services.values(), key=lambda each: (each.created, each.name))
        plan = self._planner.plan(in_order)
        for name in list(plan.services):
            if problems := self._unusable(plan, name):
                plan.drop(name, problems)
        opened = self._open(plan, prepared)
        prepared.cancel()
        self._assembly.serve(
            [*self._settings.services, *(each.service for each in plan.services.values())]
        )
        for name in self._dynamic - plan.listeners.keys():
            self._dynamic.remove(name)
            self._listening.leave(name)
        for bound in opened:
            self._dynamic.add(bound.listener.name)
            self._listening.begin(self._listening.open(bound))
        self._listening.close_leaving()
        self._tell(plan)

    def _unusable(self, plan: Plan, name: str) -> Sequence[Problem]:
        """What shows only when it is made."""
        understood = plan.services.get(name)
        if understood is None:
            return ()
        try:
            for i, checker in enumerate(understood.service.checkers):
                if checker not in self._checkers:
                    path = f"checkers[{i}]"
                    self._checkers[checker] = make_url_checker(checker)
            path = ""
            self._assembly.check(understood.service)
        except ConfigurationError as error:
            found = [Problem(path or each.path, each.message) for each in error.problems]
            return understood.told(found)
        return ()

    def _is_open(self, name: str) -> bool:
        return name in self._dynamic or any(each.name == name for each in self._settings.listeners)

    def _bind(self, listener: Listener) -> Bound:
        """Bind, with paths that tell the listener.

        :raises ConfigurationError: it cannot be.
        """
        try:
            return self._listening.bind(listener)
        except ConfigurationError as error:
            raise ConfigurationError(
                Problem(f"{listener.name}.{path}", message) for path, message in error.problems
            ) from None

    def _open(self, plan: Plan, prepared: Prepared) -> list[Bound]:
        """Bind what is not bound yet; services whose address cannot be bound are left out."""
        opened = []
        for name, (listener, _) in plan.listeners.items():
            if name in self._dynamic and self._listening.opened[name].settings != listener:
                self._dynamic.remove(name)  # It comes back with other certificates.
                self._listening.leave(name)
            if self._is_open(name):
                continue
            bound = prepared.bound.pop(name, None)
            if bound is not None and bound.listener != listener:
                bound.cancel()
                bound = None
            try:
                opened.append(bound or self._bind(listener))
            except ConfigurationError as error:
                for service in [
                    service for service, each in plan.services.items() if listener in each.listeners
                ]:
                    plan.drop(service, error.problems)
        return opened

    def _tell(self, plan: Plan) -> None:
        for name, problems in plan.problems.items():
            if self.problems.get(name) != problems:
                what = "; ".join(map(str, problems))
                log.error("Service {name} is not served: {what}", name=name, what=what)
        self.problems = plan.problems
        self._retry_at = self._seconds() + _RETRY


_NOTHING: Final = Prepared()
