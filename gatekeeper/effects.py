"""What a change of users, keys and revocations does to requests, also to those that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import Deny, Grant
from gatekeeper.auth.revoked import Revoked
from gatekeeper.plane import Plane
from gatekeeper.state import Difference
from gatekeeper.store.state import removed_name

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange


class Effects:
    """Forgets verdicts that may not hold any more, and asks again for what runs under them.

    What has nothing to do with a change is not asked about again: to check a password takes long.

    :param revoked: looks at the same state.
    """

    def __init__(self, cache: VerdictCache, plane: Plane, revoked: Revoked) -> None:
        self._cache = cache
        self._plane = plane
        self._revoked = revoked

    def apply(self, difference: Difference) -> None:
        """Let a change take effect."""
        users, keys = difference.users, difference.keys
        names = {name for _, name in users}
        if users or keys:
            # Who was unknown may be known now: no denial stays.
            self._cache.drop(
                lambda verdict: (
                    isinstance(verdict, Deny) or verdict.user in names or verdict.key_id in keys
                )
            )
        if difference.revocations:
            self._cache.drop_revocable()
        if not (users or keys or difference.revocations):
            return

        def granted(grant: Grant, service: str) -> bool:
            """Whether it is a grant to one of those."""
            return (service, grant.user) in users or bool(grant.key_id and grant.key_id in keys)

        def concerned(exchange: Exchange) -> bool:
            request = exchange.request
            if request is None or not exchange.authorized:
                return False
            service = request.route.name
            # What runs of a service that is gone may end.
            if service in difference.services and service not in difference.after.services:
                return False
            if granted(exchange.grant, service):
                return True
            presented = exchange.client.door.presented(exchange.head, request)
            return bool(difference.revocations) and self._revoked.covers(presented)

        asked = set(filter(concerned, self._plane.live))
        self._rename(difference)  # before one is cut, and its usage written down
        self._plane.check_again(asked.__contains__)

    def _rename(self, difference: Difference) -> None:
        """What still runs of users who are gone is not used by whoever gets their names next."""
        removed = difference.removed_users
        if not removed:
            return
        time = self._plane.wall_clock() if difference.time is None else difference.time
        for exchange in self._plane.live:
            grant, request = exchange.grant, exchange.request
            if request is None or (request.route.name, grant.user) not in removed:
                continue
            if grant.metered_user == grant.user:  # else it is that of a user removed before
                exchange.grant = grant.metered_as(removed_name(grant.user, time))
