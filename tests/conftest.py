"""How Hypothesis runs here: without a clock, and in CI without chance; and what is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.daemon import MEASURED

_IN_CI = "CI" in os.environ

settings.register_profile(
    "gatekeeper",
    deadline=None,
    derandomize=_IN_CI,
    max_examples=100 if _IN_CI else 200,
    print_blob=True,
)
settings.load_profile("gatekeeper")


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[None]:
    """Programs that a module starts are not measured: they work hard, or others do the same.

    To be measured takes up to half of their time.
    """
    told = os.environ.pop(MEASURED, None)
    yield
    if told is not None:
        os.environ[MEASURED] = told
