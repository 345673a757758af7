from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper import __version__
from gatekeeper.auth.passwords import verify_password
from tests.commands import invoke, run, write_config


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    return state


@pytest.fixture
def config(tmp_path: Path, state: Path) -> Path:
    (tmp_path / "keys.properties").touch(0o600)
    return write_config(tmp_path, state)


# --- in general -------------------------------------------------------------------------------


def test_help_is_quick() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from gatekeeper.cli.main import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "print([name for name in ('twisted', 'pydantic', 'rich', 'argon2') if name in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert "check-config" in output
    assert "Exit status" in output
    assert output.endswith("[]\n")


@pytest.mark.parametrize("command", ["check-config", "hash-password", "version"])
def test_every_command_takes_a_configuration(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "--config" in result.output
    assert "GATEKEEPER_CONFIG" in result.output


def test_version() -> None:
    assert invoke("version").output == f"gatekeeper {__version__}\n"


def test_as_a_module() -> None:
    assert run("version").stdout == f"gatekeeper {__version__}\n"


# --- check-config -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["argument", "option", "environment"])
def test_good_configuration(config: Path, how: str) -> None:
    if how == "argument":
        result = invoke("check-config", config)
    elif how == "option":
        result = invoke("check-config", "--config", config)
    else:
        result = invoke("check-config", GATEKEEPER_CONFIG=str(config))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{config}: ok\n", "")


def test_every_problem_is_printed(tmp_path: Path, config: Path, state: Path) -> None:
    write_config(tmp_path, state, 'unknown = 1\n[store]\nurl = "mysql://x"\n')
    result = invoke("check-config", config)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert all(line.startswith(f"{config}: ") for line in lines)
    assert any("services[0].unknown" in line for line in lines)
    assert any("store.url" in line for line in lines)


def test_what_only_the_daemon_would_find(tmp_path: Path, config: Path, state: Path) -> None:
    (tmp_path / "keys.properties").unlink()
    write_config(tmp_path, state, '[store]\nurl = "postgresql://u:hidden@h/d?sslmod=x"\n')
    result = invoke("check-config", config)
    assert result.exit_code == 1
    assert f"{config}: checkers.keys.file: " in result.stderr
    assert f"{config}: store.url: unknown options: sslmod" in result.stderr
    assert "hidden" not in result.output


def test_configuration_that_is_not_there(tmp_path: Path) -> None:
    result = invoke("check-config", tmp_path / "nowhere.toml")
    assert result.exit_code == 1
    assert "nowhere.toml" in result.stderr


def test_configuration_of_the_demo(tmp_path: Path, state: Path) -> None:
    path = write_config(
        tmp_path, state, '[checkers.users]\ntype = "basic"\n[demo]\nkeys_file = "keys.properties"\n'
    )
    result = invoke("check-config", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"{path}: ok\n")


# --- hash-password ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["s3cret with blanks ", "s3cret", "zürich", "\ts"])
def test_password_from_a_pipe(line: str) -> None:
    result = invoke("hash-password", stdin=f"{line}\nanother line\n")
    if line.startswith("\t"):
        assert result.exit_code == 2
        assert "control characters" in result.stderr
    else:
        assert result.exit_code == 0
        assert verify_password(line, result.stdout.rstrip("\n"))
        assert line not in result.output


@pytest.mark.parametrize(("stdin", "message"), [(b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF")])
def test_wrong_password_from_a_pipe(stdin: bytes, message: str) -> None:
    result = invoke("hash-password", stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("second", ["s3cret", "different"])
def test_password_from_a_terminal(second: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatekeeper", "hash-password"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,  # No controlling terminal: the prompt has to use standard input.
    )
    os.close(theirs)
    shown = b""
    answers = [b"s3cret\n", second.encode() + b"\n"]
    if second == "different":
        answers += [b"other\n", b"other\n"]
    for number, answer in enumerate(answers, 1):
        while shown.count(b": ") < number + (number > 2):
            shown += os.read(ours, 1000)
        os.write(ours, answer)
    output, _ = process.communicate(timeout=30)
    os.close(ours)
    assert b"s3cret" not in shown
    expected = "s3cret" if second == "s3cret" else "other"
    assert verify_password(expected, output.decode().rstrip("\n"))
