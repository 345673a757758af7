from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatekeeper.cli.main import main
from tests.asker import (
    BASE,
    OPS,
    SECRET,
    a_config,
    said,
)
from tests.auth.support import basic

config = pytest.fixture(a_config)


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A process of its own, since it brings its own reactor."""
    return subprocess.run(
        [sys.executable, "-m", "gatekeeper", "explain", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_sent_bound_or_written(config: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as upstream,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        config.write_text(
            BASE.replace("127.0.0.1:10000", f"127.0.0.1:{upstream.getsockname()[1]}").replace(
                "127.0.0.1:8080", f"127.0.0.1:{taken.getsockname()[1]}"
            )
        )
        (config.parent / "credentials").write_text(
            f"Authorization: {basic('alice', 'wonderland').decode()}\nX-Other: ü\n", "utf-8"
        )
        before = sorted(config.parent.iterdir())
        result = run(
            *("--config", config, "GET", "https://api.example.com/acme/x"),
            *("-H", f"@{config.parent / 'credentials'}"),
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        report = json.loads(result.stdout)
        assert said(report) == [("keys", "abstain"), ("users", "grant"), (OPS, "not asked")]
        upstream.setblocking(False)
        with pytest.raises(BlockingIOError):
            upstream.accept()
        assert sorted(config.parent.iterdir()) == before


def test_refused_with_credentials_from_standard_input(config: Path) -> None:
    result = run(
        *("-c", config, "--peer", "192.0.2.1", "--json", "POST", "https://x.example/acme/spend/1"),
        *("-H", "@-"),
        stdin=f"Authorization: Bearer {SECRET}\n",
    )
    assert (result.returncode, result.stderr) == (3, ""), result.stderr
    report = json.loads(result.stdout)
    assert report["peer"] == report["client"] == "192.0.2.1"
    assert report["answer"]["reason"] == "insufficient_scope"
    assert SECRET not in result.stdout


def test_lines_on_a_terminal(config: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatekeeper", "explain", "-c", config, "CONNECT", "x.example:443"],
        stdout=theirs,
        env={**os.environ, "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other side has been closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert process.wait(60) == 3
    assert b"answer     407 no_credentials: " in shown
    assert b"{" not in shown


def test_a_server_that_is_away_is_told(config: Path) -> None:
    table = """
        [checkers.idp]
        type = "introspection"
        url = "http://127.0.0.1:1/introspect"
        client_id = "gatekeeper"
        client_secret = "hidden-from-all"

        [[services]]
        name = "idp"
        from = "/idp"
        to = "http://127.0.0.1:1"
        checkers = ["idp"]
    """
    config.write_text(BASE + textwrap.dedent(table))
    result = run("-c", config, "GET", "https://x/idp", "-H", "Authorization: Bearer a-token-here")
    assert result.returncode == 3
    assert json.loads(result.stdout)["checkers"] == [
        {
            "checker": "idp",
            "said": "unavailable",
            "reason": "introspection_away",
            "detail": "The access token cannot be checked at the moment.",
        }
    ]
    assert "log: " in result.stderr
    assert "refused" in result.stderr
    for secret in ("hidden-from-all", "a-token-here"):
        assert secret not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["GET", "/acme"], 2, "must begin with `http://`"),
        (["GET", "https://x/", "--listener", "nowhere"], 2, "there are: public, plain, proxy"),
        (["GET", "https://x/", "--peer", "nobody"], 2, "must be an IP address"),
        (["GET", "https://x/", "-H", f"Bearer {SECRET}"], 2, "must be 'NAME: VALUE', or @FILE"),
        (["GET", "https://x/", "-H", "@nowhere"], 2, "nowhere cannot be read"),
        (["GET", "https://x/", "-H", "@/dev/zero"], 2, "/dev/zero is longer than"),
        (["GET"], 2, "Missing argument"),
    ],
)
def test_a_wrong_command_line(
    config: Path, arguments: list[str], status: int, message: str
) -> None:
    result = run("--config", config, *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("unknown = 1\n", "services[3].unknown"),
        ('[demo]\norigin = "127.0.0.1:1"\n', "demo: its user and key are made when"),
    ],
)
def test_a_wrong_configuration(config: Path, more: str, problem: str) -> None:
    config.write_text(BASE + more)
    before = sorted(config.parent.iterdir())
    result = run("--config", config, "GET", "https://x/acme")
    assert (result.returncode, result.stdout) == (1, "")
    assert problem in result.stderr
    assert sorted(config.parent.iterdir()) == before


def test_help_tells_the_exit_status() -> None:
    result = CliRunner().invoke(main, ["explain", "--help"])
    assert result.exit_code == 0
    assert "3  the request would be refused" in result.output
    assert "GATEKEEPER_CONFIG" in result.output
