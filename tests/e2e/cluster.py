"""Two nodes with two workers each that share a Redis and a PostgreSQL, and who comes to them."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from gatekeeper.auth.token_exchange import fingerprint
from tests.auth.redis_server import RedisServer
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import doors
from tests.faults.relay import Relay
from tests.hostile.issuers import AuthServer
from tests.hostile.raw import Answer, BrokenTransferError, Client
from tests.origin import Conversation, Origin
from tests.process.crew import metric, one_at_each

#: Seconds that entries of the zone ``brief`` live.
BRIEF: Final = 2.0

#: Processes of a node that follow Redis: the workers, and the supervisor for its operators.
FOLLOWERS: Final = 3

_CONFIGURATION: Final = f"""
state_dir = "state"
workers = 2
store = {{ url = "STORE" }}
management = {{ bind = "@management@", metrics = "open" }}
cache = {{ url = "redis://@redis@/0", on_outage = "ON_OUTAGE" }}
usage = {{ flush_interval = 0.2 }}
timeouts = {{ drain = 2.0 }}

{doors("tokens", "@origin@")}
[checkers.tokens]
type = "exchange"
url = "http://@auth@/auth"
timeout = 30.0

[checkers.users]
type = "basic"

[checkers.brief]
type = "exchange"
url = "http://@auth@/auth"
zone = "brief"
ttl = {BRIEF}

[[services]]
name = "api"
from = "/api"
to = "http://@origin@"
checkers = ["tokens"]

[[services]]
name = "brief"
from = "/brief"
to = "http://@origin@"
checkers = ["brief"]

