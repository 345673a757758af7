from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError, Refusal
from gatekeeper.management.token import FILE_NAME, OperatorToken, open_operator_token

TOKEN = "s3cret-token-of-operators"


def test_it_is_made(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    token = open_operator_token(state_dir)
    path = state_dir / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().strip()
    assert len(text) >= 43  # 256 bits
    token.check([f"Bearer {text}".encode()])
    again = open_operator_token(state_dir)
    assert path.read_text().strip() == text
    again.check([f"Bearer {text}".encode()])


def test_each_is_another(tmp_path: Path) -> None:
    texts = set()
    for name in "ab":
        open_operator_token(tmp_path / name)
        texts.add((tmp_path / name / FILE_NAME).read_text())
    assert len(texts) == 2


def test_one_of_the_operators_choice(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(f"  {TOKEN}\r\n")
    path.chmod(0o400)
    open_operator_token(tmp_path).check([b"bearer  " + TOKEN.encode()])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_others_could_read_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(TOKEN)
    os.chmod(path, mode)
    with pytest.raises(ConfigurationError, match="can be read by others: chmod 600") as caught:
        open_operator_token(tmp_path)
    assert caught.value.problems[0].path == "management.auth"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 1025, b"s3cret\xff" * 3])
def test_it_is_no_token(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no token"):
        open_operator_token(tmp_path)


def test_it_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigurationError, match="cannot be used: Is a directory"):
        open_operator_token(tmp_path)


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [TOKEN.encode()],
        [b"Basic " + TOKEN.encode()],
        [b"Bearer " + TOKEN.encode()[:-1]],
        [b"Bearer " + TOKEN.encode() + b"x"],
        [b"Bearer " + TOKEN.upper().encode()],
        [b"Bearer \xff"],
        [b"Bearer " + TOKEN.encode()] * 2,
        [b"Bearer x", b"Bearer " + TOKEN.encode()],
    ],
)
def test_who_is_no_operator(authorization: list[bytes]) -> None:
    with pytest.raises(Refusal) as caught:
        OperatorToken(TOKEN).check(authorization)
    assert caught.value.status == 401
    assert caught.value.fields == ((b"www-authenticate", b'Bearer realm="management"'),)


def test_it_is_not_shown() -> None:
    assert TOKEN not in repr(OperatorToken(TOKEN))
