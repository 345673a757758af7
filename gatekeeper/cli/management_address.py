"""Where the daemon's management API is, and the token for it, as the configuration tells."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.management_client import (
    UNIX,
    Address,
    Client,
    TokenFileError,
    Unreachable,
    parse_address,
    read_token,
)

#: As the configuration has it by default.
DEFAULT_BIND: Final = "127.0.0.1:6668"

TOKEN_FILE: Final = "management.token"  # noqa: S105 - a file's name

_LARGEST: Final = 1024 * 1024  # bytes of a configuration file


class Place(NamedTuple):
    """What a configuration says: ``bind``, whether there is a token, and where it is kept."""

    bind: str
    has_token: bool
    token_file: Path


def make_client(
    config: str,
    url: str | None,
    token_file: str | None,
    patience: tuple[float, float] = (5.0, 60.0),
) -> Client:
    """A client for the daemon of the configuration file ``config``.

    ``url`` and ``token_file`` are used in place of what the configuration says; it is not needed
    where both are given.

    :raises ConfigurationError: the configuration cannot be used; see :func:`read_place`.
    :raises Unreachable: it says that there is no management API, or there is no token.
    :raises ValueError: ``url`` is none.
    """
    address = None if url is None else parse_address(url)
    if address is not None and token_file is not None:
        token = _token(token_file, "--token-file")
        return Client(address, token, patience=patience)
    if address is not None and not Path(config).exists():
        return Client(address, patience=patience)
    place = read_place(config)
    found = "--url"
    if address is None:
        found = f"management.bind in {config}"
        address = _address(place.bind, found)
    if token_file is not None:
        token = _token(token_file, "--token-file")
        return Client(address, token, found=found, patience=patience)
    if address.path or not place.has_token:  # a socket's file permissions say who may
        return Client(address, found=found, patience=patience)
    token_from = f"state_dir in {config}, or --token-file"
    token = _token(place.token_file, token_from)
    return Client(address, token, found=found, token_from=token_from, patience=patience)


def read_place(config: str) -> Place:
    """Look up in a configuration file what is needed here, and nothing else.

    Whoever may call the API need not be able to read every file that the daemon reads, and
    checking a whole configuration takes a while. Only where a value is a reference, such as
    ``{ env = "NAME" }``, is it read as the daemon reads it.

    :raises ConfigurationError: with every problem, as the daemon has them.
    """
    try:
        with open(config, "rb") as file:
            content = file.read(_LARGEST + 1)
        tree: dict[str, Any] = {} if len(content) > _LARGEST else tomllib.loads(content.decode())
    except OSError as error:
        message = f"the configuration cannot be read: {error.strerror}"
        raise ConfigurationError([Problem("", message)], config) from None
    except ValueError:
        return _read_place(config)
    section = tree.get("management", {})
    if isinstance(section, dict):
        state_dir, bind = tree.get("state_dir"), section.get("bind", DEFAULT_BIND)
        auth = section.get("auth", "token")
        if isinstance(state_dir, str) and isinstance(bind, str) and isinstance(auth, str):
            directory = Path(config).absolute().parent / state_dir
            return Place(bind, auth != "none", directory / TOKEN_FILE)
    return _read_place(config)


def _read_place(config: str) -> Place:
    from gatekeeper.auth.registry import checker_types
    from gatekeeper.config.loading import load

    settings = load(config, checker_types())
    management = settings.management
    token_file = settings.state_dir / TOKEN_FILE
    return Place(management.bind, management.auth != "none", token_file)


def _address(bind: str, found: str) -> Address:
    """Where to connect to for what the daemon listens on."""
    if bind == "none":
        raise Unreachable(f"the daemon has no management API: `none` ({found})")
    host, _, port = bind.rpartition(":")
    try:
        if bind.startswith(UNIX):
            return parse_address(bind)
        if not int(port):
            raise Unreachable(f"the system chooses the daemon's port ({found}): give --url")
        parsed = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        message = f"`{bind}` is neither address:port nor unix:/path"
        raise ConfigurationError([Problem("management.bind", message)]) from None
    if parsed.is_unspecified:  # all addresses, among them the one for ourselves
        parsed = ipaddress.ip_address("127.0.0.1" if parsed.version == 4 else "::1")
    return Address(str(parsed), int(port))


def _token(file: str | Path, found: str) -> Callable[[], str]:
    try:
        token = read_token(Path(file))
    except TokenFileError as error:
        hint = "" if Path(file).exists() else "; the daemon makes it when it first starts"
        raise Unreachable(f"there is no token for the daemon ({found}): {error}{hint}") from None
    return lambda: token
