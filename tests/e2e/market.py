"""A market, as the original's: it is asked what a service has for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.auth.test_metadata import DID, document
from tests.origin import Conversation, Origin

#: Where a market has what it knows of the service.
METADATA: Final = f"/api/v1/metadata/assets/ddo/{DID}"


@contextmanager
def selling(origin: Origin) -> Iterator[Origin]:
    """It knows one service, whose ``/open/…`` at ``origin`` is for everybody."""

    def answer(conversation: Conversation) -> None:
        main = {"webService": {"openEndpoints": [f"{origin.url}/open/:name"]}}
        service = {"type": "metadata", "attributes": {"main": main}}
        conversation.answer(document(service=[service]))

    with Origin() as market:
        market.on[METADATA] = answer
        yield market
