from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.access_token_settings import AccessTokenSettings
from gatekeeper.auth.interfaces import Grant
from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.secret_keys import secret_key
from gatekeeper.cli.main import main
from tests.auth.support import credentials, outcome

PHRASE = "12345678901234567890123456789012"
CONFIG = """
state_dir = "state"

[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:0"

[checkers.users]
type = "basic"

[checkers.nvm]
type = "access-token"
secret = {{ env = "PHRASE" }}
max_lifetime = 86400.0
backend_url = "https://backend.example"
backend_token = "backend-s3cret"
marketplace_url = "https://market.example"
{more}
"""
DID = "did:nv:" + "c5" * 32
MINT = ("--user", "0xabc", "--url", "https://api.example.com/v1/(.*)")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(directory: Path, more: str = "") -> Path:
    path = directory / "gatekeeper.toml"
    path.write_text(CONFIG.format(more=more))
    return path


def invoke(config: Path, *arguments: str, stdin: str = "", phrase: str = PHRASE) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(
        main,
        ["token", command, "--config", str(config), *rest],
        input=stdin,
        env={"PHRASE": phrase},
    )


def mint(config: Path, *arguments: str, stdin: str = "") -> str:
    result = invoke(config, "mint", *MINT, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return str(line)


def inspect(config: Path, token: str, *arguments: str, status: int = 0) -> Any:
    result = invoke(config, "inspect", *arguments, stdin=token + "\n")
    assert result.exit_code == status, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_a_minted_token_is_good(config: Path) -> None:
    token = mint(config)
    settings = AccessTokenSettings.model_validate({"secret": PHRASE})
    checker = AccessTokenChecker.configured("nvm", settings)
    (grant,) = outcome(checker.check(credentials(f"Bearer {token}".encode())))
    assert isinstance(grant, Grant)
    assert grant.user == "0xabc"


def test_all_that_it_may_say(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    file.write_text("upstream-s3cret\n")
    token = mint(
        config,
        *("--url", "http://inner:8080/:x", "--lifetime", "90m", "--did", DID),
        *("--owner", "0xdef", "--subscription", "0x" + "AB" * 32, "--erc-type", "1155"),
        *("--authentication", "bearer", "--credential-file", str(file)),
    )
    shown = inspect(config, token)
    issued, expires = shown.pop("issued"), shown.pop("expires")
    assert seconds(expires) - seconds(issued) == 90 * 60
    assert 0 <= time.time() - seconds(issued) < 60
    assert shown == {
        "good": True,
        "reason": "",
        "detail": "",
        "user": "0xabc",
        "did": DID,
        "owner": "0xdef",
        "subscription": "ab" * 32,
        "erc_type": 1155,
        "begins": None,
        "authentication": "bearer",
        "authorization": "Bearer ***",
        "urls": [
            {"url": "https://api.example.com/v1/(.*)", "problem": ""},
            {"url": "http://inner:8080/:x", "problem": ""},
        ],
    }


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("bearer", "upstream-s3cret", "Bearer upstream-s3cret"),
        ("oauth", "upstream-s3cret\n", "Bearer upstream-s3cret"),
        ("basic", "user:pa:ss\n", "Basic dXNlcjpwYTpzcw=="),
    ],
)
def test_the_upstreams_credential(config: Path, kind: str, given: str, expected: str) -> None:
    more = ("--authentication", kind, "--credential-file", "-")
    token = mint(config, *more, stdin=given)
    assert "s3cret" not in token
    shown = inspect(config, token)
    assert shown["authentication"] == kind
    assert shown["authorization"] == f"{expected.split()[0]} ***"
    assert inspect(config, token, "--show-secrets")["authorization"] == expected
    opened = inspect(config, token, "--url", "https://api.example.com/v1/x")["opens"]
    assert opened["authorization"] == f"{expected.split()[0]} ***"


def test_whether_it_opens_a_url(config: Path) -> None:
    token = mint(config, "--url", "https://backend.example:443/x")
    opens = inspect(config, token, "--url", "http://api.example.com:443/v1/x?y=z")["opens"]
    assert opens == {
        "scheme": "https",
        "host": "api.example.com",
        "port": 443,
        "authorization": None,
    }
    shown = inspect(config, token, "--url", "https://api.example.com/v2", status=3)
    assert shown["opens"] is None
    assert shown["good"]
    at_backend = ("--url", "https://backend.example/x")
    assert inspect(config, token, *at_backend)["opens"]["authorization"] == "Bearer ***"
    shown = inspect(config, token, *at_backend, "--show-secrets")
    assert shown["opens"]["authorization"] == "Bearer backend-s3cret"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "malformed_token"),
        ("a.b.c", "malformed_token"),
        ("x" * 60_000, "malformed_token"),
        ("\u00e9.\u00e9.\u00e9.\u00e9.\u00e9", "malformed_token"),
    ],
)
def test_what_is_no_token(config: Path, token: str, reason: str) -> None:
    shown = inspect(config, token, status=3)
    assert (shown["good"], shown["reason"]) == (False, reason)
    assert shown["detail"]


def test_a_token_of_another_secret(config: Path) -> None:
    token = mint(config)
    result = invoke(config, "inspect", stdin=token, phrase="9" * 32)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["reason"] == "forged_token"


