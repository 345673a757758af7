"""What all rows share: where things are, how long and how much is measured, on which cores."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.credentials import Key, make_key

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Cores:
    """Numbers of cores: what is measured has one to itself. None: this machine has one only."""

    proxy: int | None
    load: int | None

    @classmethod
    def choose(cls) -> Cores:
        """The first two that this process may use."""
        mine = sorted(os.sched_getaffinity(0))
        return cls(mine[0], mine[1]) if len(mine) > 1 else cls(None, None)


@dataclass(frozen=True)
class Bench:
    """One run. ``seconds`` are counted after ``warm_up`` more; ``body`` is in bytes.

    ``directory`` is a temporary one that peers' unprivileged processes can pass through. Of the
    ``keys`` in gatekeeper's file ``active_keys`` send requests; ``burns`` are made one by one.
    """

    directory: Path
    cores: Cores
    seconds: int
    warm_up: int
    body: int = GIB
    connections: int = 32
    idle_connections: int = 2000
    keys: int = 100_000
    services: int = 1_000
    active_keys: int = 1_000
    counters: int = 100_000
    burns: int = 200
    key: Key = field(default_factory=lambda: make_key("001"))
