"""What PostgreSQL and Redis were asked, and what that has cost them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, Final

from redis import Redis

from tests.daemon import wait_until
from tests.servers import PostgresServer

_STATEMENT: Final = re.compile(
    r"^gatekeeper \[\d+\] LOG:  statement: (.*?)(?=^\S* ?\[\d+\] |\Z)", re.MULTILINE | re.DOTALL
)
_TICK: Final = os.sysconf("SC_CLK_TCK")

#: Who may look at what Redis counts.
OPERATOR: Final = "user operator on nopass ~* +@all\n"


@dataclass
class Cost:
    """CPU seconds of PostgreSQL and of ours, and bytes of the write-ahead log."""

    cpu: float = 0.0
    here: float = 0.0
    wal: float = 0.0

    def __truediv__(self, times: float) -> Cost:
        return Cost(self.cpu / times, self.here / times, self.wal / times)

    def __str__(self) -> str:
        return (
            f"{1000 * self.cpu:.2f} ms of CPU there, {1000 * self.here:.2f} ms here, "
            f"{self.wal / 1024:.1f} KiB of WAL"
        )


class PostgresSpy:
    """Asks the server, its log, and the system."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        server.execute("ALTER SYSTEM SET log_line_prefix = '%a [%p] '")

    @contextmanager
    def listening(self) -> Iterator[Counter[str]]:
        """What is asked meanwhile: statements, which cost more than otherwise."""
        statements: Counter[str] = Counter()
        self._log_statements("all")
        position = self._log.stat().st_size
        yield statements
        said = self._log.read_bytes()[position:].decode(errors="replace")
        self._log_statements("none")
        statements.update(" ".join(each.split()) for each in _STATEMENT.findall(said))

    @contextmanager
    def measuring(self) -> Iterator[Cost]:
        """What is done meanwhile by sessions that are there before and after."""
        cost = Cost()
        cpu, wal = self._cpu(), self._wal()
        cost.here = process_time()
        yield cost
        cost.here = process_time() - cost.here
        cost.wal = self._wal() - wal
        now = self._cpu()
        cost.cpu = sum(now[pid] - before for pid, before in cpu.items() if pid in now)

    @property
    def connections(self) -> int:
        """How many gatekeeper has."""
        return len(self._sessions())

    def memory(self) -> float:
        """What a session of gatekeeper's has for itself, in bytes: the mean."""
        sizes = []
        for pid in self._sessions():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sizes += [sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)))]
        return 1024 * sum(sizes) / len(sizes)

    @property
    def _log(self) -> Path:
        return self._server.directory / "log"

    def _sessions(self) -> list[int]:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'gatekeeper'"
        return [int(str(pid)) for (pid,) in self._server.execute(sql)]

    def _cpu(self) -> dict[int, float]:
        used = {}
        for pid in self._sessions():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / _TICK
        return used

    def _log_statements(self, which: str) -> None:
        self._server.execute(f"ALTER SYSTEM SET log_statement = '{which}'")
        self._server.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self._server.execute("SHOW log_statement") == [(which,)], "it is so")

    def _wal(self) -> int:
        ((found,),) = self._server.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
        return int(str(found))


class RedisSpy:
    """Asks the server what it was asked."""

    def __init__(self, port: int) -> None:
        self.client: Any = Redis(port=port, username="operator", password="x")

    @contextmanager
    def watching(self) -> Iterator[Counter[str]]:
        """Commands by their names; those of scripts count, too."""
        asked: Counter[str] = Counter()
        before = self._counts()
        yield asked
        asked.update(self._counts() - before)

    @property
    def connections(self) -> int:
        """How many gatekeeper has."""
        return sum(each["name"] == "gatekeeper" for each in self.client.client_list())

    @property
    def cpu(self) -> float:
        """Seconds that it has used."""
        told = self.client.info("cpu")
        return float(told["used_cpu_user"] + told["used_cpu_sys"])

    def _counts(self) -> Counter[str]:
        found = self.client.info("commandstats")
        ours = ("cmdstat_info", "cmdstat_client|list", "cmdstat_auth", "cmdstat_hello")
        return Counter(
            {
                name.removeprefix("cmdstat_"): int(told["calls"])
                for name, told in found.items()
                if not name.startswith(ours)
            }
        )
