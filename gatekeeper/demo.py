"""For trying out: a user and a key that are made on first start, and an origin to proxy to."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from twisted.internet.interfaces import IPullProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from gatekeeper.auth.basic import BasicSettings
from gatekeeper.auth.passwords import check_hash, hash_password
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.files import write_atomically
from gatekeeper.management.site import BoundedRequest, SiteService
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.inherited import NOTHING, Inherited

NAME = "demo"
MOST_DIGITS = 12  # of N in /bytes/N: just under a terabyte
_BLOCK = b"gatekeeper demo\n" * 4096


def prepare(settings: Settings, echo: Callable[[str], None], *, create: bool = True) -> Settings:
    """Make the demo's user and key where they are missing, and let the user in.

    Returns the settings with the user added to the checker ``demo.users``; without ``[demo]`` they
    are returned as they are. ``echo`` gets a line to show: the secrets once, when they are made,
    as shell variables; afterwards only where they are kept: the password's hash in ``demo.json``
    in ``state_dir``, the key in ``demo.keys_file``, both with mode 0600. Without ``create`` nothing
    is made.

    :raises ConfigurationError: the files cannot be read or written (without ``create``: are not
        there), or the checker is not there or has such a user already.
    """
    demo = settings.demo
    if demo is None:
        return settings
    table = settings.checkers.get(demo.users)
    if table is None or not isinstance(table.settings, BasicSettings):
        raise _problem("demo.users", f"there is no checker `{demo.users}` of type `basic`")
    users = table.settings.users
    if NAME in users:
        raise _problem("demo.users", f"the checker `{demo.users}` has a user `{NAME}` already")
    password_hash = _user_and_key(settings.state_dir / "demo.json", demo.keys_file, echo, create)
    with_user = table.settings.model_copy(update={"users": {**users, NAME: password_hash}})
    checkers = {**settings.checkers, demo.users: replace(table, settings=with_user)}
    return settings.model_copy(update={"checkers": checkers})


def _user_and_key(
    user_file: Path, key_file: Path, echo: Callable[[str], None], create: bool
) -> str:
    """Make both, or what is missing of them; the hash of the user's password."""
    try:
        new_user, new_key = not user_file.exists(), not key_file.exists()
        if (new_user or new_key) and not create:
            raise _problem("demo", "its user and key are made when the daemon is first started")
        password_hash = _make_user(user_file, echo) if new_user else _read_hash(user_file)
        if new_key:
            _make_key(key_file, echo)
    except OSError as error:
        raise _problem("demo", f"{error.filename} cannot be used: {error.strerror}") from None
    if not (new_user or new_key):
        echo(
            "The demo's user and key were made at an earlier start; to get new ones, delete "
            f"{user_file} and {key_file}."
        )
    return password_hash


def _make_user(file: Path, echo: Callable[[str], None]) -> str:
    password = secrets.token_urlsafe(18)
    password_hash = hash_password(password)
    document = {"user": NAME, "hash": password_hash}
    write_atomically(file, json.dumps(document).encode("ascii") + b"\n")
    echo("A user for the demo; the password is shown only now:")
    echo(f"  DEMO_USER={NAME}")
    echo(f"  DEMO_PASSWORD={password}")
    return password_hash


def _read_hash(file: Path) -> str:
    try:
        return check_hash(json.loads(file.read_bytes())["hash"])
    except (ValueError, KeyError, TypeError):
        raise _problem("demo", f"{file} is damaged; delete it to get a new user") from None


def _make_key(file: Path, echo: Callable[[str], None]) -> None:
    key = secrets.token_hex(32)
    line = f'kapi_id="{NAME}";kapi_key="{key}";kapi_groups="{NAME}";\n'
    write_atomically(file, line.encode("ascii"))
    echo("A key for the demo; it is shown only now:")
    echo(f"  DEMO_KEY_ID={NAME}")
    echo(f"  DEMO_KEY={key}")


def demo_origin_service(bind: str, inherited: Inherited = NOTHING) -> SiteService:
    """An origin that shows what reaches it, listening on ``bind`` already.

    GET ``/bytes/N`` is answered with N bytes, every other GET with the request as it came here,
    and any other method with the size and the SHA-256 of the request's body; both in JSON.

    :raises ConfigurationError: with the path ``demo.origin``; the port is taken.
    """
    listening = listening_socket(bind, "demo.origin", inherited=inherited)
    return SiteService(
        "demo origin", listening, lambda _: _Origin(), _HashingRequest, most=4096, head=65536
    )


class _HashingRequest(BoundedRequest):
    """A request whose body is hashed as it comes, and not kept."""

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        self.received = 0
        self.digest = sha256()

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        self.digest.update(data)


class _Origin(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: _HashingRequest) -> int:
        before, _, size = request.path.rpartition(b"/")
        if request.method not in (b"GET", b"HEAD"):
            _answer(request, {"size": request.received, "sha256": request.digest.hexdigest()})
        elif before.endswith(b"/bytes") and size.isdigit() and len(size) <= MOST_DIGITS:
            _Bytes(request, int(size)).start()
        else:
            _answer(
                request,
                {
                    "hello": "from the demo origin",
                    "method": request.method.decode("ascii"),
                    "path": request.uri.decode("latin-1"),
                    "headers": {
                        name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
                        for name, values in request.requestHeaders.getAllRawHeaders()
                    },
                },
            )
        return NOT_DONE_YET


def _answer(request: Request, document: dict[str, object]) -> None:
    body = json.dumps(document, indent=2).encode("ascii") + b"\n"
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


@implementer(IPullProducer)
class _Bytes:
    """An answer of ``size`` bytes, made as fast as the client takes them."""

    def __init__(self, request: Request, size: int) -> None:
        self._request = request
        self._left = size

    def start(self) -> None:
        self._request.setHeader(b"content-type", b"application/octet-stream")
        self._request.setHeader(b"content-length", b"%d" % self._left)
        if self._request.method == b"HEAD" or not self._left:
            self._request.write(b"")
            self._request.finish()
        else:
            self._request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        block = _BLOCK[: self._left]
        self._left -= len(block)
        self._request.write(block)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """The client is gone; the channel asks for no more."""


def _problem(path: str, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(path, message)])
