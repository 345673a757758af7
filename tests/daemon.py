"""The real daemon: a ``twistd`` process with a configuration, a log, and a pid."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parents[1]

#: How ``coverage`` tells a process that it is to be measured.
MEASURED = "COVERAGE_PROCESS_CONFIG"

#: Seconds that anything may take before a test gives up. Nothing waits so long when all is well.
PATIENCE = 30.0

_PLACEHOLDER = re.compile(r"@([a-z_0-9]+)@")


#: Ports below those that the kernel gives to outgoing connections; each of the processes that
#: tests run in has some of its own, or two of them would find the same one free.
_EACH = 1_500
_FIRST = 20_000 + _EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw7")[2:]) % 8)
_given: deque[int] = deque(maxlen=_EACH // 2)


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that nobody has, and nobody was given a while ago: it may still be to begin."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.randrange(_FIRST, _FIRST + _EACH)
        if port in _given:
            continue
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            _given.append(port)
            return port


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until something is true; fail with ``what`` where it does not become so."""
    give_up_at = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(0.02)


class Daemon:
    """A gatekeeper of our own, in ``directory``.

    In ``configuration`` (TOML) ``@NAME@`` stands for an address with a free port, the same wherever
    the name is the same; ``ports`` are those that are known. ``wrapper`` is a command that the
    daemon's follows, and that becomes it; ``environment`` is added to its own, ``inherits`` are
    descriptors that it gets. As a context manager it is started, and stopped with all that
    :meth:`stop` checks.
    """

    #: What ``twistd`` is to run, and what runs ``twistd``.
    service = "gatekeeper"
    program = "from twisted.scripts.twistd import run; run()"

    def __init__(
        self,
        directory: Path,
        configuration: str,
        *,
        daemonized: bool = False,
        ports: Mapping[str, int] | None = None,
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] = {},
    ) -> None:
        self.directory = directory
        self.daemonized = daemonized
        self.ports = dict(ports or {})
        self.wrapper = wrapper
        self.environment = dict(environment)
        self.inherits: Sequence[int] = ()
        directory.mkdir(parents=True, exist_ok=True)
        self.config_file = directory / "gatekeeper.toml"
        self.pid_file = directory / "twistd.pid"
        self.log_file = directory / "twistd.log"
        self.configure(configuration)
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.show()
            self.kill()

    # --- its configuration ----------------------------------------------------------------

    def configure(self, configuration: str) -> None:
        """Write the configuration file."""
        text = _PLACEHOLDER.sub(lambda found: f"127.0.0.1:{self.port(found[1])}", configuration)
        self.config_file.write_text(text)

    def port(self, name: str) -> int:
        """The port that ``@name@`` stands for."""
        if name not in self.ports:
            port = free_port()
            while port in self.ports.values():
                port = free_port()
            self.ports[name] = port
        return self.ports[name]

    def address(self, name: str) -> tuple[str, int]:
        """The address that ``@name@`` stands for."""
        return "127.0.0.1", self.port(name)

    def url(self, name: str, path: str = "") -> str:
        """A URL of ``@name@``, without TLS."""
        return f"http://127.0.0.1:{self.port(name)}{path}"

    @property
    def state_dir(self) -> Path:
        """Where it keeps its files, as the tests' configurations say."""
        return self.directory / "state"

    # --- its life -------------------------------------------------------------------------

    def spawn(self, *options: str) -> subprocess.Popen[bytes]:
        """Begin to start it: ``twistd`` with ``options`` of its own."""
        command = [*self.wrapper, sys.executable, "-c", self.program, f"--pidfile={self.pid_file}"]
        command += [f"--logfile={self.log_file}"] if self.daemonized else ["--nodaemon"]
        command += [*options, self.service, "--config", str(self.config_file)]
        self.process = subprocess.Popen(
            command,
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONFAULTHANDLER": "1",
                **self.environment,
            },
            pass_fds=self.inherits,
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "stdout").open("wb"),
            stderr=(self.directory / "stderr").open("wb"),
        )
        self.pid = self.process.pid
        return self.process

    def start(self, *options: str) -> None:
        """Start it, and wait until it says that it is ready."""
        process = self.spawn(*options)
        if self.daemonized:
            assert process.wait(PATIENCE) == 0, self.stderr
            wait_until(self.pid_file.exists, "the pid file")
            self.pid = int(self.pid_file.read_text())
        wait_until(lambda: "is ready" in self.log or not self.is_running, "the daemon is ready")
        assert self.is_running, f"it has ended:\n{self.stderr}{self.log}"

    def refuse_to_start(self, *options: str) -> tuple[int, str]:
        """Start what cannot be started: its exit status, and what it says on standard error."""
        status = self.spawn(*options).wait(PATIENCE)
        return status, self.stderr

    def terminate(self) -> None:
        """Ask it to stop."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait until it has stopped, and check that nothing went wrong in its life."""
        wait_until(lambda: not self.is_running, f"the daemon stops:\n{self.log}", patience)
        if not self.daemonized:
            assert self.process is not None
            assert self.process.returncode == 0, self.log
        assert f"{self.service} has stopped" in self.log
        assert not self.pid_file.exists()
        self.check_log()

    def stop(self, patience: float = PATIENCE) -> None:
        """Stop it with SIGTERM; see :meth:`wait`."""
        try:
            if self.is_running:
                self.terminate()
            self.wait(patience)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.pid and self.is_running:
            os.kill(self.pid, signal.SIGKILL)
            wait_until(lambda: not self.is_running, "the end")

    def show(self) -> None:
        """Print what it says, and what its threads are doing, for whoever looks for an error."""
        if self.is_running:
            os.kill(self.pid, signal.SIGABRT)
            wait_until(lambda: not self.is_running, "the end")
        print(self.log, self.stderr)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        if self.process is not None and self.process.pid == self.pid:
            return self.process.poll() is None
        try:
            # An orphan that nobody has waited for yet has ended, too.
            return (Path("/proc") / str(self.pid) / "stat").read_text().rsplit(")")[-1][1] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    # --- what it says ---------------------------------------------------------------------

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """What it has complained about."""
        return (self.directory / "stderr").read_text()

    @property
    def log(self) -> str:
        """The log so far."""
        file = self.log_file if self.daemonized else self.directory / "stdout"
        return file.read_text() if file.exists() else ""

    def check_log(self) -> None:
        """Fail where something went wrong that nobody foresaw."""
        said = self.log + self.stderr
        for sign in ("Traceback", "Unhandled", "#critical", "exception was never retrieved"):
            assert sign not in said, said

    def access_log(self) -> list[dict[str, Any]]:
        """The lines of the access log so far."""
        file = self.state_dir / "access.log"
        text = file.read_text() if file.exists() else ""
        # The last line may be half written.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def logged(self, request_id: str) -> dict[str, Any]:
        """The access log's line of one exchange, which is written just after the answer."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.access_log() if line["id"] == request_id]
            return bool(found)

        wait_until(look, f"a line of {request_id} in the access log")
        (line,) = found
        return line

    def management(self, path: str) -> tuple[int, Any]:
        """Ask the management: status, and the answer's document."""
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(self.url("management", path), timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)

    # --- what it keeps and uses -----------------------------------------------------------

    def usage(self, *options: str) -> list[dict[str, Any]]:
        """What ``gatekeeper usage`` reports, of any store. It is not measured: others do that."""
        command = [sys.executable, "-m", "gatekeeper", "usage", "--config", str(self.config_file)]
        reported = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != MEASURED},
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        rows: list[dict[str, Any]] = json.loads(reported.stdout)
        return rows

    @property
    def peak_memory(self) -> int:
        """The most memory that it has had so far, in bytes."""
        status = (Path("/proc") / str(self.pid) / "status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024
