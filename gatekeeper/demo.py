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
from gatekeeper.auth.passwords import hash_password
from gatekeeper.config.model import Demo, Settings
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.files import write_atomically
from gatekeeper.management.site import BoundedRequest, SiteService, listening_socket

NAME = "demo"
MOST_DIGITS = 12  # of N in /bytes/N: just under a terabyte
_BLOCK = b"gatekeeper demo\n" * 4096


def prepare(settings: Settings, echo: Callable[[str], None]) -> Settings:
    """Make the demo's user and key where they are missing, and let the user in.

    Returns the settings with the user added to the checker ``demo.users``; without ``[demo]`` they
    are returned as they are. ``echo`` gets a line to show: the secrets once, when they are made
    (as shell commands), afterwards only where they came from. Kept are the password's hash in
    ``demo.json`` in ``state_dir`` and the key in ``demo.keys_file``, both with mode 0600.

    :raises ConfigurationError: the files cannot be read or written, or there is no such checker.
    """
    demo = settings.demo
    if demo is None:
        return settings
    users_file = settings.state_dir / "demo.json"
    made: list[str] = []
    try:
        password_hash = _user(users_file, made)
        _key(demo.keys_file, made)
    except OSError as error:
        raise _problem("demo", f"{error.filename} cannot be used: {error.strerror}") from None
    if made:
        echo("Made for the demo. This is shown once; copy it into your shell:")
        for line in made:
            echo(f"  {line}")
    else:
        echo(
            "The demo's user and key were made at an earlier start. To get new ones delete "
            f"{users_file} and {demo.keys_file}."
        )
    return _with_user(settings, demo, password_hash)


def _user(file: Path, made: list[str]) -> str:
    """The hash of the demo user's password; if it is a new one, ``made`` gets what to show."""
    if file.exists():
        try:
            return str(json.loads(file.read_bytes())["hash"])
        except (ValueError, KeyError, TypeError):
            raise _problem("demo", f"{file} is damaged; delete it to get a new user") from None
    password = secrets.token_urlsafe(18)
    password_hash = hash_password(password)
    document = {"user": NAME, "hash": password_hash}
    write_atomically(file, json.dumps(document).encode("ascii") + b"\n")
    made += [f"DEMO_USER={NAME}", f"DEMO_PASSWORD={password}"]
    return password_hash


def _key(file: Path, made: list[str]) -> None:
    """Make the file with the demo's key, if there is none."""
    if file.exists():
        return
    key = secrets.token_hex(32)
    line = f'kapi_id="{NAME}";kapi_key="{key}";kapi_groups="{NAME}";\n'
    write_atomically(file, line.encode("ascii"))
    made += [f"DEMO_KEY_ID={NAME}", f"DEMO_KEY={key}"]


def _with_user(settings: Settings, demo: Demo, password_hash: str) -> Settings:
    table = settings.checkers.get(demo.users)
    if table is None or not isinstance(table.settings, BasicSettings):
        raise _problem("demo.users", f"there is no checker `{demo.users}` of type `basic`")
    users = {**table.settings.users, NAME: password_hash}
    changed = replace(table, settings=table.settings.model_copy(update={"users": users}))
    return settings.model_copy(update={"checkers": {**settings.checkers, demo.users: changed}})


def demo_origin_service(bind: str) -> SiteService:
    """An origin that shows what reaches it, listening on ``bind`` already.

    GET ``/bytes/N`` is answered with N bytes, every other GET with the request as it came here,
    and any other method with the size and the SHA-256 of the request's body; both in JSON.

    :raises ConfigurationError: with the path ``demo.origin``; the port is taken.
    """
    listening = listening_socket(bind, "demo.origin")
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
