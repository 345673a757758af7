from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher


class Logged(list[LogEvent]):
    """The events of one test."""

    @property
    def text(self) -> str:
        """Every event with all that it carries."""
        return "\n".join(f"{formatEvent(event)} {event!r}" for event in self)


@pytest.fixture
def logged() -> Iterator[Logged]:
    events = Logged()
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)
