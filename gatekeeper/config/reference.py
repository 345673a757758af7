"""The configuration reference, ``docs/configuration.rst``, made from the model."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gatekeeper.config.annotations import item_of, keys_of, model_of, value_of
from gatekeeper.config.fields import Words
from gatekeeper.config.model import Settings

_INTRODUCTION = """\
.. Made from the model in gatekeeper/config by gatekeeper.config.reference; edit there.

Configuration
=============

The configuration is one TOML file. ``etc/gatekeeper.toml`` is a sample with every key in it, and
``gatekeeper check-config FILE`` tells what is wrong with a file. An unknown key is an error. All
problems are reported at once, each with its path, such as ``services[2].to``; list items count
from 0.

*Durations* are numbers of seconds, *sizes* numbers of bytes.

*Secrets* need not stand in the file. Wherever a string is expected, ``{ env = "NAME" }`` takes it
from the environment, and ``{ file = "path" }`` from a file, without the newline at its end. An
empty value counts as missing. Such values are never shown.

*Relative paths* start from the directory that the configuration file is in; the store's file and
the access log start from ``state_dir``.
"""

_CHECKERS = """\
``[checkers.NAME]``
-------------------

A checker says who a request comes from. A table gives it a name; ``type`` says of what type it is,
and the other keys depend on that. Listeners and services name the checkers that they ask, in order;
a URL such as ``trust://`` names a checker that needs no table.
"""

_PLAIN_WORDS = {
    str: "string",
    bool: "``true`` or ``false``",
    int: "whole number",
    float: "number",
    Path: "path",
    SecretStr: "string",
}


def render(checker_models: Mapping[str, type[BaseModel]]) -> str:
    """The whole reference as reStructuredText; ``checker_models`` are the checkers' by type."""
    parts = [_INTRODUCTION, *_section("", Settings, "Top level")]
    for key, field in keys_of(Settings).items():
        if key == "checkers":
            parts.append(_CHECKERS)
            for kind, model in sorted(checker_models.items()):
                parts += _checker(kind, model)
        else:
            parts += _subsection(key, field)
    return "\n".join(parts)


def _subsection(path: str, field: FieldInfo) -> Iterator[str]:
    """The section of a key that holds a table, or tables in a list or by name, and those inside."""
    item, value = item_of(field.annotation), value_of(field.annotation)
    if model := model_of(item or value or field.annotation):
        path = f"{path}.NAME" if value else path
        title = f"``[[{path}]]``" if item else f"``[{path}]``"
        yield from _section(path, model, title)


def _section(path: str, model: type[BaseModel], title: str) -> Iterator[str]:
    yield f"{title}\n{'-' * len(title)}\n"
    if model is not Settings:
        yield f"{_rst(_first_paragraph(model))}\n"
        yield _table([_row(key, field) for key, field in keys_of(model).items()])
        for key, field in keys_of(model).items():
            yield from _subsection(f"{path}.{key}", field)
    else:
        plain = {k: f for k, f in keys_of(model).items() if k != "checkers" and not _is_table(f)}
        yield _table([_row(key, field) for key, field in plain.items()])


def _checker(kind: str, model: type[BaseModel]) -> Iterator[str]:
    title = f'``type = "{kind}"``'
    yield f"{title}\n{'~' * len(title)}\n"
    if paragraph := _first_paragraph(model):
        yield f"{_rst(paragraph)}\n"
    rows = [_row(key, field) for key, field in keys_of(model).items()]
    yield _table(rows) if rows else "No other keys.\n"


def _is_table(field: FieldInfo) -> bool:
    return any(_subsection("", field))


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 18 18 18 46", ""]
    for row in [("Key", "Type", "Default", "Meaning"), *rows]:
        for i, cell in enumerate(row):
            lines.append(f"   {'* -' if i == 0 else '  -'} {cell}")
    return "\n".join([*lines, ""])


def _row(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    kind = _words(field.rebuild_annotation())
    return f"``{key}``", kind, _default(field), _rst(field.description or "")


def _words(annotation: Any) -> str:
    """A type, as the reference calls it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        marks = [mark.text for mark in arguments[1:] if isinstance(mark, Words)]
        return marks[0] if marks else _words(arguments[0])
    if origin in (Union, types.UnionType):
        kinds = [_words(kind) for kind in arguments if kind is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is Literal:
        return " or ".join(f"``{_toml(value)}``" for value in arguments)
    if (item := item_of(annotation)) is not None:
        words = _words(item)
        return f"list of {words}" + ("s" if words[-1].isalpha() else "")
    return _PLAIN_WORDS.get(annotation, "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, dict | BaseModel):
        return "—"
    return f"``{_toml(value)}``"


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, SecretStr):
        return '"…"'
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)


def _rst(text: str) -> str:
    """A description's marks as reStructuredText's: code in double backticks, stars as stars."""
    parts = text.split("`")
    parts[0::2] = [part.replace("\\", "\\\\").replace("*", "\\*") for part in parts[0::2]]
    return "``".join(parts)
