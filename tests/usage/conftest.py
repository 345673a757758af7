"""A record to vary."""

from __future__ import annotations

import pytest

from gatekeeper.usage.records import UsageRecord


@pytest.fixture
def record() -> UsageRecord:
    """One exchange of half a second in the hour that begins at 3600."""
    return UsageRecord(
        id="0123",
        start=4000.0,
        duration=0.5,
        service="acme",
        user="alice",
        key_id="k",
        method="GET",
        path="/a",
        status=200,
        upstream_status=200,
        bytes_in=1,
        bytes_out=20,
        units=3,
        reason="ok",
    )
