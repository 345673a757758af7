"""What the service manager is told: datagrams, as sd_notify(3) describes them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from twisted.logger import Logger

log = Logger()

#: Seconds that we wait where the manager has too much to read: what it is told once, it must know.
_PATIENCE: Final = 2.0


class Notifier:
    """Tells the manager that started us, if there is one and it wants to know.

    What in ``environ`` is for this process alone is taken out: the rest is for one that follows it,
    too. ``watchdog_interval`` is how often :meth:`watchdog` is to be called, in
    seconds; ``None``: nobody watches.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._failed = False
        period = _period(environ)
        self.watchdog_interval = None if period is None or not self._address else period / 2

    def ready(self) -> None:
        """Requests are served; and :meth:`reloading` has ended, whatever came of it."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The event loop goes round."""
        self._send("WATCHDOG=1", patience=0.0)  # the next one will do as well

    def followed_by(self, pid: int) -> None:
        """Another process has taken over: it is the one to watch. Nothing more is said by us."""
        self._send(f"MAINPID={pid}", "WATCHDOG=1")  # its own first one may be due only later
        self._address = ""

    def _send(self, *lines: str, patience: float = _PATIENCE) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.settimeout(patience)
                sending.connect(self._address)  # so that it can be waited for that there is room
                sending.send("\n".join(lines).encode("ascii"))
        except OSError as error:
            if not self._failed:
                log.warn("The service manager cannot be told: {error}", error=error)
            self._failed = True
        else:
            self._failed = False


def _address(text: str) -> str:
    """A path, or a name in the abstract namespace (unix(7)), which is written with ``@``."""
    return "\0" + text[1:] if text.startswith("@") else text


def _period(environ: MutableMapping[str, str]) -> float | None:
    """Seconds within which the watchdog wants to hear of this process."""
    if environ.pop("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        environ.pop("WATCHDOG_USEC", None)  # it is some other process that is watched
    period = environ.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if period.isdecimal() and int(period) > 0 else None
