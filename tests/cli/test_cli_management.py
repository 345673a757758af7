from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gatekeeper.cli.main import main
from gatekeeper.cli.management import EXIT_UNREACHABLE, confirm
from gatekeeper.cli.management_address import DEFAULT_BIND, TOKEN_FILE, make_client, read_place
from gatekeeper.config.model import Management
from gatekeeper.errors import ConfigurationError
from gatekeeper.management.token import FILE_NAME
from gatekeeper.management_client import Unreachable, parse_address
from tests.cli.operating import TOKEN, Operator
from tests.cli.stand_in import standing_in
from tests.commands import write_config

SERVICES = "/v1/services"

#: Every command that asks the daemon, and what it needs at least.
COMMANDS = [
    ["service", "list"],
    ["service", "show", "acme"],
    ["service", "add", "acme"],
    ["service", "remove", "acme"],
    ["user", "list"],
    ["user", "add", "acme", "alice"],
    ["user", "remove", "acme", "alice"],
    ["user", "passwd", "acme", "alice"],
    ["user", "disable", "acme", "alice"],
    ["user", "enable", "acme", "alice"],
    ["user", "stats", "acme"],
    ["key", "create", "alice"],
    ["key", "list"],
    ["key", "disable", "1"],
    ["key", "enable", "1"],
    ["key", "revoke", "1"],
    ["token", "revoke"],
    ["token", "revocations"],
    ["exchanges", "list"],
    ["exchanges", "cut", "1"],
    ["status"],
    ["reload"],
    ["audit"],
]

#: Those that name something in the path of a URL.
NAMING = [
    command
    for command in COMMANDS
    if len(command) > 2
    and command[:2] not in (["service", "add"], ["key", "create"], ["user", "stats"])
]


def names(command: list[str]) -> str:
    return " ".join(command[:2])


# --- where the daemon is ----------------------------------------------------------------------


def test_the_configuration_tells_where_and_with_what_token(operator: Operator) -> None:
    operator.api.page(SERVICES, [])
    assert operator.json("service", "list") == []
    assert operator.api.only.token == TOKEN


def test_the_rest_of_the_configuration_is_not_looked_at(operator: Operator) -> None:
    """Who asks the daemon need not see all that the daemon sees."""
    operator.api.page(SERVICES, [])
    with operator.config.open("a") as file:
        file.write('auth = "token"\n[store]\nurl = { env = "NOT_SET_HERE" }\n')
    assert operator.json("service", "list") == []


def test_references_are_followed_as_the_daemon_does(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.properties").touch(0o600)
    bind = operator.api.url.removeprefix("http://")
    monkeypatch.setenv("BIND", bind)
    operator.config = write_config(
        tmp_path, tmp_path / "state", '[management]\nbind = { env = "BIND" }'
    )
    operator.api.page(SERVICES, [])
    assert operator.json("service", "list") == []
    assert operator.api.only.token == TOKEN
    monkeypatch.delenv("BIND")
    result = operator.run("service", "list", status=1)
    assert "management.bind: the environment variable `BIND` is not set" in result.stderr


def test_options_win(operator: Operator, tmp_path: Path) -> None:
    with standing_in() as other:
        other.page(SERVICES, [])
        file = tmp_path / "another"
        file.write_text("another-token\n")
        operator.run("service", "list", "--url", other.url, "--token-file", str(file))
        assert other.only.token == "another-token"
        assert operator.api.asked == []


def test_with_both_options_no_configuration_is_needed(operator: Operator) -> None:
    operator.api.page(SERVICES, [])
    place = ["--url", operator.api.url, "--token-file", str(operator.token_file)]
    operator.config.unlink()
    operator.run("service", "list", *place)
    assert operator.api.only.token == TOKEN


def test_without_a_token_that_is_said(operator: Operator) -> None:
    operator.config.unlink()
    operator.api.refuse("GET", SERVICES, 401, "Present the token.")
    result = operator.run("service", "list", "--url", operator.api.url, status=1)
    assert operator.api.only.token is None
    assert result.stderr == "gatekeeper: a token is needed (--token-file): Present the token.\n"


def test_a_wrong_token_is_told_by_its_place(operator: Operator) -> None:
    operator.api.refuse("GET", SERVICES, 401, "Present the token.")
    result = operator.run("service", "list", status=1)
    assert f"state_dir in {operator.config}, or --token-file" in result.stderr
    assert TOKEN not in result.output


@pytest.mark.parametrize("by_option", [True, False])
def test_a_unix_socket(operator: Operator, tmp_path: Path, by_option: bool) -> None:
    path = tmp_path / "api.sock"
    operator.token_file.unlink()  # there is none: the permissions of the socket say who may
    with standing_in(path) as api:
        api.page(SERVICES, [])
        if by_option:
            operator.run("service", "list", "--url", f"unix:{path}")
        else:
            operator.configure(f'state_dir = "state"\n[management]\nbind = "unix:{path}"\n')
            operator.run("service", "list")
        assert api.only.token is None


def test_an_open_listener_needs_no_token(operator: Operator) -> None:
    operator.token_file.unlink()
    with operator.config.open("a") as file:
        file.write('auth = "none"\n')
    operator.api.page(SERVICES, [])
    operator.run("service", "list")
    assert operator.api.only.token is None


def test_the_defaults_are_those_of_the_configuration(tmp_path: Path) -> None:
    assert Management().bind == DEFAULT_BIND
    assert TOKEN_FILE == FILE_NAME
    config = tmp_path / "gatekeeper.toml"
    config.write_text('state_dir = "state"\n')
    place = read_place(str(config))
    assert place == (DEFAULT_BIND, True, tmp_path / "state" / "management.token")


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:6668", "http://127.0.0.1:6668"),
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        ("[::]:6668", "http://[::1]:6668"),
        ("[::1]:6668", "http://[::1]:6668"),
        ("unix:/run/gatekeeper.sock", "unix:/run/gatekeeper.sock"),
    ],
)
def test_an_address_that_can_be_connected_to(tmp_path: Path, bind: str, url: str) -> None:
    config = tmp_path / "gatekeeper.toml"
    config.write_text(f'state_dir = "."\n[management]\nbind = "{bind}"\nauth = "none"\n')
    assert repr(make_client(str(config), None, None)) == f"<Client {url}>"


