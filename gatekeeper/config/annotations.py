"""Reading the type annotations of a pydantic model's fields."""

from __future__ import annotations

import collections.abc
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)


def alternatives(annotation: Any) -> Iterator[Any]:
    """Every type that an annotation allows, without ``Annotated`` and ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from alternatives(argument)
    elif annotation is not types.NoneType:
        yield annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The first model among the alternatives, ``None`` where there is none."""
    for kind in alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def item_of(annotation: Any) -> Any | None:
    """What a list holds, ``None`` where no alternative is a list."""
    for kind in alternatives(annotation):
        if get_origin(kind) in _SEQUENCES:
            return get_args(kind)[0]
    return None


def value_of(annotation: Any) -> Any | None:
    """What a table with free keys holds, ``None`` where no alternative is one."""
    for kind in alternatives(annotation):
        if get_origin(kind) in _MAPPINGS:
            return get_args(kind)[1]
    return None


def keys_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """A model's fields under the keys that they have in the file (``from``, not ``from_``)."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
