"""Tokens and revocations are the same in all processes: two nodes with two workers each.

Both reach Redis through a relay that can be cut. Figures are printed; ``pytest -rP`` shows them.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.auth.redis_server import RedisServer, running_redis
from tests.auth.support import basic
from tests.auth.test_redis_daemons import mirror, stream
from tests.daemon import wait_until
from tests.e2e.cluster import BRIEF, Caller, Cluster, Node, SlowServer, is_open, watch
from tests.origin import Origin
from tests.process.crew import kill, workers
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")

#: Seconds that a revocation may take here, the middle one and the slowest. 0.1 are promised, of a
#: machine that has nothing else to do.
BOUNDS: Final = (1.0, 5.0)

#: Seconds that a process stands still, which is longer than it believes what it has heard.
STILL: Final = 1.2

KEYVALS: Final = "/api/8/http/keyvals/tokens/"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, redis: RedisServer
) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with SlowServer() as auth, Origin() as origin:
        origin.on |= {"/stream": stream, "/socket": mirror}
        with Cluster(directory, postgres.create_database(), redis, auth, origin).running() as all_:
            yield all_


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.settle()
    return running


@pytest.fixture
def caller(cluster: Cluster) -> Caller:
    return Caller(cluster.auth)


def reasons(node: Node, caller: Caller) -> list[str]:
    """How a caller's exchanges have ended, as the access log has it."""
    return [line["reason"] for line in node.access_log() if line["key_id"] == caller.key]


def state(pid: int) -> str:
    """What a process is doing, see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def show(what: str, times: list[float]) -> None:
    """Print how long something took, and see that it did not take very long."""
    median, longest = statistics.median(times), max(times)
    print(f"{what}: median {median * 1000:.0f} ms, longest {longest * 1000:.0f} ms of {len(times)}")
    assert median < BOUNDS[0]
    assert longest < BOUNDS[1]


def test_one_question_for_all_processes(cluster: Cluster, caller: Caller) -> None:
    with cluster.connections() as clients:
        for client in clients * 2:
            answer = caller.ask(client)
            assert answer.status == 200
            assert ["x-authkey", caller.token] in json.loads(answer.body)["fields"]
    assert caller.asked == 1


@pytest.mark.parametrize("is_known", [True, False])
def test_requests_that_come_at_once_ask_once(
    cluster: Cluster, caller: Caller, *, is_known: bool
) -> None:
    """Refusals are not remembered: then each process asks."""
    if not is_known:
        del cluster.auth.tokens[caller.credential]
    cluster.auth.answer.clear()
    cluster.auth.slow.add(caller.credential)
    try:
        with cluster.connections() as first, cluster.connections() as second:
            for client in (*first, *second):
                caller.begin(client)
            wait_until(lambda: caller.asked, "the first question")
            time.sleep(0.3)  # for others, if there were any
            assert caller.asked == 1
            cluster.auth.answer.set()
            statuses = {client.answer().status for client in (*first, *second)}
    finally:
        cluster.auth.answer.set()
    if is_known:
        assert (statuses, caller.asked) == ({200}, 1)
    else:
        assert statuses == {403}
        assert 4 <= caller.asked <= 8


def shut_out(cluster: Cluster, caller: Caller) -> None:
    assert cluster.here.change(caller, "0") == 204


def shut_out_by_id(cluster: Cluster, caller: Caller) -> None:
    assert cluster.here.operate("DELETE", f"/v1/tokens/tokens/{caller.key}") == 204


@pytest.mark.parametrize("revoke", [shut_out, shut_out_by_id])
def test_a_revocation_takes_effect_everywhere(
    cluster: Cluster, revoke: Callable[[Cluster, Caller], None]
) -> None:
    times = []
    for _ in range(5):
        caller = Caller(cluster.auth)
        with cluster.connections() as clients:
            watches = watch(caller, clients, 403)
            began = time.monotonic()
            revoke(cluster, caller)
            times += [each.end() - began for each in watches]
        assert [each.statuses for each in watches] == [[200, 403]] * 4
        assert caller.asked == 1
    show("a request is refused", times)


def test_what_runs_is_cut_in_all_processes(cluster: Cluster, caller: Caller) -> None:
    with (
        cluster.connections() as streams,
        cluster.connections() as sockets,
        cluster.connections("proxy") as tunnels,
    ):
        for a, b, c in zip(streams, sockets, tunnels, strict=True):
            caller.stream(a)
            caller.socket(b)
            caller.tunnel(c, cluster.origin)
        assert all(is_open(each) for each in (*sockets, *tunnels))
        began = time.monotonic()
        shut_out(cluster, caller)
        times = []
        for client in (*streams, *sockets, *tunnels):
            assert client.rest() == b""  # waits for the end
            times.append(time.monotonic() - began)
    show("what runs is cut", times)
    for node in cluster.nodes:
        wait_until(lambda node=node: len(reasons(node, caller)) == 6, "the access log")  # type: ignore[misc]
        assert set(reasons(node, caller)) == {"grant_revoked"}


def test_a_user_is_shut_out_of_all_processes(cluster: Cluster) -> None:
    """Whom the nodes know from PostgreSQL."""
    users = "/v1/services/members/users"
    caller = Caller(cluster.auth, "/members/x", basic("bob", "builder").decode())
    assert cluster.here.operate("POST", users, {"name": "bob", "password": "builder"}) == 201
    with cluster.connections() as clients:
        for each in watch(caller, clients, 200):
            each.end()
        watches = watch(caller, clients, 401)
        began = time.monotonic()
        assert cluster.here.operate("PATCH", f"{users}/bob", {"disabled": True}) == 200
        times = [each.end() - began for each in watches]
        assert [each.statuses for each in watches] == [[200, 401]] * 4
    show("a user is refused", times)


def test_who_has_no_entry_is_shut_out_and_let_in(cluster: Cluster, caller: Caller) -> None:
    with cluster.connections() as clients:
        assert cluster.here.operate("POST", KEYVALS, {caller.key: "0"}) == 201
        for client in clients:
            assert caller.status(client) == 403
        assert caller.asked == 0
        watches = watch(caller, clients, 200)
        assert cluster.there.change(caller, None) == 204
        for each in watches:
            each.end()
            assert each.statuses == [403, 200]
    assert caller.asked == 1


def test_a_node_that_was_cut_off_refuses_until_it_knows(cluster: Cluster, caller: Caller) -> None:
    with cluster.connections() as clients, cluster.connections() as streams:
        for client in clients:
            assert caller.status(client) == 200
        for client in streams:
            caller.stream(client)
        with cluster.here.noticing():
            cluster.here.relay.sever()
        watches = watch(caller, clients[:2], 403)
        assert cluster.here.change(caller, "0") == 503
        assert cluster.there.change(caller, "0") == 204
        for client in streams[2:]:
            client.rest()
        assert caller.status(clients[2]) == 403
        assert [each.statuses for each in watches] == [[503]] * 2
        cluster.here.relay.mend()
        for client in streams[:2]:
            client.rest()
        for each in watches:
            each.end()
            assert each.statuses == [503, 403], "a request was served from what it had"
    assert caller.asked == 1


def test_or_goes_on_with_what_it_has(cluster: Cluster, caller: Caller) -> None:
    new = Caller(cluster.auth)
    with (
        cluster.connections() as clients,
        cluster.connections() as watched,
        cluster.connections() as streams,
    ):
        for client in clients:
            assert caller.status(client) == 200
        for client in streams:
            caller.stream(client)
        with cluster.there.noticing():
            cluster.there.relay.sever()
        watches = watch(caller, watched[2:], 403)
        shut_out(cluster, caller)
        assert [each.statuses for each in watches] == [[200]] * 2
        for client in clients[2:] * 2:
            assert new.status(client) == 200
        assert new.asked == 2  # nobody can be told
        cluster.there.relay.mend()
        for client in streams:
            client.rest()
        for each in watches:
            each.end()
            assert each.statuses == [200, 403]
        wait_until(lambda: cluster.there.is_there, "it has caught up")
        for client in clients:
            assert caller.status(client) == 403
    assert caller.asked == 1


def test_a_worker_that_has_stood_still_knows_it(cluster: Cluster, caller: Caller) -> None:
    """It wakes up with a view from before, and a request that has waited for it."""
    with cluster.connections() as clients:
        for client in clients:
            assert caller.status(client) == 200
        pid = workers(cluster.there)[1]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: state(pid) == "T", "it stands still")
            caller.begin(clients[2])
            shut_out(cluster, caller)
            time.sleep(STILL)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert clients[2].answer().status == 403
        assert caller.status(clients[3]) == 403
    assert caller.asked == 1


def test_a_worker_that_begins_knows_it(cluster: Cluster, caller: Caller) -> None:
    """From the node's own file, where Redis is out of reach."""
    with cluster.connections() as clients:
        for client in clients:
            assert caller.status(client) == 200
        watches = watch(caller, clients, 403)
        shut_out(cluster, caller)
        for each in watches:
            each.end()
    with cluster.there.noticing():
        cluster.there.relay.sever()
    kill(cluster.there, 1)
    with cluster.connections() as clients:
        assert caller.status(clients[2]) == 403
    assert caller.asked == 1


