"""A stand-in for the management API: it answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl


class Asked(NamedTuple):
    """A request: ``target`` without its query."""

    method: str
    target: str
    query: dict[str, str]
    token: str | None
    body: Any


class StandIn:
    """Answers by method and target, each answer once, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        self.url = ""

    def answer(self, method: str, target: str, document: Any, status: int = 200) -> None:
        """Answer with this document; with bytes as they are."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        if document is None:
            content = b""
        self._answers.setdefault((method, target), []).append((status, content))

    def refuse(self, method: str, target: str, status: int, detail: str, **errors: str) -> None:
        """Answer with a problem document."""
        document: dict[str, Any] = {"type": "about:blank", "status": status, "detail": detail}
        if errors:
            document["errors"] = [{"field": name, "detail": errors[name]} for name in errors]
        self.answer(method, target, document, status)

    def page(self, target: str, items: list[Any], following: Any = None) -> None:
        """Answer with a part of a list."""
        self.answer("GET", target, {"items": items, "next": following})

    @property
    def only(self) -> Asked:
        """The only request."""
        (asked,) = self.asked
        return asked

    def handle(self, asked: Asked) -> tuple[int, bytes]:
        """Find the answer."""
        self.asked.append(asked)
        answers = self._answers.get((asked.method, asked.target))
        if not answers:
            return 404, b'{"detail": "There is nothing here."}'
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        target, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if body:
            assert self.headers["Content-Type"] == "application/json"
        _, _, token = self.headers.get("Authorization", "").partition("Bearer ")
        asked = Asked(
            self.command,
            target,
            dict(parse_qsl(query)),
            token or None,
            json.loads(body) if body else None,
        )
        status, content = cast(_Server, self.server).stand_in.handle(asked)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    stand_in: StandIn


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(cast(str, self.server_address))


@contextmanager
def standing_in(path: Path | None = None) -> Iterator[StandIn]:
    """A stand-in that listens, on a unix socket if there is a ``path``."""
    stand_in = StandIn()
    if path is None:
        server = _Server(("127.0.0.1", 0), _Handler)
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        server = _UnixServer(cast(Any, str(path)), _Handler)
        stand_in.url = f"unix:{path}"
    server.stand_in = stand_in
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
