from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from gatekeeper.config.loading import load
from gatekeeper.config.model import Limits, Store, Timeouts
from gatekeeper.errors import ConfigurationError
from tests.config.minimal import CHECKERS, MINIMAL, BasicSettings, Configure, KeySettings, Problems


def test_a_small_configuration_gets_the_defaults(configure: Configure, tmp_path: Path) -> None:
    settings = configure()
    assert settings.state_dir == tmp_path / "state"
    assert settings.limits == Limits()
    assert settings.timeouts == Timeouts()
    assert [listener.name for listener in settings.listeners] == ["public", "proxy"]
    assert settings.listeners[1].allow == ("*:80", "*:443")
    assert settings.services[0].from_ == "/acme"
    assert settings.demo is None


def test_a_checker_becomes_its_type_and_its_settings(configure: Configure) -> None:
    settings = configure('realm = "there"', edit={MINIMAL[MINIMAL.index("[[services]]") :]: ""})
    assert settings.checkers["users"].type == "basic"
    assert settings.checkers["users"].settings == BasicSettings(realm="there")


def test_values_are_stored_in_their_canonical_form(configure: Configure) -> None:
    settings = configure(
        'hosts = ["WWW.Acme.com", "*.Acme.com", "[::0:1]"]',
        edit={'role = "gateway"': 'role = "gateway"\ntrusted_peers = ["192.0.2.1"]'},
    )
    assert settings.services[0].hosts == ("www.acme.com", "*.acme.com", "::1")
    assert settings.listeners[0].trusted_peers == ("192.0.2.1/32",)


