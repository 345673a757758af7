"""Relative paths, made absolute."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gatekeeper.config.annotations import alternatives, item_of, keys_of, model_of, value_of
from gatekeeper.config.model import Settings

_SQLITE = "sqlite:///"


def absolute(path: str | Path, base: Path) -> Path:
    """``path``, taken from ``base`` where it is relative, without ``..``; links stay."""
    return Path(os.path.normpath(base / path))


def absolute_in_table(
    model: type[BaseModel], table: Mapping[str, Any], base: Path
) -> dict[str, Any]:
    """Copy a raw table with every path in it taken from ``base``.

    Paths are what the model annotates as :class:`~pathlib.Path`, however deep; a path that is a
    default counts too. Nothing is validated: what does not fit the model stays as it is.
    """
    keys = keys_of(model)
    copy = {
        key: _absolute(keys[key].annotation, value, base) if key in keys else value
        for key, value in table.items()
    }
    for key, field in keys.items():
        if key not in copy and isinstance(field.default, Path):
            copy[key] = str(absolute(field.default, base))
    return copy


def _absolute(annotation: Any, value: Any, base: Path) -> Any:
    if isinstance(value, str):
        kinds = list(alternatives(annotation))
        # Where a plain string is allowed too, it is a URL.
        is_path = Path in kinds and (str not in kinds or "://" not in value)
        return str(absolute(value, base)) if is_path else value
    if isinstance(value, list) and (item := item_of(annotation)) is not None:
        return [_absolute(item, element, base) for element in value]
    if isinstance(value, dict):
        if model := model_of(annotation):
            return absolute_in_table(model, value, base)
        if (element := value_of(annotation)) is not None:
            return {key: _absolute(element, item, base) for key, item in value.items()}
    return value


def in_state_dir(settings: Settings) -> Settings:
    """Take the store's file and the access log from ``state_dir`` where they are relative."""
    store, log = settings.store, settings.log
    if store.url.startswith(_SQLITE):
        file = absolute(store.url.removeprefix(_SQLITE), settings.state_dir)
        store = store.model_copy(update={"url": f"{_SQLITE}{file}"})
    if log.access not in ("-", "none"):
        file = absolute(log.access, settings.state_dir)
        log = log.model_copy(update={"access": str(file)})
    return settings.model_copy(update={"store": store, "log": log})