def test_redis_is_away(cluster: Cluster, redis: RedisServer, caller: Caller) -> None:
    other, new = Caller(cluster.auth), Caller(cluster.auth)
    brief = Caller(cluster.auth, "/brief/x")
    with cluster.connections() as clients:
        here, there = clients[:2], clients[2:]
        for client in clients:
            assert caller.status(client) == other.status(client) == 200
        shut_out(cluster, other)
        for each in watch(other, clients, 403):
            each.end()
        with cluster.here.noticing(), cluster.there.noticing():
            redis.stop()
        try:
            for node in cluster.nodes:
                status, health = node.management("/readyz")
                assert status == 503
                assert not health["checks"]["zone tokens"]["ok"]
                assert node.log.count("cannot be followed") >= 3
            assert [other.status(each) for each in clients] == [403] * 4
            assert [caller.status(each) for each in here] == [503] * 2
            assert [new.status(each) for each in there * 2] == [200] * 4
            assert (caller.asked, new.asked) == (1, 2)
            began = time.monotonic()
            assert brief.status(there[0]) == 200
            wait_until(lambda: brief.status(there[0]) == 200 and brief.asked == 2, "its end")
            assert time.monotonic() - began >= BRIEF
            assert [caller.status(each) for each in there] == [200] * 2
            assert caller.asked == 1
        finally:
            redis.start()
        for node in cluster.nodes:
            wait_until(partial(lambda node: node.is_there, node), "it is back")
        assert [other.status(each) for each in clients] == [403] * 4
        assert [caller.status(each) for each in clients] == [200] * 4
    assert caller.asked == 2  # Redis has forgotten it
