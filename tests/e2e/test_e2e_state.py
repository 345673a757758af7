"""Services, users, keys and revocations that are in the store: at once, and after a restart.

Another process writes them, so the daemon finds them when it looks again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper.auth.key import new_key
from gatekeeper.auth.revoked import token_digest
from gatekeeper.config.model import Store
from gatekeeper.store.opening import make_store
from gatekeeper.store.state import (
    Add,
    AuditEntry,
    Change,
    Remove,
    Replace,
    Revocation,
    StoredKey,
    StoredService,
    StoredUser,
)
from tests.auth.support import CHEAP, KEYS, token
from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, free_port, wait_until
from tests.e2e.plain import STORED, USER, curl
from tests.hostile.raw import BrokenTransferError, Client
from tests.origin import Conversation, Origin
from tests.store.support import in_reactor

pytestmark = pytest.mark.usefixtures("unmeasured")

BOB = StoredUser("echo", "bob", CHEAP.hash("builder"), 1.0)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    created: str = request.getfixturevalue("postgres").create_database()
    return created


class Operator:
    """Changes what is in the store, from outside of the daemon."""

    def __init__(self, url: str) -> None:
        self._store = make_store(Store(url=url))

    async def change(self, *changes: Change) -> None:
        entry = AuditEntry(time.time(), "test", "here", "change", "something")
        await self._store.change(changes, entry)


@asynccontextmanager
async def operating(url: str) -> AsyncIterator[Operator]:
    operator = Operator(url)
    yield operator
    await operator._store.close()


def make(tmp_path: Path, origin: Origin, url: str) -> Daemon:
    (tmp_path / "keys.properties").write_text(KEYS)
    (tmp_path / "keys.properties").chmod(0o600)
    return Daemon(tmp_path, STORED.replace("STORE", url), ports={"origin": origin.port})


def becomes(status: int, url: str, *options: str) -> None:
    wait_until(lambda: curl(url, *options).status == status, f"{url} becomes {status}")


def begin(client: Client, path: str, credentials: str) -> None:
    """Have something running that does not end by itself."""
    client.send(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n"
        f"{credentials}\r\n\r\n".encode()
    )
    assert client.head().status == 101


def mirror(conversation: Conversation) -> None:
    conversation.send(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    while piece := conversation.read(1):
        conversation.send(piece)


@in_reactor
async def test_users(tmp_path: Path, origin: Origin, url: str) -> None:
    origin.on["/tunnel"] = mirror
    daemon = make(tmp_path, origin, url)
    bob = ("-u", "bob:builder")
    basic = "Authorization: Basic Ym9iOmJ1aWxkZXI="
    async with operating(url) as operator:
        with daemon:
            echo = daemon.url("gateway", "/echo/x")
            assert curl(echo, *bob).status == 401
            await operator.change(Add(BOB))
            becomes(200, echo, *bob)
            assert curl(echo, "-u", "bob:wrong").status == 401
            with Client(daemon.address("gateway")) as client:
                begin(client, "/echo/tunnel", basic)
                await operator.change(Replace(BOB._replace(disabled=True)))
                with pytest.raises(BrokenTransferError):  # it is cut
                    client.read(1)
            wait_until(
                lambda: any(
                    (line["user"], line["reason"]) == ("bob", "grant_withdrawn")
                    for line in daemon.access_log()
                ),
                "the cut is logged",
            )
            assert curl(echo, *bob).status == 401
            assert curl(echo, "-u", USER).status == 200
            await operator.change(Replace(BOB))
            becomes(200, echo, *bob)
        with daemon:
            assert curl(echo, *bob).status == 200, "a restart keeps them"
            await operator.change(Remove(BOB))
            becomes(401, echo, *bob)


@in_reactor
async def test_keys_and_revocations(tmp_path: Path, origin: Origin, url: str) -> None:
    daemon = make(tmp_path, origin, url)
    key = new_key()
    stored = StoredKey(key.id, "keyed", "carol", key.digest, 1.0)
    field = ("-H", f"X-Api-Key: {key.presented}")
    bearer = ("-H", f"Authorization: Bearer {key.presented}")
    signed = token({"id": "001", "exp": int(time.time()) + 600})
    presented = ("-H", f"Authorization: {signed.decode()}")
    async with operating(url) as operator:
        with daemon:
            keyed = daemon.url("gateway", "/keyed/x")
            await operator.change(Add(stored))
            becomes(200, keyed, *field)
            assert origin.requests[-1].values("x-forwarded-user") == ["carol"]
            assert origin.requests[-1].values("x-api-key") == []
            assert curl(keyed, *bearer).status == 200
            assert curl(daemon.url("gateway", "/echo/x"), *bearer).status == 401
            assert curl(keyed, *presented).status == 200
            revoked = Revocation(token_digest(signed.split()[1]), time.time() + 600, 1.0)
            await operator.change(Add(revoked), Replace(stored._replace(disabled=True)))
            becomes(403, keyed, *presented)
            assert curl(keyed, *bearer).status == 401
        with daemon:
            assert curl(keyed, *presented).status == 403, "a restart keeps it"
            assert curl(keyed, *bearer).status == 401


@in_reactor
async def test_services(tmp_path: Path, origin: Origin, url: str, authority: Authority) -> None:
    release = threading.Event()

    def stream(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        release.wait(PATIENCE)
        conversation.send(b"again")

    origin.on["/stream"] = stream
    daemon = make(tmp_path, origin, url)
    certificate = authority.issue("127.0.0.1")
    port, tls_port = free_port(), free_port()
    definition = {
        "name": "shop",
        "serverName": "shop.example",
        "bindHttp": f"127.0.0.1:{port}",
        "bindHttps": f"127.0.0.1:{tls_port}",
        "cert": {"path": str(certificate.certificate), "keyPath": str(certificate.key)},
        "from": "/shop",
        "to": f"http://127.0.0.1:{origin.port}",
    }
    shop = StoredService("shop", "golem", json.dumps(definition), 1.0)
    open_to_all = {"name": "open", "from": "/open", "to": definition["to"], "checkers": []}
    v1 = StoredService("open", "v1", json.dumps(open_to_all), 2.0)
    dave = StoredUser("shop", "dave", CHEAP.hash("x"), 1.0)
    user = ("-u", "dave:x")
    plain, encrypted = f"http://127.0.0.1:{port}/shop/a", f"https://127.0.0.1:{tls_port}/shop/a"
    ca = ("--cacert", str(authority.file))
    async with operating(url) as operator:
        with daemon:
            everywhere = daemon.url("gateway", "/open/a")
            assert curl(plain).exit_status == 7, "nobody listens"
            assert curl(everywhere).status == 404
            await operator.change(Add(shop), Add(v1), Add(dave))
            becomes(200, plain, *user)
            assert curl(plain).status == 401
            assert curl(encrypted, *user, *ca).status == 200
            assert curl(everywhere).status == 200
            # The forward proxy does not lead to an address of our own, new as it is.
            proxied = curl(plain, "-x", daemon.url("proxy"), "-U", USER)
            assert (proxied.status, b"destination_private" in proxied.body) == (403, True)
        with daemon:
            assert curl(plain, *user).status == 200, "a restart keeps it"
            with Client(("127.0.0.1", port)) as client:
                client.send(
                    b"GET /shop/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZGF2ZTp4\r\n\r\n"
                )
                assert client.head().status == 200
                assert client.read(5) == b"hello"
                await operator.change(Remove(shop), Remove(v1))
                wait_until(lambda: curl(plain).exit_status == 7, "the address is closed")
                release.set()
                assert client.read(5) == b"again", "what ran could end"
                with pytest.raises(BrokenTransferError):  # and then the connection
                    client.read(1)
            assert curl(everywhere).status == 404


@in_reactor
async def test_service_that_cannot_be_served_is_left_out(tmp_path: Path, origin: Origin) -> None:
    url = f"sqlite:///{tmp_path / 'state.sqlite'}"
    daemon = make(tmp_path, origin, url)
    fields = {"to": f"http://127.0.0.1:{origin.port}", "checkers": []}
    echo = {"name": "echo", "from": "/other", **fields}
    taken = {"name": "taken", "from": "/echo", **fields}
    good = {"name": "good", "from": "/good", **fields}
    things = [
        StoredService(str(each["name"]), "v1", json.dumps(each), 1.0)
        for each in (echo, taken, good)
    ]
    async with operating(url) as operator:
        with daemon:
            await operator.change(*(Add(each) for each in things))
            becomes(200, daemon.url("gateway", "/good/x"))
            assert curl(daemon.url("gateway", "/other/x")).status == 404
            assert curl(daemon.url("gateway", "/echo/x")).status == 401, "the configuration wins"
    assert "Service echo is not served: name: is the name of a service" in daemon.log
    assert "Service taken is not served: from: " in daemon.log


@in_reactor
async def test_users_are_unknown_while_the_store_is_away(tmp_path: Path, origin: Origin) -> None:
    """A 503, and never a 401; those of the configuration are served."""
    daemon = make(tmp_path, origin, "postgresql://nobody@127.0.0.1:1/nothing")
    with daemon:
        echo = daemon.url("gateway", "/echo/x")
        assert curl(echo, "-u", USER).status == 200
        unknown = curl(echo, "-u", "bob:builder")
        assert (unknown.status, b"users_unknown" in unknown.body) == (503, True)
        assert (
            curl(
                daemon.url("gateway", "/keyed/x"), "-H", f"X-Api-Key: {new_key().presented}"
            ).status
            == 503
        )
