"""The files that listeners and services name: that there is what is needed, and it can be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gatekeeper.config.drafts import Draft, draft, drafts, sound
from gatekeeper.config.model_listeners import TLS, Certificate
from gatekeeper.config.model_services import Service
from gatekeeper.errors import Problem

Pair = TypeVar("Pair", TLS, Certificate)


def check_files(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the files of a raw tree whose paths are absolute."""
    yield from _state_dir(raw.get("state_dir"))
    listeners = raw.get("listeners")
    for i, listener in enumerate(listeners if isinstance(listeners, list) else ()):
        table = listener.get("tls") if isinstance(listener, dict) else None
        if isinstance(table, dict):
            path = f"listeners[{i}].tls"
            yield from _tls(draft(TLS, table, path))
            yield from _pairs(drafts(Certificate, table.get("sni"), f"{path}.sni"))
    yield from check_service_files(drafts(Service, raw.get("services"), "services"))


def check_service_files(services: Iterable[Draft[Service]]) -> Iterator[Problem]:
    """What is wrong with the files of services; their paths are absolute."""
    services = list(services)
    for path, service in sound(services, "ca_file"):
        yield from unreadable(f"{path}.ca_file", service.ca_file)
    for path, service in sound(services, "actions_file"):
        yield from unreadable(f"{path}.actions_file", service.actions_file)


def _state_dir(value: Any) -> Iterator[Problem]:
    if not isinstance(value, str):
        return
    try:
        is_directory = stat.S_ISDIR(os.stat(value).st_mode)
    except FileNotFoundError:
        return  # it is made at the first start
    except OSError as error:
        yield Problem("state_dir", f"`{value}` cannot be used: {error.strerror}")
    except ValueError:
        yield Problem("state_dir", "is not a path")
    else:
        if not is_directory:
            yield Problem("state_dir", f"`{value}` is not a directory")


def _tls(tls: Draft[TLS]) -> Iterator[Problem]:
    yield from _pairs([tls])
    for path, table in sound([tls], "client_ca"):
        yield from unreadable(f"{path}.client_ca", table.client_ca)
        if table.client_ca is None and "client_certificates" in table.model_fields_set:
            yield Problem(f"{path}.client_certificates", "belongs beside `client_ca`")
    for path, table in sound([tls], "certificate", "key", "self_signed"):
        given = {"certificate": table.certificate, "key": table.key}
        missing = [name for name, file in given.items() if file is None]
        if table.self_signed and len(missing) < 2:
            yield Problem(path, "has both `self_signed` and `certificate` or `key`; keep one")
        elif not table.self_signed and len(missing) == 2:
            yield Problem(path, "needs `certificate` and `key`, or `self_signed = true`")
        elif not table.self_signed and missing:
            yield Problem(f"{path}.{missing[0]}", "is required beside the other half of the pair")


def _pairs(tables: Iterable[Draft[Pair]]) -> Iterator[Problem]:
    for path, table in sound(tables, "certificate"):
        yield from unreadable(f"{path}.certificate", table.certificate)
    for path, table in sound(tables, "key"):
        yield from unreadable(f"{path}.key", table.key)


def unreadable(path: str, file: Path | None) -> Iterator[Problem]:
    """What is wrong with a file that is read, if there is one; ``path`` is its place."""
    if file is None:
        return
    try:
        with file.open("rb") as content:
            content.read(1)
    except OSError as error:
        yield Problem(path, f"`{file}` cannot be read: {error.strerror}")
    except ValueError:
        yield Problem(path, "is not a path")
