"""What a core leaves to another process, its supervisor, where several serve requests."""

from __future__ import annotations

from typing import Protocol

from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.store.state import IState
from gatekeeper.usage.metering import Receiver


class Supervisor(Protocol):
    """The other process. ``worker`` is our number there; ``receiver`` gets what we write down."""

    @property
    def worker(self) -> int:
        """See above."""

    @property
    def receiver(self) -> Receiver:
        """See above."""

    def make_zone(self, zone: str, ttl: float) -> ITokenCache | None:
        """A token cache that is kept there; ``None``: each process has its own way to it."""

    def state(self, store: IState) -> IState:
        """``store``, which is read when the supervisor says that there is something new."""
