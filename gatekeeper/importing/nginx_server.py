"""What an nginx in front of the old system says, for a listener of ours; the rest becomes notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gatekeeper.config.values import check_bind
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.importing.nginx import Directive, parse
from gatekeeper.importing.notes import Notes

_TIME: Final = re.compile(r"(?:(\d{1,6})m)?(?:(\d{1,6})s?)?")

#: What nginx needs told and gatekeeper does not, whatever system it is in front of. A name may be
#: followed by the first argument, which is then meant only.
_NEEDLESS: Final = {
    "server_name": "the service answers to any host name; `hosts` would narrow that",
    "error_page": "answers of gatekeeper's own are problem documents",
    "proxy_set_header Host": "set by gatekeeper",
    "proxy_set_header X-Real-IP": "`X-Forwarded-For` says the same",
    "proxy_set_header X-Forwarded-For": "set by gatekeeper",
    "proxy_set_header X-Forwarded-Host": "set by gatekeeper",
    "proxy_set_header X-Forwarded-Proto": "set by gatekeeper",
    "proxy_set_header Authorization": "what the checkers took is never sent upstream",
    "proxy_http_version": "gatekeeper speaks HTTP/1.1 upstream",
    "proxy_redirect": "responses are passed on as they are",
    "proxy_send_timeout": "`timeouts.body` holds in both directions",
    "send_timeout": "`timeouts.body` holds in both directions",
    "error_log": "gatekeeper has logs of its own",
    "access_log": "gatekeeper has logs of its own",
}

_ANY: Final = "0.0.0.0"  # noqa: S104 - where nginx listens, if no address is given
_NO_COUNTERPART: Final = "the import knows no counterpart of it"

#: Takes a directive and the location that it stands in (empty outside); whether it knew it.
Take = Callable[[Directive, str], bool]


class Listen(NamedTuple):
    """An address to listen on: ``0.0.0.0:443``."""

    bind: str
    tls: bool


@dataclass
class Server:
    """What is the same in front of every system. Times are in seconds."""

    listens: list[Listen] = field(default_factory=list)
    certificate: str | None = None
    key: str | None = None


class ServerReader:
    """Reads one file.

    :param source: what notes and errors call the file.
    :param needless: directives that are needed no more, and why; keys as ``name`` or
        ``name argument``.
    :param left: directives that cannot be carried over, and why; anything else cannot either.
    :param take: for what only this system's nginx has.
    """

    def __init__(
        self,
        source: str,
        notes: Notes,
        needless: Mapping[str, str],
        left: Mapping[str, str],
        take: Take,
    ) -> None:
        self._source = source
        self._notes = notes
        self._needless = {**_NEEDLESS, **needless}
        self._left = left
        self._take = take
        self.server = Server()

    def read(self, text: str) -> Server:
        """Read the text of the file.

        :raises ConfigurationError: it is not nginx's language, as ``source:line`` (path ``""``).
        """
        try:
            directives = parse(text)
        except ValueError as error:
            raise ConfigurationError([Problem("", f"{self._source}:{error}")]) from None
        self._walk(directives, "")
        return self.server

    def _walk(self, directives: tuple[Directive, ...], location: str) -> None:
        for directive in directives:
            known = _find(self._needless, directive)
            if known is not None:
                name, why = known
                self._notes.need_no_more(f"{self._source}: {name}", why)
            elif directive.block is not None and directive.name in ("http", "server"):
                self._walk(directive.block, location)
            elif directive.block is not None and directive.name == "location":
                self._walk(directive.block, " ".join(directive.arguments))
            elif not (self._take(directive, location) or self._take_common(directive)):
                name, why = _find(self._left, directive) or (directive.name, _NO_COUNTERPART)
                place = f", in location {location}" if location else ""
                self._notes.leave(f"{self._source}:{directive.line}: {name}{place}", why)

    def _take_common(self, directive: Directive) -> bool:
        server, setting = self.server, f"{self._source}: {directive.name}"
        match directive.name, directive.arguments:
            case "listen", (address, *flags):
                listen = _listen(address, "ssl" in flags)
                if listen is None:
                    return False
                server.listens.append(listen)
                self._notes.carry(setting, f"a listener at {listen.bind}")
            case "ssl_certificate", (path,):
                server.certificate = path
            case "ssl_certificate_key", (path,):
                server.key = path
            case _:
                return False
        return True


def seconds(text: str) -> float | None:
    """A time of nginx: ``180``, ``180s``, ``3m``, ``1m30s``; None for others and for 0."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    return float(int(match[1] or 0) * 60 + int(match[2] or 0)) or None


def _find(table: Mapping[str, str], directive: Directive) -> tuple[str, str] | None:
    """The entry for a directive. Arguments that no table knows may be secret, and are not shown."""
    for count in (len(directive.arguments), 1, 0):
        key = " ".join([directive.name, *directive.arguments[:count]])
        if key in table:
            return key, table[key]
    return None


def _listen(address: str, tls: bool) -> Listen | None:
    if address.isdecimal():
        address = f"{_ANY}:{address}"
    elif address.startswith("*:"):
        address = f"{_ANY}{address[1:]}"
    elif not re.search(r":\d+$", address) or address.endswith("]"):
        address = f"{address}:80"
    try:
        check_bind(address)
    except ValueError:
        return None
    return Listen(address, tls)
