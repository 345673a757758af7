"""An operator: whoever has the token of the management listener."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.daemon import PATIENCE, Daemon


def keyvals(
    daemon: Daemon, method: str, zone: str = "tokens", entry: dict[str, str | None] | None = None
) -> tuple[int, Any]:
    """Make a key-value call on a zone: the status, and the answer's document if there is one."""
    token = (daemon.state_dir / "management.token").read_text().strip()
    connection = http.client.HTTPConnection(*daemon.address("management"), timeout=PATIENCE)
    try:
        connection.request(
            method,
            f"/api/8/http/keyvals/{zone}/",
            body=None if entry is None else json.dumps(entry),
            headers={"Authorization": f"Bearer {token}"},
        )
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else None
    finally:
        connection.close()


def shut_out(daemon: Daemon, key: str, zone: str = "tokens") -> None:
    """Set an entry that there is to ``"0"``."""
    status, document = keyvals(daemon, "PATCH", zone, {key: "0"})
    assert status == 204, document
