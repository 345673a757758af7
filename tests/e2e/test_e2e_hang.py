"""A worker that hangs is noticed and replaced, and nobody who comes meanwhile is turned away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gatekeeper.process import places
from tests.daemon import Daemon, wait_until
from tests.e2e.test_e2e_reload import ALICE, ask, request
from tests.hostile.raw import Client
from tests.origin import Origin
from tests.process.crew import CREW, is_there, metric, one_at_each, worker_of, workers

#: Seconds without a word after which a worker hangs: more than one needs to begin, for one that
#: has not begun is silent, too.
SILENCE = 6.0


class Impatient(Daemon):
    """Asks its workers twice a second whether they live, and does not wait for 30 s."""

    program = f"""
from gatekeeper.process import places
places._PING, places._SILENCE = 0.5, {SILENCE}
from twisted.scripts.twistd import run; run()
"""


def test_a_worker_that_hangs_is_replaced(tmp_path: Path, origin: Origin) -> None:
    assert (places._PING, places._SILENCE) == (10.0, 30.0)  # what is told, but for this test
    daemon = Impatient(tmp_path, CREW, ports={"origin": origin.port})
    with daemon:
        first, second = one_at_each(daemon)
        hung = workers(daemon)[1]
        os.kill(hung, signal.SIGSTOP)
        with first, second:
            first.send(request("/echo/x", ALICE))
            # The kernel goes on giving it connections; they are the next one's.
            waiting = [Client(daemon.address("gateway")) for _ in range(16)]
            for client in waiting:
                client.send(request("/echo/y", ALICE))
            assert ask(second, "/echo/x", ALICE).status == 200, "the other one goes on"
            wait_until(lambda: not is_there(hung), "its end")
            assert first.rest() == b""
            assert f"worker 1 ({hung}) hangs: it is killed" in daemon.log
            for client in waiting:
                with client:
                    assert client.answer().status == 200
        wait_until(lambda: len(workers(daemon)) == 2, "another one")
        assert daemon.management("/readyz")[0] == 200
        assert metric(daemon, "gatekeeper_worker_deaths_total", worker="1") >= 1
        for number, client in enumerate(one_at_each(daemon), 1):
            with client:
                assert worker_of(daemon, client) == number
                assert ask(client, "/echo/x", ALICE).status == 200
    counted = {row["path"]: row["requests"] for row in daemon.usage()}
    assert counted == {"/echo/x": 3, "/echo/y": 16}
