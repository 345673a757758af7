"""From cyphernode's gatekeeper: its key file, its action file and its nginx.

The two files stay where they are and as they are; the configuration names them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from gatekeeper.auth.actions import parse_actions
from gatekeeper.auth.keyfile import ApiKey, parse_keys
from gatekeeper.config.values import check_upstream, parse_upstream
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.importing.listening import STATE_DIR, STATE_DIR_COMMENT, numbered, tls
from gatekeeper.importing.nginx import Directive
from gatekeeper.importing.nginx_server import Listen, Server, ServerReader, seconds
from gatekeeper.importing.notes import Imported, Notes
from gatekeeper.importing.sources import CertificateFiles, Source
from gatekeeper.importing.toml import Table, Value, render

#: Where cyphernode's own files lead to, and where they listen.
_UPSTREAM: Final = "http://proxy:8888"
_LISTEN: Final = Listen("0.0.0.0:443", True)

_HEAD: Final = (
    "Made by `gatekeeper import cyphernode`. Durations are in seconds. etc/gatekeeper.toml shows "
    "every key that there is, docs/configuration.rst describes them."
)

_NEEDLESS: Final = {
    "auth_request": "the checker `keys` does what auth.sh did",
    "location /auth": "the checker `keys` does what auth.sh did",
    "location = /50x.html": "answers of gatekeeper's own are problem documents",
}
_NO_FILES: Final = "gatekeeper serves no files; these paths, too, go to where the service leads"
_ADDRESSES: Final = (
    "gatekeeper does not look at clients' addresses: use the machine's firewall, or an inner "
    "address in `bind`"
)
_LEFT: Final = {
    "root": _NO_FILES,
    "index": _NO_FILES,
    "alias": _NO_FILES,
    "allow": _ADDRESSES,
    "deny": _ADDRESSES,
    "auth_basic": "make a service for that path, with a checker of type `basic`",
    "auth_basic_user_file": "make a service for that path, with a checker of type `basic`",
    "include": "the file is not read; name it with a further --nginx",
    "real_ip_header": "see `trusted_peers` of the listener",
    "set_real_ip_from": "see `trusted_peers` of the listener",
}
#: nginx's time-outs, and ours for the same.
_TIMEOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "proxy_connect_timeout": ("connect",),
    "proxy_read_timeout": ("response", "body"),
}


@dataclass(frozen=True)
class Cyphernode:
    """The old files, and what was given on the command line in place of what they say."""

    keys: Source
    actions: Source
    nginx: tuple[Source, ...] = ()
    to: str | None = None
    listen: str | None = None
    certificate: CertificateFiles | None = None


class _Nginx:
    """What cyphernode's nginx says beside what every server does. ``files`` are read as well."""

    def __init__(self, notes: Notes, files: Collection[str]) -> None:
        self._notes = notes
        self._files = files
        self._upstreams: dict[str, str] = {}  # by their locations
        self.timeouts: dict[str, float] = {}

    @property
    def to(self) -> str | None:
        """Where the node is."""
        return self._upstreams.get("/v0/") or self._upstreams.get("/")

    def take(self, directive: Directive, location: str) -> bool:
        """See :class:`ServerReader`."""
        match directive.name, directive.arguments:
            case "include", (path,):
                return PurePath(path).name in self._files
            case "proxy_pass", (url,):
                return self._take_upstream(url, location)
            case name, (time,) if name in _TIMEOUTS and (length := seconds(time)):
                self.timeouts |= dict.fromkeys(_TIMEOUTS[name], length)
                ours = " and ".join(f"`timeouts.{key}`" for key in _TIMEOUTS[name])
                self._notes.carry(name, f"{ours} of the service: {length:g} s")
                return True
        return False

    def _take_upstream(self, url: str, location: str) -> bool:
        if location not in ("/v0/", "/") or location in self._upstreams:
            return False
        try:
            check_upstream(url)
        except ValueError:
            return False
        self._upstreams[location] = url.rstrip("/")
        self._notes.carry(f"proxy_pass in location {location}", "`to` of the service")
        if location == "/":
            self._notes.leave(
                "location /",
                "only what is below /v0/ and /s/ is open: clients that ask for /ACTION must ask "
                "for /v0/ACTION",
            )
        return True


