"""The command ``gatekeeper`` in tests: a configuration for it, and running it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from gatekeeper.cli.main import main

CONFIG = """
state_dir = "{state}"

[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:0"

[checkers.keys]
type = "api-key"
file = "keys.properties"

[[services]]
name = "acme"
to = "http://127.0.0.1:1"
checkers = ["keys"]
{more}
"""


def write_config(directory: Path, state: Path, more: str = "") -> Path:
    path = directory / "gatekeeper.toml"
    path.write_text(CONFIG.format(state=state, more=more))
    return path


def invoke(*arguments: object, stdin: str | bytes = "", **environ: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin, env=environ)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it as a process of its own, where it needs a reactor of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gatekeeper", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
