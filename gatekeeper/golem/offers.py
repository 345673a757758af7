"""What a service advertises on Golem's market."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from gatekeeper.golem.definitions import Definition

PREFIX: Final = "golem.runtime.http-auth."

_NOT_IN_KEYS: Final = re.compile(r"[^a-z0-9_.-]")


def offer_template(definition: Definition) -> dict[str, Any]:
    """The template that the supervisor makes an offer of.

    What is known of the service stands above properties of the same name in its definition.
    """
    properties = {}
    for key, value in definition.offer_properties.items():
        name = property_name(key)
        if name and value is not None:
            properties[PREFIX + name] = property_value(value)
    properties[PREFIX + "https"] = bool(definition.bind_https)
    if definition.cpu_threads is not None:
        properties[PREFIX + "cpu-threads"] = definition.cpu_threads
    return {"properties": properties, "constraints": ""}


def property_name(key: str) -> str:
    """A key in the market's spelling: ``My_Key..`` is ``my-key``; empty where nothing is left."""
    name = _NOT_IN_KEYS.sub("", key.lower()).replace("_", "-")
    name = re.sub(r"-{2,}", "-", name)
    return re.sub(r"\.{2,}", ".", name).rstrip(".")


def property_value(value: Any) -> Any:
    """A value as the market takes it: an object as JSON text, a list without ``null``."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        return [property_value(item) for item in value if item is not None]
    return value
