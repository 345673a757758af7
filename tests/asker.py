"""Asks what would become of requests, by a configuration with a bit of everything.

A test module makes its fixtures of the functions at the end: ``asker = pytest.fixture(an_asker)``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.loading import load
from gatekeeper.explain import explain
from gatekeeper.explain_question import Question
from gatekeeper.explain_report import Report, describe, print_lines
from tests.auth.support import ALICE, KEYS, OTHER_KEY, token

SECRET = "s3cret-of-ops"
ANYBODY = "203.0.113.9"
BASE = f"""
state_dir = "state"

[[listeners]]
name = "public"
role = "gateway"
bind = "0.0.0.0:443"
tls = {{ self_signed = true }}
trusted_peers = ["10.0.0.0/8"]

[[listeners]]
name = "plain"
role = "gateway"
bind = "127.0.0.1:8080"

[[listeners]]
name = "proxy"
role = "forward"
bind = "127.0.0.1:3128"
checkers = ["users", "secret://{SECRET}?user_id=ops"]
allow = ["*:443", "*.example.org:80", "localhost:9"]

[checkers.users]
type = "basic"
users = {{ alice = "{ALICE}" }}

[checkers.keys]
type = "api-key"
file = "keys.properties"

[checkers.nevermined]
type = "access-token"
secret = "{"5a" * 32}"
secret_encoding = "hex"

[[services]]
name = "acme"
from = "/acme"
to = "http://127.0.0.1:10000/base"
checkers = ["keys", "users", "secret://{SECRET}?user_id=ops"]
access = [
    {{ path = "/acme/spend/**", methods = ["POST"], groups = ["spender"] }},
    {{ path = "/acme/**", methods = ["GET", "POST"] }},
]

[[services]]
name = "site"
hosts = ["www.example.com", "*.pages.example.com"]
listeners = ["public"]
to = "https://[::1]:8443"
checkers = ["trust://?allowed=x-sf-user-id"]
open_methods = ["OPTIONS"]

[[services]]
name = "open"
from = "/open"
to = "http://10.0.0.1"
checkers = []
limits = {{ body = 10 }}

[[services]]
name = "nodes"
hosts = ["nodes.example.com"]
to = "grant"
allow = ["*:443"]
checkers = ["nevermined"]
"""

#: What is shown of the secret's checker.
OPS = "<secret://*** user 'ops'>"


class Asker:
    """Asks about requests, and sees to it that no secret is told."""

    def __init__(self, config: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.configure(BASE)

    def configure(self, text: str) -> None:
        """Use this configuration."""
        self.config.write_text(text)
        self.settings = load(self.config, checker_types())

    async def ask(
        self, method: str, url: str, *fields: tuple[str, bytes | str], **options: Any
    ) -> Report:
        texts = [(n, v if isinstance(v, str) else v.decode("ascii")) for n, v in fields]
        question = Question(method, url, texts, **options)
        report = describe(await explain(self.settings, question, self.loop))
        shown = json.dumps(report) + lines(report) + repr(question)
        assert SECRET not in shown
        for name, value in texts:
            if "authorization" in name.lower():
                assert value.split(" ")[-1] not in shown
        assert not self.settings.state_dir.exists()
        return report


def lines(report: Report) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        print_lines(report, console)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def said(report: Report) -> list[tuple[str, str]]:
    return [(each["checker"], each["said"]) for each in report["checkers"]]


def good_token(expires: int = 0) -> bytes:
    return token({"id": "003", "exp": expires or int(time.time()) + 60}, key=OTHER_KEY)


def a_config(tmp_path: Path) -> Path:
    """A fixture: the configuration's file."""
    file = tmp_path / "gatekeeper.toml"
    file.write_text(BASE)
    (tmp_path / "keys.properties").write_text(KEYS)
    return file


def an_asker(config: Path) -> Iterator[Asker]:
    """A fixture: names are looked up through its loop, and nothing else; that does not run."""
    loop = asyncio.new_event_loop()
    yield Asker(config, loop)
    loop.close()
