from __future__ import annotations

import hashlib
import shlex
import socket
import stat
from pathlib import Path

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.logger import capturedLogs
from twisted.web.http_headers import Headers

from gatekeeper.auth.basic import BasicSettings
from gatekeeper.auth.passwords import hash_password, verify_password
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.model import Demo, Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.demo import demo_origin_service, prepare
from gatekeeper.errors import ConfigurationError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    users = {"alice": hash_password("wonderland")}
    return Settings(
        state_dir=tmp_path / "state",
        listeners=(Listener(name="public", role="gateway", bind="127.0.0.1:0"),),
        checkers={"users": CheckerTable("basic", BasicSettings(users=users))},
        demo=Demo(keys_file=tmp_path / "keys.properties"),
    )


def users_of(settings: Settings) -> dict[str, str]:
    table = settings.checkers["users"].settings
    assert isinstance(table, BasicSettings)
    return table.users


def shown(lines: list[str]) -> dict[str, str]:
    """What a shell makes of the lines that were shown."""
    assignments = "\n".join(line for line in lines if line.startswith("  "))
    return dict(word.split("=", 1) for word in shlex.split(assignments))


class TestPrepare:
    def test_without_a_demo_nothing_happens(self, settings: Settings, tmp_path: Path) -> None:
        plain = settings.model_copy(update={"demo": None})
        lines: list[str] = []
        assert prepare(plain, lines.append) is plain
        assert lines == []
        assert list(tmp_path.iterdir()) == []

    def test_the_secrets_that_are_shown_open(self, settings: Settings, tmp_path: Path) -> None:
        lines: list[str] = []
        users = users_of(prepare(settings, lines.append))
        secrets = shown(lines)
        assert verify_password(secrets["DEMO_PASSWORD"], users[secrets["DEMO_USER"]])
        key = secrets["DEMO_KEY"]
        assert len(bytes.fromhex(key)) == 32
        assert (tmp_path / "keys.properties").read_text() == (
            f'kapi_id="{secrets["DEMO_KEY_ID"]}";kapi_key="{key}";kapi_groups="demo";\n'
        )

    def test_other_users_stay_and_the_given_settings_do_not_change(
        self, settings: Settings
    ) -> None:
        prepared = prepare(settings, lambda _: None)
        assert list(users_of(prepared)) == ["alice", "demo"]
        assert list(users_of(settings)) == ["alice"]

    def test_the_password_is_not_kept(self, settings: Settings) -> None:
        lines: list[str] = []
        prepare(settings, lines.append)
        kept = (settings.state_dir / "demo.json").read_text()
        assert shown(lines)["DEMO_PASSWORD"] not in kept

    def test_only_the_owner_can_read_the_files(self, settings: Settings, tmp_path: Path) -> None:
        prepare(settings, lambda _: None)
        for file in (settings.state_dir / "demo.json", tmp_path / "keys.properties"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_the_second_start_shows_no_secret(self, settings: Settings, tmp_path: Path) -> None:
        first: list[str] = []
        users = users_of(prepare(settings, first.append))
        lines: list[str] = []
        assert users_of(prepare(settings, lines.append)) == users
        (line,) = lines
        assert shown(first)["DEMO_PASSWORD"] not in line
        assert shown(first)["DEMO_KEY"] not in line
        assert str(settings.state_dir / "demo.json") in line
        assert str(tmp_path / "keys.properties") in line

    def test_what_was_deleted_is_made_anew(self, settings: Settings, tmp_path: Path) -> None:
        users = users_of(prepare(settings, lambda _: None))
        (tmp_path / "keys.properties").unlink()
        lines: list[str] = []
        assert users_of(prepare(settings, lines.append)) == users
        assert set(shown(lines)) == {"DEMO_KEY_ID", "DEMO_KEY"}
        (settings.state_dir / "demo.json").unlink()
        lines.clear()
        assert users_of(prepare(settings, lines.append)) != users
        assert set(shown(lines)) == {"DEMO_USER", "DEMO_PASSWORD"}

    def test_an_operators_key_file_is_left_alone(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "keys.properties").write_text("key001=" + "a" * 64)
        prepare(settings, lambda _: None)
        assert (tmp_path / "keys.properties").read_text() == "key001=" + "a" * 64

    def problem(self, settings: Settings) -> tuple[str, str]:
        with pytest.raises(ConfigurationError) as caught:
            prepare(settings, lambda _: None)
        (problem,) = caught.value.problems
        return problem

    def test_a_checker_that_is_not_there(self, settings: Settings) -> None:
        without = settings.model_copy(update={"checkers": {}})
        assert self.problem(without)[0] == "demo.users"

    def test_a_demo_user_of_the_operators(self, settings: Settings) -> None:
        table = CheckerTable("basic", BasicSettings(users={"demo": hash_password("x")}))
        taken = settings.model_copy(update={"checkers": {"users": table}})
        assert self.problem(taken)[0] == "demo.users"
        assert not (settings.state_dir / "demo.json").exists()

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"hash": 1}', '{"hash": "plain"}'])
    def test_a_damaged_file(self, settings: Settings, content: str) -> None:
        settings.state_dir.mkdir()
        (settings.state_dir / "demo.json").write_text(content)
        path, message = self.problem(settings)
        assert path == "demo"
        assert "delete it" in message

    def test_no_place_for_the_files(self, settings: Settings) -> None:
        settings.state_dir.write_text("a file")
        path, message = self.problem(settings)
        assert path == "demo"
        assert str(settings.state_dir) in message


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_the_origin_on_real_sockets() -> None:
    service = demo_origin_service("127.0.0.1:0")
    host, port = service.address
    url = f"http://{host}:{port}"
    service.startService()
    try:
        hello = await treq.get(
            f"{url}/a/b?c=d", headers=Headers({"X-Seen": ["one", "two"]}), persistent=False
        )
        seen = await hello.json()
        assert (seen["method"], seen["path"]) == ("GET", "/a/b?c=d")
        assert seen["headers"]["x-seen"] == "one, two"
        assert seen["headers"]["host"] == f"{host}:{port}"
        assert hello.headers.getRawHeaders("server") is None

        size = 3_000_001
        sent = await treq.get(f"{url}/demo/bytes/{size}", persistent=False)
        assert sent.length == size
        assert len(await sent.content()) == size

        body = b"0123456789" * 100_000
        for method in ("POST", "PUT"):
            echoed = await treq.request(method, f"{url}/", data=body, persistent=False)
            assert await echoed.json() == {
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }

        head = await treq.head(f"{url}/bytes/{size}", persistent=False)
        assert head.headers.getRawHeaders("content-length") == [str(size)]
        assert await head.content() == b""
    finally:
        await service.stopService()


