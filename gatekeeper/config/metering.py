"""What must be right between the keys of a service's ``meter``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gatekeeper.config.drafts import Draft, draft, sound
from gatekeeper.config.model_selling import Meter
from gatekeeper.errors import Problem

_ANSWER: Final = ("header", "json")
_BOUNDED: Final = ("bytes", "bytes_in", "bytes_out", "seconds", *_ANSWER)

#: Keys that not all meters have, and the `units` of those that do.
_KINDS: Final = {
    "header": ("header",),
    **dict.fromkeys(("path", "model", "prices", "prompt", "completion"), ("json",)),
    **dict.fromkeys(("fallback", "on_error"), _ANSWER),
    **dict.fromkeys(("minimum", "maximum"), _BOUNDED),
}


def meter_problems(services: Any) -> Iterator[Problem]:
    """What is wrong inside the meters of a raw list of services, beside single values."""
    for i, service in enumerate(services if isinstance(services, list) else ()):
        raw = service.get("meter") if isinstance(service, dict) else None
        if isinstance(raw, dict):
            meters = [draft(Meter, raw, f"services[{i}].meter")]
            yield from _keys_of_another_kind(meters)
            yield from _missing_keys(meters)
            yield from _contradictions(meters)


def _keys_of_another_kind(meters: list[Draft[Meter]]) -> Iterator[Problem]:
    for path, meter in sound(meters, "units"):
        for key, kinds in _KINDS.items():
            if key in meter.model_fields_set and meter.units not in kinds:
                message = f'has no meaning where units = "{meter.units}"'
                yield Problem(f"{path}.{key}", message)


def _missing_keys(meters: list[Draft[Meter]]) -> Iterator[Problem]:
    for path, meter in sound(meters, "units", "header"):
        if meter.units == "header" and meter.header is None:
            yield Problem(f"{path}.header", 'is required where units = "header"')
    for path, meter in sound(meters, "units", "path", "prices"):
        if meter.units == "json" and meter.path is None and not meter.prices:
            yield Problem(
                f"{path}.path", 'is required where units = "json", unless `prices` is there'
            )


def _contradictions(meters: list[Draft[Meter]]) -> Iterator[Problem]:
    for path, meter in sound(meters, "units", "prices", "prompt", "completion"):
        for key in ("prompt", "completion"):
            if key in meter.model_fields_set and meter.units == "json" and meter.prices is None:
                yield Problem(f"{path}.{key}", "has no meaning without `prices`")
    for path, meter in sound(meters, "path", "prices"):
        if meter.path is not None and meter.prices is not None:
            yield Problem(f"{path}.prices", "takes the place of `path`; keep one of them")
    for path, meter in sound(meters, "minimum", "maximum"):
        if meter.minimum > meter.maximum:
            yield Problem(f"{path}.minimum", "must not be more than `maximum`")