def import_cyphernode(old: Cyphernode) -> Imported:
    """The configuration that does what cyphernode's gatekeeper did.

    :raises ConfigurationError: *all* lines of the files that cannot be used, as ``file:line``.
    """
    notes = Notes()
    problems: list[Problem] = []
    keys: Mapping[str, ApiKey] = {}
    actions: Mapping[str, str] = {}
    nginx, server = _Nginx(notes, {each.name for each in old.nginx}), Server()
    try:
        keys = parse_keys(old.keys.text, str(old.keys.path))
    except ConfigurationError as error:
        problems += error.problems
    try:
        actions = parse_actions(old.actions.text, str(old.actions.path))
    except ConfigurationError as error:
        problems += error.problems
    for source in old.nginx:
        reader = ServerReader(source.name, notes, _NEEDLESS, _LEFT, nginx.take)
        try:
            read = reader.read(source.text)
        except ConfigurationError as error:
            problems += error.problems
        else:
            server = read if read.listens else server
    if problems:
        raise ConfigurationError(problems)
    notes.carry(old.keys.name, f"`file` of the checker `keys`: {len(keys)} keys, read where it is")
    notes.carry(
        old.actions.name,
        f"`actions_file` of the service: {len(actions)} actions, read where it is",
    )
    _explain_groups(keys, actions, old, notes)
    tables = list(_tables(old, server, nginx, notes))
    return Imported(render(_HEAD, tables), notes)


def _tables(old: Cyphernode, server: Server, nginx: _Nginx, notes: Notes) -> Iterator[Table]:
    yield Table("", {"state_dir": STATE_DIR}, {"state_dir": STATE_DIR_COMMENT})
    listens = server.listens or [_LISTEN]
    if old.listen is not None:
        listens = [Listen(old.listen, True)]
    for number, listen in enumerate(listens):
        values: dict[str, Value] = {
            "name": numbered("public", number),
            "role": "gateway",
            "bind": listen.bind,
        }
        if listen.tls:
            values["tls"] = tls(old.certificate, server, notes)
        yield Table("[[listeners]]", values, {"": "Where clients connect."})
    yield Table(
        "[checkers.keys]",
        {
            "type": "api-key",
            "file": str(old.keys.path),
            "legacy": True,
            "compat_status": "cyphernode",
        },
        {
            "": "Bearer tokens that clients sign with their key.",
            "file": "The key file, read again when it changes. It holds secrets: chmod 600.",
            "legacy": "Tokens as cyphernode's clients make them, beside those of RFC 7515.",
            "compat_status": "403 where there is no token or an expired one, as before, not 401.",
        },
    )
    service: dict[str, Value] = {
        "name": "node",
        "to": old.to or nginx.to or _UPSTREAM,
        "checkers": ["keys"],
        "actions_file": str(old.actions.path),
    }
    if nginx.timeouts:
        service["timeouts"] = nginx.timeouts
    _explain_upstream(str(service["to"]), notes)
    yield Table(
        "[[services]]",
        service,
        {
            "": "/v0/ACTION is for those in the action's group, /s/GROUP for those in GROUP.",
            "actions_file": "The action file, read again when it changes.",
        },
    )


def _explain_upstream(to: str, notes: Notes) -> None:
    host = parse_upstream(to).host
    if host != "localhost" and "." not in host and ":" not in host:
        notes.carry(
            "proxy_pass",
            f"`to` is {to}; `{host}` is a name of the Docker network: outside of it, give --to",
        )


def _explain_groups(
    keys: Mapping[str, ApiKey], actions: Mapping[str, str], old: Cyphernode, notes: Notes
) -> None:
    """Who could do more than its groups say, since auth.sh looks for a group as a substring."""
    needed = set(actions.values())
    for key in keys.values():
        by_substring = sorted(
            group for group in needed - key.groups if any(group in other for other in key.groups)
        )
        for group in by_substring:
            notes.leave(
                f"{old.keys.name}: key {key.id}",
                f"could use the actions of `{group}`, as part of another group's name. It must "
                f"list `{group}` to keep them",
            )
