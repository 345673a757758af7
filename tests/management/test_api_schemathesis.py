"""Requests made up from the API's own description: right ones, wrong ones, and sequences of them.

The site answers in memory. No request of these may find a 500, an answer that is not described, or
nonsense that is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, settings
from requests.adapters import HTTPAdapter
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import positive_data_acceptance
from twisted.logger import capturedLogs

from gatekeeper.credits.grouping import Entry
from gatekeeper.credits.ledger import ChargeState, Settlement, SettlementState
from gatekeeper.management.index import describe
from gatekeeper.store.ledger import ChargeRow, Kept, LedgerEvent, StoredSettlement
from gatekeeper.store.state import Add, AuditEntry, StoredKey, StoredService, StoredUser
from gatekeeper.usage.records import PREPAID, Account
from tests.auth.support import ALICE
from tests.management.api_house import NOW, TOKEN, House, row
from tests.management.test_management import Client, errors


def send(self: HTTPAdapter, request: requests.PreparedRequest, **_: Any) -> requests.Response:
    """Carry a request to a house of its own, in place of a connection."""
    house = House()
    populate(house)
    body = request.body or b""
    content = body.encode() if isinstance(body, str) else bytes(body)
    lines = [f"{request.method} {request.path_url} HTTP/1.1", "Host: 127.0.0.1:6668"]
    fields = {**request.headers, "Content-Length": str(len(content))}
    lines += [f"{name}: {_text(value)}" for name, value in fields.items()]
    raw = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + content
    with capturedLogs() as events:
        answered = Client(house.site).send(raw)
    assert errors(events) == []
    return response(self, request, answered)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPAdapter, "send", send)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def response(
    adapter: HTTPAdapter, request: requests.PreparedRequest, raw: bytes
) -> requests.Response:
    """What a client would make of it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    made = urllib3.HTTPResponse(
        BytesIO(body),
        [line.split(": ", 1) for line in lines],  # type: ignore[arg-type]
        status=int(status.split()[1]),
        version=11,
        preload_content=False,
    )
    return adapter.build_response(request, made)


async def balances(accounts: Sequence[Account]) -> list[tuple[int, int]]:
    return [(9, 2)] * len(accounts)


def populate(house: House) -> None:
    """What there is before each request."""
    service = {"name": "acme", "from": "/acme", "to": "http://127.0.0.1:9", "checkers": ["users"]}
    things = (
        StoredService("acme", "v1", json.dumps(service), NOW),
        StoredUser("acme", "alice", ALICE, NOW),
        StoredKey("k1", "acme", "alice", "00" * 32, NOW),
    )
    house.state.change([Add(thing) for thing in things], AuditEntry(NOW, "token", "", "begin", ""))
    house.store.usage.append(row("acme", "alice", "/acme", 3))
    house.store.kept[Account(PREPAID, "default", "alice")] = Kept(7, 9)
    owes = Account("0x" + "c0" * 20, "7", "0x" + "a1" * 20)
    house.store.charged.append(
        ChargeRow(1, owes, 5, ChargeState.UNCOLLECTED, False, None, 3, "short", NOW, NOW)
    )
    settled = Settlement(SettlementState.CLAIMED)
    entries = (Entry(owes.holder, 7, 5, 4),)
    house.store.settled.append(
        StoredSettlement(3, owes.source, owes.holder, settled, entries, (), "", NOW, NOW)
    )
    house.managed.balances = balances
    house.store.log.append(LedgerEvent(NOW, "charge", "1", "short", "", "uncollected"))
    house.tokens.add("alice", "a-token")


#: What fits the schema may still be of no use (422), or in the way of something (409).
CONFIGURATION = schemathesis.Config.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "401", "403", "404", "409", "414", "422"]
            },
        },
        "generation": {"deterministic": True},
    }
)

schema = schemathesis.openapi.from_dict(describe("token"), config=CONFIGURATION)
#: A definition that is malformed has no ``ok``, and fails here.
OPERATIONS = {
    each.label: each
    for each in (found.ok() for found in schema.get_all_operations())  # type: ignore[union-attr]
}


@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def check(case: schemathesis.Case[Any]) -> None:
    fields = {"Authorization": f"Bearer {TOKEN}"}
    # Golem's programs get a 400 for what cannot be used, too.
    excluded: list[Any] = [positive_data_acceptance] if case.path == "/services" else []
    case.call_and_validate(
        base_url="http://127.0.0.1:6668", headers=fields, excluded_checks=excluded
    )


@pytest.mark.parametrize("label", OPERATIONS)
def test_requests_made_up(label: str) -> None:
    """Made up when the test runs, and not by each process that only looks for tests."""
    requests_made_up: Callable[[], None] = build_operation_test(
        config=schema.config,
        operation=OPERATIONS[label],
        test_func=check,
        given_kwargs={},
        feedback=FeedbackSources(),
    )
    requests_made_up()
