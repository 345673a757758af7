"""Definitions as a part of the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.auth.basic import BasicSettings
from gatekeeper.auth.registry import checker_types
from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings
from gatekeeper.config.values import check_name
from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.expansion import listener_name
from tests.golem.conftest import ACME

SMALL = 'state_dir = "state"\nservices_dir = "services"\n'
ORDINARY = """
[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:8000"

[[services]]
name = "shop"
from = "/shop"
to = "http://127.0.0.1:1"
checkers = []
"""

Define = Callable[..., Path]


@pytest.fixture
def define(tmp_path: Path) -> Define:
    """Write a definition like ``acme``'s."""
    (tmp_path / "services").mkdir()

    def define(file: str, **changes: Any) -> Path:
        raw = {key: value for key, value in (ACME | changes).items() if value is not None}
        path = tmp_path / "services" / file
        path.write_text(json.dumps(raw))
        return path

    return define


def configure(directory: Path, text: str = SMALL) -> Settings:
    file = directory / "gatekeeper.toml"
    file.write_text(text)
    return load(file, checker_types(), environ={})


def problems(directory: Path, text: str = SMALL) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        configure(directory, text)
    return [
        (path.replace(f"{directory}/services/", ""), message.replace(f"{directory}/services/", ""))
        for path, message in caught.value.problems
    ]


@pytest.fixture
def cert(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "services" / "c.pem").touch()
    (tmp_path / "services" / "k.pem").touch()
    return {"path": "c.pem", "keyPath": "k.pem"}


class TestOrdinarySettings:
    def test_a_service_and_its_listener(self, define: Define, tmp_path: Path) -> None:
        define("a.json", description="ACME", requestTimeout=1500, responseTimeout=250)
        settings = configure(tmp_path)
        (listener,) = settings.listeners
        assert (listener.role, listener.bind, listener.tls) == ("gateway", "127.0.0.1:24080", None)
        (service,) = settings.services
        assert service.name == "acme"
        assert service.description == "ACME"
        assert service.hosts == ()
        assert service.from_ == "/acme"
        assert service.to == "http://127.0.0.1:10000"
        assert service.listeners == (listener.name,)
        assert service.checkers == ("golem",)
        assert (service.timeouts.body, service.timeouts.response) == (1.5, 0.25)
        assert (service.timeouts.connect, service.timeouts.tunnel) == (None, None)

    def test_the_checker(self, define: Define, tmp_path: Path) -> None:
        define("a.json")
        table = configure(tmp_path).checkers["golem"]
        assert table.type == "basic"
        assert table.settings == BasicSettings(realm="Service access")

    def test_a_checker_of_the_operator_s_own(self, define: Define, tmp_path: Path) -> None:
        define("a.json")
        settings = configure(tmp_path, SMALL + '[checkers.golem]\ntype = "basic"\nrealm = "ACME"')
        assert settings.checkers["golem"].settings == BasicSettings(realm="ACME")

    def test_several_addresses_some_shared(
        self, define: Define, tmp_path: Path, cert: dict[str, str]
    ) -> None:
        define(
            "a.json",
            bindHttps=["127.0.0.1:443", "[::1]:443"],
            bindHttp="127.0.0.1:80",
            cert=cert,
        )
        define("b.json", name="b", **{"from": "/b"}, bindHttps="127.0.0.1:443", cert=cert)
        settings = configure(tmp_path)
        found = {listener.bind: listener for listener in settings.listeners}
        assert sorted(found) == ["127.0.0.1:24080", "127.0.0.1:443", "127.0.0.1:80", "[::1]:443"]
        tls = found["127.0.0.1:443"].tls
        assert tls is not None
        assert tls.certificate == tmp_path / "services" / "c.pem"
        assert tls.key == tmp_path / "services" / "k.pem"
        assert found["[::1]:443"].tls == tls
        assert found["127.0.0.1:80"].tls is None
        acme, b = settings.services
        assert acme.listeners == tuple(
            found[bind].name for bind in ("127.0.0.1:443", "[::1]:443", "127.0.0.1:80")
        )
        assert b.listeners == tuple(
            found[bind].name for bind in ("127.0.0.1:443", "127.0.0.1:24080")
        )

    def test_beside_others(self, define: Define, tmp_path: Path) -> None:
        define("a.json")
        settings = configure(tmp_path, SMALL + ORDINARY)
        assert [listener.name for listener in settings.listeners] == [
            "public",
            "golem-127.0.0.1-24080",
        ]
        assert [service.name for service in settings.services] == ["shop", "acme"]

    def test_a_directory_that_is_empty(self, define: Define, tmp_path: Path) -> None:
        settings = configure(tmp_path)
        assert (settings.listeners, settings.services, settings.checkers) == ((), (), {})

    def test_names_are_made_up(self, define: Define, tmp_path: Path) -> None:
        define("a.json", name=None, **{"from": "/a"})
        define("b.json", name="service-1", **{"from": "/b"})
        define("c.json", name=None, **{"from": "/c"})
        services = configure(tmp_path).services
        assert [(service.name, service.from_) for service in services] == [
            ("service-0", "/a"),
            ("service-1", "/b"),
            ("service-2", "/c"),
        ]

    def test_the_default_server_name(self, define: Define, tmp_path: Path) -> None:
        define("a.json", serverName=None)
        assert problems(tmp_path) == [
            ("a.json: serverName", "is required, as the proxy has no default")
        ]
        configure(tmp_path, SMALL + 'server_names = ["acme.com"]')


class TestProblems:
    def test_of_several_files_and_of_the_rest(self, define: Define, tmp_path: Path) -> None:
        define("a.json", to="x", zz=1)
        define("b.json", name="b", bindHttp=1)
        (tmp_path / "services" / "c.toml").write_text("a = ")
        found = problems(tmp_path, SMALL + "[log]\nacces = 1")
        assert [path for path, _ in found] == [
            "c.toml",
            "a.json: to",
            "a.json: zz",
            "b.json: bindHttp",
            "log.acces",
        ]

    def test_conflicts(self, define: Define, tmp_path: Path) -> None:
        define("a.json")
        define("b.json", name="b", **{"from": "/acme/b"})
        define("c.json", **{"from": "/c"})
        define("d.json", name="d", **{"from": "/acmeevil"})
        assert problems(tmp_path) == [
            ("b.json: from", "overlaps with `/acme` of `acme` on `127.0.0.1:24080` (a.json)"),
            ("c.json: name", "there is a service `acme` already (a.json)"),
        ]

    def test_with_services_of_the_configuration(self, define: Define, tmp_path: Path) -> None:
        define("a.json", name="shop", **{"from": "/shop"}, bindHttp="127.0.0.1:8000")
        assert problems(tmp_path, SMALL + ORDINARY) == [
            ("a.json: name", "`shop` is the name of services[0] already"),
            ("a.json: bindHttp", "`127.0.0.1:8000` is the address of `listeners[0].bind` already"),
            (
                "a.json: from",
                "services[0] has the same `from` for the same host on the same listener",
            ),
        ]

    def test_many_of_them_keep_their_places(self, define: Define, tmp_path: Path) -> None:
        for number in range(12):
            port = 6668 if number == 10 else 25_000 + number
            define(f"{number:02}.json", name=f"s{number}", bindHttp=f"127.0.0.1:{port}")
        assert problems(tmp_path) == [
            ("management.bind", "`127.0.0.1:6668` is the address of `10.json: bindHttp` already")
        ]

    def test_certificates(self, define: Define, tmp_path: Path, cert: dict[str, str]) -> None:
        (tmp_path / "services" / "c.pem").unlink()
        (tmp_path / "services" / "k.pem").unlink()
        define("a.json", bindHttps="127.0.0.1:443", cert=cert)
        assert problems(tmp_path) == [
            ("a.json: cert.path", "`c.pem` cannot be read: No such file or directory"),
            ("a.json: cert.keyPath", "`k.pem` cannot be read: No such file or directory"),
        ]

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        assert problems(tmp_path) == [
            (
                "services_dir",
                f"`{tmp_path}/services` cannot be read: No such file or directory",
            )
        ]

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ('state_dir = "s"\nservices_dir = 1\nlisteners = []', "services_dir"),
            (SMALL + "listeners = 1", "listeners"),
            (SMALL + "services = {}", "services"),
            (SMALL + "checkers = 1", "checkers"),
            (SMALL + "server_names = 1", "server_names"),
        ],
    )
    def test_what_is_no_table(self, define: Define, tmp_path: Path, text: str, path: str) -> None:
        define("a.json")
        assert path in [found for found, _ in problems(tmp_path, text)]

    def test_references_are_none_in_definitions(
        self, define: Define, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Definitions are not the configuration: they cannot ask for the environment."""
        monkeypatch.setenv("HOME", "/secret")
        define("a.json", to={"env": "HOME"})
        assert problems(tmp_path) == [("a.json: to", "must be a string")]


@pytest.mark.parametrize(
    ("address", "name"),
    [("0.0.0.0:443", "golem-0.0.0.0-443"), ("[::]:443", "golem------443")],
)
def test_names_of_listeners(address: str, name: str) -> None:
    assert listener_name(address) == name
    longest = "[" + ":".join(["ffff"] * 8) + "]:65535"
    check_name(listener_name(longest))
