"""Holders who send requests, one after another each, until they have got their answers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from tests.burning.market import KINDS, Kind, mint_token
from tests.origin import Origin

_PATIENCE: Final = 20.0  # seconds
_AGAIN: Final = 0.02  # seconds before a request is sent again that was refused, or had no answer


class Buyers:
    """Requests through the gateway at ``port``, to ``origin``.

    ``answered`` has the kind of each request that was answered to the end, by its id; ``refused``
    counts the 402 and 503 of the gateway by their reasons, ``broken`` the requests that got no
    answer.
    """

    def __init__(self, port: int, origin: Origin) -> None:
        self.answered: dict[str, tuple[str, Kind]] = {}
        self.refused: Counter[str] = Counter()
        self.broken = 0
        self._port = port
        self._origin = origin
        self._lock = threading.Lock()

    def buy(self, holders: Sequence[str], kinds: Sequence[Kind] = KINDS) -> None:
        """Have each holder send one request of each kind, all holders at once."""
        with ThreadPoolExecutor(len(holders)) as threads:
            for each in [threads.submit(self._buy, holder, kinds) for holder in holders]:
                each.result()

    def _buy(self, holder: str, kinds: Sequence[Kind]) -> None:
        tokens = {kind.sold.did: mint_token(kind.sold, holder, self._origin) for kind in kinds}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        give_up_at = time.monotonic() + _PATIENCE
        for kind in kinds:
            while not self._try(connection, kind, holder, tokens[kind.sold.did]):
                assert time.monotonic() < give_up_at, f"no good answer: {self.refused}"
                time.sleep(_AGAIN)
        connection.close()

    def _try(
        self, connection: http.client.HTTPConnection, kind: Kind, holder: str, token: str
    ) -> bool:
        fields = {"Host": f"127.0.0.1:{self._origin.port}", "Authorization": f"Bearer {token}"}
        try:
            connection.request("GET", kind.path, headers=fields)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            with suppress(OSError):
                connection.close()
            with self._lock:
                self.broken += 1
            return False
        with self._lock:
            if answer.status in (402, 503):
                self.refused[json.loads(body)["reason"]] += 1
                return False
            assert answer.status == kind.status, f"{kind}: {answer.status}"
            self.answered[answer.headers["x-request-id"]] = holder, kind
        return True
