"""What was revoked, remembered beside the store: it may be away when the daemon starts."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.state import Difference, State
from gatekeeper.store.state import Revocation

log = Logger()


def remember_revocations(state: State, path: Path, now: float, *, writes: bool = True) -> None:
    """Keep the revocations of ``state`` in a file, too, and let it begin with those in there.

    Where another process does so for all, nothing ``writes`` here.

    :raises ConfigurationError: the file cannot be used.
    """
    file = RevocationFile(path)
    try:
        known = file.load(now)
    except OSError as error:
        raise ConfigurationError(
            [Problem("state_dir", f"{path} cannot be used: {error.strerror}")]
        ) from error
    state.assume([Revocation(digest, until, 0.0) for digest, until in known.items()])

    def changed(difference: Difference) -> None:
        if not difference.revocations:
            return
        try:
            file.write({each.digest: each.until for each in state.revocations.values()})
        except OSError as error:
            log.error(
                "{path} cannot be written, so that the next start may not know what is revoked "
                "until it has read the store: {why}",
                path=path,
                why=error.strerror,
            )

    if writes:
        state.on_change(changed)
