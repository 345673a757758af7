"""The management API, as a client that blocks; what is asked is small, and so are the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gatekeeper.errors import GatekeeperError

_LARGEST_ANSWER: Final = 16 * 1024 * 1024  # bytes
_LONGEST_MESSAGE: Final = 1_000
_LONGEST_TOKEN: Final = 1_024


class Unreachable(GatekeeperError):  # noqa: N818 - a state, which passes
    """Nothing answers, or not in time, or not as a management API does."""


class TokenFileError(Unreachable):
    """The token's file cannot be used, so there is no use in asking."""


class Refused(GatekeeperError):  # noqa: N818 - it is an answer
    """The API said no: its ``status``, and its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ManagementAPI:
    """Calls to ``url`` (``http://host:port``). ``token`` is asked for a bearer token each time.

    :raises ValueError: the URL cannot be used.
    """

    def __init__(self, url: str, token: Callable[[], str | None] = lambda: None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the management API's URL must be `http://host:port`")
        self.host = parts.hostname
        self.port = parts.port or 80
        self._path = parts.path.rstrip("/")
        self._token = token

    def call(self, method: str, *path: str, body: Any = None, timeout: float = 10.0) -> Any:
        """Call ``/a/b`` for the path ``"a", "b"``; ``timeout`` in seconds, for each step.

        Out comes the JSON of a 200.

        :raises Refused: it was another status.
        :raises Unreachable: there was no answer that can be read.
        """
        fields = {"Accept": "application/json"}
        token = self._token()
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        target = self._path + "".join(f"/{quote(part, safe='')}" for part in path)
        connection = HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, target, content, fields)
            answer = connection.getresponse()
            content = answer.read(_LARGEST_ANSWER + 1)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"http://{self.host}:{self.port} does not answer: {reason}") from None
        finally:
            connection.close()
        if len(content) > _LARGEST_ANSWER:
            raise Unreachable("the management API's answer is too large")
        if answer.status != 200:
            raise Refused(answer.status, _message(answer.status, content))
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise Unreachable("the management API's answer is not JSON") from None


def read_token(file: Path) -> str:
    """The token in a file.

    :raises TokenFileError: there is none.
    """
    try:
        with open(file, "rb") as stream:
            token = stream.read(_LONGEST_TOKEN + 1).strip().decode("ascii")
    except OSError as error:
        raise TokenFileError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or len(token) > _LONGEST_TOKEN:
        raise TokenFileError(f"{file} holds no token")
    return token


def _message(status: int, content: bytes) -> str:
    try:
        said = json.loads(content)
        message = said.get("message") or said["detail"]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        message = None
    if not isinstance(message, str):
        message = "no reason was given"
    return f"the management API refuses with {status}: {message[:_LONGEST_MESSAGE]}"
