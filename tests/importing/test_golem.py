from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekeeper.golem.definitions import Definition
from gatekeeper.golem.expansion import expand, read_directory
from gatekeeper.golem.files import read_file
from gatekeeper.importing.golem import Golem, import_golem, server_names
from tests.importing.conftest import Load


@pytest.fixture
def proxy(data: Path) -> dict[str, Any]:
    read: dict[str, Any] = read_file(data / "golem" / "proxy.toml")
    return read


def old(data: Path, proxy: dict[str, Any], *, inline: bool = False, **changes: Any) -> Golem:
    directory = data / "golem" / "services"
    names = server_names(proxy)
    found, problems = read_directory(directory, names)
    assert problems == []
    tree = expand({"services_dir": str(directory), "server_names": names}).tree if inline else None
    return Golem(directory, found, tree, proxy=proxy, **changes)


@pytest.mark.parametrize("inline", [False, True])
def test_the_services(data: Path, proxy: dict[str, Any], loaded: Load, inline: bool) -> None:
    settings = loaded(import_golem(old(data, proxy, inline=inline)).text)
    acme, other = settings.services
    assert (acme.name, acme.from_, acme.to) == ("acme-service", "/acme", "http://127.0.0.1:10000")
    assert acme.description == 'ACME service "v1.42"'
    assert (acme.timeouts.body, acme.timeouts.response) == (5.0, 90.0)
    assert (other.name, other.from_) == ("other", "/other")
    binds = {listener.name: listener.bind for listener in settings.listeners}
    assert sorted(binds.values()) == ["0.0.0.0:443", "0.0.0.0:80", "[::1]:8443"]
    assert other.listeners is not None
    assert {binds[name] for name in other.listeners} == {"0.0.0.0:443", "[::1]:8443"}
    tls = [listener.tls for listener in settings.listeners if listener.bind != "0.0.0.0:80"]
    assert all(each and each.certificate == data / "golem/services/server.cert" for each in tls)
    assert all(settings.checkers[name].type == "basic" for name in acme.checkers + other.checkers)


@pytest.mark.parametrize("inline", [False, True])
def test_the_proxy(data: Path, proxy: dict[str, Any], loaded: Load, inline: bool) -> None:
    imported = import_golem(old(data, proxy, inline=inline))
    settings = loaded(imported.text)
    assert settings.timeouts.head == 2.5
    assert (settings.pool.idle_timeout, settings.pool.idle) == (30.0, 8)
    assert (settings.management.bind, settings.management.auth) == ("127.0.0.1:6668", "none")
    assert [note.setting for note in imported.notes.left] == ["server.addr", "server.tcp_nodelay"]


def test_the_directory_stays_or_is_of_no_more_use(
    data: Path, proxy: dict[str, Any], loaded: Load
) -> None:
    directory = data / "golem" / "services"
    settings = loaded(import_golem(old(data, proxy)).text)
    assert settings.services_dir == directory
    assert settings.server_names == ("service.acme.com",)
    inline = import_golem(old(data, proxy, inline=True))
    assert loaded(inline.text).services_dir is None
    assert [note.setting for note in inline.notes.needless] == [
        "server.server_name",
        "acme-service.json: serverName, offerProperties",
        "other.toml: serverName",
        "users",
    ]


def test_a_management_api_for_others_asks_for_a_token(data: Path, loaded: Load) -> None:
    proxy = {"server": {"server_name": ["service.acme.com"]}}
    imported = import_golem(old(data, proxy, management="0.0.0.0:6668"))
    assert loaded(imported.text).management.auth == "token"
    assert [note.setting for note in imported.notes.left] == ["management API"]


def test_a_directory_without_definitions_is_told(tmp_path: Path) -> None:
    imported = import_golem(Golem(tmp_path, []))
    assert [note.setting for note in imported.notes.left] == [str(tmp_path)]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "x", []])
def test_a_value_that_will_not_do_is_left(tmp_path: Path, value: object) -> None:
    proxy = {"client": {"pool_idle_timeout": value, "pool_max_idle_per_host": None}}
    imported = import_golem(Golem(tmp_path, [], proxy=proxy))
    assert next(note.setting for note in imported.notes.left) == "client.pool_idle_timeout"
    assert "[pool]" not in imported.text


@pytest.mark.parametrize(
    "proxy", [{}, {"server": 1}, {"server": {}}, {"server": {"server_name": 1}}]
)
def test_no_names(proxy: dict[str, Any]) -> None:
    assert server_names(proxy) == []


def test_what_the_proxy_has_no_such_section_for_is_left(tmp_path: Path) -> None:
    imported = import_golem(Golem(tmp_path, [], proxy={"verbose": True, "server": {"x": 1}}))
    assert [note.setting for note in imported.notes.left][:2] == ["verbose", "server.x"]


def test_a_definition_that_advertises_nothing_needs_no_file(tmp_path: Path) -> None:
    definition = Definition("one", "/one", "http://127.0.0.1:1000")
    imported = import_golem(Golem(tmp_path, [(tmp_path / "one.json", definition)], tree={}))
    assert [note.setting for note in imported.notes.needless] == ["users"]
