"""Portions of a core: what a process may use at most, by the system's CPU controller.

So a machine with two cores can show what more processes bring: each of them has the same portion,
and neither the load nor the origin takes anything from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from benchmarks.results import NotMeasuredError

#: Microseconds in which a process may use its portion; both versions take no less than 1 ms.
_PERIOD: Final = 10_000


class Portions:
    """Groups of the CPU controller (cgroups(7), version 1 or 2), one for each process.

    They are removed at the end, when their processes have ended. A whole is 1.0, one core.

    :raises NotMeasuredError: there is no such controller here, or it is not ours to use.
    """

    def __init__(self, portion: float) -> None:
        self._quota = int(portion * _PERIOD)
        self._parent, self._is_v2 = _find()
        self._groups: list[Path] = []

    def __enter__(self) -> Portions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for group in self._groups:
            with suppress(OSError):  # a process that does not end keeps its group
                group.rmdir()

    def give(self, processes: Iterable[int]) -> None:
        """Each of these has its portion from now on, and may use no more.

        :raises NotMeasuredError: that may not be done here.
        """
        for process in processes:
            group = self._parent / f"gatekeeper-bench-{os.getpid()}-{process}"
            try:
                group.mkdir()
                self._groups.append(group)
                for file, text in self._settings():
                    (group / file).write_text(text)
                (group / "cgroup.procs").write_text(str(process))
            except OSError as error:
                why = f"{group.parent}: {error.strerror}"
                raise NotMeasuredError(f"a process cannot be held to its portion: {why}") from error

    def _settings(self) -> list[tuple[str, str]]:
        if self._is_v2:
            return [("cpu.max", f"{self._quota} {_PERIOD}")]
        return [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", str(self._quota))]


def _find() -> tuple[Path, bool]:
    """Where groups are made, and whether it is version 2."""
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        _, place, kind, options, *_ = line.split(" ")
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(place), False
        if kind == "cgroup2":
            control = Path(place, "cgroup.subtree_control")
            with suppress(OSError):
                if "cpu" in control.read_text("ascii").split():
                    return Path(place), True
    raise NotMeasuredError("there is no CPU controller (cgroups) to hold processes to portions")
