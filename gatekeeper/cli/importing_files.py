"""What the subcommands of ``gatekeeper import`` read, write and tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from gatekeeper.terminal import printable

if TYPE_CHECKING:
    from gatekeeper.errors import Problem
    from gatekeeper.importing.notes import Imported, Note
    from gatekeeper.importing.sources import Source

#: A file cannot be read or written, or holds lines that cannot be used.
EXIT_INPUT: Final = 1
#: The configuration is made, and something is missing in it.
EXIT_INCOMPLETE: Final = 3

_LARGEST_FILE: Final = 16 * 1024 * 1024  # bytes

T = TypeVar("T")
U = TypeVar("U")


class Reading:
    """Reads the old files; what is wrong with all of them is told at once, by :func:`finish`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def blame(self, path: str, message: str) -> None:
        """Remember what is wrong with a file."""
        from gatekeeper.errors import Problem

        self.problems.append(Problem(path, message))

    def read(self, path: Path) -> Source:
        """A file, which is empty where it cannot be read."""
        from gatekeeper.importing.sources import Source

        text = ""
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise ValueError(f"is larger than {_LARGEST_FILE} bytes")
            text = content.decode("utf-8")
        except OSError as error:
            self.blame(str(path), f"cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.blame(str(path), "is not UTF-8")
        except ValueError as error:
            self.blame(str(path), str(error))
        return Source(path.absolute(), text)

    def check(self, read: Callable[[], T], otherwise: U, path: str = "") -> T | U:
        """What ``read`` returns; where it raises a ConfigurationError, ``otherwise``.

        ``path`` is for problems that have none themselves.
        """
        from gatekeeper.errors import ConfigurationError

        try:
            return read()
        except ConfigurationError as error:
            self.problems += [each._replace(path=each.path or path) for each in error.problems]
            return otherwise


def refuse_to_overwrite(paths: Iterable[Path], force: bool) -> None:
    """End, if a file that is to be written is there, or is a symbolic link.

    :raises click.UsageError: with all of them.
    """
    found = [
        f"{path} is a symbolic link, and is not followed" for path in paths if path.is_symlink()
    ]
    if not force:
        found += [
            f"{path} is there already; --force overwrites it"
            for path in paths
            if path.exists() and not path.is_symlink()
        ]
    if found:
        raise click.UsageError("; ".join(found))


def finish(
    reading: Reading,
    make: Callable[[], Imported],
    environ: Mapping[str, str],
    output: Path | None,
    force: bool,
) -> None:
    """Make the configuration, write it and its files, tell about it, and end.

    ``environ`` is what the daemon will find its secrets in.
    """
    imported = None
    try:
        imported = reading.check(make, None)
    except UnicodeEncodeError:
        reading.blame("", "a file's name is not UTF-8, and so cannot stand in a configuration")
    if imported is None or reading.problems:
        for problem in reading.problems:
            click.echo(printable(str(problem)), err=True)
        raise SystemExit(EXIT_INPUT)
    files = {secret.path: secret.content for secret in imported.secrets}
    if output is not None:
        files[output] = imported.text
    refuse_to_overwrite(list(files), force)
    for path, content in files.items():
        _write(path, content, force)
    if output is None:
        click.echo(imported.text, nl=False)
    notes = imported.notes
    _tell("Carried over:", notes.carried)
    _tell("Needed no more:", notes.needless)
    _tell("NOT carried over:", notes.left)
    problems = _check(imported.text, environ)
    if problems:
        click.echo("What `gatekeeper check-config` finds:", err=True)
    for problem in problems:
        click.echo(printable(f"  {problem}"), err=True)
    if notes.left or problems:
        raise SystemExit(EXIT_INCOMPLETE)


def _tell(title: str, notes: Sequence[Note]) -> None:
    if notes:
        click.echo(title, err=True)
    for note in notes:
        click.echo(printable(f"  {note.setting}: {note.text}"), err=True)


def _write(path: Path, text: str, force: bool) -> None:
    """Write a file for its owner only. Only with ``force`` one that is there is replaced."""
    from gatekeeper.files import write_atomically

    data = text.encode("utf-8")
    try:
        if force:
            write_atomically(path, data)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL does not follow a symbolic link, and makes the file or fails.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, 0o600)
                file.write(data)
        except OSError:
            path.unlink()  # half a file is worse than none
            raise
    except OSError as error:
        click.echo(printable(f"{path}: cannot be written: {error.strerror}"), err=True)
        raise SystemExit(EXIT_INPUT) from None


def _check(text: str, environ: Mapping[str, str]) -> list[Problem]:
    """What the daemon would say about the configuration, here and now."""
    import tempfile

    from gatekeeper.auth.registry import checker_types
    from gatekeeper.config.loading import load
    from gatekeeper.errors import ConfigurationError

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "gatekeeper.toml"
        path.write_text(text, encoding="utf-8")
        try:
            load(path, checker_types(), environ=environ)
        except ConfigurationError as error:
            return list(error.problems)
    return []
