"""A configuration as it may be shown: without anything that is, or may hold, a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gatekeeper.config.checkers import CheckerTable

#: What stands in a secret's place.
REDACTED: Final = "***"

#: Lists of names of checkers, or of URLs that may hold a secret.
_CHECKERS: Final = ("checkers", "callers")


def redact(value: Any) -> Any:
    """What a configuration holds, as JSON; fields that are not to be in a ``repr`` as ``***``."""
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, BaseModel):
        return {
            field.alias or name: _redact_field(name, getattr(value, name), shown=field.repr)
            for name, field in type(value).model_fields.items()
        }
    if isinstance(value, CheckerTable):
        return {"type": value.type, **redact(value.settings)}
    if isinstance(value, Mapping):
        return {str(key): redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def redact_checker(entry: str) -> str:
    """The name of a checker as it is, of a URL the scheme."""
    scheme, separator, _ = entry.partition("://")
    return f"{scheme}://{REDACTED}" if separator else entry


def _redact_field(name: str, value: Any, *, shown: bool) -> Any:
    if shown or value is None:
        return redact(value)
    if name in _CHECKERS and isinstance(value, tuple):
        return [redact_checker(entry) for entry in value]
    if isinstance(value, Mapping):
        return dict.fromkeys(value, REDACTED)  # such as users and the hashes of their passwords
    return REDACTED
