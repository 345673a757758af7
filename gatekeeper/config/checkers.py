"""The checkers' side of the configuration: which types there are, and one configured table.

The configuration knows no plug-in. Who loads it hands in what the installed plug-ins accept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class CheckerTypes:
    """What the installed checkers accept.

    ``models``: for each ``type`` of a ``[checkers.NAME]`` table the model of its other keys;
    derive it from :class:`gatekeeper.config.fields.Section`, so that unknown keys are errors.
    Relative paths in fields annotated with :class:`pathlib.Path` are made absolute before the
    model sees them. A model may have the attributes ``needs_trusted_peers`` and
    ``needs_client_ca``: true where its checker is of use only on a listener that has these.
    ``schemes``: for each URL scheme that may stand in place of a name a function
    that raises :class:`~gatekeeper.errors.ConfigurationError` where it cannot use the URL.
    """

    models: Mapping[str, type[BaseModel]]
    schemes: Mapping[str, Callable[[str], None]]


@dataclass(frozen=True, slots=True)
class CheckerTable:
    """A ``[checkers.NAME]`` table: its ``type``, and its other keys as the type's own model."""

    type: str
    settings: BaseModel = field(repr=False)  # it may hold secrets
