"""The commands that a requestor may run: what they are called, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from gatekeeper.errors import GatekeeperError
from gatekeeper.golem.account import Account
from gatekeeper.management_client import Unreachable

#: Does what was asked for, and gives back what is to be shown.
Command = Callable[[Account], Any]

USAGE: Final = (
    "the commands are: user add NAME PASSWORD, user remove NAME, user list, user stats NAME, "
    "service info; each may have --auth basic"
)


class UsageError(GatekeeperError):
    """This is no command."""


def parse_command(program: str, arguments: Sequence[str]) -> Command:
    """The command of a ``RunProcess``. Its first argument may be the program's own name.

    :raises UsageError: there is no such command. No message shows an argument: it may be a
        password.
    """
    name = program.rpartition("/")[2]
    line = list(arguments)
    if name and line[:1] != [name]:
        line.insert(0, name)
    match list(_without_auth(line)):
        case ["user", "add", user, password]:
            _check_user(user)
            return lambda account: account.add(user, password)
        case ["user", "remove", user]:
            _check_user(user)
            return lambda account: account.remove(user)
        case ["user", "list"]:
            return lambda account: account.api.call("GET", ("services", account.service, "users"))
        case ["user", "stats", user]:
            _check_user(user)
            return lambda account: account.api.call(
                "GET", ("services", account.service, "users", user, "endpoints", "stats")
            )
        case ["service" | "svc", "info"]:
            return _info
    raise UsageError(USAGE)


def _info(account: Account) -> dict[str, Any]:
    try:
        return public_service(account.api.call("GET", ("services", account.service)))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unreachable("the management API's answer is no service") from None


def public_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """What of a service is for everybody: how to reach it, and how to know that it is the one."""
    shown = {
        "name": service["name"],
        "serverName": service.get("serverName") or [],
        "createdAt": service["createdAt"],
        "portHttps": _ports(service.get("bindHttps")),
        "portHttp": _ports(service.get("bindHttp")),
    }
    limits = ("requestTimeout", "responseTimeout")
    timeouts = {key: service[key] for key in limits if service.get(key) is not None}
    further = {
        "certHash": (service.get("cert") or {}).get("hash"),
        "timeouts": timeouts or None,
        "cpuThreads": service.get("cpuThreads"),
    }
    return shown | {key: value for key, value in further.items() if value is not None}


def _ports(addresses: str | list[str] | None) -> list[int]:
    several = [addresses] if isinstance(addresses, str) else addresses or []
    return sorted({int(address.rpartition(":")[2]) for address in several})


def _without_auth(words: Iterable[str]) -> Iterable[str]:
    """Leave out ``--auth basic``, the only way that there is."""
    rest = iter(words)
    for word in rest:
        if word in ("--auth", "-a"):
            method = next(rest, None)
        elif word.startswith("--auth="):
            method = word.removeprefix("--auth=")
        else:
            yield word
            continue
        if method != "basic":
            raise UsageError("--auth must be `basic`")


def _check_user(name: str) -> None:
    if name in ("", ".", ".."):  # no segment of a URL
        raise UsageError("this cannot be the name of a user")
