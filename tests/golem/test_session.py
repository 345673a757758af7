"""The real program under a supervisor."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import gatekeeper
from gatekeeper.golem.protos.runtime_pb2 import (
    BAD_REQUEST,
    NOT_FOUND,
    CreateNetwork,
    Request,
)
from tests.daemon import wait_until
from tests.golem.conftest import ACME
from tests.golem.standin import Management, StandIn
from tests.golem.supervisor import Supervisor


def test_hello(supervisor: Supervisor) -> None:
    assert supervisor.hello() == gatekeeper.__version__


def test_the_life_of_a_user(supervisor: Supervisor, management: Management) -> None:
    code, added, _ = supervisor.run("user", "add", "alice", "wonderland")
    assert code == 0
    assert added.keys() == {"username", "createdAt"}
    assert added["username"] == "alice"
    assert supervisor.run("user", "list").stdout == [added]
    management.request("acme", "alice", "/acme/x", 2)
    management.request("acme", "alice", "/acme/y")
    stats = supervisor.run("user", "stats", "alice")
    assert stats.stdout == {"/acme/x": 2, "/acme/y": 1}
    assert supervisor.run("user", "remove", "alice", "--auth", "basic") == (0, None, "")
    assert supervisor.run("user", "list").stdout == []


def test_the_service(supervisor: Supervisor) -> None:
    code, service, _ = supervisor.run("service", "info")
    assert code == 0
    created_at = service.pop("createdAt")
    assert created_at.startswith("20")
    assert service == {
        "name": "acme",
        "serverName": ["service.acme.com", "1.2.3.4"],
        "portHttps": [],
        "portHttp": [24080],
    }
    assert supervisor.run("svc", "info").stdout["createdAt"] == created_at


def test_commands_that_fail(supervisor: Supervisor) -> None:
    assert supervisor.run("user", "add", "alice", "wonderland").code == 0
    code, output, errors = supervisor.run("user", "add", "alice", "other")
    assert (code, output) == (1, None)
    assert "already" in errors
    assert supervisor.run("user", "remove", "bob").code == 1
    code, output, errors = supervisor.run("user", "make", "bob", "s3cret")
    assert (code, output) == (2, None)
    assert "user add NAME PASSWORD" in errors
    assert "s3cret" not in errors


def test_the_count_is_told_again_and_again(supervisor: Supervisor, management: Management) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    assert supervisor.counters[0] == 0
    management.request("acme", "alice", "/acme/x", 3)
    supervisor.wait_for_count(3)
    supervisor.run("user", "add", "bob", "builder")
    management.request("acme", "bob", "/acme/x", 4)
    supervisor.wait_for_count(7)


def test_only_the_own_users_are_counted(
    management: Management, workdir: Path, tmp_path: Path
) -> None:
    others = tmp_path / "other"
    others.mkdir()
    with (
        Supervisor("acme", management.url, workdir) as one,
        Supervisor(
            "acme", management.url, others, ["--services-dir", str(workdir / "services")]
        ) as other,
    ):
        one.run("user", "add", "alice", "wonderland")
        other.run("user", "add", "bob", "builder")
        management.request("acme", "alice", "/acme/x", 3)
        management.request("acme", "bob", "/acme/x", 5)
        one.wait_for_count(3)
        other.wait_for_count(5)
        assert one.shut_down() == 0
        assert management.users("acme") == ["bob"]
        assert other.shut_down() == 0
        assert management.users("acme") == []


def test_a_count_outlives_its_user(supervisor: Supervisor, management: Management) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    management.request("acme", "alice", "/acme/x", 3)
    supervisor.run("user", "remove", "alice")
    supervisor.wait_for_count(3)
    supervisor.run("user", "add", "alice", "again")
    management.request("acme", "alice", "/acme/x", 2)
    supervisor.wait_for_count(5)
    assert supervisor.counters == sorted(supervisor.counters)


def test_shutdown(supervisor: Supervisor, management: Management) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    management.request("acme", "alice", "/acme/x", 3)
    assert supervisor.shut_down() == 0
    assert management.users("acme") == []
    assert supervisor.counters[-1] == 3
    counter, answer = supervisor.responses[-2:]
    assert counter.rt_status.counter.value == 3
    assert answer.WhichOneof("command") == "shutdown"
    assert supervisor.stderr == ""


def test_the_end_of_the_input_is_a_shutdown(supervisor: Supervisor, management: Management) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    supervisor.stdin.close()
    assert supervisor.wait() == 0
    assert management.users("acme") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_shutdown(
    supervisor: Supervisor, management: Management, number: signal.Signals
) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    supervisor.process.send_signal(number)
    assert supervisor.wait() == 0
    assert management.users("acme") == []


def test_a_supervisor_that_reads_no_more(workdir: Path, management: Management) -> None:
    with Supervisor("acme", management.url, workdir) as supervisor:
        supervisor.run("user", "add", "alice", "wonderland")
        # The pipe's reading end must be closed under the thread that reads from it.
        null = os.open(os.devnull, os.O_RDONLY)
        assert supervisor.process.stdout is not None
        os.dup2(null, supervisor.process.stdout.fileno())
        os.close(null)
        assert supervisor.process.wait(30) == 1
    assert management.users("acme") == []
    assert supervisor.stderr == "gatekeeper-golem-runtime: the supervisor is gone\n"


class TestTheAPIGoesAway:
    def test_and_comes_back(self, supervisor: Supervisor, management: Management) -> None:
        supervisor.run("user", "add", "alice", "wonderland")
        management.request("acme", "alice", "/acme/x", 3)
        supervisor.wait_for_count(3)
        management.crash()
        code, output, errors = supervisor.run("user", "add", "bob", "builder")
        assert (code, output) == (1, None)
        assert "cannot be reached" in errors
        told = len(supervisor.counters)
        wait_until(lambda: len(supervisor.counters) > told, "counters go on")
        management.come_back()
        management.request("acme", "alice", "/acme/x")
        supervisor.wait_for_count(4)
        assert supervisor.counters == sorted(supervisor.counters)
        assert supervisor.run("user", "add", "bob", "builder").code == 0

    def test_before_the_shutdown(self, supervisor: Supervisor, management: Management) -> None:
        supervisor.run("user", "add", "alice", "wonderland")
        management.request("acme", "alice", "/acme/x", 3)
        supervisor.wait_for_count(3)
        management.crash()
        assert supervisor.shut_down() == 1
        assert supervisor.counters[-1] == 3
        assert "1 users are still there" in supervisor.stderr

    def test_and_forgets_what_it_has_counted(
        self, supervisor: Supervisor, standin: StandIn
    ) -> None:
        supervisor.run("user", "add", "alice", "wonderland")
        standin.request("acme", "alice", "/acme/x", 3)
        supervisor.wait_for_count(3)
        standin.services["acme"].users["alice"].paths.clear()
        asked = len(standin.log)
        wait_until(lambda: len(standin.log) >= asked + 2, "it is asked again")
        assert supervisor.counters[-1] == 3


class TestKilling:
    def test_one_that_runs(self, supervisor: Supervisor, standin: StandIn) -> None:
        standin.hold.clear()
        pid = supervisor.begin("user", "add", "alice", "wonderland")
        assert supervisor.kill(pid, signal.SIGTERM).WhichOneof("command") == "kill"
        assert supervisor.finish(pid).code == 128 + signal.SIGTERM
        standin.hold.set()
        # It could not be stopped any more; and is undone like everything else in the end.
        wait_until(lambda: standin.users("acme") == ["alice"], "it takes effect")
        assert supervisor.shut_down() == 0
        assert standin.users("acme") == []
        assert len([status for status in supervisor.statuses(pid) if not status.running]) == 1

    def test_one_that_waits(self, supervisor: Supervisor, standin: StandIn) -> None:
        standin.hold.clear()
        first = supervisor.begin("user", "list")
        second = supervisor.begin("user", "add", "alice", "wonderland")
        supervisor.kill(second, 9)
        assert supervisor.finish(second).code == 128 + 9
        standin.hold.set()
        assert supervisor.finish(first).code == 0
        assert supervisor.run("user", "list").stdout == []

    @pytest.mark.parametrize("number", [0, -1, 2**31 - 1])
    def test_with_what_is_no_signal(
        self, supervisor: Supervisor, standin: StandIn, number: int
    ) -> None:
        standin.hold.clear()
        pid = supervisor.begin("user", "list")
        supervisor.kill(pid, number)
        assert supervisor.finish(pid).code == 128 + signal.SIGKILL

    def test_one_that_has_ended(self, supervisor: Supervisor) -> None:
        pid = supervisor.begin("user", "list")
        supervisor.finish(pid)
        answer = supervisor.kill(pid)
        assert answer.error.code == NOT_FOUND
        assert supervisor.kill(12345).error.code == NOT_FOUND


def test_commands_that_wait_when_the_end_comes(supervisor: Supervisor, standin: StandIn) -> None:
    standin.hold.clear()
    first = supervisor.begin("user", "list")
    wait_until(lambda: standin.log[-1:] == ["GET /services/acme/users"], "the first one runs")
    second = supervisor.begin("user", "add", "alice", "wonderland")
    supervisor.stdin.close()
    standin.hold.set()
    assert supervisor.wait() == 0
    assert supervisor.finish(first).code == 0
    assert supervisor.finish(second).code == 130
    assert standin.users("acme") == []


def test_networks_are_refused(supervisor: Supervisor) -> None:
    answer = supervisor.answer(supervisor.send(Request(network=CreateNetwork())))
    assert answer.error.code == BAD_REQUEST


def test_unknown_requests_are_refused(supervisor: Supervisor) -> None:
    answer = supervisor.answer(supervisor.send(Request()))
    assert answer.error.code == BAD_REQUEST
    assert supervisor.hello()


@pytest.mark.parametrize(
    ("garbage", "complaint"),
    [
        (b"\xff" * 20, "a length that is no message's"),
        (b"\x80" * 20, "a length that is no message's"),
        (b"\xff\xff\xff\xff\x0f", "a length that is no message's"),
        (b"\x81\x80\x40", "more than 1048576 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n" * 10, "none of the protocol's"),
        (b"\x05\x08", "ends within a message"),
        (b"\x80", "ends within a message"),
        (b"\x02\xff\xff", "none of the protocol's"),
    ],
)
def test_garbage_ends_it(
    supervisor: Supervisor, management: Management, garbage: bytes, complaint: str
) -> None:
    supervisor.run("user", "add", "alice", "wonderland")
    supervisor.stdin.write(garbage)
    supervisor.stdin.close()
    assert supervisor.wait() == 1
    assert complaint in supervisor.stderr
    assert "Traceback" not in supervisor.stderr
    assert management.users("acme") == []


class TestStarting:
    def test_a_service_that_is_there_already(
        self, supervisor: Supervisor, management: Management, workdir: Path
    ) -> None:
        with Supervisor("acme", management.url, workdir) as other:
            assert other.hello()

    def test_another_service_of_this_name(
        self, supervisor: Supervisor, management: Management, tmp_path: Path
    ) -> None:
        changed = tmp_path / "changed"
        changed.mkdir()
        definition = ACME | {"to": "http://127.0.0.1:10001", "description": "other"}
        (changed / "acme.json").write_text(json.dumps(definition))
        with Supervisor(
            "acme", management.url, tmp_path, ["--services-dir", str(changed)]
        ) as other:
            assert other.wait() == 1
            assert "it differs in `to`" in other.stderr

    def test_a_path_that_another_service_has(
        self, supervisor: Supervisor, management: Management, workdir: Path
    ) -> None:
        (workdir / "services" / "other.json").write_text(
            json.dumps(ACME | {"name": "other", "from": "/acme/x"})
        )
        with Supervisor("other", management.url, workdir) as other:
            assert other.wait() == 1
            assert "from: overlaps" in other.stderr

    def test_a_token(self, standin: StandIn, workdir: Path) -> None:
        standin.token = "s3cret-token"
        with Supervisor("acme", standin.url, workdir) as refused:
            assert refused.wait() == 1
            assert "a token is needed (--token-file)" in refused.stderr
            assert "--token-file" in refused.stderr
        file = workdir / "token"
        file.write_text("s3cret-token\n")
        with Supervisor("acme", standin.url, workdir, ["--token-file", str(file)]) as one:
            assert one.run("user", "list").code == 0
        with Supervisor("acme", standin.url, workdir, GATEKEEPER_TOKEN_FILE=str(file)) as one:
            assert one.run("user", "list").code == 0
        file.chmod(0o600)
        (workdir / "gatekeeper" / "state").mkdir(parents=True)
        file.rename(workdir / "gatekeeper" / "state" / "management.token")
        with Supervisor("acme", standin.url, workdir) as one:
            assert one.run("user", "list").code == 0
            assert one.shut_down() == 0

    def test_a_token_that_cannot_be_read(self, standin: StandIn, workdir: Path) -> None:
        options = ["--token-file", str(workdir / "missing")]
        with Supervisor("acme", standin.url, workdir, options) as supervisor:
            assert supervisor.wait() == 1
            assert "missing cannot be read: No such file" in supervisor.stderr
