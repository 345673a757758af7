"""Paths to a value in a JSON document: ``usage.total_tokens``, ``choices[0].cost``."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

#: Object keys as text, array indexes as numbers.
JsonPath: TypeAlias = tuple[str | int, ...]

_STEP: Final = re.compile(r"(?:\A|(?<=.)\.)([^.\[\]\s\"'*?$@()/\\]+)|\[(0|[1-9][0-9]{0,3})\]")
_MOST_STEPS: Final = 16
_LONGEST_KEY: Final = 64


def parse_path(text: str) -> JsonPath:
    """Read a path: keys with dots between them, and ``[n]``, from 0, for an array's element.

    There are no wildcards, and no way to write a key that has a dot, a bracket or a blank in it.

    :raises ValueError: with a sentence for the operator.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(
                "must be a path such as `usage.total_tokens` or `results[0].cost`: keys with dots "
                "between them, `[n]` for the element of an array"
            )
        steps.append(match[1] if match[1] is not None else int(match[2]))
        position = match.end()
    if not 1 <= len(steps) <= _MOST_STEPS:
        raise ValueError(f"must have 1 to {_MOST_STEPS} steps")
    if any(isinstance(step, str) and len(step) > _LONGEST_KEY for step in steps):
        raise ValueError(f"must not have a key of more than {_LONGEST_KEY} characters")
    return tuple(steps)
