"""One daemon with every kind of checker: each is all that a service and a forward proxy have."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.auth.token_exchange import fingerprint
from tests.auth.signing import ISSUER, RSA, sign
from tests.auth.support import KEY, OTHER_KEY, token
from tests.authority import Authority
from tests.daemon import Daemon
from tests.hostile.house import ALICE, HASH
from tests.hostile.issuers import (
    CIPHER_KEY,
    KEY_SET,
    LATER,
    AuthServer,
    KnowingService,
    access_claims,
    access_token,
    jwt_claims,
)
from tests.hostile.raw import Answer, Client
from tests.origin import Origin, Received

#: These answer for a request by what stands in its credential field, through both doors.
BY_FIELD: Final = (
    "basic", "keys", "legacy", "nevermined", "tokens", "oauth", "jwt", "jwks", "secret", "grpc",
)  # fmt: skip
EVERY: Final = (*BY_FIELD, "fields", "certificate", "trust", "null")

_CONFIGURATION: Final = f"""
state_dir = "state"
management = {{ bind = "@management@" }}
cache = {{ ttl = 1.0 }}
timeouts = {{ drain = 2.0 }}

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[[listeners]]
name = "inner"
role = "gateway"
bind = "@inner@"
trusted_peers = ["127.0.0.1"]

[[listeners]]
name = "outer"
role = "gateway"
bind = "@outer@"
trusted_peers = ["192.0.2.0/24"]

[[listeners]]
name = "certificates"
role = "gateway"
bind = "@certificates@"

[listeners.tls]
certificate = "127.0.0.1.pem"
key = "127.0.0.1.key"
client_ca = "Test-CA.pem"
client_certificates = "optional"

[checkers.basic]
type = "basic"
users = {{ alice = '{HASH}' }}

[checkers.keys]
type = "api-key"
file = "keys.properties"

[checkers.legacy]
type = "api-key"
file = "keys.properties"
legacy = true

[checkers.nevermined]
type = "access-token"
secret = "{CIPHER_KEY.hex()}"
secret_encoding = "hex"

[checkers.tokens]
type = "exchange"
url = "http://@auth@/auth"

[checkers.fields]
type = "exchange"
url = "http://@auth@/fields"
credential = ["remote-user", "x-forwarded-for", "user-agent"]
zone = "fields"

[checkers.oauth]
type = "introspection"
url = "http://@auth@/introspect"
client_id = "gatekeeper"
client_secret = "between us"

[checkers.jwt]
type = "jwt"
jwks = "keys.json"
issuer = "{ISSUER}"
audience = "acme"

[checkers.jwks]
type = "jwt"
jwks = "http://@auth@/jwks"
issuer = "{ISSUER}"
audience = "acme"

[checkers.certificate]
type = "client-certificate"
"""

#: In place of a name.
_URLS: Final = {
    "secret": "secret://s3cret?user_id=ops",
    "trust": "trust://",
    "null": "null://",
    "grpc": "grpc://@grpc@?continuous=true&interval=1s",
}
_LISTENERS: Final = {"fields": "inner", "trust": "inner", "certificate": "certificates"}


def _service(name: str) -> str:
    # An access token says itself where it leads.
    to = '"grant"\nallow = ["@origin@"]' if name == "nevermined" else '"http://@origin@"'
    return f"""
[[services]]
name = "{name}"
from = "/{name}"
to = {to}
checkers = ["{_URLS.get(name, name)}"]
listeners = ["{_LISTENERS.get(name, "gateway")}"]
"""


def _proxy(name: str) -> str:
    return f"""
