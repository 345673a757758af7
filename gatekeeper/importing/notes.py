"""What became of the old settings, and what the import makes beside the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Note(NamedTuple):
    """What became of one old setting. Neither part holds a secret."""

    setting: str
    text: str


class Notes:
    """Collects the notes; the same one twice is one.

    ``carried``: it is in the configuration. ``needless``: gatekeeper does it by itself, or it has
    no meaning any more. ``left``: it is lost, unless somebody does what the note says.
    """

    def __init__(self) -> None:
        self.carried: list[Note] = []
        self.needless: list[Note] = []
        self.left: list[Note] = []

    def carry(self, setting: str, text: str) -> None:
        """The setting is in the configuration, as ``text`` says."""
        _add(self.carried, Note(setting, text))

    def need_no_more(self, setting: str, text: str) -> None:
        """The setting is not there any more, and nothing is lost by that."""
        _add(self.needless, Note(setting, text))

    def leave(self, setting: str, text: str) -> None:
        """The setting could not be carried over; ``text`` says why, and what to do."""
        _add(self.left, Note(setting, text))


def _add(notes: list[Note], note: Note) -> None:
    if note not in notes:
        notes.append(note)


@dataclass(frozen=True)
class SecretFile:
    """A file to be made, for its owner's eyes only."""

    path: Path
    content: str = field(repr=False)


@dataclass(frozen=True)
class Imported:
    """A configuration, what became of the old settings, and the files that it needs."""

    text: str
    notes: Notes
    secrets: tuple[SecretFile, ...] = ()


class Secrets:
    """Where the configuration finds its secrets: in files of ``directory``, or the environment."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self.files: list[SecretFile] = []

    @property
    def in_files(self) -> bool:
        """Whether there is a directory for files."""
        return self._directory is not None

    @property
    def whereabouts(self) -> str:
        """Where they are, for a note."""
        if self._directory is None:
            return "which the daemon's environment must have"
        return f"in a file of {self._directory}"

    def refer(self, variable: str, value: str | None) -> Mapping[str, str]:
        """What stands in the configuration in place of the secret.

        :param variable: the environment variable that holds it; the file's name is made of it.
        :param value: the secret, where it is known; else only the environment has it.
        """
        if self._directory is None or not value:
            return {"env": variable}
        path = self._directory / variable.lower().replace("_", "-")
        self.files.append(SecretFile(path, f"{value}\n"))
        return {"file": str(path)}
