"""SIGUSR2: another process of the program takes over, and nobody who asks notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon import Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.e2e.test_e2e_reload import ALICE, Download, accepts, ask, request
from tests.hostile.raw import BrokenTransferError, Client
from tests.origin import Origin
from tests.process.crew import is_there
from tests.process.load import SteadyLoad
from tests.process.upgrading import serving, upgrade, wait_for_the_end


def wait_for_answers(load: SteadyLoad, more: int = 200) -> None:
    served = load.complete + more
    wait_until(lambda: load.complete > served, f"{more} answers; {load.failed}")


@pytest.mark.parametrize("kind", ["foreground", "background with TLS"])
def test_not_one_request_fails(tmp_path: Path, authority: Authority, kind: str) -> None:
    """Under load, twice; and usage counts what was answered, to the last request."""
    configuration, context = PLAIN, None
    is_daemonized = "background" in kind
    if "TLS" in kind:
        issued = authority.issue("127.0.0.1")
        tls = f'{{ certificate = "{issued.certificate}", key = "{issued.key}" }}'
        configuration = PLAIN.replace('bind = "@gateway@"', f'bind = "@gateway@"\ntls = {tls}')
        configuration += "\n[timeouts]\nhead = 1.0\n"  # and so for a handshake
        context = authority.client_context()
    daemon = Daemon(tmp_path, configuration, daemonized=is_daemonized)
    with SteadyLoad(daemon.port("gateway"), ALICE, context=context) as load:
        daemon.ports["origin"] = load.origin_port
        daemon.configure(configuration)
        with serving(daemon):
            load.begin()
            first = daemon.pid
            for _ in range(2):
                wait_for_answers(load)
                wait_for_the_end(upgrade(daemon))
            wait_for_answers(load)
            load.stop()
            assert daemon.pid != first
            assert load.failed == {}
            assert load.last_answers >= 20  # who has kept a connection was told to come again
    assert {row["path"]: row["requests"] for row in daemon.usage()} == {"/echo/x": load.complete}
    assert daemon.log.count("has taken over") == 2


def test_what_runs_is_finished_by_the_process_that_has_begun_it(
    tmp_path: Path, origin: Origin
) -> None:
    download = Download(origin)
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with (
        serving(daemon),
        Client(daemon.address("gateway")) as busy,
        Client(daemon.address("gateway")) as idle,
    ):
        assert ask(idle, "/echo/x", ALICE).status == 200
        download.begin(busy)
        old = upgrade(daemon)
        with Client(daemon.address("gateway")) as fresh:
            assert ask(fresh, "/echo/x", ALICE).status == 200
        idle.send(request("/echo/x", ALICE))
        assert idle.final_answer().status == 200
        # The management is the new one's alone.
        assert daemon.management("/readyz")[0] == 200
        assert is_there(old)
        os.kill(old, signal.SIGHUP)
        os.kill(old, signal.SIGUSR2)
        assert is_there(old)
        download.finish(busy)
        assert busy.rest() == b""
        wait_for_the_end(old)
    usage = {row["path"]: row["requests"] for row in daemon.usage()}
    assert usage == {"/echo/x": 3, "/echo/slow": 1}


def test_a_configuration_that_is_wrong(tmp_path: Path, origin: Origin) -> None:
    """The old one goes on as if nothing had happened."""
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with serving(daemon), Client(daemon.address("gateway")) as client:
        assert ask(client, "/echo/x", ALICE).status == 200
        daemon.configure(PLAIN.replace('from = "/echo"', 'from = "echo"'))
        os.kill(daemon.pid, signal.SIGUSR2)
        wait_until(lambda: "No upgrade" in daemon.log, "it is told")
        assert "services[0].from: must be a path" in daemon.stderr
        assert int(daemon.pid_file.read_text()) == daemon.pid
        assert ask(client, "/echo/x", ALICE).status == 200
        assert daemon.management("/readyz")[0] == 200
        # And it is possible when it is right again, which it is with other listeners, too.
        moved = PLAIN.replace("@proxy@", "@elsewhere@")
        daemon.configure(moved)
        upgrade(daemon)
        client.send(request("/echo/x", ALICE))
        assert client.final_answer().status == 200
        with Client(daemon.address("elsewhere")) as proxied:
            assert ask(proxied, f"{origin.url}/x", f"Proxy-{ALICE}").status == 200
        with pytest.raises(ConnectionRefusedError):
            Client(daemon.address("proxy"))


def test_the_successor_cannot_begin(tmp_path: Path, origin: Origin) -> None:
    """After it was let: the old one serves on, and operators reach it again."""
    tokens = '[checkers.tokens]\ntype = "exchange"\nurl = "http://@origin@/"\n'
    daemon = Daemon(tmp_path, PLAIN + tokens, ports={"origin": origin.port})
    with (
        serving(daemon, something_fails=True),
        Client(daemon.address("gateway")) as client,
    ):
        # Who is shut out has to be known before anybody is let in.
        (daemon.state_dir / "revoked-tokens.jsonl").mkdir()
        os.kill(daemon.pid, signal.SIGUSR2)
        wait_until(lambda: "No upgrade" in daemon.log, "it is told")
        assert "Cannot start: state_dir" in daemon.log
        assert ask(client, "/echo/x", ALICE).status == 200
        wait_until(lambda: accepts(daemon, "management"), "the management is there again")
        assert daemon.management("/readyz")[0] == 200
        assert int(daemon.pid_file.read_text()) == daemon.pid
        (daemon.state_dir / "revoked-tokens.jsonl").rmdir()
        upgrade(daemon)
        client.send(request("/echo/x", ALICE))
        assert client.final_answer().status == 200


def test_the_successor_is_killed_on_its_way(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with serving(daemon), Client(daemon.address("gateway")) as client:
        assert ask(client, "/echo/x", ALICE).status == 200
        before = children(daemon.pid)
        os.kill(daemon.pid, signal.SIGUSR2)
        wait_until(lambda: children(daemon.pid) - before, "the successor")
        (successor,) = children(daemon.pid) - before
        os.kill(successor, signal.SIGKILL)
        wait_until(lambda: "No upgrade" in daemon.log, "it is told")
        assert ask(client, "/echo/x", ALICE).status == 200
        assert daemon.management("/readyz")[0] == 200
        assert int(daemon.pid_file.read_text()) == daemon.pid


def children(pid: int) -> set[int]:
    """The processes that one has started."""
    text = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text()
    return set(map(int, text.split()))


def test_the_old_one_is_killed_while_it_finishes(tmp_path: Path, origin: Origin) -> None:
    """What it had written down, and not brought into the store, the new one brings there."""
    configuration = PLAIN.replace("flush_interval = 0.2", "flush_interval = 60.0")
    download = Download(origin)
    daemon = Daemon(tmp_path, configuration, ports={"origin": origin.port})
    with (
        serving(daemon),
        Client(daemon.address("gateway")) as client,
        Client(daemon.address("gateway")) as busy,
    ):
        for _ in range(5):
            assert ask(client, "/echo/x", ALICE).status == 200
        download.begin(busy)
        old = upgrade(daemon)
        assert list((daemon.state_dir / "journal").glob("*.journal"))
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: "5 usage records of an earlier run" in daemon.log, "they are found")
        download.release()
    assert {row["path"]: row["requests"] for row in daemon.usage()} == {"/echo/x": 5}


@pytest.mark.parametrize("how", ["its time is over", "SIGTERM"])
def test_the_old_one_does_not_stay_for_ever(tmp_path: Path, origin: Origin, how: str) -> None:
    """What is cut is usage all the same."""
    download = Download(origin)
    seconds = "upgrade = 0.5" if how == "its time is over" else "drain = 0.5"
    configuration = f"{PLAIN}\n[timeouts]\n{seconds}\n"
    daemon = Daemon(tmp_path, configuration, ports={"origin": origin.port})
    with serving(daemon), Client(daemon.address("gateway")) as busy:
        download.begin(busy)
        old = upgrade(daemon)
        if how == "SIGTERM":
            os.kill(old, signal.SIGTERM)
        with pytest.raises(BrokenTransferError):
            busy.answer()
        wait_for_the_end(old)
        assert daemon.management("/readyz")[0] == 200
        download.release()
    assert {line["reason"] for line in daemon.access_log()} == {"shutdown"}
    assert {row["path"]: row["requests"] for row in daemon.usage()} == {"/echo/slow": 1}


def test_a_stranger_is_refused_while_two_are_there(tmp_path: Path, origin: Origin) -> None:
    download = Download(origin)
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with serving(daemon), Client(daemon.address("gateway")) as busy:
        download.begin(busy)
        upgrade(daemon)
        elsewhere = PLAIN.replace('"state"', f'"{daemon.state_dir}"')
        stranger = Daemon(tmp_path / "stranger", elsewhere, ports={"origin": origin.port})
        status, message = stranger.refuse_to_start()
        assert status != 0
        assert "another gatekeeper uses it" in message
        download.finish(busy)


def test_the_managements_unix_socket(tmp_path: Path, origin: Origin) -> None:
    file = tmp_path / "management.sock"
    configuration = PLAIN.replace("@management@", f"unix:{file}")
    daemon = Daemon(tmp_path, configuration, ports={"origin": origin.port})
    with serving(daemon):
        inode = file.stat().st_ino
        for _ in range(2):
            wait_for_the_end(upgrade(daemon))
            with Client(daemon.address("gateway")) as client:
                assert ask(client, "/echo/x", ALICE).status == 200
            assert file.stat().st_ino == inode
    assert not file.exists()
