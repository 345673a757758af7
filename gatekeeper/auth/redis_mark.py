"""Where a process has got to in the history of a zone that is shared over Redis, on disk."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.logger import Logger

from gatekeeper.auth.token_entries import TokenCacheError
from gatekeeper.files import write_atomically


class Mark:
    """The history's id, '' where none is known, and the last change that this process knows.

    Without it nobody could tell a Redis that has forgotten a revocation from one in which it was
    taken back. The file is ``["ID", N]``, made with mode 0600.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = ""
        self.change = 0

    def __repr__(self) -> str:
        return f"<Mark {self.history} {self.change}>"

    def load(self) -> None:
        """Read the file; what cannot be read is no mark at all."""
        try:
            history, change = json.loads(self.path.read_bytes())
            self.history, self.change = str(history), int(change)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, RecursionError):
            self.history, self.change = "", 0
            self._log.error("{path} cannot be read; it is made anew", path=self.path)

    def save(self) -> None:
        """Write the file.

        :raises TokenCacheError: that failed.
        """
        try:
            write_atomically(self.path, json.dumps([self.history, self.change]).encode("ascii"))
        except OSError as error:
            raise TokenCacheError(f"state_dir: {self.path}: {error.strerror}") from error
