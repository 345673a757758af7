"""Callers, and a clock that stands still."""

from __future__ import annotations

from gatekeeper.auth.interfaces import Grant
from gatekeeper.credits.admission import Caller, Ending

ENDING = Ending(200, 1, None)


def caller(
    user: str = "alice", key: str = "", client: str = "192.0.2.1", *, counted: bool = True
) -> Caller:
    return Caller("acme", Grant(user=user, key_id=key), client, counted)


class Clock:
    """Says the time that it was given."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
