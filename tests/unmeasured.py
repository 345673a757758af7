"""Processes whose lines are not counted, which costs them up to half of their time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: How ``coverage`` tells a process that it is to be measured.
_VARIABLE = "COVERAGE_PROCESS_CONFIG"


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure no process that is started meanwhile."""
    told = os.environ.pop(_VARIABLE, None)
    try:
        yield
    finally:
        if told is not None:
            os.environ[_VARIABLE] = told
