"""A real Redis for the tests, and a line to it that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from tests.daemon import free_port, wait_until


class RedisServer:
    """A private Redis on a free port of 127.0.0.1, which forgets everything when it ends."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="gatekeeper-redis-"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is found, for those who need no password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(self.directory), "--save", "", "--appendonly", "no"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        wait_until(self._answers, "Redis answers")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again, with nothing in it."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def fresh(self) -> None:
        """Let it run, with nothing in it, whatever was done to it."""
        if self._process is None:
            self.start()
        self.resume()
        with self.client() as client:
            client.flushall()

    def destroy(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self) -> Redis:
        """A client of the tests' own, which blocks."""
        return Redis(port=self.port, decode_responses=True)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True


def running_redis(options: Sequence[str] = ()) -> Iterator[RedisServer]:
    """For fixtures: a Redis that runs, and is gone in the end. In CI it must be there."""
    if shutil.which("redis-server") is None:
        if "CI" in os.environ:
            pytest.fail("redis-server is missing")
        pytest.skip("redis-server is missing")
    server = RedisServer(*options)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


class Line:
    """A TCP relay to ``target`` on the running loop; both are ports of 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()

    @property
    def url(self) -> str:
        """Redis by way of this line."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def mend(self) -> None:
        """Let everything through."""
        self._passes.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """End all connections, and take no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)

    def swallow(self) -> None:
        """Let nothing through, and leave the connections open."""
        self._passes.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for source, sink in ((reader, to_writer), (to_reader, writer)):
            task = asyncio.ensure_future(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    await self._passes.wait()
                    sink.write(data)
        finally:
            sink.transport.abort()
