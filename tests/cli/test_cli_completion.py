from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gatekeeper.cli.main import main
from tests.cli.operating import Operator


def complete(operator: Operator, line: str) -> list[str]:
    """What the shell is offered for the last word of a line."""
    from click.testing import CliRunner

    words = line.split(" ")
    result = CliRunner().invoke(
        main,
        prog_name="gatekeeper",
        env={
            "_GATEKEEPER_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "GATEKEEPER_CONFIG": str(operator.config),
        },
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return [offered.partition(",")[2] for offered in result.stdout.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_the_shell_needs(operator: Operator, shell: str, tmp_path: Path) -> None:
    script = operator.run("completion", shell).stdout
    assert f"_GATEKEEPER_COMPLETE={shell}_complete" in script
    file = tmp_path / "script"
    file.write_text(script)
    if shutil.which(shell):
        subprocess.run([shell, "-n", file], check=True, timeout=30)


def test_another_shell(operator: Operator) -> None:
    assert "'bash', 'zsh', 'fish'" in operator.run("completion", "tcsh", status=2).stderr


def test_commands_and_options(operator: Operator) -> None:
    assert complete(operator, "gatekeeper ser") == ["service"]
    assert complete(operator, "gatekeeper service ") == ["add", "list", "remove", "show"]
    assert complete(operator, "gatekeeper exchanges ") == ["cut", "list"]
    assert "--limit" in complete(operator, "gatekeeper exchanges --user bob --")
    assert "--password-stdin" in complete(operator, "gatekeeper user add --p")
    assert operator.api.asked == []


def test_services(operator: Operator) -> None:
    operator.api.page("/v1/services", [{"name": "acme"}, {"name": "ajax"}, {"name": "b\x1b"}])
    assert complete(operator, "gatekeeper service show a") == ["acme", "ajax"]
    assert complete(operator, "gatekeeper key list --service aj") == ["ajax"]
    assert complete(operator, "gatekeeper service show b") == []


def test_users_of_the_service_that_was_named(operator: Operator) -> None:
    operator.api.page("/v1/services/acme/users", [{"name": "alice"}])
    assert complete(operator, "gatekeeper user passwd acme a") == ["alice"]


def test_keys_and_exchanges(operator: Operator) -> None:
    operator.api.page("/v1/keys", [{"id": "5f0c1e"}])
    operator.api.page("/v1/exchanges", [{"id": "d4854303"}])
    assert complete(operator, "gatekeeper key revoke 5") == ["5f0c1e"]
    assert complete(operator, "gatekeeper exchanges cut ") == ["d4854303"]


def test_options_of_the_line_are_followed(operator: Operator) -> None:
    operator.api.page("/v1/services", [{"name": "acme"}])
    config, operator.config = operator.config, Path("/nowhere")
    assert complete(operator, "gatekeeper service show a") == []
    line = f"gatekeeper service show --config {config} a"
    assert complete(operator, line) == ["acme"]


def test_where_that_fails_nothing_is_said(operator: Operator) -> None:
    operator.api.refuse("GET", "/v1/services", 401, "No.")
    assert complete(operator, "gatekeeper service show a") == []
    operator.api.answer("GET", "/v1/keys", b"[]")
    assert complete(operator, "gatekeeper key revoke a") == []
    operator.configure("state_dir = ")
    assert complete(operator, "gatekeeper service show a") == []
    operator.config.unlink()
    assert complete(operator, "gatekeeper service show a") == []