@pytest.mark.parametrize(
    ("bind", "why"),
    [("none", "has no management API"), ("127.0.0.1:0", "the system chooses the daemon's port")],
)
def test_there_is_nothing_to_connect_to(tmp_path: Path, bind: str, why: str) -> None:
    config = tmp_path / "gatekeeper.toml"
    config.write_text(f'state_dir = "."\n[management]\nbind = "{bind}"\n')
    with pytest.raises(Unreachable, match=f"{why}.*management.bind in "):
        make_client(str(config), None, None)


@pytest.mark.parametrize("bind", ["localhost:6668", "127.0.0.1", "unix:state/socket", "", ":1"])
def test_what_is_no_address(tmp_path: Path, bind: str) -> None:
    config = tmp_path / "gatekeeper.toml"
    config.write_text(f'state_dir = "."\n[management]\nbind = "{bind}"\n')
    with pytest.raises(ConfigurationError) as caught:
        make_client(str(config), None, None)
    (problem,) = caught.value.problems
    assert problem.path == "management.bind"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://[::1]:6668", "http://[::1]:6668"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com/gate/", "https://example.com:443/gate"),
        ("unix:/a/b", "unix:/a/b"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert str(parse_address(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com:6668",
        "ftp://example.com",
        "http://",
        "http://example.com:0",
        "http://example.com:99999",
        "http://example.com/?a=1",
        "http://alice:s3cret@example.com",
        "http://[::1",
        "http://ä.example",
        "unix:relative",
        "unix:/a\0b",
    ],
)
def test_what_is_no_url(operator: Operator, url: str) -> None:
    result = operator.run("status", "--url", url, status=2)
    assert "'--url'" in result.stderr or "--url" in result.stderr
    assert "http://HOST:PORT" in result.stderr


# --- what goes wrong --------------------------------------------------------------------------


def test_nobody_answers(operator: Operator) -> None:
    """The message says where it was tried, and which setting says so."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    operator.configure(f'state_dir = "state"\n[management]\nbind = "127.0.0.1:{port}"\n')
    result = operator.run("status", status=EXIT_UNREACHABLE)
    assert result.stderr == (
        f"gatekeeper: the daemon cannot be reached at http://127.0.0.1:{port} (management.bind in "
        f"{operator.config}): Connection refused\n"
    )


def test_a_socket_that_is_not_there(operator: Operator, tmp_path: Path) -> None:
    result = operator.run("status", "--url", f"unix:{tmp_path}/none", status=EXIT_UNREACHABLE)
    assert f"unix:{tmp_path}/none (--url): No such file" in result.stderr


def test_no_token(operator: Operator) -> None:
    operator.token_file.unlink()
    result = operator.run("status", status=EXIT_UNREACHABLE)
    assert f"(state_dir in {operator.config}, or --token-file)" in result.stderr
    assert f"{operator.token_file} cannot be read: No such file" in result.stderr
    assert result.stderr.endswith("; the daemon makes it when it first starts\n")


def test_no_configuration(operator: Operator) -> None:
    operator.config.unlink()
    result = operator.run("status", status=1)
    assert result.stderr == (
        f"{operator.config}: the configuration cannot be read: No such file or directory\n"
    )


def test_a_configuration_that_is_none(operator: Operator) -> None:
    operator.configure("state_dir = ")
    result = operator.run("status", status=1)
    assert result.stderr.startswith(f"{operator.config}: ")
    assert "is not valid TOML" in result.stderr


def test_an_error_names_its_fields_in_one_line(operator: Operator) -> None:
    operator.api.refuse(
        "POST", SERVICES, 422, "to: is required", to="is required", name="must be\na name"
    )
    result = operator.run("service", "add", "acme", status=1)
    assert result.stderr == "gatekeeper: to: is required; name: must be\\na name\n"


def test_an_error_without_fields(operator: Operator) -> None:
    operator.api.refuse("GET", "/v1/services/nix", 404, "There is no such service.")
    result = operator.run("service", "show", "nix", status=1)
    assert result.stderr == "gatekeeper: There is no such service.\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, b"<html>"), (404, b"[]"), (502, b"<html>"), (302, b""), (500, b'{"detail": 1}')],
)
def test_something_else_answers(operator: Operator, status: int, content: bytes) -> None:
    operator.api.answer("GET", "/v1/health", content, status)
    result = operator.run("status", status=EXIT_UNREACHABLE)
    assert "is no gatekeeper, or no management API" in result.stderr


def test_something_else_has_no_lists(operator: Operator) -> None:
    operator.api.answer("GET", SERVICES, {"hello": "world"})
    result = operator.run("service", "list", status=EXIT_UNREACHABLE)
    assert "is no gatekeeper" in result.stderr


# --- lists ------------------------------------------------------------------------------------


def test_a_list_is_read_page_by_page(operator: Operator) -> None:
    operator.api.page(SERVICES, [{"name": "a"}, {"name": "b"}], "b")
    operator.api.page(SERVICES, [{"name": "c"}])
    assert operator.json("service", "list") == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    assert [asked.query for asked in operator.api.asked] == [
        {"limit": "1000"},
        {"limit": "1000", "after": "b"},
    ]


def test_no_more_is_asked_for_than_wanted(operator: Operator) -> None:
    operator.api.page(SERVICES, [{"name": "a"}, {"name": "b"}], "b")
    assert len(operator.json("service", "list", "--limit", "2")) == 2
    assert operator.api.only.query == {"limit": "2"}


def test_a_table_says_that_there_is_more(operator: Operator) -> None:
    operator.api.page(SERVICES, [{"name": "first"}, {"name": "second"}], "second")
    shown = operator.table("service", "list", "--limit", "1")
    assert "first" in shown
    assert "second" not in shown
    assert "The first 1; for more use --limit" in shown


def test_an_empty_list(operator: Operator) -> None:
    operator.api.page(SERVICES, [])
    assert "Nothing." in operator.table("service", "list")
    assert operator.run("service", "list").stdout == "[]\n"


def test_what_comes_from_outside_cannot_do_anything_to_the_terminal(operator: Operator) -> None:
    evil = "\x1b]0;owned\x07[bold]"
    operator.api.page(SERVICES, [{"name": evil, "hosts": [evil], "description": evil}])
    operator.api.answer("GET", "/v1/services/x", {"name": evil, "meter": {"x": evil}, evil: 1})
    operator.api.refuse("GET", "/v1/services/y", 404, evil)
    outputs = [
        operator.table("service", "list"),
        operator.table("service", "show", "x"),
        operator.run("service", "list").stdout,
        operator.run("service", "show", "y", status=1).stderr,
    ]
    for output in outputs:
        assert "\x1b" not in output
        assert "[bold]" in output


# --- in general -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=names)
def test_every_command_can_be_told_where_to_ask(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command[:2], "--help"])
    assert result.exit_code == 0
    for option in ("--config", "--url", "--token-file", "--format"):
        assert option in result.output


@pytest.mark.parametrize("command", NAMING, ids=names)
def test_names_are_one_part_of_a_path(operator: Operator, command: list[str]) -> None:
    """Whatever is in them."""
    strange = [part if n < 2 else "a/../b?c#d%ä" for n, part in enumerate(command)]
    yes = ["--yes"] if command[1] in ("remove", "revoke", "cut") else []
    stdin = ["--password-stdin"] if command[1] in ("add", "passwd") else []
    operator.run(*strange, *yes, *stdin, stdin="s3cret\n", status=1)
    assert "a%2F..%2Fb%3Fc%23d%25%C3%A4" in operator.api.only.target
    assert operator.api.only.query == {}


def test_commands_start_quickly() -> None:
    """The daemon's libraries are not needed to ask it."""
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from gatekeeper.cli.main import main\n"
        "result = CliRunner().invoke(main, sys.argv[1:])\n"
        "assert result.exit_code == 4, result.output\n"
        "print([n for n in ('twisted', 'pydantic', 'rich', 'argon2') if n in sys.modules])"
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    output = subprocess.check_output(
        [sys.executable, "-c", script, "status", "-c", "/none", "--url", url], text=True
    )
    assert output == "[]\n"


@pytest.mark.parametrize(
    "command",
    [
        ["service", "remove", "acme"],
        ["user", "remove", "acme", "alice"],
        ["key", "revoke", "1"],
    ],
    ids=names,
)
def test_what_destroys_needs_a_yes(operator: Operator, command: list[str]) -> None:
    result = operator.run(*command, stdin="y\n", status=2)
    assert "--yes" in result.stderr
    assert operator.api.asked == []


def test_at_a_terminal_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def ask() -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        confirm("Really \x1b?", yes=False)
        click.echo("done")

    agreed = CliRunner().invoke(ask, input="y\n")
    assert agreed.stdout == "done\n"
    assert "Really \\x1b? [y/N]" in agreed.stderr
    for answer in ("n\n", "\n"):
        refused = CliRunner().invoke(ask, input=answer)
        assert (refused.exit_code, refused.stdout) == (1, "")
