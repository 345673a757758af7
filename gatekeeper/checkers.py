"""The checkers of a running daemon: made from the settings, and exchanged when those change.

One whose table has not changed stays, with all that it has found out. One that is gone is closed
when nothing can ask it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import (
    close_checkers,
    make_checkers,
    make_table_checker,
    reload_checkers,
)
from gatekeeper.auth.token_cache import (
    IRevoking,
    ITokenCache,
    IUsesTokenCache,
    share_token_caches,
)
from gatekeeper.auth.users import Directory, share_directory
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.expansion import CHECKER as GOLEM_CHECKER

if TYPE_CHECKING:
    from gatekeeper.auth.chain import Chain
    from gatekeeper.exchange import Exchange

log = Logger()

#: Seconds that a checker is kept that has gone: longer than an answer may take that it was asked
#: for. Exchanges that run keep theirs as long as they do.
KEPT: Final = 120.0


class NewCheckers(NamedTuple):
    """Checkers that are ready to take the place of those that there are.

    ``by_name`` are all that there will be, ``made`` those of them that are new. ``zones`` are the
    new ones' token caches.
    """

    settings: Settings
    by_name: Mapping[str, IChecker]
    made: Mapping[str, IChecker]
    zones: Mapping[str, ITokenCache]

    def cancel(self) -> None:
        """They do not come."""
        close_checkers(self.made)
        for zone in self.zones.values():
            zone.close()

    async def start(self) -> None:
        """Get the token caches ready: nobody may be served before it is known who is shut out.

        :raises TokenCacheError: one cannot be used.
        """
        for zone in self.zones.values():
            await zone.start()


class _Retired(NamedTuple):
    """A checker that has gone, with its token cache, and when."""

    checker: IChecker
    zone: ITokenCache | None
    since: float

    async def close(self) -> None:
        self.checker.close()
        if self.zone is not None:
            await self.zone.close()


class Checkers:
    """See the module. ``by_name`` has all, by name or URL; ``zones`` are their token caches.

    Both stay the same objects; what is in them changes. Who serves may add a checker to
    ``by_name`` that only a URL tells of.

    :param make_zone: makes a token cache, from its name and ``ttl``.
    :param directory: whom operators have let in.
    :param revoked: is called with the ``key_id`` of grants that hold no more.
    :param seconds: a clock that nobody sets.
    :raises ConfigurationError: all that cannot be made.
    """

    def __init__(
        self,
        settings: Settings,
        make_zone: Callable[[str, float], ITokenCache],
        directory: Directory,
        revoked: Callable[[str], None],
        seconds: Callable[[], float],
    ) -> None:
        self.by_name: dict[str, IChecker] = {}
        self.zones: dict[str, ITokenCache] = {}
        self._settings = settings
        self._make_zone = make_zone
        self._directory = directory
        self._revoked = revoked
        self._seconds = seconds
        self._retired: list[_Retired] = []
        self._closing: list[Deferred[None]] = []
        self.commit(self._prepare(settings, {}))

    def prepare(self, settings: Settings) -> NewCheckers:
        """Make what is new in ``settings``, or has changed.

        :raises ConfigurationError: all that cannot be made; nothing is left open.
        """
        before, after = self._settings.checkers, settings.checkers
        known = {
            name: checker
            for name, checker in self.by_name.items()
            if "://" in name or before.get(name) == after.get(name)
        }
        return self._prepare(settings, known)

    def _prepare(self, settings: Settings, known: Mapping[str, IChecker]) -> NewCheckers:
        made = dict(make_checkers(settings, known))
        try:
            if GOLEM_CHECKER not in known and GOLEM_CHECKER not in made:
                # A service may be made that needs it.
                made[GOLEM_CHECKER] = make_table_checker(GOLEM_CHECKER, "basic")
            zones = share_token_caches(made, self._make_zone, known)
        except ConfigurationError:
            close_checkers(made)
            raise
        share_directory(made, self._directory)
        for checker in made.values():
            revoking = IRevoking(checker, None)
            if revoking is not None:
                revoking.on_revoked(self._revoked)
        return NewCheckers(settings, {**known, **made}, made, zones)

    def commit(self, new: NewCheckers) -> None:
        """Let these take their place."""
        self._settings = new.settings
        for name, checker in self.by_name.items():
            if new.by_name.get(name) is not checker:
                self._retire(checker)
        for name in list(self.by_name.keys() - new.by_name.keys()):
            del self.by_name[name]
        self.by_name.update(new.by_name)
        self.zones.update(new.zones)

    def keep(self, chains: Iterable[Chain]) -> None:
        """Let go of those that only a URL tells of, unless they are in one of ``chains``."""
        used = _in(chains)
        for name, checker in list(self.by_name.items()):
            if "://" in name and id(checker) not in used:
                self._retire(self.by_name.pop(name))

    def _retire(self, checker: IChecker) -> None:
        user = IUsesTokenCache(checker, None)
        zone = self.zones.pop(user.zone, None) if user is not None else None
        self._retired.append(_Retired(checker, zone, self._seconds()))

    def close_retired(self, live: Iterable[Exchange]) -> None:
        """Close those that are gone for long, but for those that ``live`` exchanges need."""
        if not self._retired:
            return
        chains = (each.request.route.chain for each in live if each.request is not None)
        needed = _in(chain for chain in chains if chain is not None)
        until = self._seconds() - KEPT
        before, self._retired = self._retired, []
        unneeded: list[_Retired] = []
        for each in before:
            kept = each.since > until or id(each.checker) in needed
            (self._retired if kept else unneeded).append(each)
        self._closing = [each for each in self._closing if not each.called]
        self._closing += [_closed(each) for each in unneeded]

    def reload(self) -> bool:
        """Read changed files; true where cached verdicts may no longer hold."""
        retired = {str(number): each.checker for number, each in enumerate(self._retired)}
        changed = [reload_checkers(self.by_name), reload_checkers(retired)]
        return any(changed)

    async def close(self) -> None:
        """Close all."""
        close_checkers(self.by_name)
        for zone in self.zones.values():
            await zone.close()
        for each in [*self._closing, *map(_closed, self._retired)]:
            await each


def _closed(retired: _Retired) -> Deferred[None]:
    """Close it; fires when that is done, or has failed."""
    return ensureDeferred(retired.close()).addErrback(
        lambda failure: log.failure("A checker that has gone could not be closed", failure)
    )


def _in(chains: Iterable[Chain]) -> set[int]:
    """The identities of checkers; a plug-in's need not be hashable."""
    return {id(checker) for chain in chains for checker in chain.checkers}
