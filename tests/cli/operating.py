"""An operator at the command line, and what the commands talk to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gatekeeper.cli.main import main
from tests.cli.stand_in import StandIn, standing_in

TOKEN = "operators-s3cret-token"


class Operator:
    """Runs commands against a stand-in, as a configuration tells where that is."""

    def __init__(self, directory: Path, api: StandIn, bind: str) -> None:
        self.api = api
        self.config = directory / "gatekeeper.toml"
        state_dir = directory / "state"
        state_dir.mkdir()
        self.token_file = state_dir / "management.token"
        self.token_file.write_text(TOKEN + "\n")
        self.configure(f'state_dir = "state"\n[management]\nbind = "{bind}"\n')

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.config.write_text(text)

    def run(self, *arguments: str, stdin: str | bytes = "", status: int = 0) -> Result:
        """Run a command, whose output goes to another program; it must end with ``status``."""
        environ = {"GATEKEEPER_CONFIG": str(self.config), "COLUMNS": "200"}
        result = CliRunner().invoke(main, arguments, input=stdin, env=environ)
        assert result.exit_code == status, result.output
        return result

    def json(self, *arguments: str, stdin: str = "", status: int = 0) -> Any:
        """Run a command: the JSON that it prints."""
        return json.loads(self.run(*arguments, stdin=stdin, status=status).stdout)

    def table(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Run a command: what it shows at a terminal."""
        return self.run(*arguments, "--format", "table", stdin=stdin, status=status).stdout


@contextmanager
def operating(directory: Path) -> Iterator[Operator]:
    """An operator and a stand-in."""
    with standing_in() as api:
        yield Operator(directory, api, api.url.removeprefix("http://"))
