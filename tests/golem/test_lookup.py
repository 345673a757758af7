from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.lookup import directories, find_definition
from tests.golem.conftest import ACME


def test_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/opt/plugins/runtime"])
    environ = {"XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "/config"}
    assert directories(["/one", "two"], environ) == [
        Path("/one"),
        Path("two"),
        Path("/opt/plugins/services"),
        tmp_path / "services",
        Path("/data/ya-runtime-http-auth/services"),
        Path("/config/ya-runtime-http-auth/services"),
    ]
    monkeypatch.setenv("HOME", "/home/provider")
    assert directories([], {})[-2:] == [
        Path("/home/provider/.local/share/ya-runtime-http-auth/services"),
        Path("/home/provider/.config/ya-runtime-http-auth/services"),
    ]


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "one", tmp_path / "two"]
    for place in found:
        place.mkdir()
    return [tmp_path / "missing", *found]


def write(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(ACME | changes))


def test_the_first_wins(places: list[Path]) -> None:
    _, one, two = places
    write(two / "a.json", description="in two")
    assert find_definition("acme", places).description == "in two"
    write(one / "z.json", description="in one")
    assert find_definition("acme", places).description == "in one"
    write(one / "b.json", description="b")
    assert find_definition("acme", places).description == "b"


def test_the_file_s_name_does_not_matter(places: list[Path]) -> None:
    write(places[1] / "acme.json", name="other")
    with pytest.raises(ConfigurationError) as caught:
        find_definition("acme", places)
    (problem,) = caught.value.problems
    looked = ", ".join(map(str, places))
    assert problem.message == f"no definition has the name `acme`; looked into {looked}"


def test_files_beside_it_may_be_broken(places: list[Path]) -> None:
    (places[1] / "a.json").write_text("{")
    (places[1] / "b.yaml").write_text("a: [")
    (places[1] / "c.json").write_text("[]")
    write(places[2] / "acme.json")
    assert find_definition("acme", places).name == "acme"
    with pytest.raises(ConfigurationError) as caught:
        find_definition("other", places)
    _, a, b = caught.value.problems
    assert a.path == str(places[1] / "a.json")
    assert b.path == str(places[1] / "b.yaml")


def test_it_is_broken_itself(places: list[Path]) -> None:
    file = places[1] / "a.json"
    write(file, to="nowhere", bindHttp="x", zz=1)
    with pytest.raises(ConfigurationError) as caught:
        find_definition("acme", places)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == [f"{file}: bindHttp", f"{file}: to", f"{file}: zz"]


def test_certificates_are_found_from_the_file(places: list[Path]) -> None:
    cert = {"path": "c.pem", "keyPath": "k.pem"}
    write(places[1] / "a.json", bindHttps="1.2.3.4:443", cert=cert)
    found = find_definition("acme", places)
    assert found.certificate == (str(places[1] / "c.pem"), str(places[1] / "k.pem"))
