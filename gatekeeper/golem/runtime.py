"""``gatekeeper-golem-runtime``: what Golem's supervisor starts to sell an HTTP service.

It must answer quickly. What only ``start`` and ``test`` need is imported when they are asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.errors import ConfigurationError, GatekeeperError, Problem
from gatekeeper.golem.definitions import Definition
from gatekeeper.golem.lookup import directories, find_definition
from gatekeeper.golem.offers import offer_template

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

PROGRAM: Final = "gatekeeper-golem-runtime"

_URL: Final = "MANAGEMENT_API_URL"
_DEFAULT_URL: Final = "http://127.0.0.1:6668"
_TOKEN_FILE: Final = "GATEKEEPER_TOKEN_FILE"  # noqa: S105 - a name
_SERVICES: Final = "GATEKEEPER_GOLEM_SERVICES"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: the exit status. 0 is success, 1 a problem that is told on stderr, 2 misuse.

    :raises SystemExit: misuse, with 2.
    """
    options = _parser().parse_args(arguments)
    try:
        configured = options.services_dir + os.environ.get(_SERVICES, "").split(os.pathsep)
        definition = find_definition(options.name, directories(filter(None, configured)))
        return _COMMANDS[options.command](options, definition)
    except ConfigurationError as error:
        problems = [str(problem) for problem in error.problems]
    except GatekeeperError as error:
        problems = [str(error)]
    except OSError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description="Sells an HTTP service on the Golem network.", allow_abbrev=False
    )
    parser.add_argument("name", metavar="NAME", help="the `name` of a service definition")
    parser.add_argument("command", metavar="COMMAND", choices=_COMMANDS, help=", ".join(_COMMANDS))
    # What a supervisor adds to a command means nothing to us.
    further = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    further.required = False  # nor is it told to be missing
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where a gatekeeper that is started keeps its files; the current directory if left "
        "out",
    )
    parser.add_argument(
        "--services-dir",
        action="append",
        default=[],
        metavar="DIR",
        help=f"a directory of definitions, looked into first; may be repeated [${_SERVICES}]",
    )
    parser.add_argument(
        "--management-url",
        default=os.environ.get(_URL) or _DEFAULT_URL,
        metavar="URL",
        help=f"gatekeeper's management API, {_DEFAULT_URL} if left out [${_URL}]",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=os.environ.get(_TOKEN_FILE) or None,
        metavar="FILE",
        help=f"holds the management API's token [${_TOKEN_FILE}]",
    )
    return parser


def _offer_template(options: argparse.Namespace, definition: Definition) -> int:
    _print(offer_template(definition))
    return 0


def _test(options: argparse.Namespace, definition: Definition) -> int:
    from gatekeeper.golem.definitions import certificate_hash
    from gatekeeper.golem.proxy import Presence, check_startable, look

    if definition.certificate is not None:
        try:
            certificate_hash(definition.certificate.path)
        except ValueError as error:
            raise ConfigurationError([Problem("cert.path", str(error))]) from None
    api = _api(options)
    if look(api) is Presence.NOBODY:
        check_startable(api, definition)
    return 0


def _deploy(options: argparse.Namespace, definition: Definition) -> int:
    options.workdir.mkdir(parents=True, exist_ok=True)
    _print({"startMode": "blocking", "valid": {"Ok": ""}, "vols": []})
    return 0


def _start(options: argparse.Namespace, definition: Definition) -> int:
    from gatekeeper.golem.account import Account
    from gatekeeper.golem.proxy import ensure_running
    from gatekeeper.golem.registration import register
    from gatekeeper.golem.session import Session

    # From here on standard output is the protocol's: nobody else can write to it by accident.
    with FileIO(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        api = _api(options)
        ensure_running(api, options.workdir.absolute())
        register(api, definition)
        return Session(sys.stdin.buffer, sink, Account(api, definition.name)).run()


def _api(options: argparse.Namespace) -> Client:
    from gatekeeper.management_client import Client, parse_address, read_token

    own_file = options.workdir.absolute() / "gatekeeper" / "state" / "management.token"

    def token() -> str | None:
        """Read anew each time: a gatekeeper that we start makes the file."""
        if options.token_file is not None:
            return read_token(options.token_file)
        return read_token(own_file) if own_file.exists() else None

    token()  # what cannot be used shows now
    try:
        address = parse_address(options.management_url)
    except ValueError as error:
        raise ConfigurationError([Problem("--management-url", str(error))]) from None
    return Client(address, token, found="--management-url", patience=(10.0, 10.0))


def _print(value: object) -> None:
    print(json.dumps(value))


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace, Definition], int]]] = {
    "offer-template": _offer_template,
    "test": _test,
    "deploy": _deploy,
    "start": _start,
}


if __name__ == "__main__":
    sys.exit(main())
