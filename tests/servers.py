"""Real servers for the tests: programs of the system, started for one test run."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest


class PostgresServer:
    """A private PostgreSQL on a free port of 127.0.0.1, with nothing in it.

    It runs as an unprivileged user where we are root, for PostgreSQL refuses to serve root. Its
    password needs percent-encoding in a URL. ``fsync`` is off: nothing here is kept.
    """

    user = "gatekeeper"
    password = "p@ss/w#rd?%25:" + secrets.token_hex(4)

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, object] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="gatekeeper-postgres-"))
        if os.getuid() == 0:
            account = _unprivileged()
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._as_user = {
                "user": account.pw_uid,
                "group": account.pw_gid,
                "extra_groups": [],
            }
        self.port = _free_port()

    @staticmethod
    def find_programs() -> Path | None:
        """Return the directory of ``initdb`` and ``postgres``, None where they are missing."""
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
        return newest.parent if newest else None

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database of this server."""
        password = quote(self.password, safe="")
        return f"postgresql://{self.user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, the first time with a new cluster, and wait until it answers."""
        if not (self.directory / "data").exists():
            self._initialize()
        self._process = self._popen(
            "postgres", "-D", str(self.directory / "data"),
            "-c", "listen_addresses=127.0.0.1", "-p", str(self.port),
            "-c", f"unix_socket_directories={self.directory}",
            "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=30",
        )  # fmt: skip
        self._wait_until_it_answers()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: SIGQUIT is ``immediate`` (a crash), SIGINT ``fast``."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def restart(self) -> None:
        """Crash it and start it again on the same port."""
        self.stop()
        self.start()

    def start_again(self) -> None:
        """Start it where it was stopped, let it go on where it hangs."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def pause(self) -> None:
        """Hang: all of its processes stop in mid-instruction, connections stay open."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._signal_all(signal.SIGCONT)

    def destroy(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside of a transaction and return its rows."""
        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _initialize(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # The directory itself is closed to others.
        initdb = self._popen(
            "initdb", "-D", str(self.directory / "data"), "-U", self.user, "--no-sync",
            "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip
        if initdb.wait(timeout=60) != 0:
            raise AssertionError(f"initdb failed:\n{self._log()}")

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(  # type: ignore[no-any-return, call-overload]
                [str(self._programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, "LC_ALL": "C"},
                **self._as_user,
            )

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(self.url(), connect_timeout=5).close()
            except psycopg2.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise AssertionError(f"PostgreSQL does not start:\n{self._log()}") from None
                time.sleep(0.05)
            else:
                return

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        parent = self._process.pid
        # The parent first, so that it does not make more children meanwhile.
        for pid in [parent, *_children(parent)]:
            with contextlib.suppress(ProcessLookupError):  # it may just have ended
                os.kill(pid, number)

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


def _children(parent: int) -> list[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{parent}\n" in status.read_text():
                children.append(int(status.parts[2]))
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has just ended.
    return children


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def running_postgres() -> Iterator[PostgresServer]:
    """For fixtures: a PostgreSQL that runs, and is gone in the end. In CI it must be there."""
    programs = PostgresServer.find_programs()
    if programs is None:
        if "CI" in os.environ:
            pytest.fail("PostgreSQL's programs are missing")
        pytest.skip("PostgreSQL's programs (initdb, postgres) are missing")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.destroy()
