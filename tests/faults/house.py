"""A daemon under load with its PostgreSQL, and the comparison of what was answered and counted."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from argon2 import PasswordHasher

from tests.daemon import Daemon, wait_until
from tests.faults.load import PASSWORD, Load
from tests.faults.relay import Relay
from tests.process.crew import kill
from tests.servers import PostgresServer

USERS: Final = ("ann", "bob", "cem")
_CONNECTIONS: Final = 6  # for each user
_PATIENCE: Final = 60.0

_HASH: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)

_CONFIGURATION: Final = f"""
state_dir = "state"
management = {{ bind = "none" }}
store = {{ url = "URL", statement_timeout = 2.0 }}
usage = {{ flush_interval = 0.1, records = true, fsync = "FSYNC" }}
log = {{ access = "none" }}

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[checkers.users]
type = "basic"
users = {{ {", ".join(f"{user} = '{_HASH}'" for user in USERS)} }}

[[services]]
name = "shop"
to = "http://@origin@"
checkers = ["users"]
"""

#: A disk that takes its time, and that breaks as long as there is a file of that name.
_DISK: Final = """
import errno, os, time
def disk(fd, fsync=os.fsync):
    time.sleep(SECONDS)
    if os.path.exists("broken"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    fsync(fd)
os.fsync = disk
"""


@dataclass
class Result:
    """What one round came to. ``missing``: answered, but not in the store; ``twice``: there more
    often than once; ``doubtful``: in the store, but the client never had the end of the answer.
    """

    fault: str
    answered: int = 0
    stored: int = 0
    missing: int = 0
    twice: int = 0
    doubtful: int = 0
    refused: int = 0
    broken: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether something happened that must never happen."""
        return bool(self.missing or self.twice or self.doubtful)


class House:
    """Everything that a fault can be done to.

    With ``disk_latency`` (seconds) each fsync of the daemon takes so much longer; that of workers
    does not.
    """

    def __init__(
        self,
        directory: Path,
        server: PostgresServer,
        fsync: str,
        *,
        disk_latency: float = 0.0,
        small_disk: bool = False,
        workers: int = 1,
    ) -> None:
        self.directory = directory
        self.server = server
        self.url = server.create_database()
        self.relay = Relay(server.port)
        self._wrapper = _small_disk(directory / "state" / "journal") if small_disk else ()
        self._fsync = fsync
        self._disk_latency = disk_latency
        self._workers = workers
        self.daemon: Daemon
        self.load: Load

    @contextmanager
    def open(self) -> Iterator[None]:
        """A daemon that serves under load."""
        parts = urlsplit(self.url)
        url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{self.relay.port}").geturl()
        text = _CONFIGURATION.replace("URL", url).replace("FSYNC", self._fsync)
        text = f"workers = {self._workers}\n{text}"
        self.daemon = Daemon(self.directory, text, wrapper=self._wrapper)
        disk = _DISK.replace("SECONDS", str(self._disk_latency))
        self.daemon.program = f"{disk}{self.daemon.program}"
        with self.relay, Load(self.daemon.port("gateway"), USERS, _CONNECTIONS) as self.load:
            self.daemon.ports["origin"] = self.load.origin_port
            self.daemon.configure(text)
            try:
                self.daemon.start()
                self.load.begin()
                self.serve()
                yield
            finally:
                self.load.stop()
                self.daemon.kill()

    def serve(self, requests: int = 300) -> None:
        """Let so many more requests be answered; a tenth of them with a slow disk."""
        requests = requests // 10 if self._disk_latency else requests
        goal = self.load.total + requests
        wait_until(lambda: self.load.total >= goal, f"{requests} more answers", _PATIENCE)

    def wait_for_the_store(self, more: int = 1) -> None:
        """Wait until the store has so many more records than now."""
        goal = self.count_stored() + more
        wait_until(lambda: self.count_stored() >= goal, "usage in the store", _PATIENCE)

    def kill(self) -> None:
        """SIGKILL, and start it again."""
        self.daemon.kill()
        self.daemon.pid_file.unlink(missing_ok=True)
        self.daemon.start()

    def kill_worker(self, number: int) -> None:
        """SIGKILL for one worker, which is replaced."""
        kill(self.daemon, number)

    def finish(self) -> None:
        """End the load; stop the daemon, and start it again until nothing is left to flush."""
        self.load.stop()
        self._stop()
        while self.left_over:
            self.daemon.start()
            self._stop()

    def _stop(self) -> None:
        if not self.daemon.is_running:
            return
        self.daemon.terminate()
        wait_until(lambda: not self.daemon.is_running, "the daemon stops", _PATIENCE)
        process = self.daemon.process
        assert process is not None
        assert process.returncode == 0, self.daemon.log
        said = self.daemon.log + self.daemon.stderr
        assert "Traceback" not in said, said

    @property
    def journal(self) -> Path:
        """Where the daemon keeps what the store does not have."""
        return self.daemon.state_dir / "journal"

    @property
    def left_over(self) -> list[Path]:
        """Segments that wait for the next start."""
        return sorted(self.journal.glob("*.journal"))

    @contextmanager
    def little_space(self) -> Iterator[None]:
        """The journal's disk is as good as full; its space is given back in the end."""
        if not self._wrapper:  # no file may be longer than this: the next best thing
            _, most = resource.prlimit(self.daemon.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self.daemon.pid, resource.RLIMIT_FSIZE, (20_000, most))
            yield
            resource.prlimit(self.daemon.pid, resource.RLIMIT_FSIZE, (most, most))
            return
        mounted = Path(f"/proc/{self.daemon.pid}/root{self.journal}")
        ballast = mounted / "ballast"
        with ballast.open("wb") as file:
            file.write(b"\0" * max(shutil.disk_usage(mounted).free - 100_000, 0))
        yield
        ballast.unlink()

    @contextmanager
    def broken_disk(self) -> Iterator[None]:
        """No fsync of the daemon ends well; those of workers do."""
        flag = self.directory / "broken"
        flag.touch()
        yield
        flag.unlink()

    # --- what the store has ---------------------------------------------------------------

    def count_stored(self) -> int:
        """How many records the store has."""
        if self._query("SELECT to_regclass('usage')") == [(None,)]:
            return 0  # no daemon has reached it yet
        ((count,),) = self._query("SELECT coalesce(sum(requests), 0)::bigint FROM usage")
        assert isinstance(count, int)
        return count

    def compare(self, fault: str) -> Result:
        """Compare what was answered with the single records and with the sums."""
        stored: Counter[tuple[str, str]] = Counter()
        for user, request_id in self._query("SELECT user_name, id FROM usage_record"):
            stored[str(user), str(request_id)] += 1
        sums = {
            str(user): count
            for user, count in self._query(
                "SELECT user_name, sum(requests)::bigint FROM usage GROUP BY 1"
            )
        }
        answered = {
            (user, request_id) for user, ids in self.load.complete.items() for request_id in ids
        }
        assert len(answered) == self.load.total
        by_user = Counter(user for user, _ in stored.elements())
        assert sums == by_user, "the sums are not those of the records"
        assert not self.load.surprises, self.load.surprises
        return Result(
            fault,
            answered=len(answered),
            stored=stored.total(),
            missing=len(answered - stored.keys()),
            twice=sum(count - 1 for count in stored.values()),
            doubtful=len(stored.keys() - answered),
            refused=self.load.refused,
            broken=self.load.broken,
        )

    def _query(self, sql: str) -> list[tuple[object, ...]]:
        return self.server.execute(sql, urlsplit(self.url).path[1:])


def _small_disk(directory: Path) -> tuple[str, ...]:
    """A command that runs another one with a tmpfs of 4 MiB in place of ``directory``.

    It is seen by that process only, at ``/proc/PID/root``. Empty where the system does not let us.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    script = 'mount -t tmpfs -o size=4m,mode=700 tmpfs "$0" && exec "$@"'
    wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(directory))
    tried = subprocess.run([*wrapper, "true"], capture_output=True)
    return wrapper if tried.returncode == 0 else ()


# --- the faults -------------------------------------------------------------------------------


def killed(house: House) -> None:
    """SIGKILL of the daemon, three times."""
    for _ in range(3):
        house.serve()
        house.kill()
    house.serve()


def worker_killed(house: House) -> None:
    """SIGKILL of one of two workers, and of the other; the daemon goes on."""
    for number in (1, 2, 1):
        house.serve()
        house.kill_worker(number)
    house.serve()


def worker_killed_while_the_store_is_away(house: House) -> None:
    """What it has left is taken over, and flushed when the store is back."""
    house.server.stop(signal.SIGQUIT)
    house.serve(500)
    house.kill_worker(1)
    house.serve(500)
    house.server.start()
    house.wait_for_the_store()


def store_crashes(house: House) -> None:
    """``pg_ctl stop -m immediate`` in the middle of the flushes, and a restart."""
    house.wait_for_the_store()
    house.server.stop(signal.SIGQUIT)
    house.serve(1000)
    house.server.start()
    house.wait_for_the_store()
    house.serve()


def answers_lost(house: House) -> None:
    """Connections cut between COMMIT and its answer."""
    for _ in range(3):
        house.relay.cuts_left = 1
        wait_until(lambda: not house.relay.cuts_left, "a cut", _PATIENCE)
        house.serve()
    house.wait_for_the_store()


def store_hangs(house: House) -> None:
    """SIGSTOP of PostgreSQL for ten seconds."""
    house.wait_for_the_store()
    house.server.pause()
    house.serve(500)
    time.sleep(10)
    house.serve(500)
    house.server.resume()
    house.wait_for_the_store()


def killed_while_the_store_is_away(house: House) -> None:
    """Both at once: what was not flushed is found at the next start."""
    house.server.stop(signal.SIGQUIT)
    house.serve(500)
    house.kill()
    house.serve(500)
    house.kill()
    house.server.start()
    house.wait_for_the_store()


def answers_lost_and_killed(house: House) -> None:
    """A COMMIT whose answer nobody hears, and SIGKILL before it is asked again."""
    house.relay.cuts_left = 1_000_000
    house.serve()
    wait_until(lambda: house.relay.cuts >= 1, "a cut", _PATIENCE)
    house.kill()
    house.relay.cuts_left = 0
    house.wait_for_the_store()


def stopped(house: House) -> None:
    """SIGTERM under load, and a new start."""
    house.serve()
    house.daemon.terminate()
    wait_until(lambda: not house.daemon.is_running, "the daemon stops", _PATIENCE)
    house.daemon.start()
    house.serve()


def disk_full(house: House) -> None:
    """The journal's disk fills up while the store is away, and has room again."""
    house.server.stop(signal.SIGQUIT)
    with house.little_space():
        wait_until(lambda: house.load.refused >= 50, "refusals", _PATIENCE)
    house.serve()
    house.server.start()
    house.wait_for_the_store()
    house.serve()


def disk_breaks(house: House) -> None:
    """Nothing can be forced to the journal's disk for a while."""
    house.serve()
    with house.broken_disk():
        wait_until(lambda: house.load.refused >= 50, "refusals", _PATIENCE)
    house.serve()


FAULTS: Final[tuple[Callable[[House], None], ...]] = (
    killed,
    store_crashes,
    answers_lost,
    store_hangs,
    disk_full,
    disk_breaks,
    stopped,
    killed_while_the_store_is_away,
    answers_lost_and_killed,
    worker_killed,
    worker_killed_while_the_store_is_away,
)


def run(
    fault: Callable[[House], None],
    directory: Path,
    server: PostgresServer,
    fsync: str = "interval",
    disk_latency: float = 0.0,
) -> Result:
    """Do one round of a fault, and say what it came to."""
    workers = 2 if fault.__name__.startswith("worker_") else 1
    house = House(
        directory,
        server,
        fsync,
        disk_latency=disk_latency,
        small_disk=fault is disk_full,
        workers=workers,
    )
    try:
        with house.open():
            fault(house)
            house.finish()
            return house.compare(fault.__name__.replace("_", " "))
    finally:
        server.start_again()