class Impatient(Protocol):
    """Asks for much, and hangs up when it begins to come."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET /bytes/999999999999 HTTP/1.1\r\nHost: x\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        ITCPTransport(self.transport).abortConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.done.callback(None)


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_the_origin_stops_when_the_client_is_gone() -> None:
    from twisted.internet import reactor

    service = demo_origin_service("127.0.0.1:0")
    host, port = service.address
    service.startService()
    try:
        with capturedLogs() as events:
            client = Impatient()
            await connectProtocol(TCP4ClientEndpoint(reactor, host, port), client)
            await client.done
            alive = await treq.get(f"http://{host}:{port}/", persistent=False)
            assert alive.code == 200
            await alive.content()
        assert [event for event in events if event["log_level"].name == "critical"] == []
    finally:
        await service.stopService()


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
@pytest.mark.parametrize("path", ["/bytes/", "/bytes/x", "/bytes/-1", "/bytes/1234567890123"])
async def test_sizes_that_the_origin_does_not_serve(path: str) -> None:
    service = demo_origin_service("127.0.0.1:0")
    host, port = service.address
    service.startService()
    try:
        answer = await treq.get(f"http://{host}:{port}{path}", persistent=False)
        assert (await answer.json())["path"] == path
        nothing = await treq.get(f"http://{host}:{port}/bytes/0", persistent=False)
        assert await nothing.content() == b""
    finally:
        await service.stopService()


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=rf"demo\.origin: cannot listen on {bind}"):
            demo_origin_service(bind)
