"""From Golem's ya-http-proxy: its configuration and the definitions of its services.

The definitions stay where they are, as ``services_dir``, or become services of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatekeeper.config.values import parse_bind
from gatekeeper.golem.definitions import Definition
from gatekeeper.importing.listening import STATE_DIR, STATE_DIR_COMMENT
from gatekeeper.importing.notes import Imported, Notes
from gatekeeper.importing.toml import Table, Value, render

_HEAD: Final = (
    "Made by `gatekeeper import golem`. Durations are in seconds. etc/gatekeeper.toml shows every "
    "key that there is, docs/configuration.rst describes them."
)


class Setting(NamedTuple):
    """A setting of the proxy that has a key in the configuration: ``[table] key``.

    ``read`` makes the key's value, or raises ``ValueError``.
    """

    name: str
    table: str
    key: str
    read: Callable[[Any], Value]


def _seconds(raw: Any) -> float:
    return _whole(raw) / 1000


def _whole(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or raw <= 0:
        raise ValueError("must be a whole number above 0")
    return raw


#: Names as in the proxy's file, table and key. Times are in milliseconds there.
SETTINGS: Final = (
    Setting("server.http1_header_read_timeout", "timeouts", "head", _seconds),
    Setting("client.pool_idle_timeout", "pool", "idle_timeout", _seconds),
    Setting("client.pool_max_idle_per_host", "pool", "idle", _whole),
)

_IN_DEFINITIONS: Final = "there are no defaults for definitions: write it into each that lacks it"
_BY_ITSELF: Final = "gatekeeper does this in its own way, and has no setting for it"

#: What cannot be carried over, and why.
LEFT: Final = {
    "server.bind_https": _IN_DEFINITIONS,
    "server.addr": _IN_DEFINITIONS,
    "server.bind_http": _IN_DEFINITIONS,
    "server.server_cert_store_path": _IN_DEFINITIONS,
    "server.server_key_path": _IN_DEFINITIONS,
    "server.cpu_threads": _IN_DEFINITIONS,
    "client.client_ca_cert_store_path": "definitions have no place for it; services of the "
    "configuration have `ca_file`",
}

#: Put into the configuration's top by itself.
_SERVER_NAME: Final = "server.server_name"


@dataclass(frozen=True)
class Golem:
    """What the proxy was run with.

    ``directory`` holds the definitions ``found`` (with their files); ``tree`` is what they become
    as raw tables ``services``, ``listeners`` and ``checkers`` of a configuration, or None where
    the directory itself is to be named. ``management`` is the API's address, ``proxy`` what the
    proxy's own configuration file holds.
    """

    directory: Path
    found: Sequence[tuple[Path, Definition]]
    tree: Mapping[str, Any] | None = None
    management: str = "127.0.0.1:6668"
    proxy: Mapping[str, Any] | None = None


def server_names(proxy: Mapping[str, Any]) -> list[str]:
    """What the proxy advertises for definitions that say nothing about it."""
    server = proxy.get("server")
    names = server.get("server_name") if isinstance(server, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def import_golem(old: Golem) -> Imported:
    """The configuration that does what ya-http-proxy did."""
    notes = Notes()
    tables = [_top(old, notes), _management(old, notes), *_proxy(old.proxy or {}, notes)]
    if old.tree is not None:
        tables += _inline(old.tree)
        _explain_advertised(old.found, notes)
    _explain_definitions(old, notes)
    return Imported(render(_HEAD, tables), notes)


def _top(old: Golem, notes: Notes) -> Table:
    values: dict[str, Value] = {"state_dir": STATE_DIR}
    names = server_names(old.proxy or {})
    if old.tree is None:
        values["services_dir"] = str(old.directory)
        if names:
            values["server_names"] = names
            notes.carry(_SERVER_NAME, "`server_names`")
    elif names:
        notes.need_no_more(_SERVER_NAME, "it is advertised, and services in the file are not")
    comments = {
        "state_dir": STATE_DIR_COMMENT,
        "services_dir": "Definitions of services, in JSON, TOML or YAML.",
        "server_names": "Advertised for definitions without `serverName`.",
    }
    return Table("", values, comments)


def _management(old: Golem, notes: Notes) -> Table:
    loopback = parse_bind(old.management).loopback
    if loopback:
        notes.carry(
            "management API",
            "[management]; everybody on this machine may call it, as before: the runtime program "
            'has no token. `auth = "token"` asks for one',
        )
    else:
        notes.leave(
            "management API",
            "is not at a loopback address, and there callers must present the token that is made "
            "in `state_dir`",
        )
    return Table(
        "[management]",
        {"bind": old.management, "auth": "none" if loopback else "token"},
        {
            "": "The API that the runtime program calls.",
            "auth": '"token": callers present the token that is made in state_dir.',
        },
    )


def _proxy(proxy: Mapping[str, Any], notes: Notes) -> Iterator[Table]:
    """Tables for the settings of the proxy's own file."""
    known = {setting.name: setting for setting in SETTINGS}
    tables: dict[str, dict[str, Value]] = {}
    for name, raw in _flat(proxy):
        setting = known.get(name)
        if setting is not None:
            try:
                value = setting.read(raw)
            except ValueError as error:
                notes.leave(name, str(error))
            else:
                tables.setdefault(setting.table, {})[setting.key] = value
                notes.carry(name, f"`{setting.key}` of [{setting.table}]")
        elif name in LEFT:
            notes.leave(name, LEFT[name])
        elif name != _SERVER_NAME:
            notes.leave(name, _BY_ITSELF)
    for table, values in tables.items():
        yield Table(f"[{table}]", values)


def _flat(proxy: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that have a value, as ``server.name``."""
    for section, settings in proxy.items():
        if not isinstance(settings, dict):
            yield str(section), settings
            continue
        for name, value in settings.items():
            if value is not None:
                yield f"{section}.{name}", value


def _inline(tree: Mapping[str, Any]) -> Iterator[Table]:
    for listener in tree.get("listeners", []):
        yield Table("[[listeners]]", listener)
    for name, checker in tree.get("checkers", {}).items():
        comment = "User names and passwords: each service's own users, made over the API."
        yield Table(f"[checkers.{name}]", checker, {"": comment})
    for service in tree.get("services", []):
        yield Table("[[services]]", {key: value for key, value in service.items() if value})


def _explain_definitions(old: Golem, notes: Notes) -> None:
    if not old.found:
        notes.leave(str(old.directory), "holds no definitions")
    how = "a service of `services_dir`" if old.tree is None else "a service, with its listeners"
    for file, definition in old.found:
        notes.carry(file.name, f"`{definition.name}`: {how}")
    notes.need_no_more(
        "users", "the proxy never kept them; the runtime program makes them for each agreement"
    )


def _explain_advertised(found: Sequence[tuple[Path, Definition]], notes: Notes) -> None:
    for file, definition in found:
        advertised = {
            "serverName": definition.server_names,
            "cpuThreads": definition.cpu_threads,
            "offerProperties": definition.offer_properties,
        }
        fields = ", ".join(name for name, value in advertised.items() if value)
        if fields:
            notes.need_no_more(
                f"{file.name}: {fields}",
                "is for the market; keep the file, which the runtime program reads it from",
            )
