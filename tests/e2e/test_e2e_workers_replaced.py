"""Workers end, and are replaced: one of them, all of them, the supervisor with them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_until
from tests.e2e.test_e2e_reload import ALICE, ask
from tests.hostile.raw import Client
from tests.origin import Origin
from tests.process.crew import (
    CREW,
    call,
    counted,
    crew,
    is_there,
    kill,
    metric,
    one_at_each,
    worker_of,
    workers,
)
from tests.process.load import SteadyLoad
from tests.process.upgrading import serving, upgrade, wait_for_the_end

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, origin: Origin) -> None:
    """The other goes on, and nothing that was answered is lost or counted twice."""
    daemon = crew(tmp_path, origin)
    with SteadyLoad(daemon.port("gateway"), ALICE, kept=4, fresh=4) as load:
        daemon.ports["origin"] = load.origin_port
        daemon.configure(CREW)
        with daemon:
            load.begin()
            for number in (1, 2):
                wait_until(lambda: load.complete > 100 * number, "some answers")  # noqa: B023
                pid = workers(daemon)[3 - number]
                kill(daemon, number)
                assert is_there(pid)
            served = load.complete
            wait_until(lambda: load.complete > served + 100, "more answers")
            load.stop()
            assert metric(daemon, "gatekeeper_worker_deaths_total") == 2
            assert call(daemon, "GET", "/readyz")[0] == 200
            answered, broken = load.complete, load.failed.total()
    counts = counted(daemon)
    assert broken <= 16
    # What was written down and not yet sent when it died is all that there may be beside.
    assert answered <= counts["/echo/x"] <= answered + broken


def test_others_serve_what_comes_for_one_that_keeps_dying(tmp_path: Path, origin: Origin) -> None:
    """The kernel gives a part of the connections to its socket, whether or not it is there."""
    daemon = crew(tmp_path, origin)
    with daemon:
        for deaths in range(1, 7):
            os.kill(workers(daemon)[1], signal.SIGKILL)
            wait_until(lambda: daemon.log.count("has ended, killed") == deaths, "its end")  # noqa: B023
            numbers = []
            if deaths > 2:  # the next one comes in 2 s, or in 4 s, ...
                for _ in range(20):
                    with Client(daemon.address("gateway")) as client:
                        assert ask(client, "/echo/x", ALICE).status == 200
                        numbers.append(worker_of(daemon, client))
                if 1 not in workers(daemon):
                    break
            wait_until(lambda: 1 in workers(daemon), "another one")
        assert numbers == [2] * 20


def test_workers_end_with_their_supervisor(tmp_path: Path, origin: Origin) -> None:
    """The next one waits until they have, and counts what they have used."""
    daemon = crew(tmp_path, origin, CREW.replace("flush_interval = 0.2", "flush_interval = 60.0"))
    daemon.start()
    pids = workers(daemon).values()
    for client in one_at_each(daemon):
        with client:
            assert ask(client, "/echo/x", ALICE).status == 200
    daemon.kill()
    daemon.pid_file.unlink()
    with daemon:
        assert not any(map(is_there, pids))
        assert len(workers(daemon)) == 2
    assert counted(daemon) == {"/echo/x": 2}


def test_another_process_takes_over(tmp_path: Path) -> None:
    """SIGUSR2 under load, with one more worker: not one request fails."""
    daemon = Daemon(tmp_path, CREW)
    with SteadyLoad(daemon.port("gateway"), ALICE, kept=8, fresh=8) as load:
        daemon.ports["origin"] = load.origin_port
        daemon.configure(CREW)
        with serving(daemon):
            load.begin()
            crew_before = workers(daemon).values()
            wait_until(lambda: load.complete > 100, "some answers")
            daemon.configure(CREW.replace("workers = 2", "workers = 3"))
            for pid in (*crew_before, upgrade(daemon)):
                wait_for_the_end(pid)
            served = load.complete
            wait_until(lambda: load.complete > served + 100, "more answers")
            load.stop()
            assert load.failed == {}
            assert len(workers(daemon)) == 3
    assert counted(daemon) == {"/echo/x": load.complete}


def test_workers_count_rates_together(tmp_path: Path, origin: Origin) -> None:
    """Also with one that takes another one's place, and with those of the next process."""
    rated = CREW + 'rates = [{ requests = 12, per = "hour" }]\n'
    daemon = crew(tmp_path, origin, rated)

    def admitted(each: int) -> int:
        """How many requests are let through, of so many at each worker."""
        statuses = []
        for client in one_at_each(daemon):
            with client:
                statuses += [ask(client, "/echo/x", ALICE).status for _ in range(each)]
        assert set(statuses) <= {200, 429}
        return statuses.count(200)

    with serving(daemon, something_fails=True):
        assert admitted(2) == 4
        kill(daemon, 1)
        assert admitted(2) == 4
        wait_for_the_end(upgrade(daemon))
        assert admitted(4) == 4


def test_fewer_workers_take_a_restart(tmp_path: Path, origin: Origin) -> None:
    """What comes to a socket that no worker has would wait for ever."""
    daemon = crew(tmp_path, origin)
    with daemon:
        daemon.configure(CREW.replace("workers = 2", "workers = 1"))
        os.kill(daemon.pid, signal.SIGUSR2)
        wait_until(lambda: "No upgrade" in daemon.log, "it is told")
        assert "workers: was 2" in daemon.stderr
        for client in one_at_each(daemon):
            with client:
                assert ask(client, "/echo/x", ALICE).status == 200
