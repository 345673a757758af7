"""The operators' token: a file that only they can read, and the check of who presents it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hmac import compare_digest
from pathlib import Path
from typing import Final

from gatekeeper.errors import ConfigurationError, Problem, Refusal
from gatekeeper.files import write_atomically

FILE_NAME: Final = "management.token"

_OTHERS: Final = 0o077  # permissions of group and others
_LONGEST: Final = 1024
_SHORTEST: Final = 16
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="management"'),)


class OperatorToken:
    """Tells operators from others (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token.encode("utf-8")

    def __repr__(self) -> str:
        return "<OperatorToken ***>"

    def check(self, authorization: Sequence[bytes]) -> None:
        """Look at the values of a request's Authorization fields.

        :raises Refusal: 401, they do not present the token.
        """
        scheme, _, presented = authorization[0].partition(b" ") if authorization else (b"",) * 3
        right = compare_digest(presented.strip(), self._token)
        if len(authorization) != 1 or scheme.lower() != b"bearer" or not right:
            detail = f"Present the token of the file {FILE_NAME} as a bearer token."
            raise Refusal("not_an_operator", detail, status=401, fields=_CHALLENGE)


def open_operator_token(state_dir: Path) -> OperatorToken:
    """The token in ``state_dir``, which is made if it is not there (mode 0600).

    :raises ConfigurationError: it cannot be used, or others can read it; path ``management.auth``.
    """
    path = state_dir / FILE_NAME
    try:
        if not path.exists():
            write_atomically(path, secrets.token_urlsafe(32).encode("ascii") + b"\n")
        with path.open("rb") as file:
            token = file.read(_LONGEST + 1).strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise _problem(f"{path} cannot be used: {error.strerror}") from None
    if mode & _OTHERS:
        raise _problem(f"{path} can be read by others: chmod 600, and better make a new one")
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii():
        raise _problem(
            f"{path} holds no token of {_SHORTEST} to {_LONGEST} characters; remove it, and one "
            "is made"
        )
    return OperatorToken(token.decode("ascii"))


def _problem(message: str) -> ConfigurationError:
    return ConfigurationError([Problem("management.auth", message)])
