"""All that the compose file starts, as processes of this machine instead of containers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.auth.redis_server import RedisServer, running_redis
from tests.cluster.example import CLUSTER, CONFIGURATION, HAPROXY, NODES, SERVICES, replaced
from tests.daemon import PATIENCE, ROOT, Daemon, free_port, wait_until
from tests.servers import PostgresServer


class House:
    """Two nodes, HAProxy, Redis and the application, in ``directory``, with a PostgreSQL.

    Commands and configurations are the example's; only names, ports and directories are others.
    """

    redis: RedisServer

    def __init__(self, directory: Path, secrets: Path, postgres: PostgresServer) -> None:
        self.directory = directory
        self.secrets = Path(shutil.copytree(secrets, directory / "secrets"))
        self.postgres = postgres
        self.ports = {name: free_port() for name in ("app", "https", "health")}
        configuration = replaced(
            CONFIGURATION,
            {
                '"/var/lib/gatekeeper"': '"state"',
                "/run/secrets": str(self.secrets),
                "0.0.0.0:6668": "@management@",
                "0.0.0.0:8080": "@gateway@",
                "app:8000": f"127.0.0.1:{self.ports['app']}",
                "172.30.0.0/24": "127.0.0.0/8",
            },
        )
        self.nodes = [Daemon(directory / name, configuration) for name in NODES]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything runs."""
        with ExitStack() as stack:
            self.redis = stack.enter_context(self._redis())
            self._write("store_url", lambda _: self.postgres.create_database())
            here = f"127.0.0.1:{self.redis.port}"
            self._write("cache_url", lambda text: replaced(text, {"redis:6379": here}))
            stack.enter_context(self._app())
            first, second = self.nodes
            first.spawn()  # both at once find a database with nothing in it
            stack.push(first)
            stack.enter_context(second)
            wait_until(lambda: "is ready" in first.log, "the other one is ready, too")
            stack.enter_context(self._haproxy())
            yield

    # --- what operators and clients do ----------------------------------------------------

    def command(self, node: Daemon, *words: str, stdin: str = "") -> str:
        """``docker compose exec -T NODE gatekeeper WORDS``: what it prints."""
        command = [sys.executable, "-m", "gatekeeper", *words]
        done = subprocess.run(
            command,
            env={**os.environ, "GATEKEEPER_CONFIG": str(node.config_file)},
            input=stdin,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def healthy(self, service: str, by: dict[str, str]) -> bool:
        """What the container's health check says, with its ports replaced."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        for theirs, ours in by.items():
            assert any(theirs in word for word in words)
            words = [word.replace(theirs, ours) for word in words]
        if kind == "CMD-SHELL":
            words = ["sh", "-c", *words]
        elif words[0] == "python":
            words[0] = sys.executable
        programs = f"{os.environ['PATH']}:{PostgresServer.find_programs()}"
        environment = {**os.environ, "PATH": programs, "PGPORT": str(self.postgres.port)}
        checked = subprocess.run(words, env=environment, capture_output=True, timeout=PATIENCE)
        return checked.returncode == 0

    # --- what runs beside the nodes -------------------------------------------------------

    @property
    def balancer_log(self) -> str:
        """What HAProxy has said."""
        return (self.directory / "haproxy.log").read_text()

    def wait_for(self, sign: str) -> None:
        """Wait until HAProxy has said this."""
        wait_until(lambda: sign in self.balancer_log, f"HAProxy says {sign}")

    @contextmanager
    def _redis(self) -> Iterator[RedisServer]:
        program, flag, directory, *options = SERVICES["redis"]["command"]
        assert (program, flag, directory) == ("redis-server", "--dir", "/data")
        options = [each.replace("/run/secrets", str(self.secrets)) for each in options]
        yield from running_redis(options)

    @contextmanager
    def _app(self) -> Iterator[None]:
        program, file, bind = SERVICES["app"]["command"]
        assert (program, file, bind) == ("python", "/app/app.py", "0.0.0.0:8000")
        address = f"127.0.0.1:{self.ports['app']}"
        with self._process([sys.executable, str(CLUSTER / "app" / "app.py"), address], "app.log"):
            port = {"8000": str(self.ports["app"])}
            wait_until(lambda: self.healthy("app", port), "the application listens")
            yield

    @contextmanager
    def _haproxy(self) -> Iterator[None]:
        text = replaced(
            HAPROXY,
            {
                "/run/secrets": str(self.secrets),
                "maxconn 20000": "maxconn 100",
                "bind :8443": f"bind 127.0.0.1:{self.ports['https']}",
                "bind 127.0.0.1:8404": f"bind 127.0.0.1:{self.ports['health']}",
                # One port of all nodes there is one of each here.
                "check port 6668": "check",
                **{
                    f"{name}:8080\n": f"127.0.0.1:{node.port('gateway')} port "
                    f"{node.port('management')}\n"
                    for name, node in zip(NODES, self.nodes, strict=True)
                },
            },
        )
        file = self.directory / "haproxy.cfg"
        file.write_text(text)
        with self._process(["haproxy", "-W", "-db", "-f", str(file)], "haproxy.log"):
            port = {"8404": str(self.ports["health"])}
            wait_until(lambda: self.healthy("balancer", port), "HAProxy listens")
            yield

    @contextmanager
    def _process(self, command: list[str], log: str) -> Iterator[None]:
        with (self.directory / log).open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()

    def _write(self, name: str, change: Any) -> None:
        file = self.secrets / name
        file.chmod(0o600)
        file.write_text(change(file.read_text()))


def find_haproxy() -> None:
    """Skip the test where there is no HAProxy, but not in CI."""
    if shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("haproxy is missing")
        pytest.skip("haproxy is missing")
