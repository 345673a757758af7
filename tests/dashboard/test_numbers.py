from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from gatekeeper.management.dashboard.numbers import MOST_REASONS, Numbers
from gatekeeper.stats import DURATIONS, ChainStats, RequestStats


def exchange(service: str | None) -> Any:
    route = SimpleNamespace(route=SimpleNamespace(name=service))
    return SimpleNamespace(request=None if service is None else route)


def make(
    requests: list[tuple[str, RequestStats]],
    chains: list[tuple[str, ChainStats]] | None = None,
    live: tuple[Any, ...] = (),
) -> dict[str, Any]:
    numbers = Numbers(lambda: requests, lambda: chains or [], live, ("b", "a"), lambda: 12.5)
    document: dict[str, Any] = json.loads(json.dumps(numbers.document()))
    return document


def counted(*ends: tuple[int, float, str]) -> RequestStats:
    stats = RequestStats()
    for status, duration, reason in ends:
        stats.finished(status, duration, reason, 1, 2)
    return stats


def test_nothing_yet() -> None:
    assert make([]) == {
        "time": 12.5,
        "services": {},
        "reasons": {},
        "latency": {"bounds": list(DURATIONS), "counts": [0] * (len(DURATIONS) + 1)},
        "decisions": [],
        "zones": ["a", "b"],
    }


def test_requests() -> None:
    wallet = counted((200, 0.0005, "ok"), (404, 0.002, "ok"), (502, 0.002, "upstream_lost"))
    nowhere = counted((404, 1000.0, "no_route"))
    document = make([("wallet", wallet), ("", nowhere)], live=(exchange("wallet"), exchange(None)))
    assert document["services"] == {
        "wallet": {"ok": 2, "others": 1, "live": 1},
        "": {"ok": 0, "others": 1, "live": 1},
    }
    assert document["reasons"] == {"upstream_lost": 1, "no_route": 1}
    counts = document["latency"]["counts"]
    assert counts[:2] == [1, 2]
    assert counts[-1] == 1
    assert sum(counts) == 4


def test_two_of_one_name_are_one() -> None:
    ok = (200, 0.001, "ok")
    document = make([("a", counted(ok)), ("a", counted(ok, ok))], live=(exchange("a"),))
    assert document["services"] == {"a": {"ok": 3, "others": 0, "live": 1}}


def test_the_most_frequent_reasons() -> None:
    stats = counted(*((500, 1.0, f"r{n}") for n in range(30) for _ in range(n + 1)))
    reasons = make([("a", stats)])["reasons"]
    assert list(reasons)[:2] == ["r29", "r28"]
    assert len(reasons) == MOST_REASONS


def test_decisions() -> None:
    chain = ChainStats(["keys", "users"])
    chain.decided(0, "granted")
    chain.decided(0, "granted")
    chain.decided(1, "unavailable")
    chain.nobody_decided()
    chain.cached_grants = 7
    rows = make([], [("wallet", chain)])["decisions"]
    assert all(row["service"] == "wallet" for row in rows)
    found = {(row["checker"], row["verdict"], row["remembered"]): row["number"] for row in rows}
    assert found == {
        ("keys", "granted", False): 2,
        ("users", "unavailable", False): 1,
        ("", "denied", False): 1,
        ("", "granted", True): 7,
    }
