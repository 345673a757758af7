"""The management API, called over TCP, TLS or a unix socket: both what operators type and Golem's
runtime program do. It blocks, and it imports little: programs that use it start quickly.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from gatekeeper.errors import GatekeeperError

#: What every address of a unix socket begins with; a path follows.
UNIX: Final = "unix:"

_LARGEST_ANSWER: Final = 64 * 1024 * 1024  # bytes
_LARGEST_PAGE: Final = 1000  # items that the API gives at once
_LONGEST_TOKEN: Final = 1024
_ADDRESS: Final = "must be http://HOST:PORT, https://HOST:PORT or unix:/PATH"


class Unreachable(GatekeeperError):  # noqa: N818 - a state, which passes
    """Nothing answers, or not in time, or it is not a gatekeeper."""


class TokenFileError(Unreachable):
    """The token's file cannot be used, so there is no use in asking."""


class StrangerError(Unreachable):
    """Something answers, and it is no gatekeeper."""


class Refused(GatekeeperError):  # noqa: N818 - it is an answer
    """The API said no: its ``status``, and what is wrong, fields by their names."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Address(NamedTuple):
    """Where the API is: a host and port, or the path of a unix socket.

    ``prefix`` stands before the API's paths.
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return UNIX + self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"

    def connection(self, timeout: float) -> HTTPConnection:
        """A connection that is not open yet; ``timeout`` in seconds, for each step."""
        if self.path:
            return _UnixConnection(self.path, timeout)
        kind = HTTPSConnection if self.tls else HTTPConnection
        return kind(self.host, self.port, timeout=timeout)


def parse_address(url: str) -> Address:
    """Read a URL: ``http://host:port``, ``https://host:port`` or ``unix:/path``.

    :raises ValueError: it is none of these.
    """
    if url.startswith(UNIX):
        path = url.removeprefix(UNIX)
        if not path.startswith("/") or "\0" in path:
            raise ValueError(_ADDRESS)
        return Address("localhost", 0, path=path)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_ADDRESS) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(_ADDRESS)
    if parts.query or parts.fragment or parts.username is not None or not url.isascii():
        raise ValueError(_ADDRESS)
    tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def read_token(file: Path) -> str:
    """The token in a file.

    :raises TokenFileError: there is none.
    """
    try:
        with file.open("rb") as stream:
            token = stream.read(_LONGEST_TOKEN + 1).strip().decode("ascii")
    except OSError as error:
        raise TokenFileError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or len(token) > _LONGEST_TOKEN:
        raise TokenFileError(f"{file} holds no token")
    return token


class Client:
    """Calls the API at ``address``. ``token`` is asked for the bearer token, each time.

    ``found`` says where the address comes from, ``token_from`` where the token comes from, for
    whoever has to change it. ``patience`` is how long to wait for a connection and for an answer,
    in seconds.
    """

    def __init__(
        self,
        address: Address,
        token: Callable[[], str | None] = lambda: None,
        *,
        found: str = "--url",
        token_from: str = "--token-file",  # noqa: S107 - an option's name
        patience: tuple[float, float] = (5.0, 60.0),
    ) -> None:
        self.address: Final = address
        self._token = token
        self._found = found
        self._token_from = token_from
        self._patience = patience

    def __repr__(self) -> str:
        return f"<Client {self.address}>"

    def call(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Call ``/a/b`` for the path ``"a", "b"``; parameters that are None or empty are left out.

        Out comes the answer's JSON, None where it has none. ``timeout``, in seconds, takes the
        place of the client's patience.

        :raises Refused: the API said no.
        :raises TokenFileError: there is no token to ask with.
        :raises StrangerError: what answers is no management API.
        :raises Unreachable: there was no answer, or it came too late.
        """
        target = self.address.prefix + "".join(f"/{quote(part, safe='')}" for part in path)
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        if given:
            target += "?" + urlencode(given, doseq=True)
        token = self._token()
        patience = self._patience if timeout is None else (timeout, timeout)
        status, content = self._exchange(method, target, body, token, patience)
        document: Any = None
        if content:
            try:
                document = json.loads(content)
            except (ValueError, RecursionError):
                raise self._strange(f"{status} and no JSON") from None
        if 200 <= status < 300:
            return document
        message = _message(document)
        if message is None:
            raise self._strange(str(status))
        if status == 401:
            wrong = "a token is needed" if token is None else "the token is not right"
            message = f"{wrong} ({self._token_from}): {message}"
        raise Refused(status, message)

    def items(
        self,
        path: Sequence[str],
        query: Mapping[str, Any] | None = None,
        *,
        cursor: str = "after",
        most: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page, ``most`` at the most.

        ``cursor`` is the parameter that an answer's ``next`` is given as. Raises as :meth:`call`.
        """
        left, following = most, None
        while left is None or left > 0:
            size = _LARGEST_PAGE if left is None else min(left, _LARGEST_PAGE)
            page = self.call("GET", path, {**(query or {}), "limit": size, cursor: following})
            try:
                found, following = page["items"], page["next"]
            except (TypeError, KeyError):
                raise self._strange("no list") from None
            yield from found
            if following is None or not found:
                return
            left = None if left is None else left - len(found)

    def _exchange(
        self, method: str, target: str, body: Any, token: str | None, patience: tuple[float, float]
    ) -> tuple[int, bytes]:
        fields = {"Accept": "application/json", "Connection": "close"}
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode("ascii")
            fields["Content-Type"] = "application/json"
        connecting, answering = patience
        connection = self.address.connection(connecting)
        try:
            connection.connect()
            connection.sock.settimeout(answering)
            connection.request(method, target, content, fields)
            answer = connection.getresponse()
            received = answer.read(_LARGEST_ANSWER + 1)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"the daemon cannot be reached at {self.address} ({self._found}): {reason}"
            ) from None
        finally:
            connection.close()
        if len(received) > _LARGEST_ANSWER:
            raise self._strange("too much")
        return answer.status, received

    def _strange(self, what: str) -> StrangerError:
        return StrangerError(
            f"what answers at {self.address} ({self._found}) is no gatekeeper, or no management "
            f"API: it says {what}"
        )


class _UnixConnection(HTTPConnection):
    """A connection to a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _message(document: Any) -> str | None:
    """What a problem document (RFC 9457) says, or one of Golem's dialect; None: it is neither."""
    if not isinstance(document, dict):
        return None
    errors = document.get("errors")
    if isinstance(errors, list) and errors and all(isinstance(each, dict) for each in errors):
        return "; ".join(f"{each.get('field')}: {each.get('detail')}" for each in errors)
    message = document.get("detail", document.get("message"))
    return message if isinstance(message, str) else None
