from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.files import definition_files, read_file
from tests.daemon import ROOT

JSON = """{
  "name": "acme",
  "bindHttps": ["0.0.0.0:443"],
  "cert": {"path": "c.pem", "keyPath": "k.pem"},
  "requestTimeout": 1000
}"""
TOML = """
name = "acme"
bindHttps = ["0.0.0.0:443"]
requestTimeout = 1000
[cert]
path = "c.pem"
keyPath = "k.pem"
"""
YAML = """
name: acme
bindHttps:
  - 0.0.0.0:443
requestTimeout: 1000
cert: {path: c.pem, keyPath: k.pem}
"""


def write(directory: Path, name: str, content: str | bytes) -> Path:
    file = directory / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def problem(directory: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_file(write(directory, name, content))
    ((path, message),) = caught.value.problems
    assert path == ""
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", JSON), ("a.toml", TOML), ("a.yaml", YAML), ("a.yml", YAML), ("a.JSON", JSON)],
)
def test_one_definition_in_all_formats(tmp_path: Path, name: str, content: str) -> None:
    assert read_file(write(tmp_path, name, content)) == {
        "name": "acme",
        "bindHttps": ["0.0.0.0:443"],
        "cert": {"path": "c.pem", "keyPath": "k.pem"},
        "requestTimeout": 1000,
    }


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", "{", "is not valid JSON: Expecting property name"),
        ("a.json", '{"a": 1, "a": 2}', 'holds "a" twice'),
        ("a.json", '{"a": NaN}', "NaN is not a number there"),
        ("a.json", '{"a": -Infinity}', "-Infinity is not a number there"),
        ("a.json", "[" * 100_000, "is nested too deeply"),
        ("a.json", b"\xff\xfe", "is not UTF-8"),
        ("a.json", " " * 1_100_000, "is larger than 1048576 bytes"),
        ("a.toml", "a = ", "is not valid TOML: Invalid value (at end of document)"),
        ("a.toml", "a = 1\na = 2", "is not valid TOML: Cannot overwrite a value"),
        ("a.yaml", "a: [", "is not valid YAML: expected the node content"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "holds a key twice (at line 1, column 1)"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a.yaml", "a: *b", "found undefined alias"),
        ("a.yaml", "a: \x07", "is not valid YAML"),
        ("a.yaml", "[" * 100_000, "is nested too deeply"),
        ("a.yaml", "? [1]\n: 2", "is not valid YAML: found unhashable key"),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    assert complaint in problem(tmp_path, name, content)


def test_yaml_that_merges(tmp_path: Path) -> None:
    content = "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\nz: *x"
    assert read_file(write(tmp_path, "a.yaml", content)) == {
        "x": {"a": 1, "b": 2},
        "y": {"a": 3, "b": 2},
        "z": {"a": 1, "b": 2},
    }


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_file(tmp_path / "missing.json")
    (tmp_path / "directory.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_file(tmp_path / "directory.json")


def test_yaml_without_pyyaml(tmp_path: Path) -> None:
    """It is an extra: who has no YAML does not need it."""
    yaml, json = write(tmp_path, "a.yaml", YAML), write(tmp_path, "a.json", JSON)
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "from gatekeeper.golem.files import read_file\n"
        "from pathlib import Path\n"
        f"read_file(Path({str(json)!r}))\n"
        f"read_file(Path({str(yaml)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "needs PyYAML: pip install 'gatekeeper[golem]'" in done.stderr


def test_the_files_of_a_directory(tmp_path: Path) -> None:
    for name in ("b.json", "a.yaml", "c.TOML", "d.yml", "README", "x.json~", ".a.json", "x.txt"):
        write(tmp_path, name, "")
    names = [file.name for file in definition_files(tmp_path)]
    assert names == ["a.yaml", "b.json", "c.TOML", "d.yml"]


def test_too_many_files(tmp_path: Path) -> None:
    for number in range(1_001):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(ValueError, match="holds more than 1000 definitions"):
        definition_files(tmp_path)
