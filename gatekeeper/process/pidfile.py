"""twistd's pid file, where one process follows another."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from gatekeeper.files import write_atomically

log = Logger()


class PidFile:
    """The file that ``--pidfile`` names. ``options`` are twistd's, which it looks at in the end.

    twistd makes it at the start, where it must not be there yet, and removes it at the exit.
    """

    def __init__(self, options: MutableMapping[str, Any]) -> None:
        self._options = options
        # As twistd does it a moment later; it may go elsewhere after that.
        self._path = os.path.abspath(options["pidfile"]) if options.get("pidfile") else ""

    def leave_alone(self) -> None:
        """It is another process's, for now: to be called before twistd looks at it."""
        self._options["pidfile"] = ""

    def take(self) -> None:
        """It is ours from now on: it is removed in the end."""
        self._options["pidfile"] = self._path

    def hand_over(self, pid: int) -> None:
        """It is the process ``pid``'s from now on. Never fails."""
        self.leave_alone()
        if not self._path:
            return
        try:
            write_atomically(Path(self._path), b"%d" % pid, 0o644)
        except OSError as error:
            log.error(
                "{path} still has the number of a process that ends: {why}",
                path=self._path,
                why=error.strerror,
            )