[[services]]
name = "members"
from = "/members"
to = "http://@origin@"
checkers = ["users"]
"""

_numbers: Final = itertools.count(1)


class Caller:
    """Somebody who asks for ``path``. The auth tier knows the credential, and nobody else yet."""

    def __init__(self, auth: AuthServer, path: str = "/api/x", credential: str = "") -> None:
        number = next(_numbers)
        self.credential = credential or f"Bearer caller-{number}"
        self.token = f"token-of-{number}"
        self.key = fingerprint(self.credential.encode())
        self._path = path
        self._auth = auth
        auth.tokens[self.credential] = self.token

    @property
    def asked(self) -> int:
        """How often the auth tier was asked for a token."""
        asked = (each.values("x-userinfo") for each in self._auth.requests.copy())
        return sum(credential == [self.credential] for credential in asked)

    def begin(self, client: Client) -> None:
        """Make a request, whose answer is still to be read."""
        client.send(self._head(f"GET {self._path}", "x", "Authorization"))

    def ask(self, client: Client) -> Answer:
        """Make a request."""
        self.begin(client)
        return client.answer()

    def status(self, client: Client) -> int:
        """Make a request: the answer's status."""
        return self.ask(client).status

    def stream(self, client: Client) -> Client:
        """Begin a body that does not end by itself."""
        client.send(self._head("GET /api/stream", "x", "Authorization"))
        assert client.head().status == 200
        assert client.read(10) == b"5\r\nhello\r\n"
        return client

    def socket(self, client: Client) -> Client:
        """Open a WebSocket; see :func:`is_open`."""
        lines = ("Connection: Upgrade", "Upgrade: websocket")
        client.send(self._head("GET /api/socket", "x", "Authorization", *lines))
        assert client.head().status == 101
        return client

    def tunnel(self, client: Client, origin: Origin) -> Client:
        """Open a tunnel with a WebSocket in it, which the proxy knows nothing of."""
        place = f"127.0.0.1:{origin.port}"
        client.send(self._head(f"CONNECT {place}", place, "Proxy-Authorization"))
        assert client.head().status == 200
        client.send(f"GET /socket HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert client.head().status == 101
        return client

    def _head(self, what: str, host: str, field: str, *lines: str) -> bytes:
        head = [f"{what} HTTP/1.1", f"Host: {host}", f"{field}: {self.credential}", *lines, "", ""]
        return "\r\n".join(head).encode()


class SlowServer(AuthServer):
    """Takes its time for whoever is in ``slow``, until ``answer`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: set[str] = set()
        self.answer = threading.Event()

    def _exchange(self, conversation: Conversation) -> None:
        if self.slow.intersection(conversation.request.values("x-userinfo")):
            self.answer.wait(PATIENCE)
        super()._exchange(conversation)


class Node(Daemon):
    """One of them. ``relay`` is its way to Redis."""

    def __init__(self, directory: Path, configuration: str, relay: Relay, **ports: int) -> None:
        super().__init__(directory, configuration, ports={"redis": relay.port, **ports})
        self.relay = relay

    def cache(self, name: str, zone: str = "tokens") -> float:
        """What a metric of the token cache says: a sum over the processes, or the worst."""
        return metric(self, f"gatekeeper_token_cache_{name}", zone=zone)

    @property
    def is_there(self) -> bool:
        """Whether all of its processes know what others have changed."""
        known = [self.cache("caught_up", zone) for zone in ("tokens", "brief")]
        return known == [1, 1] and self.management("/readyz")[0] == 200

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """In here it is cut off from Redis; afterwards all of its processes have noticed."""
        before = self.cache("outages_total")
        yield
        wait_until(lambda: self.cache("outages_total") >= before + FOLLOWERS, "they notice")
        assert self.cache("caught_up") == 0

    def operate(self, method: str, path: str, document: Any = None) -> int:
        """Make a call of the management: the status."""
        token = (self.state_dir / "management.token").read_text().strip()
        fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(*self.address("management"), timeout=PATIENCE)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def change(self, caller: Caller, value: str | None) -> int:
        """Change a caller's entry, as nginx's operators do: the status."""
        return self.operate("PATCH", "/api/8/http/keyvals/tokens/", {caller.key: value})


class Cluster:
    """``here`` refuses while it is cut off from Redis, ``there`` answers from what it has."""

    def __init__(
        self, directory: Path, store: str, redis: RedisServer, auth: SlowServer, origin: Origin
    ) -> None:
        self.redis = redis
        self.auth = auth
        self.origin = origin
        self._ports = {"auth": auth.port, "origin": origin.port}
        self.here = self._node(directory / "here", store, "refuse")
        self.there = self._node(directory / "there", store, "serve")
        self.nodes = (self.here, self.there)

    def _node(self, directory: Path, store: str, on_outage: str) -> Node:
        text = _CONFIGURATION.replace("STORE", store).replace("ON_OUTAGE", on_outage)
        return Node(directory, text, Relay(self.redis.port, ()), **self._ports)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Both run."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node.relay)
                stack.enter_context(node)
            yield self

    def settle(self) -> None:
        """Mend what was cut, and wait until both have noticed."""
        for node in self.nodes:
            node.relay.mend()
        for node in self.nodes:
            wait_until(lambda node=node: node.is_there, "it has caught up")  # type: ignore[misc]

    @contextmanager
    def connections(self, listener: str = "gateway") -> Iterator[list[Client]]:
        """One to each worker: two to those here, and two to those there."""
        with ExitStack() as stack:
            clients = [each for node in self.nodes for each in one_at_each(node, listener)]
            for client in clients:
                stack.enter_context(client)
            yield clients


class Watch(threading.Thread):
    """Makes a caller's requests over one connection until one of them is answered with ``last``.

    ``statuses`` are those that came, without repetitions, and ``since`` says when each of them came
    first. One that is cut while it runs is refused, too; nothing is asked after that.
    """

    def __init__(self, caller: Caller, client: Client, last: int) -> None:
        super().__init__(daemon=True)
        self.statuses: list[int] = []
        self.since: list[float] = []
        self._caller = caller
        self._client = client
        self._last = last
        self.start()
        wait_until(lambda: self.statuses, "an answer")

    def run(self) -> None:
        """Called in a thread of its own."""
        give_up_at = time.monotonic() + PATIENCE
        while self._last not in self.statuses and time.monotonic() < give_up_at:
            try:
                status = self._caller.status(self._client)
            except BrokenTransferError:
                give_up_at, status = 0.0, max(self._last, 401)
            if status not in self.statuses[-1:]:
                self.since.append(time.monotonic())
                self.statuses.append(status)
            time.sleep(0.005)

    def end(self) -> float:
        """Wait until the last one has come: when that was."""
        self.join(PATIENCE)
        assert self.statuses[-1] == self._last, self.statuses
        return self.since[-1]


def watch(caller: Caller, clients: Sequence[Client], last: int) -> list[Watch]:
    """Watch all of these at once."""
    return [Watch(caller, client, last) for client in clients]


def is_open(client: Client) -> bool:
    """Whether a WebSocket still echoes."""
    client.send(b"x")
    return client.read(1) == b"x"