def test_a_token_that_has_expired_is_shown(config: Path) -> None:
    claims = {"userId": "0xabc", "endpoints": [], "exp": 1_700_000_000}
    cipher = TokenCipher(secret_key(PHRASE, "nevermined-digits"))
    shown = inspect(config, cipher.encrypt(json.dumps(claims).encode()), status=3)
    assert (shown["good"], shown["reason"]) == (False, "expired_token")
    assert shown["detail"] == "The access token has expired."
    assert (shown["user"], shown["expires"]) == ("0xabc", "2023-11-14T22:13:20Z")


def test_a_token_may_be_given_with_its_scheme_or_in_a_file(config: Path, tmp_path: Path) -> None:
    token = mint(config)
    assert inspect(config, f"Bearer {token}")["good"]
    file = tmp_path / "token"
    file.write_text(token)
    assert inspect(config, "", str(file))["good"]


def test_a_table(config: Path) -> None:
    token = mint(config, "--url", "https://h/" + "x" * 100)
    opened = ("--url", "https://api.example.com/v1/x")
    result = invoke(config, "inspect", "--format", "table", *opened, stdin=token)
    assert result.exit_code == 0
    assert "0xabc" in result.stdout
    assert "opens" in result.stdout
    assert "begins" not in result.stdout
    result = invoke(config, "inspect", "--format", "table", "--url", "http://x/", stdin=token)
    assert result.exit_code == 3
    assert "nothing" in result.stdout


def test_patterns_that_cannot_be_used_are_shown(config: Path) -> None:
    settings = AccessTokenSettings.model_validate({"secret": PHRASE})
    checker = AccessTokenChecker.configured("nvm", settings)
    claims = {"userId": "u", "endpoints": ["https://h/(\x1b[31m"], "exp": 2**53}
    token = checker.mint(claims)
    shown = inspect(config, token, status=3)  # it is good for longer than is allowed
    assert shown["reason"] == "long_token"
    assert shown["urls"][0]["problem"]
    assert shown["expires"] == str(2**53)
    table = invoke(config, "inspect", "--format", "table", stdin=token)
    assert "opens nothing" in " ".join(table.stdout.split())
    assert "\x1b[31m" not in table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "api.example.com/v1"], "begins with `http://`"),
        (["--url", "https://h/("], "is not closed"),
        (["--lifetime", "2d"], "longer than is allowed"),
        (["--lifetime", "1y"], "must be a span"),
        (["--lifetime", "0s"], "must be a span"),
        (["--lifetime", "-5m"], "must be a span"),
        (["--did", "did:nv:1"], "`did` is malformed"),
        (["--owner", "a b"], "`owner` is malformed"),
        (["--subscription", "7"], "`subscriptionDid` is malformed"),
        (["--erc-type", "20"], "'721', '1155'"),
        (["--authentication", "basic", "--credential-file", "-"], "not `user:password`"),
        (["--authentication", "bearer", "--credential-file", "-"], "token` is missing"),
        (["--checker", "users"], "access-token` checkers: nvm"),
        (["--checker", "other"], "access-token` checkers: nvm"),
    ],
)
def test_what_is_not_minted(config: Path, arguments: list[str], message: str) -> None:
    result = invoke(config, "mint", *MINT, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("content", [b"\xff\n", b"x" * 70_000], ids=["not UTF-8", "too long"])
def test_a_credential_that_cannot_be_read(config: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credential"
    file.write_bytes(content)
    more = ("--authentication", "bearer", "--credential-file", str(file))
    assert invoke(config, "mint", *MINT, *more).exit_code == 2


def test_several_checkers(tmp_path: Path) -> None:
    more = '[checkers.new]\ntype = "access-token"\nsecret_encoding = "hex"\nsecret = "'
    config = write(tmp_path, more + "ab" * 32 + '"')
    result = invoke(config, "mint", *MINT)
    assert result.exit_code == 2
    assert "nvm, new" in result.stderr
    token = mint(config, "--checker", "new")
    assert inspect(config, token, "--checker", "new")["good"]
    assert inspect(config, token, "--checker", "nvm", status=3)["reason"] == "forged_token"


def test_a_secret_that_cannot_be_used(config: Path) -> None:
    result = invoke(config, "mint", *MINT, phrase="s3cret")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "checkers.nvm.secret: must be 32 characters, and is 6" in result.stderr


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    result = invoke(write(tmp_path, "unknown = 1"), "mint", *MINT)
    assert result.exit_code == 1
    assert "checkers.nvm.unknown" in result.stderr


@pytest.mark.parametrize("url", ["/v1/x", "https://user@h/", "https://h/../x", "h"])
def test_a_url_that_is_none(config: Path, url: str) -> None:
    result = invoke(config, "inspect", "--url", url, stdin="x")
    assert result.exit_code == 2
    assert "--url" in result.stderr


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_secrets_are_asked_for_at_a_terminal(config: Path, terminal: tuple[int, int]) -> None:
    """They are not shown, and stand on no command line."""
    ours, theirs = terminal
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gatekeeper", "token", "mint", "-c", str(config)),
            *(*MINT, "--authentication", "bearer"),
        ],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "PHRASE": PHRASE},
        start_new_session=True,  # No controlling terminal: the prompt has to use standard input.
    )
    os.close(theirs)
    shown = b""
    while b"token: " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, b"upstream-s3cret\n")
    output, _ = process.communicate(timeout=60)
    assert b"upstream-s3cret" not in shown
    token = output.decode().strip()
    found = inspect(config, token, "--show-secrets")
    assert found["authorization"] == "Bearer upstream-s3cret"
