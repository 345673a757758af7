"""What operators have made, as a test wants it."""

from __future__ import annotations

from collections.abc import Iterable

from gatekeeper.state import View
from gatekeeper.store.state import Revocation, Snapshot, StoredKey, StoredUser


class FakeDirectory:
    """See :class:`gatekeeper.auth.users.Directory`."""

    def __init__(
        self,
        users: Iterable[StoredUser] = (),
        keys: Iterable[StoredKey] = (),
        revocations: Iterable[Revocation] = (),
    ) -> None:
        self.loaded = True
        self.become(users, keys, revocations)

    def become(
        self,
        users: Iterable[StoredUser] = (),
        keys: Iterable[StoredKey] = (),
        revocations: Iterable[Revocation] = (),
    ) -> None:
        """Hold these from now on."""
        view = View.of(Snapshot(1, (), tuple(users), tuple(keys), tuple(revocations)))
        self.users, self.keys, self.revocations = view.users, view.keys, view.revocations
