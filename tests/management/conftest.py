"""The API's tests make a house for nearly each of their requests, which has to be quick."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from werkzeug.routing import Rule


@pytest.fixture(scope="module", autouse=True)
def _routes_are_only_matched() -> Iterator[None]:
    """To prepare for URLs made of routes takes most of a house's time, and nobody makes any."""
    with patch.object(Rule, "_compile_builder", lambda *_: _make_url):
        yield


def _make_url(*_: object) -> None:
    raise AssertionError("routes are only matched here")
