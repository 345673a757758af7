"""A daemon and an upstream behind it, for hostile clients and hostile upstreams."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from argon2 import PasswordHasher

from tests.daemon import Daemon
from tests.hostile.raw import PATIENCE, Answer, Client
from tests.origin import Origin, Received

#: Cheap to check: it is not the hashing that is tested here.
HASH: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("wonderland")

#: Whoever is in the usage in the end must be one of these.
USERS: Final = frozenset({"alice", "ops"})


def basic(user: str, password: str) -> str:
    """The value of a credential field."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


ALICE: Final = basic("alice", "wonderland")

CONFIGURATION: Final = f"""
state_dir = "state"
management = {{ bind = "@management@" }}

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[[listeners]]
name = "strict"
role = "gateway"
bind = "@strict@"

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = ["users"]
allow = ["@origin@", "@refused@", "*:80", "*:443"]

[checkers.users]
type = "basic"
users = {{ alice = '{HASH}' }}

[[services]]
name = "echo"
from = "/echo"
to = "http://@origin@"
checkers = ["users", "secret://s3cret?user_id=ops"]
listeners = ["gateway"]
open_methods = ["OPTIONS"]

[[services]]
name = "public"
from = "/public"
to = "http://@origin@"
checkers = []
listeners = ["gateway"]

[[services]]
name = "guarded"
from = "/guarded"
to = "http://@origin@/base"
checkers = ["users"]
listeners = ["gateway"]
limits = {{ body = 1000 }}
access = [
    {{ path = "/guarded/open/**", methods = ["GET", "POST"] }},
    {{ path = "/guarded/closed/**", groups = ["nobody"] }},
]

[[services]]
name = "named"
hosts = ["named.test"]
to = "http://@origin@"
checkers = ["users"]
"""


@dataclasses.dataclass(frozen=True)
class Way:
    """How to come to the upstream through one of the doors."""

    address: tuple[str, int]
    prefix: str
    host: str
    credentials: str

    def request(
        self,
        path: str = "/good",
        *fields: str,
        method: str = "GET",
        body: bytes = b"",
        version: str = "HTTP/1.1",
        credentials: bool = True,
    ) -> bytes:
        """A request for a path of the upstream: ``fields`` are lines, after Host."""
        lines = [f"{method} {self.prefix}{path} {version}", f"Host: {self.host}"]
        if credentials:
            lines.append(f"{self.credentials}: {ALICE}")
        return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1") + body

    def connect(self) -> Client:
        """Connect to the door."""
        return Client(self.address)


class House:
    """A running daemon (:data:`CONFIGURATION` and ``more``) with ``origin`` behind it."""

    def __init__(self, daemon: Daemon, origin: Origin) -> None:
        self.daemon = daemon
        self.origin = origin

    @property
    def gateway(self) -> Way:
        """Through the gateway, to the service ``echo``."""
        return Way(self.daemon.address("gateway"), "/echo", "gateway.test", "Authorization")

    @property
    def proxy(self) -> Way:
        """Through the forward proxy, to the same upstream."""
        authority = f"127.0.0.1:{self.origin.port}"
        address = self.daemon.address("proxy")
        return Way(address, f"http://{authority}", authority, "Proxy-Authorization")

    def ask(self, way: Way, data: bytes, method: str = "GET") -> Answer:
        """Send this over a connection of its own, and read one answer."""
        with way.connect() as client:
            client.send(data)
            return client.answer(method)

    def logged(self, answer: Answer) -> dict[str, Any]:
        """The access log's line of the exchange that had this answer."""
        (request_id,) = answer.values("x-request-id")
        return self.daemon.logged(request_id)

    def seen(self) -> list[Received]:
        """What the upstream has got since the last call.

        Good requests are sent, which come behind whatever may still be on its way; they are not
        in the list. Nor is ``/partial``, which is for requests that are cut in the middle: their
        heads may come here at any time.
        """
        for way in (self.gateway, self.proxy):
            answer = self.ask(way, way.request("/last"))
            assert answer.status == 200, answer
        received, self.origin.requests[:] = list(self.origin.requests), []
        return [request for request in received if request.path not in ("/last", "/partial")]

    def refuse(self, way: Way, data: bytes, statuses: Sequence[int] = (400,)) -> Answer:
        """Send what must be refused for good, and more requests behind it.

        There must be one answer that says that it closes the connection, then the end; the
        upstream must have got nothing of it.
        """
        behind = way.request("/smuggled")
        with way.connect() as client:
            client.try_to_send(data + behind)
            answer = client.final_answer()
            client.try_to_send(behind)
        assert answer.status in statuses, answer
        assert self.seen() == []
        return answer


def trickle(client: Client, data: bytes) -> None:
    """Send byte by byte, each in a packet of its own as far as the kernel wants it."""
    for position in range(len(data)):
        client.send(data[position : position + 1])


__all__ = [
    "ALICE", "CONFIGURATION", "HASH", "PATIENCE", "USERS", "House", "Way", "basic", "trickle",
]  # fmt: skip
