"""A supervisor: it starts the runtime program, and speaks the protocol with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from gatekeeper.golem.protos.runtime_pb2 import (
    Hello,
    KillProcess,
    ProcessStatus,
    Request,
    Response,
    RunProcess,
    Shutdown,
)
from tests.daemon import PATIENCE, ROOT, wait_until

PROGRAM = (sys.executable, "-m", "gatekeeper.golem.runtime")


def environment(**more: str) -> dict[str, str]:
    """Of a machine on which nothing is known of Golem."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("XDG_", "GATEKEEPER_", "MANAGEMENT_"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"} | more


def run_program(
    *arguments: str | Path, directory: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=directory,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


class Ran(NamedTuple):
    """What became of a command."""

    code: int
    stdout: Any
    stderr: str


class Supervisor:
    """A started runtime. As a context manager it is ended, if a test has not done so."""

    def __init__(
        self, name: str, url: str, directory: Path, options: Sequence[str] = (), **more: str
    ) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "--workdir", str(directory), *options, name, "start"],
            cwd=directory,
            env=environment(MANAGEMENT_API_URL=url, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(directory / "stderr").open("wb"),
        )
        self.directory = directory
        self.responses: list[Response] = []
        self.rest: bytes | None = None
        self._id = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    # --- what it says ---------------------------------------------------------------------

    def _read(self) -> None:
        """Read until the end. All of it must be protocol."""
        stream = cast(BytesIO, self.process.stdout)
        while (response := parse_length_prefixed(Response, stream)) is not None:
            self.responses.append(response)
        self.rest = stream.read()

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def answer(self, number: int) -> Response:
        """The answer to a request; there is one, and it is no event."""
        found: list[Response] = []

        def has_come() -> bool:
            found[:] = [r for r in self.responses if r.id == number and not r.event]
            return bool(found) or self.rest is not None

        wait_until(has_come, f"an answer: {self.stderr}")
        assert len(found) == 1, self.stderr
        return found[0]

    def statuses(self, pid: int) -> list[ProcessStatus]:
        """What came of a process, until now."""
        return [
            r.status
            for r in self.responses
            if r.event and r.WhichOneof("command") == "status" and r.status.pid == pid
        ]

    @property
    def counters(self) -> list[float]:
        """The values of the counter until now."""
        values = []
        for response in list(self.responses):
            if response.event and response.WhichOneof("command") == "rt_status":
                assert response.rt_status.counter.name == "http-auth.requests"
                values.append(response.rt_status.counter.value)
        return values

    def wait_for_count(self, value: float) -> None:
        """Wait until this many requests have been told."""
        wait_until(lambda: self.counters[-1:] == [value], f"{value}: {self.counters}")

    def wait(self) -> int:
        """Wait for the end: the exit status. Nothing but protocol was said."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.rest == b""
        return status

    # --- what it is told ------------------------------------------------------------------

    @property
    def stdin(self) -> BinaryIO:
        assert self.process.stdin is not None
        return cast(BinaryIO, self.process.stdin)

    def send(self, request: Request) -> int:
        """Send a request, with a number of its own."""
        self._id += 1
        request.id = self._id
        content = BytesIO()
        serialize_length_prefixed(request, content)
        self.stdin.write(content.getvalue())
        self.stdin.flush()
        return self._id

    def hello(self) -> str:
        """Say hello: the version."""
        return self.answer(self.send(Request(hello=Hello(version="0.2.0")))).hello.version

    def begin(self, *words: str) -> int:
        """Start a command as exe-units do: the pid."""
        run = RunProcess(bin=words[0], args=words)
        answer = self.answer(self.send(Request(run=run)))
        assert answer.WhichOneof("command") == "run"
        return answer.run.pid

    def finish(self, pid: int) -> Ran:
        """Wait until a command has ended."""
        wait_until(
            lambda: any(not status.running for status in self.statuses(pid)),
            f"{pid}: {self.stderr}",
        )
        first, *outputs, last = self.statuses(pid)
        assert first == ProcessStatus(pid=pid, running=True)
        assert all(status.running for status in outputs)
        assert last == ProcessStatus(pid=pid, return_code=last.return_code)
        stdout = b"".join(status.stdout for status in outputs)
        stderr = b"".join(status.stderr for status in outputs).decode()
        return Ran(last.return_code, json.loads(stdout) if stdout else None, stderr)

    def run(self, *words: str) -> Ran:
        """Run a command to its end."""
        return self.finish(self.begin(*words))

    def kill(self, pid: int, signal: int = 15) -> Response:
        """Kill a command: the answer."""
        return self.answer(self.send(Request(kill=KillProcess(pid=pid, signal=signal))))

    def shut_down(self) -> int:
        """Ask for the end, and wait for it: the exit status."""
        number = self.send(Request(shutdown=Shutdown()))
        status = self.wait()
        assert self.answer(number).WhichOneof("command") == "shutdown"
        return status
