"""What is started here works hard; tests/e2e run the same, and measure it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _unmeasured(unmeasured: None) -> None:
    """See there."""
