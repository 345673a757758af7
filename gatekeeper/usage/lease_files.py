"""Who has leased credits, as files in the journal's directory: whose process has ended, and when.

A process makes a file as long as it has leases. Where it ends without clearing up, another one
finds the file: the next one here, or one that runs beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gatekeeper.usage.owners import Owner, Owners, file_of, owner_of
from gatekeeper.usage.segments import Key

_ENDING: Final = "lease"


class LeaseFiles:
    """Those in ``directory``, for the process that has claimed ``own`` segments there.

    ``claimed`` are all the owners that it has claimed: it sees to what is left of them.
    """

    def __init__(self, directory: Path, own: Owner, claimed: Owners) -> None:
        self._directory = directory
        self.own = own
        self._claimed = claimed

    def make(self) -> None:
        """We have leases.

        :raises OSError: nobody will know.
        """
        self._path(self.own).touch(0o600)

    def ended(self) -> Iterator[Owner]:
        """Owners whose process has ended, and whose usage is in the store.

        Until the next one is asked for, nobody else finds the same.

        :raises OSError: they cannot be found out.
        """
        for path in sorted(self._directory.glob(f"*.{_ENDING}")):
            owner = owner_of(path.name, _ENDING)
            if owner is None or owner == self.own:
                continue
            if owner in self._claimed:
                if not self._has_segments(owner):
                    yield owner
                continue
            probe = Owners(self._directory)
            try:
                # In this order: it writes no segment any more when we look. Whoever takes over
                # segments that are there may try again.
                if probe.claim(owner) and not self._has_segments(owner):
                    yield owner
            finally:
                probe.close()

    def remove(self, owner: Owner | None = None) -> None:
        """This owner, or we, have no leases any more.

        :raises OSError: the file is still there.
        """
        self._path(owner or self.own).unlink(missing_ok=True)

    def _path(self, owner: Owner) -> Path:
        return file_of(self._directory, owner, _ENDING)

    def _has_segments(self, owner: Owner) -> bool:
        """Whether it has left usage that is not in the store. What was set aside never will be."""
        keys = (Key.of_file(path.name) for path in self._directory.glob(f"{owner[0]}-*.journal"))
        return any(key is not None and key[:2] == owner for key in keys)
