"""What of a changed configuration takes effect while the daemon runs, and what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from gatekeeper.config.model import Settings

#: The keys that a reload takes over. Every other one holds for the life of the process: what is
#: not made for being exchanged says so by not being here.
RELOADED: Final = frozenset(
    {
        "checkers",
        "limits",
        "listeners",
        "pool",
        "server_names",
        "services",
        "services_dir",
        "timeouts",
    }
)


def as_far_as_possible(running: Settings, wanted: Settings) -> tuple[Settings, list[str]]:
    """What can take effect of ``wanted`` in a process that has begun with ``running``.

    Returns the settings for it, and the keys whose new values need a restart (``store.url``).
    """
    kept: dict[str, Any] = {}
    keys: list[str] = []
    for name in Settings.model_fields:
        if name not in RELOADED:
            kept[name] = getattr(running, name)
            keys += _differing(name, kept[name], getattr(wanted, name))
    return wanted.model_copy(update=kept), keys


def _differing(path: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if not isinstance(before, BaseModel) or type(before) is not type(after):
        yield path
        return
    for name, field in type(before).model_fields.items():
        yield from _differing(
            f"{path}.{field.alias or name}", getattr(before, name), getattr(after, name)
        )
