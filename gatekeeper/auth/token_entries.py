"""What one process knows of a zone: tokens, and who has been shut out."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from twisted.logger import Logger

from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.errors import GatekeeperError

REVOKED: Final = "0"

#: Tokens, and again so many revocations, in one zone of one process.
SIZE: Final = 100_000

_CHARACTERS: Final = 64 * 1024 * 1024


class TokenCacheError(GatekeeperError):
    """The cache did not do what was asked: it cannot be reached, or is full."""


class _Area:
    """Entries with their ends, oldest first, and how many characters they are."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.characters = 0

    def put(self, key: str, value: str, end: float) -> None:
        self.remove(key)
        self.entries[key] = (value, end)
        self.characters += _weight(key, value)

    def remove(self, key: str) -> bool:
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self.characters -= _weight(key, entry[0])
        return True

    def purge(self, now: float) -> None:
        for key in [key for key, (_, end) in self.entries.items() if end <= now]:
            self.remove(key)


class Entries:
    """Tokens and revocations, which are those entries whose value is ``"0"``.

    It is bounded by entries and by characters. Where it is full the oldest tokens go; a revocation
    never goes for a token, and where revocations alone fill it, no more are taken. Tokens are gone
    with the process; revocations are in ``file``, and are read from it again.

    What is decided here (:meth:`put`, :meth:`remove`, :meth:`clear`) is in the file before it
    counts. What was decided elsewhere (:meth:`learn`, :meth:`adopt`) counts before it is there.

    :param ttl: seconds that an entry lives of which nothing else is said.
    :param size: entries of each sort; ``characters`` is what keys and values may come to.
    :param file: where revocations outlive the process; ``None``: nowhere.
    :param monotonic: seconds of a clock that nobody sets; ``wall`` those since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        ttl: float = 300.0,
        size: int = SIZE,
        characters: int = _CHARACTERS,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        file: RevocationFile | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.ttl = ttl
        self._size = size
        self._characters = characters
        self._monotonic = monotonic
        self._file = file
        self._wall = wall
        self._tokens = _Area()
        self._revoked = _Area()
        self._listeners: list[Callable[[str], None]] = []

    @property
    def tokens(self) -> int:
        """How many tokens are held; some may have ended."""
        return len(self._tokens.entries)

    @property
    def revocations(self) -> int:
        """How many revocations are held; some may have ended."""
        return len(self._revoked.entries)

    def load(self) -> None:
        """Read the file.

        :raises TokenCacheError: that failed.
        """
        if self._file is None:
            return
        wall, now = self._wall(), self._monotonic()
        try:
            held = self._file.load(wall)
        except OSError as error:
            raise _unwritable(self._file, error) from error
        for key, end in held.items():
            self._revoked.put(key, REVOKED, now + end - wall)

    def get(self, key: str) -> str | None:
        """The value, None where there is none that still holds."""
        for area in (self._revoked, self._tokens):
            entry = area.entries.get(key)
            if entry is not None:
                if self._monotonic() < entry[1]:
                    return entry[0]
                area.remove(key)
        return None

    def put(self, key: str, value: str, ttl: float | None = None) -> None:
        """Have this entry for ``ttl`` seconds from now, in place of what there was.

        :raises TokenCacheError: it cannot be written down, or there is no room; nothing changes.
        """
        end = self._monotonic() + (self.ttl if ttl is None else ttl)
        if value == REVOKED:
            self.check_room(key)
            self._write_down({key: end})
            self._revoke(key, end)
            return
        if key in self._revoked.entries:
            self._write_down({key: None})
        self._revoked.remove(key)
        self._tokens.put(key, value, end)
        self._make_room()

    def remove(self, key: str) -> bool:
        """Have this entry no more; False where there was none.

        :raises TokenCacheError: it cannot be written down; nothing changes.
        """
        found = self.get(key) is not None
        if key in self._revoked.entries:
            self._write_down({key: None})
        self._tokens.remove(key)
        self._revoked.remove(key)
        return found

    def clear(self) -> None:
        """Have nothing.

        :raises TokenCacheError: it cannot be written down; nothing changes.
        """
        if self._revoked.entries:
            self._write_all({})
        self._tokens, self._revoked = _Area(), _Area()

    def items(self) -> dict[str, str]:
        """All entries that still hold."""
        return self._held(self._tokens) | self._held(self._revoked)

    def revoked(self) -> dict[str, float]:
        """Keys that are shut out, and for how many seconds from now."""
        now = self._monotonic()
        self._revoked.purge(now)
        return {key: end - now for key, (_, end) in self._revoked.entries.items()}

    def check_room(self, key: str) -> None:
        """See that one more revocation fits.

        :raises TokenCacheError: it does not.
        """
        if not self._has_room(key):
            self._revoked.purge(self._monotonic())
            if not self._has_room(key):
                raise TokenCacheError("too many revocations")

    def learn(self, changes: Iterable[tuple[str, float | None]]) -> None:
        """Take over what was changed elsewhere, in order.

        A key with seconds is shut out for so long; one with None has another value now, or none,
        which is not known here.

        :raises TokenCacheError: it counts, but cannot be written down.
        """
        ends: dict[str, float | None] = {}
        now = self._monotonic()
        for key, seconds in changes:
            if seconds is not None:
                ends[key] = now + seconds
                self._revoke(key, now + seconds)
                continue
            self._tokens.remove(key)
            if self._revoked.remove(key):
                ends[key] = None
        if ends:
            self._write_down(ends)

    def adopt(self, revoked: Mapping[str, float]) -> None:
        """Have just these revocations, each for so many seconds from now, and no tokens.

        :raises TokenCacheError: it counts, but cannot be written down.
        """
        now = self._monotonic()
        before, self._tokens, self._revoked = self._held(self._revoked), _Area(), _Area()
        for key, seconds in revoked.items():
            self._revoked.put(key, REVOKED, now + seconds)
        for key in revoked:
            if key not in before:
                self._tell(key)
        self.save()

    def save(self) -> None:
        """Write the file anew.

        :raises TokenCacheError: that failed.
        """
        self._write_all(self._ends())

    def subscribe(self, revoked: Callable[[str], None]) -> Callable[[], None]:
        """Call ``revoked`` with each key that is shut out from now on, until the result is."""
        self._listeners.append(revoked)
        return lambda: self._listeners.remove(revoked)

    def _held(self, area: _Area) -> dict[str, str]:
        area.purge(self._monotonic())
        return {key: value for key, (value, _) in area.entries.items()}

    def _revoke(self, key: str, end: float) -> None:
        self._revoked.put(key, REVOKED, end)
        self._tokens.remove(key)
        self._make_room()
        self._tell(key)

    def _make_room(self) -> None:
        while self._tokens.entries and (
            len(self._tokens.entries) > self._size
            or self._tokens.characters + self._revoked.characters > self._characters
        ):
            self._tokens.remove(next(iter(self._tokens.entries)))

    def _has_room(self, key: str) -> bool:
        area = self._revoked
        return key in area.entries or (
            len(area.entries) < self._size
            and area.characters + _weight(key, REVOKED) <= self._characters
        )

    def _tell(self, key: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(key)
            except Exception:
                self._log.failure("A revocation could not be passed on")

    # --- on disk --------------------------------------------------------------------------

    def _write_down(self, ends: Mapping[str, float | None]) -> None:
        """Add to the file until when keys are shut out, None where they are not any more."""
        file = self._file
        if file is None:
            return
        since = self._wall() - self._monotonic()
        lines = {key: 0.0 if end is None else end + since for key, end in ends.items()}

        def held() -> dict[str, float]:
            return {key: end for key, end in (self._ends() | lines).items() if end}

        try:
            file.note(lines, self.revocations, held)
        except OSError as error:
            raise _unwritable(file, error) from error

    def _write_all(self, ends: Mapping[str, float]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(ends)
        except OSError as error:
            raise _unwritable(self._file, error) from error

    def _ends(self) -> dict[str, float]:
        since = self._wall() - self._monotonic()
        return {key: end + since for key, (_, end) in self._revoked.entries.items()}


def _unwritable(file: RevocationFile, error: OSError) -> TokenCacheError:
    return TokenCacheError(f"state_dir: {file.path}: {error.strerror}")


def _weight(key: str, value: str) -> int:
    return len(key) + len(value)