[[listeners]]
name = "proxy-{name}"
role = "forward"
bind = "@proxy_{name}@"
checkers = ["{_URLS.get(name, name)}"]
allow = ["@origin@"]
"""


#: Those that believe a trusted peer, where we are none.
_OUTER: Final = """
[[services]]
name = "outer"
from = "/outer"
to = "http://@origin@"
checkers = ["trust://", "fields"]
listeners = ["outer"]
"""

CONFIGURATION: Final = _CONFIGURATION + "".join(
    [*map(_proxy, BY_FIELD), *map(_service, EVERY), _OUTER]
)


@dataclass(frozen=True)
class Entrance:
    """A checker as the tests know it.

    ``value`` is the good value of the credential field, ``fields`` further lines that belong to
    good credentials. ``refusal`` are the statuses of bad ones; none: everybody passes. ``user``
    comes to the upstream, and so does ``injected``. Where it is not ``consumed``, the client's
    Authorization is not for the checker.
    """

    name: str
    value: str = ""
    fields: tuple[str, ...] = ()
    refusal: tuple[int, ...] = (401, 407)
    user: str = "alice"
    injected: tuple[tuple[str, str], ...] = ()
    consumed: bool = True

    @property
    def trusting(self) -> bool:
        """Whether identity fields are believed: the peer is a proxy that we know."""
        return _LISTENERS.get(self.name) == "inner"


def entrances(port: int) -> dict[str, Entrance]:
    """All of them by their names; the upstream is at this port."""
    key = token({"id": "001", "exp": LATER}).decode()
    jwt = sign(RSA, "RS256", jwt_claims(), kid="rsa").decode()
    agent = ("Remote-User: alice", "X-Forwarded-For: 192.0.2.7", "User-Agent: test/1")
    trusted = (("x-sf-user-id", "alice"),)
    found = (
        Entrance("basic", ALICE),
        Entrance("keys", key, user="001"),
        Entrance("legacy", key, user="001"),
        Entrance(
            "nevermined",
            f"Bearer {access_token(access_claims(port))}",
            injected=(("nvm-user-id", "alice"),),
        ),
        Entrance(
            "tokens",
            "Bearer exchange-me",
            refusal=(401, 403, 407),
            user=fingerprint(b"Bearer exchange-me"),
            injected=(("x-authkey", "token-of-a-bearer"),),
        ),
        Entrance("oauth", "Bearer opaque-1"),
        Entrance("jwt", jwt),
        Entrance("jwks", jwt),
        Entrance("secret", "Bearer s3cret", user="ops", injected=(("x-sf-user-id", "ops"),)),
        Entrance("grpc", "Bearer known-to-grpc", injected=trusted),
        Entrance(
            "fields",
            fields=agent,
            refusal=(403,),
            injected=(("x-authkey", "token-of-alice"),),
        ),
        Entrance("certificate", refusal=(403,), consumed=False),
        Entrance(
            "trust",
            fields=("X-SF-User-Id: alice",),
            refusal=(),
            injected=trusted,
            consumed=False,
        ),
        Entrance("null", refusal=(), user="", consumed=False),
    )
    return {entrance.name: entrance for entrance in found}


class Checkpoint:
    """A running daemon (:data:`CONFIGURATION`), what its checkers ask, and the upstream.

    ``users`` are those who may be in the usage in the end; a test may add to them.
    ``trap`` is a server that nobody has a reason to ask. ``clients`` show a certificate,
    ``strangers`` none.
    """

    def __init__(
        self,
        daemon: Daemon,
        origin: Origin,
        auth: AuthServer,
        service: KnowingService,
        trap: Origin,
        clients: ssl.SSLContext,
        strangers: ssl.SSLContext,
    ) -> None:
        self.daemon = daemon
        self.origin = origin
        self.auth = auth
        self.service = service
        self.trap = trap
        self.clients = clients
        self.strangers = strangers
        self.entrances = entrances(origin.port)
        self.users = {entrance.user for entrance in self.entrances.values()}

    def door(self, name: str, door: str = "gateway") -> Door:
        """The way in through a checker, by one of the doors."""
        return Door(self, self.entrances[name], is_proxy=door == "proxy")

    def hostile(self) -> list[Received]:
        """What came to the upstream that must not."""
        return [request for request in self.origin.requests if "hostile" in request.path]


class Door:
    """How to come to the upstream through one checker, at the gateway or the forward proxy."""

    def __init__(self, house: Checkpoint, entrance: Entrance, *, is_proxy: bool) -> None:
        self.house = house
        self.entrance = entrance
        self.is_proxy = is_proxy
        self.host = f"127.0.0.1:{house.origin.port}"
        self.credentials = "Proxy-Authorization" if is_proxy else "Authorization"

    def connect(self, *, certified: bool = True) -> Client:
        """Connect; with a certificate where that is what counts, unless it is to be left out."""
        daemon, name = self.house.daemon, self.entrance.name
        if self.is_proxy:
            return Client(daemon.address(f"proxy_{name}"))
        address = daemon.address(_LISTENERS.get(name, "gateway"))
        if name != "certificate":
            return Client(address)
        return Client(address, self.house.clients if certified else self.house.strangers)

    def request(
        self, path: str, *lines: str, value: str | None = None, method: str = "GET"
    ) -> bytes:
        """A request with good credentials, or with ``value`` in place of them ("": none)."""
        good = value is None
        value = self.entrance.value if value is None else value
        prefix = f"http://{self.host}" if self.is_proxy else f"/{self.entrance.name}"
        head = [f"{method} {prefix}{path} HTTP/1.1", f"Host: {self.host}"]
        if value:
            head.append(f"{self.credentials}: {value}")
        if good:
            head += self.entrance.fields
        return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")

    def ask(self, path: str, *lines: str, value: str | None = None, method: str = "GET") -> Answer:
        """Send that on a connection of its own; the answer."""
        with self.connect(certified=value is None) as client:
            client.try_to_send(self.request(path, *lines, value=value, method=method))
            return client.answer(method)

    def passed(self, *lines: str, value: str | None = None) -> Received:
        """Send a request that must pass; as it came to the upstream."""
        answer = self.ask("/good", *lines, value=value)
        assert answer.status == 200, answer
        return self.house.origin.requests[-1]


@contextmanager
def checkpoint(directory: Path) -> Iterator[Checkpoint]:
    """Run all that.

    In the end nobody is in the usage who never proved who he is, nothing of what must be refused
    has come to the upstream, and no good credentials are in a log.
    """
    (directory / "keys.properties").write_text(f"key001={KEY}\nkey003={OTHER_KEY}\n")
    (directory / "keys.json").write_bytes(KEY_SET)
    authority = Authority(directory)
    authority.issue("127.0.0.1")
    alice = authority.issue("alice")
    clients = authority.client_context()
    clients.load_cert_chain(alice.certificate, alice.key)
    with ExitStack() as stack:
        origin, trap = stack.enter_context(Origin()), stack.enter_context(Origin())
        auth = stack.enter_context(AuthServer())
        service = stack.enter_context(KnowingService())
        ports = {"origin": origin.port, "auth": auth.port, "grpc": service.port}
        daemon = stack.enter_context(Daemon(directory, CONFIGURATION, ports=ports))
        strangers = authority.client_context()
        house = Checkpoint(daemon, origin, auth, service, trap, clients, strangers)
        yield house
        daemon.stop()
        for row in daemon.usage():
            assert row["user"] in house.users, row
            assert "hostile" not in row["path"], row
        assert house.hostile() == []
        assert trap.connections == 0
        said = daemon.log + daemon.stderr + (daemon.state_dir / "access.log").read_text()
        for entrance in house.entrances.values():
            secret = entrance.value.partition(" ")[2]
            assert not secret or secret not in said, entrance.name
