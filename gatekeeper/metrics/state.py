"""What operators have made, as far as it is known here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from gatekeeper.metrics import families

if TYPE_CHECKING:
    from gatekeeper.state import State


class StateCollector:
    """The copy of what the store holds, and whether changes of others are heard of."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        listening = self._state.listening
        yield families.STATE_VERSION.one(self._state.view.version)
        yield families.STATE_LISTENING.of([] if listening is None else [((), listening)])
