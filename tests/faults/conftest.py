"""What is started here is not measured for coverage: it works hard, and e2e tests run the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unmeasured import unmeasured


@pytest.fixture(scope="module", autouse=True)
def _unmeasured() -> Iterator[None]:
    with unmeasured():
        yield
