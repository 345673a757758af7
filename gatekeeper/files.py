"""Files that we write ourselves: whole or not at all, and never readable by others in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gatekeeper.errors import ConfigurationError, Problem


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` into the file at ``path``, replacing what was there, with permissions ``mode``.

    A reader sees the old file or the new one, also after a crash. The directory is made if need be
    (mode 0700).

    :raises OSError: nothing was changed then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp opens with O_EXCL and 0600: there is no moment in which others could open the file.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def make_state_dir(directory: Path) -> None:
    """Make ``state_dir`` (mode 0700) if need be.

    :raises ConfigurationError: that is not possible.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
        raise ConfigurationError([Problem("state_dir", reason)]) from error
