"""What all exchanges share: clocks, bounds, ids, the meter, and who is running."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from gatekeeper.config.model import Limits, Timeouts
from gatekeeper.http.heads import HeadLimits
from gatekeeper.net.sweep import Sweep
from gatekeeper.usage.accesslog import AccessLog
from gatekeeper.usage.meter import Meter

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long a client may take, in seconds; see ``[timeouts]`` in the configuration."""

    head: float
    body: float
    idle: float


class Plane:
    """The data plane's shared state. ``meter`` and ``access_log`` are ``None`` where switched off.

    ``via`` is our entry for Via fields (RFC 9110, 7.6.3); its name is random, so that a loop can
    be told from another gatekeeper on the way.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        limits: Limits,
        timeouts: Timeouts,
        meter: Meter | None,
        access_log: AccessLog | None,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.sweep = sweep
        self.reconfigure(limits, timeouts)
        self.meter = meter
        self.access_log = access_log
        self.wall_clock = wall_clock
        self.monotonic = monotonic
        self.pseudonym = b"gatekeeper-" + secrets.token_hex(4).encode("ascii")
        self.via = b"1.1 " + self.pseudonym
        self.live: set[Exchange] = set()
        self.draining = False
        self._id_prefix = secrets.token_hex(8).encode("ascii")
        self._id_count = secrets.randbits(48)
        self._date = (0, b"")

    def reconfigure(self, limits: Limits, timeouts: Timeouts) -> None:
        """Have other bounds from now on."""
        self.timeouts = ClientTimeouts(timeouts.head, timeouts.body, timeouts.idle)
        self.drain_limit = limits.drain
        self.head_limits = HeadLimits(limits.target, limits.head, limits.fields)

    def next_id(self) -> bytes:
        """A request id: 32 hex digits, unique, also good as a W3C trace id."""
        self._id_count += 1
        return b"%b%016x" % (self._id_prefix, self._id_count)

    def watch(self) -> None:
        """See that nothing runs on under a grant that has ended; called several times a second."""
        wall, monotonic = self.wall_clock(), self.monotonic()
        for exchange in tuple(self.live):
            exchange.watch(wall, monotonic)

    def revoke(self, key_id: str) -> None:
        """End what runs under a key that counts no more."""
        for exchange in tuple(self.live):
            if exchange.grant.key_id == key_id:
                exchange.cut("grant_revoked")

    def check_again(self, concerned: Callable[[Exchange], bool] | None = None) -> None:
        """Ask again for everything that runs, or is ``concerned``: what granted it has changed."""
        for exchange in tuple(self.live):
            if concerned is None or concerned(exchange):
                exchange.check_again()

    def date(self) -> bytes:
        """The Date field's value now (RFC 9110, 5.6.7), made once a second."""
        now = int(self.wall_clock())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]
