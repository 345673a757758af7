"""Pydantic's errors as problems that an operator understands.

What was found is never shown, only what is expected: a value may be a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from gatekeeper.config.annotations import alternatives, item_of, keys_of, model_of, value_of
from gatekeeper.errors import Problem

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# Pydantic's error types (https://docs.pydantic.dev/latest/errors/validation_errors/) that are
# worded for Python programmers, in TOML's words. The braces are filled from the error's context.
_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string",
    "path_type": "must be a path, given as a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be `true` or `false`",
    "bool_parsing": "must be `true` or `false`",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def path_of(location: Iterable[str | int]) -> str:
    """Write a location as ``services[2].to``; keys that are not plain words are quoted."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            word = part if _BARE_KEY.fullmatch(part) else json.dumps(part)
            path += f".{word}" if path else word
    return path


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean `bind`?``, or nothing where no known word is near."""
    near = difflib.get_close_matches(word[:100], list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def problems_of(
    error: ValidationError, model: type[BaseModel], under: tuple[str | int, ...] = ()
) -> Iterator[Problem]:
    """Everything that is wrong with a table of ``model`` that stands at ``under``."""
    for detail in error.errors(include_input=False, include_url=False):
        kind, context = detail["type"], dict(detail.get("ctx", {}))
        if "expected" in context:
            context["expected"] = context["expected"].replace("'", "`")
        location, table = _follow(model, detail["loc"])
        path = path_of((*under, *location))
        if kind == "extra_forbidden":
            near = suggestion(str(location[-1]), keys_of(table) if table else ())
            yield Problem(path, f"unknown key{near}")
        elif kind in _MESSAGES:
            yield Problem(path, _MESSAGES[kind].format_map(context))
        else:
            yield Problem(path, detail["msg"].replace("Input should be", "must be"))


def _follow(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[list[str | int], type[BaseModel] | None]:
    """Walk along an error's location.

    Out come the location as the file has it, without pydantic's own marks (``[key]``, the names of
    a union's alternatives), and the model of the table that the location's last key is in.
    """
    path: list[str | int] = []
    here: Any = model
    table: type[BaseModel] | None = None
    for part in location:
        table = model_of(here)
        if isinstance(part, int):
            path.append(part)
            here = item_of(here)
        elif table and part in keys_of(table):
            path.append(part)
            here = keys_of(table)[part].annotation
        elif value_of(here) is not None:
            path.append(part)
            here = value_of(here)
        elif table and len(list(alternatives(here))) == 1 and part != "[key]":
            path.append(part)  # an unknown key
            here = None
    return path, table
