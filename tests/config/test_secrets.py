from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.config.secrets import Secrets
from gatekeeper.errors import Problem
from tests.config.minimal import Configure, KeySettings, Problems

KEYS = '[checkers.keys]\ntype = "api-key"\nfile = "keys"\nsecret = '


def secret_of(configure: Configure, reference: str, **environ: str) -> str:
    settings = configure(KEYS + reference, environ=environ).checkers["keys"].settings
    assert isinstance(settings, KeySettings)
    return settings.secret


def test_from_the_environment(configure: Configure) -> None:
    assert secret_of(configure, '{ env = "WORD" }', WORD="s3cret\n") == "s3cret\n"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret\n"),
        (b" s3\ncret ", " s3\ncret "),
        ("gehe1mß".encode(), "gehe1mß"),
        (b"x" * 65536, "x" * 65536),
    ],
)
def test_from_a_file(configure: Configure, tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "word").write_bytes(content)
    assert secret_of(configure, '{ file = "secrets/word" }') == value


def test_from_a_file_with_an_absolute_path(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("s3cret")
    assert secret_of(configure, f'{{ file = "{tmp_path}/word" }}') == "s3cret"


def test_wherever_a_string_is_expected(configure: Configure, tmp_path: Path) -> None:
    settings = configure(
        """
        [[services]]
        name = "other"
        from = "/other"
        to = { env = "TO" }
        hosts = [{ env = "HOST" }, "b"]
        checkers = ["users", { env = "URL" }]
        """,
        edit={'"state"': '{ env = "STATE" }', '"basic"': '{ env = "TYPE" }'},
        environ={
            "TO": "http://upstream",
            "HOST": "A",
            "URL": "secret://s3cret",
            "STATE": "there",
            "TYPE": "basic",
        },
    )
    service = settings.services[1]
    assert service.to == "http://upstream"
    assert service.hosts == ("a", "b")
    assert service.checkers == ("users", "secret://s3cret")
    assert settings.state_dir == tmp_path / "there"
    assert settings.checkers["users"].type == "basic"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ('{ env = "MISSING" }', "the environment variable `MISSING` is not set"),
        ('{ env = "EMPTY" }', "the environment variable `EMPTY` is empty"),
        ('{ env = "s3cret!" }', "`env` must be the name of an environment variable"),
        ('{ env = "" }', "`env` must be the name of an environment variable"),
        (
            '{ file = "missing" }',
            "the file `missing` cannot be read: No such file or directory",
        ),
        ('{ file = "." }', "the file `.` cannot be read: Is a directory"),
        ('{ file = "empty" }', "the file `empty` is empty"),
        ('{ file = "newline" }', "the file `newline` is empty"),
        ('{ file = "latin-1" }', "the file `latin-1` is not UTF-8"),
        ('{ file = "/dev/zero" }', "the file `/dev/zero` is larger than 65536 bytes"),
    ],
)
def test_what_is_missing(problems: Problems, tmp_path: Path, reference: str, message: str) -> None:
    for name, content in {"empty": b"", "newline": b"\n", "latin-1": b"\xff"}.items():
        (tmp_path / name).write_bytes(content)
    assert problems(KEYS + reference, environ={"EMPTY": ""}) == [("checkers.keys.secret", message)]


def test_every_place_of_a_missing_one_is_named(problems: Problems) -> None:
    reference = '{ env = "MISSING" }'
    assert problems(edit={'"/acme"': reference, '"users"]': f'"users", {reference}]'}) == [
        ("listeners[1].checkers[1]", "the environment variable `MISSING` is not set"),
        ("services[0].from", "the environment variable `MISSING` is not set"),
        ("services[0].checkers[1]", "the environment variable `MISSING` is not set"),
    ]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ('{ env = "A", file = "b" }', "checkers.keys.secret: must be a string"),
        ("{ env = 1 }", "checkers.keys.secret: must be a string"),
        ('{ environ = "A" }', "checkers.keys.secret: must be a string"),
        ("{}", "checkers.keys.secret: must be a string"),
    ],
)
def test_other_tables_are_tables(problems: Problems, reference: str, expected: str) -> None:
    ((path, message),) = problems(KEYS + reference)
    assert f"{path}: {message}" == expected


def test_a_checker_with_nothing_but_a_file_is_a_table(problems: Problems) -> None:
    assert problems('[checkers.keys]\nfile = "keys"') == [("checkers.keys.type", "is required")]


def test_a_section_is_a_table(problems: Problems) -> None:
    assert problems('[log]\nfile = "access.log"') == [("log.file", "unknown key")]


def test_values_are_masked_in_what_others_say(problems: Problems) -> None:
    """A checker may word its messages carelessly."""
    assert problems(KEYS + '{ env = "WORD" }', environ={"WORD": "bad-s3cret"}) == [
        ("checkers.keys.secret", "cannot use ***")
    ]


def test_a_url_is_masked(problems: Problems) -> None:
    found = problems(
        edit={'checkers = ["users"]': 'checkers = [{ env = "URL" }]'},
        environ={"URL": "secret://?bad"},
    )
    assert ("services[0].checkers[0]", "*** has no value") in found
    assert "secret://?bad" not in str(found)


def test_the_longer_value_is_masked_first(tmp_path: Path) -> None:
    secrets = Secrets({"A": "s3", "B": "s3cret"}, tmp_path)
    secrets.resolve({"a": {"env": "A"}, "b": {"env": "B"}})
    assert secrets.mask([Problem("x", "s3cret and s3")]) == [Problem("x", "*** and ***")]


def test_the_tree_is_not_changed(tmp_path: Path) -> None:
    tree = {"a": [{"env": "A"}], "b": {"c": {"env": "A"}}}
    copy = {"a": [{"env": "A"}], "b": {"c": {"env": "A"}}}
    assert Secrets({"A": "x"}, tmp_path).resolve(tree) == {"a": ["x"], "b": {"c": "x"}}
    assert tree == copy
