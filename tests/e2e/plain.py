"""Configurations and clients that the end-to-end tests share."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from argon2 import PasswordHasher

from tests.daemon import PATIENCE

USER: Final = "alice:wonderland"
_HASH: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("wonderland")


def doors(checker: str, allow: str) -> str:
    """Both doors without TLS; who passes ``checker`` may go to ``allow`` through the second one."""
    return f"""
[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = ["{checker}"]
allow = ["{allow}"]
"""


#: Both doors without TLS, ``origin`` behind them. Tables may follow.
PLAIN: Final = f"""
state_dir = "state"
management = {{ bind = "@management@" }}
usage = {{ flush_interval = 0.2 }}

{doors("users", "127.0.0.1:*")}
[checkers.users]
type = "basic"
users = {{ alice = '{_HASH}' }}

[[services]]
name = "echo"
from = "/echo"
to = "http://@origin@"
checkers = ["users"]
"""

#: The same, and a service whose callers have keys, those of the store ``STORE`` or of a file.
STORED: Final = (
    'store = { url = "STORE" }\n'
    + PLAIN
    + """
[checkers.keys]
type = "key"

[checkers.tokens]
type = "api-key"
file = "keys.properties"

[[services]]
name = "keyed"
from = "/keyed"
to = "http://@origin@"
checkers = ["keys", "tokens"]
"""
)


class Curled(NamedTuple):
    """What ``curl`` did."""

    exit_status: int
    status: int
    body: bytes
    errors: str


def curl(url: str, *options: str | Path) -> Curled:
    """Run the real ``curl``, whatever the environment says of proxies."""
    run = subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "", "-w", "%{stderr}\n%{http_code}", *options, url],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        timeout=PATIENCE,
    )
    errors, _, status = run.stderr.decode().rpartition("\n")
    return Curled(run.returncode, int(status or 0), run.stdout, errors)
