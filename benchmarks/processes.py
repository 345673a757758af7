"""Processes that we start, what they cost, and their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.programs import find
from benchmarks.results import NotMeasuredError

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT: Final = 30.0  # seconds
_STOP_TIMEOUT: Final = 10.0


class _Stat(NamedTuple):
    """Out of ``/proc/PID/stat``, see proc(5). ``cpu`` in ticks, with children that have ended."""

    pid: int
    parent: int
    started: int
    cpu: int


class Cost(NamedTuple):
    """Seconds of CPU, and the share of the core's time that others took (None: not known)."""

    cpu: float
    others: float | None


class Program:
    """A process and its descendants.

    It gets a process group of its own, so that Ctrl-C on the terminal reaches only us, and we end
    it. ``core`` is the only one it may run on; None leaves that to the system.

    :raises NotMeasuredError: the program, or ``taskset``, is missing.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        directory: Path,
        core: int | None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = directory / f"{name.replace(' ', '-')}.out"
        pinned = [] if core is None else [find("taskset"), "--cpu-list", str(core)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*pinned, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Program {self.name} {self._process.pid}>"

    # --- start and end --------------------------------------------------------------------

    def wait_for(self, *ports: int) -> None:
        """Wait until it listens on all of these ports of 127.0.0.1.

        :raises NotMeasuredError: it has ended, or takes too long.
        """
        give_up_at = time.monotonic() + _START_TIMEOUT
        for port in ports:
            while not _listens(port):
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise NotMeasuredError(f"{self.name} does not start: {self._last_words()}")
                time.sleep(0.02)

    def check(self) -> None:
        """See that it still runs.

        :raises NotMeasuredError: it does not.
        """
        if self._process.poll() is not None:
            raise NotMeasuredError(f"{self.name} has ended: {self._last_words()}")

    def stop(self) -> None:
        """End it and its descendants, each by its id; kindly first. May be called again."""
        family = self._family()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for member in family[1:]:
            now = _read(member.pid)
            if now is not None and now.started == member.started:  # not somebody else since
                with suppress(ProcessLookupError):
                    os.kill(member.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it says nothing"

    # --- costs ----------------------------------------------------------------------------

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of it and its descendants until now."""
        return sum(member.cpu for member in self._family()) / _TICKS

    def wait_for_processes(self, number: int) -> list[int]:
        """Wait until there are so many, itself and its descendants; their ids.

        :raises NotMeasuredError: it takes too long.
        """
        give_up_at = time.monotonic() + _START_TIMEOUT
        while len(family := self._family()) < number:
            if time.monotonic() > give_up_at:
                raise NotMeasuredError(f"{self.name} has {len(family)} processes, not {number}")
            time.sleep(0.02)
        return [member.pid for member in family]

    def memory(self) -> int:
        """Resident bytes, exactly: ``Rss`` of ``/proc/PID/smaps_rollup``."""
        return self._sum("smaps_rollup", "Rss:")

    def peak(self) -> int:
        """The most bytes that were resident: ``VmHWM`` of ``/proc/PID/status``."""
        return self._sum("status", "VmHWM:")

    def _sum(self, file: str, field: str) -> int:
        total = 0
        for member in self._family():
            with suppress(FileNotFoundError, ProcessLookupError):
                for line in Path(f"/proc/{member.pid}/{file}").read_text().splitlines():
                    if line.startswith(field):
                        total += int(line.split()[1]) * 1024
        return total

    def _family(self) -> list[_Stat]:
        """The process, then its descendants."""
        everybody = [
            stat for entry in os.listdir("/proc") if entry.isdigit() if (stat := _read(int(entry)))
        ]
        family = [stat for stat in everybody if stat.pid == self._process.pid]
        for member in family:  # grows meanwhile
            family += [stat for stat in everybody if stat.parent == member.pid]
        return family


class Stopwatch:
    """Runs from when it is made, for a program that has a core to itself (None: it has not)."""

    def __init__(self, program: Program, core: int | None) -> None:
        self._program = program
        self._core = core
        self._begun = time.monotonic()
        self._cpu = program.cpu()
        self._busy = _busy(core)

    def read(self) -> Cost:
        """What it has cost until now.

        :raises NotMeasuredError: the program has ended meanwhile.
        """
        cpu = self._program.cpu() - self._cpu
        if self._core is None:
            return Cost(cpu, None)
        passed = time.monotonic() - self._begun
        others = _busy(self._core) - self._busy - cpu
        self._program.check()
        return Cost(cpu, max(0.0, others / passed))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _busy(core: int | None) -> float:
    """Seconds in which the core did something or was not given to this machine, see proc(5)."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, _, _, steal = map(int, ticks[:8])
            return (user + nice + system + steal) / _TICKS
    return 0.0


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _read(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name, in parentheses, and may hold anything.
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, int(fields[1]), int(fields[19]), sum(map(int, fields[11:15])))
