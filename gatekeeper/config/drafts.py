"""Tables as far as they are valid.

One wrong key must not hide what is wrong between the others, so that an operator sees all problems
at once. A draft holds the keys that are valid; what is asked about the others is not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from gatekeeper.config.annotations import keys_of
from gatekeeper.config.fields import Section

Table = TypeVar("Table", bound=Section)


@dataclass(frozen=True, slots=True)
class Draft(Generic[Table]):
    """A table at ``path``. Those fields of ``table`` that ``broken`` names must not be read."""

    path: str
    table: Table
    broken: frozenset[str]


def draft(model: type[Table], raw: dict[str, Any], path: str) -> Draft[Table]:
    """Validate a table key by key. No problem is reported: validating it whole does that."""
    valid: dict[str, Any] = {}
    broken = set()
    for key, (name, field) in zip(keys_of(model), model.model_fields.items(), strict=True):
        if key in raw:
            try:
                valid[name] = _validator(model, name)(raw[key], by_alias=True, by_name=False)
            except ValidationError:
                broken.add(name)
        elif field.is_required():
            broken.add(name)
    return Draft(path, model.model_construct(**valid), frozenset(broken))


@cache
def _validator(model: type[Section], name: str) -> Callable[..., Any]:
    field: TypeAdapter[Any] = TypeAdapter(model.model_fields[name].rebuild_annotation())
    return field.validate_python


def drafts(model: type[Table], raw: Any, path: str) -> list[Draft[Table]]:
    """Draft every table of a list; what is no list, and no table in it, is left out."""
    items = enumerate(raw) if isinstance(raw, list) else ()
    return [draft(model, item, f"{path}[{i}]") for i, item in items if isinstance(item, dict)]


def sound(drafts: Iterable[Draft[Table]], *fields: str) -> Iterator[tuple[str, Table]]:
    """Those drafts, as path and table, in which all of these fields may be read."""
    for item in drafts:
        if item.broken.isdisjoint(fields):
            yield item.path, item.table
