from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.config.paths import absolute, absolute_in_table
from tests.config.minimal import Configure, KeySettings

BASE = Path("/etc/gatekeeper")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", "/etc/gatekeeper/a"),
        ("../var/a", "/etc/var/a"),
        ("./a/", "/etc/gatekeeper/a"),
        ("/a", "/a"),
        (Path("a"), "/etc/gatekeeper/a"),
    ],
)
def test_absolute(path: str | Path, expected: str) -> None:
    assert absolute(path, BASE) == Path(expected)


def test_a_checkers_paths_are_found_by_their_annotations() -> None:
    table = {
        "file": "keys",
        "more": ["more", "/even/more", 1],
        "source": "a-path-where-a-url-may-stand",
        "secret": "not-a-path",
        "unknown": "key",
    }
    assert absolute_in_table(KeySettings, table, BASE) == {
        "file": "/etc/gatekeeper/keys",
        "fallback": "/etc/gatekeeper/fallback.keys",
        "more": ["/etc/gatekeeper/more", "/even/more", 1],
        "source": "/etc/gatekeeper/a-path-where-a-url-may-stand",
        "secret": "not-a-path",
        "unknown": "key",
    }
    assert table["file"] == "keys"
    url = {**table, "source": "https://example.com/keys"}
    assert absolute_in_table(KeySettings, url, BASE)["source"] == "https://example.com/keys"


def test_paths_in_tables_in_tables() -> None:
    class Outer(KeySettings):
        inner: KeySettings | None = None
        named: dict[str, Path] = {}
        tables: tuple[KeySettings, ...] = ()

    table = {
        "file": "a",
        "inner": {"file": "b"},
        "named": {"x": "c"},
        "tables": [{"file": "d"}],
    }
    found = absolute_in_table(Outer, table, BASE)
    assert found["inner"]["file"] == "/etc/gatekeeper/b"
    assert found["named"] == {"x": "/etc/gatekeeper/c"}
    assert found["tables"][0]["file"] == "/etc/gatekeeper/d"


def test_what_does_not_fit_stays() -> None:
    table = {"file": 1, "fallback": ["a"], "more": "b"}
    assert absolute_in_table(KeySettings, table, BASE) == table


def test_from_the_configurations_directory(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    settings = configure(
        'ca_file = "ca.pem"\n[checkers.keys]\ntype = "api-key"\nfile = "../keys"\n[demo]'
    )
    keys = settings.checkers["keys"].settings
    assert isinstance(keys, KeySettings)
    assert keys.file == tmp_path.parent / "keys"
    assert settings.services[0].ca_file == tmp_path / "ca.pem"
    assert settings.demo is not None
    assert settings.demo.keys_file == tmp_path / "keys.properties"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///usage.sqlite", "sqlite:///{}/state/usage.sqlite"),
        ("sqlite:///../usage.sqlite", "sqlite:///{}/usage.sqlite"),
        ("sqlite:////var/usage.sqlite", "sqlite:////var/usage.sqlite"),
        ("postgresql://host/db", "postgresql://host/db"),
    ],
)
def test_the_store_is_in_the_state_directory(
    configure: Configure, tmp_path: Path, url: str, expected: str
) -> None:
    assert configure(f'[store]\nurl = "{url}"').store.url == expected.format(tmp_path)


@pytest.mark.parametrize(
    ("access", "expected"),
    [("-", "-"), ("none", "none"), ("a.log", "{}/state/a.log"), ("/a.log", "/a.log")],
)
def test_the_access_log_is_in_the_state_directory(
    configure: Configure, tmp_path: Path, access: str, expected: str
) -> None:
    assert configure(f'[log]\naccess = "{access}"').log.access == expected.format(tmp_path)


def test_defaults_are_in_the_state_directory(configure: Configure, tmp_path: Path) -> None:
    settings = configure()
    assert settings.store.url == f"sqlite:///{tmp_path}/state/gatekeeper.sqlite"
    assert settings.log.access == f"{tmp_path}/state/access.log"
