"""What is known here of what operators have made, as a scrape tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gatekeeper.metrics.state import StateCollector
from tests.metrics.reading import sample, samples


@pytest.mark.parametrize(
    ("listening", "told"),
    [(True, {"state_listening": 1}), (False, {"state_listening": 0}), (None, {})],
)
def test_the_state(listening: bool | None, told: dict[str, float]) -> None:
    state: Any = SimpleNamespace(listening=listening, view=SimpleNamespace(version=7))
    assert samples(StateCollector(state).collect()) == {
        sample(name): value for name, value in {"state_version": 7, **told}.items()
    }