def test_the_process_environment_is_the_default(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    file = tmp_path / "gatekeeper.toml"
    file.write_text(MINIMAL.replace('"state"', '{ env = "GATEKEEPER_TEST_STATE" }'))
    monkeypatch.setenv("GATEKEEPER_TEST_STATE", "/elsewhere")
    assert load(str(file), CHECKERS).state_dir == Path("/elsewhere")


def test_all_problems_come_at_once(problems: Problems) -> None:
    found = problems(
        """
        paths = 1
        methods = ["get"]
        access = [ { path = "v0", method = ["GET"] } ]

        [[services]]
        name = "acme"
        from = "/other/"
        to = "127.0.0.1:80"
        listeners = ["publik"]
        checkers = ["user", "secrets://s3cret", "secret://ok"]

        [checkers.keys]
        type = "apikey"

        [limits]
        head = "big"

        [log]
        acces = "-"
        """,
        edit={'bind = "127.0.0.1:3128"': 'bind = "127.0.0.1:8443"\ntls = {}'},
    )
    assert sorted(found) == [
        ("checkers.keys.type", "no checker is of this type; did you mean `api-key`?"),
        ("limits.head", "must be a whole number"),
        ("listeners[1].bind", "`127.0.0.1:8443` is the address of `listeners[0].bind` already"),
        ("listeners[1].tls", "needs `certificate` and `key`, or `self_signed = true`"),
        ("log.acces", "unknown key; did you mean `access`?"),
        ("services[0].access[0].method", "unknown key; did you mean `methods`?"),
        ("services[0].access[0].path", "must start with `/`"),
        ("services[0].methods", "unknown key; did you mean `open_methods`?"),
        ("services[0].paths", "unknown key; did you mean `rates`?"),
        ("services[1].checkers[0]", "there is no table `checkers.user`; did you mean `users`?"),
        (
            "services[1].checkers[1]",
            "no checker has a URL of this scheme; known: `null://`, `secret://`, `trust://`",
        ),
        ("services[1].from", "must not end with `/`"),
        (
            "services[1].listeners[0]",
            "no listener is called `publik`; did you mean `public`?",
        ),
        ("services[1].name", "`acme` is the name of services[0] already"),
        ("services[1].to", "must be a URL that starts with `http://` or `https://`"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"state_dir = ", "not valid TOML"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"\n\n'\xff'", "not UTF-8 (at line 3)"),
        (b"\xff\xfes\0t\0", "not UTF-8 (at line 1)"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * (16 * 1024 * 1024 + 1), "larger than 16777216 bytes"),
    ],
    ids=["syntax", "twice", "latin-1", "utf-16", "number", "deep", "large"],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "gatekeeper.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(file, CHECKERS, environ={})
    (problem,) = caught.value.problems
    assert problem.path == ""
    assert message in problem.message
    assert str(caught.value).startswith(f"{file}: the configuration ")


@pytest.mark.parametrize(("name", "why"), [("missing.toml", "No such file"), (".", "directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / name, CHECKERS, environ={})
    (problem,) = caught.value.problems
    assert problem.message.startswith("the configuration cannot be read: ")
    assert why in problem.message


def test_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "gatekeeper.toml"
    file.touch()
    with pytest.raises(ConfigurationError) as caught:
        load(file, CHECKERS, environ={})
    assert {str(problem) for problem in caught.value.problems} == {
        "state_dir: is required",
        "listeners: is required",
    }


def test_tables_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "gatekeeper.toml"
    file.write_text(
        "state_dir = 1\nstore = 1\nmanagement = 1\ncheckers = 1\ndemo = 1\nlisteners = 1\n"
        "services = [1]"
    )
    with pytest.raises(ConfigurationError) as caught:
        load(file, CHECKERS, environ={})
    assert {str(problem) for problem in caught.value.problems} == {
        "state_dir: must be a path, given as a string",
        "store: must be a table",
        "management: must be a table",
        "checkers: must be a table",
        "demo: must be a table",
        "listeners: must be a list",
        "services[0]: must be a table",
    }


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("checkers.x = 1", [("checkers.x", "must be a table")]),
        ("checkers.x = {}", [("checkers.x.type", "is required")]),
        ("checkers.x.type = 1", [("checkers.x.type", "must be a string")]),
        (
            'checkers.x.type = "zz"',
            [
                (
                    "checkers.x.type",
                    "no checker is of this type; known: `api-key`, `basic`, `strict`",
                )
            ],
        ),
        (
            'checkers.x = { type = "basic", users = { a = 1 }, relm = "x" }',
            [
                ("checkers.x.users.a", "must be a string"),
                ("checkers.x.relm", "unknown key; did you mean `realm`?"),
            ],
        ),
        (
            'checkers.x = { type = "strict", word = "no" }',
            [("checkers.x.word", "is no good"), ("checkers.x", "is a pity")],
        ),
        (
            'checkers."x y" = { type = "basic" }',
            [
                (
                    'checkers."x y"',
                    "must be 1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter "
                    "or digit",
                )
            ],
        ),
    ],
)
def test_a_checker_that_is_wrong(
    problems: Problems, table: str, expected: list[tuple[str, str]]
) -> None:
    assert problems(edit={'state_dir = "state"': f'state_dir = "state"\n{table}'}) == expected


def test_the_alternatives_of_a_checkers_key_do_not_show_in_the_path(problems: Problems) -> None:
    assert problems('[checkers.x]\ntype = "api-key"\nfile = "f"\nshape = ["a"]') == [
        ("checkers.x.shape", "must be a whole number"),
        ("checkers.x.shape[0]", "must be a whole number"),
    ]


def test_nothing_shows_what_stands_in_the_file(problems: Problems, configure: Configure) -> None:
    """Whatever is wrong, neither the message nor the traceback may have the value."""
    added = """
        [[services]]
        name = "s3cret s3cret"
        to = "http://user:s3cret@host"
        from = "s3cret"
        hosts = ["s3cret!"]
        checkers = ["secret//s3cret", "nowhere://s3cret", "s3cret?user_id=ops"]

        [checkers.keys]
        type = "api-key"
        file = "keys"
        secret = ["s3cret"]
        shape = "s3cret"

        [store]
        url = "mysql://user:s3cret@host"

        [cache]
        url = "redis://:s3cret@host?ssl_cert_reqs=none"
        ttl = "s3cret"

        [usage]
        enabled = "s3cret"
        """
    found = problems(added)
    assert len(found) == 14
    assert "s3cret" not in str(found)
    with pytest.raises(ConfigurationError) as caught:
        configure(added)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_settings_do_not_show_secrets(configure: Configure) -> None:
    settings = configure(
        """
        [[services]]
        name = "other"
        to = "http://127.0.0.1:1"
        from = "/other"
        checkers = ["secret://s3cret"]

        [checkers.keys]
        type = "api-key"
        file = "keys"
        secret = "s3cret"

        [store]
        url = "postgresql://user:s3cret@host"
        """,
        edit={'checkers = ["users"]': 'checkers = ["secret://s3cret"]'},
    )
    keys = settings.checkers["keys"].settings
    assert isinstance(keys, KeySettings)
    assert keys.secret == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_model_made_in_python_does_not_show_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="sqlite:///FILE") as caught:
        Store(url="mysql://user:s3cret@host")
    assert "s3cret" not in str(caught.value)


def test_a_python_name_is_no_key(problems: Problems) -> None:
    assert ("services[0].from_", "unknown key; did you mean `from`?") in problems(
        edit={'from = "/acme"': 'from_ = "/acme"'}
    )


@pytest.mark.parametrize(
    ("table", "path", "message"),
    [
        ("[limits]\nhead = true", "limits.head", "must be a whole number"),
        ("[limits]\nhead = 1.5", "limits.head", "must be a whole number"),
        ("[limits]\nhead = 0", "limits.head", "must be more than 0"),
        ("[timeouts]\nhead = '5'", "timeouts.head", "must be a number"),
        ("[timeouts]\nhead = true", "timeouts.head", "must be a number"),
        ("[timeouts]\nhead = inf", "timeouts.head", "must be a finite number"),
        ("[timeouts]\nhead = nan", "timeouts.head", "must be a finite number"),
        ("[timeouts]\nhead = -1", "timeouts.head", "must be more than 0.0"),
        ("[timeouts]\nhead = 1e9", "timeouts.head", "must be at most 31622400.0"),
        ("[usage]\nenabled = 1", "usage.enabled", "must be `true` or `false`"),
        ("[management]\nauth = 'x'", "management.auth", "must be `token` or `none`"),
        ("[demo]\norigin = 'x'", "demo.origin", "must be `address:port`; the port is missing"),
    ],
)
def test_values_of_the_wrong_kind(problems: Problems, table: str, path: str, message: str) -> None:
    assert problems(table) == [(path, message)]


def test_whole_numbers_are_seconds_too(configure: Configure) -> None:
    assert configure("[timeouts]\nhead = 5").timeouts.head == 5.0


def test_a_relative_configuration_path(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    monkeypatch.chdir(tmp_path)
    assert load("gatekeeper.toml", CHECKERS).state_dir == tmp_path / "state"
    assert os.getcwd() == str(tmp_path)
