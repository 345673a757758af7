"""A private nginx, with njs where it is there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.daemon import PATIENCE, wait_until

#: Where Debian's libnginx-mod-http-js puts it.
NJS = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")

_MAIN = """
load_module {njs};
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/http.conf;
}}
"""


def find_nginx() -> Path | None:
    """The program, None where it or njs is missing."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(found) if found and NJS.exists() else None


class Nginx:
    """An nginx of our own in ``directory``; ``http`` is what its http block has inside.

    As a context manager it is started, and stopped. ``port`` is one that it listens on.
    """

    def __init__(self, program: Path, directory: Path, http: str, port: int) -> None:
        self._program = program
        self.directory = directory
        self.port = port
        # Its workers are somebody else where we are root, and could not look in here.
        user = "user root;" if os.getuid() == 0 else ""
        main = _MAIN.format(njs=NJS, directory=directory, user=user)
        (directory / "nginx.conf").write_text(main)
        (directory / "http.conf").write_text(http)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._program, "-p", self.directory, "-c", self.directory / "nginx.conf",
             "-e", self.directory / "error.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.directory / "stderr").open("wb"),
        )  # fmt: skip
        try:
            wait_until(lambda: self._process_ended or self._answers, "nginx listens")
            assert not self._process_ended, self.log
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.log)
        self._stop()

    @property
    def log(self) -> str:
        """What it complains about."""
        names = ("error.log", "stderr")
        files = [self.directory / name for name in names]
        return "".join(file.read_text() for file in files if file.exists())

    @property
    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)
