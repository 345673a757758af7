"""Real npm packages for the tests, run by node."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest


def installed(*packages: str) -> Path:
    """A directory that has these packages (``name@version``) in its ``node_modules``.

    It is kept for the next run, in ``$GATEKEEPER_NPM_CACHE`` if that is set. Without npm the test
    is skipped, but not in CI.
    """
    if not (shutil.which("npm") and shutil.which("node")):
        if os.environ.get("CI"):
            raise AssertionError("npm and node are missing")
        pytest.skip("npm and node are missing")
    default = Path(tempfile.gettempdir()) / f"gatekeeper-npm-{os.getuid()}"
    cache = Path(os.environ.get("GATEKEEPER_NPM_CACHE") or default)
    directory = cache / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    if not directory.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            subprocess.run(
                [
                    *("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"),
                    *("--prefix", made, *packages),
                ],
                check=True,
                timeout=300,
            )
            Path(made).rename(directory)
            Path(made).mkdir()  # the context wants something to remove
    return directory


def run_node(directory: Path, script: str, given: Any) -> Any:
    """Run a script that finds its input in ``given``; what comes out it hands to ``answer``."""
    frame = (
        "const given = JSON.parse(require('fs').readFileSync(0));"
        "const answer = value => console.log(JSON.stringify(value));"
        f"(async () => {{ {script} }})();"
    )
    done = subprocess.run(
        ["node", "-e", frame],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=directory,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
