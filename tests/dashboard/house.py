"""A daemon as operators have one: services, users, cached tokens, and what they ask of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.daemon import PATIENCE, Daemon, wait_until
from tests.origin import Conversation, Origin

CONFIGURATION = """
state_dir = "state"
management = {{ bind = "@management@", auth = "{auth}" }}
usage = {{ flush_interval = 0.2 }}

[[listeners]]
name = "public"
role = "gateway"
bind = "@gateway@"

[checkers.users]
type = "basic"

[checkers.tokens]
type = "exchange"
url = "http://@origin@/exchange"
credential = ["authorization"]

[[services]]
name = "wallet"
from = "/wallet"
to = "http://@origin@"
checkers = ["users"]

[[services]]
name = "models"
from = "/models"
to = "http://@origin@"
checkers = ["tokens"]
"""


def exchange(conversation: Conversation) -> None:
    """Give everybody a token."""
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na-token")


def stream(conversation: Conversation) -> None:
    """Begin an answer that does not end."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    conversation.read(1)


class House:
    """The daemon, its upstream, and whoever asks them."""

    def __init__(self, daemon: Daemon, origin: Origin) -> None:
        self.daemon = daemon
        self.origin = origin

    @property
    def token(self) -> str:
        """The management token."""
        return (self.daemon.state_dir / "management.token").read_text().strip()

    def manage(self, method: str, path: str, document: Any = None) -> Any:
        """Make a call of the management API, as a program does; its answer's document."""
        fields = {"Authorization": f"Bearer {self.token}"} if self.has_token else {}
        if document is not None:
            fields["Content-Type"] = "application/json"
        body = None if document is None else json.dumps(document)
        status, answered = self._ask("management", method, path, body, fields)
        assert status < 300, answered
        return json.loads(answered) if answered else None

    @property
    def has_token(self) -> bool:
        """Whether a token is asked for."""
        return (self.daemon.state_dir / "management.token").exists()

    def add_user(self, name: str, password: str = "secret") -> None:
        """Add a user to the wallet."""
        self.manage("POST", "/v1/services/wallet/users", {"name": name, "password": password})

    def ask(self, path: str, credentials: str = "", password: str = "secret") -> int:
        """Send a request to the gateway: the status. ``credentials`` is a user, or the field."""
        if " " not in credentials:
            pair = b64encode(f"{credentials}:{password}".encode()).decode()
            credentials = f"Basic {pair}"
        return self._ask("gateway", "GET", path, None, {"Authorization": credentials})[0]

    @contextlib.contextmanager
    def streaming(self, user: str) -> Iterator[socket.socket]:
        """A request that goes on: its first bytes have come."""
        pair = b64encode(f"{user}:secret".encode()).decode()
        with socket.create_connection(self.daemon.address("gateway"), PATIENCE) as client:
            lines = ["GET /wallet/stream HTTP/1.1", "Host: x", f"Authorization: Basic {pair}"]
            client.sendall("\r\n".join((*lines, "", "")).encode())
            received = b""
            while not received.endswith(b"hello\r\n"):
                piece = client.recv(4096)
                assert piece, received
                received += piece
            yield client

    def _ask(
        self, name: str, method: str, path: str, body: str | None, fields: dict[str, str]
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.daemon.address(name), timeout=PATIENCE)
        try:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextlib.contextmanager
def running_house(directory: Path, auth: str = "token") -> Iterator[House]:
    """A house that is ready."""
    with Origin() as origin:
        origin.on["/exchange"] = exchange
        origin.on["/stream"] = stream
        configuration = CONFIGURATION.format(auth=auth)
        with Daemon(directory, configuration, ports={"origin": origin.port}) as daemon:
            wait_until(lambda: daemon.management("/readyz")[0] == 200, "it is ready")
            yield House(daemon, origin)
