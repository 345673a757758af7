"""``twistd gatekeeper-burner``, which kills itself at the step that the file ``kill-at`` names.

The file is in the directory that the process runs in, and is gone when it has had its effect.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.scripts.twistd import run

from gatekeeper import burner_daemon
from gatekeeper.credits.burn_terms import Seam

_FILE: Final = Path("kill-at")


def kill(reached: Seam) -> None:
    """End like a machine whose power goes off, if it is time."""
    if _FILE.exists() and _FILE.read_text() == reached.name:
        _FILE.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run it."""
    module: Any = burner_daemon
    module.BurnerDaemon = partial(burner_daemon.BurnerDaemon, reached=kill)
    run()
