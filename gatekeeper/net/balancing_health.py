"""Whether an upstream may be given requests: what becomes of them says, and so may active checks.

No clock and no I/O: every question comes with the time, in seconds of one clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EjectionPolicy:
    """After ``failures`` in a row an upstream is left alone for ``duration`` seconds.

    Then one request decides. Each time that one fails, too, the duration doubles, up to
    ``longest``.
    """

    failures: int = 3
    duration: float = 10.0
    longest: float = 300.0


class State(enum.Enum):
    """What is thought of an upstream."""

    UP = "up"
    EJECTED = "ejected"
    DOWN = "down"


class Health:
    """One upstream's health.

    ``until`` is when an ejection is over, ``None`` where there is none; ``down``: the active checks
    say so. ``ejections`` counts them all.
    """

    __slots__ = ("_duration", "_failures", "_policy", "down", "ejections", "until")

    def __init__(self, policy: EjectionPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._duration = 0.0  # of the last ejection in a row
        self.until: float | None = None
        self.down = False
        self.ejections = 0

    @property
    def state(self) -> State:
        """What is thought of it now. An ejection lasts until a request has succeeded."""
        if self.down:
            return State.DOWN
        return State.UP if self.until is None else State.EJECTED

    def is_available(self, now: float) -> bool:
        """Whether a request may be sent there."""
        return not self.down and (self.until is None or self.until <= now)

    def take(self, now: float) -> bool:
        """A request is sent there. True: it is the probe, which decides.

        There is one probe in the time of an ejection. One whose client does not wait for the answer
        decides nothing; then it is the next one that does.
        """
        if self.until is None or self.until > now:
            return False
        self.until = now + self._duration
        return True

    def succeeded(self) -> bool:
        """A response has begun. True: that ends an ejection."""
        self._failures = 0
        if self.until is None:
            return False
        self.until = None
        self._duration = 0.0
        return True

    def failed(self, now: float, *, probe: bool) -> float:
        """A request has failed, without a response. How long this ejects it, mostly 0.

        While it is ejected, only the probe's failure counts.
        """
        if self.until is None:
            self._failures += 1
            if self._failures < self._policy.failures:
                return 0.0
        elif not probe:
            return 0.0
        self._failures = 0
        self._duration = min(self._duration * 2 or self._policy.duration, self._policy.longest)
        self.until = now + self._duration
        self.ejections += 1
        return self._duration

    def checked(self, *, up: bool) -> None:
        """The active checks have come to another opinion. Who is well again begins anew."""
        self.down = not up
        if up:
            self.succeeded()
