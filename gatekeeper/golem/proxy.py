"""Sees to it that a gatekeeper runs: uses the one that is there, or starts one."""

from __future__ import annotations

import enum
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from gatekeeper.config.values import parse_bind
from gatekeeper.errors import GatekeeperError
from gatekeeper.golem.definitions import Definition, definition_json
from gatekeeper.management_client import (
    Client,
    Refused,
    StrangerError,
    TokenFileError,
    Unreachable,
)

_TWISTD: Final = "from twisted.scripts.twistd import run; run()"
_LOG_FILE: Final = "twistd.log"
_STARTS_WITHIN: Final = 60.0  # seconds
_ASKED_EVERY: Final = 0.1
_MOST_SAID: Final = 10_000  # characters

_CONFIGURATION: Final = """\
# Made by gatekeeper-golem-runtime whenever it starts a gatekeeper; changes do not last.
# To have your own configuration, run gatekeeper as a service of the system.
state_dir = "state"
listeners = []
{services_dir}
[management]
bind = {bind}
"""


class Presence(enum.Enum):
    """What there is at the management API's address."""

    NOBODY = "nobody"
    NOT_READY = "a gatekeeper that does not know yet what its store holds"
    READY = "a gatekeeper"


class ProxyError(GatekeeperError):
    """There is no gatekeeper to talk to."""


def ensure_running(api: Client, workdir: Path) -> None:
    """Return when a gatekeeper answers; start one if nothing listens at the API's address.

    It is put into the background, with its files in ``workdir/gatekeeper``, and outlives us: other
    runtimes may use it.

    :raises ProxyError: it does not, and why.
    """
    home = workdir / "gatekeeper"
    said = _start(api, home) if look(api) is Presence.NOBODY else ""
    give_up_at = time.monotonic() + _STARTS_WITHIN
    while look(api) is not Presence.READY:
        # Where it could not start, another runtime may just have started one.
        if said or time.monotonic() > give_up_at:
            raise ProxyError(f"gatekeeper does not start: {said or f'see {home / _LOG_FILE}'}")
        time.sleep(_ASKED_EVERY)


def look(api: Client) -> Presence:
    """Whether a management API answers.

    :raises ProxyError: something does, and will not have us.
    """
    try:
        services = api.call("GET", ("services",), timeout=5.0)
    except (TokenFileError, StrangerError) as error:
        raise ProxyError(str(error)) from None
    except Unreachable:
        return Presence.NOBODY
    except Refused as error:
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Presence.NOT_READY
        raise ProxyError(str(error)) from None
    if not isinstance(services, list):
        raise ProxyError(f"what answers at {api.address} is no management API")
    return Presence.READY


def check_startable(api: Client, definition: Definition) -> None:
    """Check, without starting it, that a gatekeeper could serve this service here.

    :raises ProxyError: with what is in the way.
    """
    bind = _bind(api)
    for address in (bind, *definition.bind_https, *definition.bind_http):
        _check_free(address)
    with TemporaryDirectory(prefix="gatekeeper-") as directory:
        services = Path(directory, "services")
        services.mkdir()
        content = {"serverName": ["localhost"], **definition_json(definition)}
        (services / "service.json").write_text(json.dumps(content))
        configuration = Path(directory, "gatekeeper.toml")
        configuration.write_text(_configuration(bind, 'services_dir = "services"\n'))
        said = _said([sys.executable, "-m", "gatekeeper", "check-config", str(configuration)])
    if said:
        raise ProxyError(f"gatekeeper could not start: {said}")


def _start(api: Client, home: Path) -> str:
    """Start it in ``home``; what it complains about comes back."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = home / "gatekeeper.toml"
        configuration.write_text(_configuration(_bind(api)))
    except OSError as error:
        raise ProxyError(f"{home} cannot be used: {error.strerror}") from None
    return _said(
        [
            *(sys.executable, "-c", _TWISTD),
            f"--pidfile={home / 'twistd.pid'}",
            f"--logfile={home / _LOG_FILE}",
            *("gatekeeper", "--config", str(configuration)),
        ],
        home,
    )


def _said(command: Iterable[str], directory: Path | None = None) -> str:
    """Run a program that ends soon; what it complained about comes back, if it failed."""
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            list(command),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_STARTS_WITHIN,
        )
    except subprocess.TimeoutExpired:
        return f"nothing has come of it within {_STARTS_WITHIN:g} s"
    if done.returncode == 0:
        return ""
    said = done.stdout.decode(errors="replace").strip()
    return said[-_MOST_SAID:] or f"it ended with {done.returncode}"


def _configuration(bind: str, services_dir: str = "") -> str:
    return _CONFIGURATION.format(bind=json.dumps(bind), services_dir=services_dir)


def _bind(api: Client) -> str:
    """The API's address, as one to listen on.

    :raises ProxyError: it is another machine's, or no address.
    """
    bind = str(api.address).removeprefix("http://")
    try:
        loopback = parse_bind(bind).loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ProxyError(
            f"nothing answers at {api.address}, and none can be started there from here"
        )
    return bind


def _check_free(address: str) -> None:
    host, port = parse_bind(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProxyError(f"cannot listen on {address}: {error.strerror}") from None
