"""A daemon that another process of the program takes over from."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.daemon import Daemon, wait_until
from tests.process.crew import is_there


def upgrade(daemon: Daemon) -> int:
    """Have another process take over. Gives the old one's number."""
    old = daemon.pid
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: daemon.pid_file.read_text() not in ("", str(old)), "another process")
    daemon.pid = int(daemon.pid_file.read_text())
    return old


def wait_for_the_end(pid: int) -> None:
    wait_until(lambda: not is_there(pid), "the old one is gone")


@contextmanager
def serving(daemon: Daemon, *, something_fails: bool = False) -> Iterator[None]:
    """A daemon of several processes, one after the other; all end, and nothing goes wrong."""
    daemon.start()
    try:
        yield
        daemon.terminate()
        wait_until(lambda: not daemon.is_running, f"the end:\n{daemon.log}")
        assert not daemon.pid_file.exists()
        if not something_fails:
            daemon.check_log()
    except BaseException:
        daemon.show()
        raise
    finally:
        daemon.kill()
