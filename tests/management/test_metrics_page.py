from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gatekeeper.management.api import ManagementAPI
from gatekeeper.management.health import Readiness
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.site import BoundedRequest, BoundedSite
from gatekeeper.management.token import OperatorToken
from tests.management.test_management import Answer, Client, errors

TOKEN = "s3cret-token-of-operators"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"


def at_once(function: Callable[..., bytes], *arguments: Any) -> Deferred[bytes]:
    return succeed(function(*arguments))


class Later:
    """Instead of a thread: calls when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, function: Callable[..., bytes], *arguments: Any) -> Deferred[bytes]:
        answer: Deferred[bytes] = Deferred()
        self.calls.append(lambda: answer.callback(function(*arguments)))
        return answer


class House:
    def __init__(self, readers: OperatorToken | None = None, in_thread: Any = at_once) -> None:
        registry = CollectorRegistry()
        self.counter = Counter("gatekeeper_things", "Things.", ["service"], registry=registry)
        self.counter.labels("acme").inc(3)
        api = ManagementAPI(Readiness({}), Clock(), None, MetricsPage(registry, readers, in_thread))
        self.site = BoundedSite(api.resource(), BoundedRequest, Clock(), most=9, head=4096)

    def get(self, *fields: str, method: str = "GET") -> Answer:
        lines = [f"{method} /metrics HTTP/1.1", "Host: x", *fields]
        return Answer(Client(self.site).send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"))


class TestWhatIsShown:
    def test_prometheus_text(self) -> None:
        answer = House().get()
        assert answer.status == 200
        assert answer.fields["content-type"] == TEXT
        assert answer.fields["cache-control"] == "no-store"
        assert int(answer.fields["content-length"]) == len(answer.body)
        family, *_ = parse_text(answer.body.decode())
        assert (family.name, family.samples[0].value) == ("gatekeeper_things", 3.0)

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ],
    )
    def test_openmetrics(self, accept: str) -> None:
        answer = House().get(f"Accept: {accept}")
        assert answer.fields["content-type"] == OPENMETRICS
        (family,) = parse_openmetrics(answer.body.decode())  # type: ignore[no-untyped-call]
        assert family.samples[0].value == 3.0

    def test_fields_that_stand_twice(self) -> None:
        answer = House().get("Accept: image/png", "Accept: application/openmetrics-text")
        assert answer.fields["content-type"].startswith("application/openmetrics-text")

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text; version=x",
            "application/openmetrics-text; version=1..0",
            "text/plain; version=1.x",
            "text/plain; version=\u00b2",
            "\u00e4; version",
            ",;=",
        ],
    )
    def test_what_cannot_be_understood_gets_text(self, accept: str) -> None:
        with capturedLogs() as events:
            answer = House().get(f"Accept: {accept}")
        assert (answer.status, answer.fields["content-type"]) == (200, TEXT)
        assert errors(events) == []

    def test_it_is_not_there_without_a_registry(self) -> None:
        api = ManagementAPI(Readiness({}), Clock())
        site = BoundedSite(api.resource(), BoundedRequest, Clock(), most=9, head=4096)
        assert Client(site).get(b"/metrics").status == 404

    def test_it_cannot_be_written(self) -> None:
        answer = House().get(method="POST")
        assert answer.status == 405
        assert "get" in answer.fields["allow"]


class TestWhoMayRead:
    @pytest.fixture
    def house(self) -> House:
        return House(OperatorToken(TOKEN))

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            ["Authorization: Bearer wrong"],
            [f"Authorization: Basic {TOKEN}"],
            [f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"],
        ],
    )
    def test_not_everybody(self, house: House, fields: list[str]) -> None:
        answer = house.get(*fields)
        assert (answer.status, answer.document["reason"]) == (401, "not_an_operator")
        assert answer.fields["www-authenticate"].startswith("bearer")
        assert b"gatekeeper_things" not in answer.body

    def test_who_has_the_token(self, house: House) -> None:
        assert house.get(f"Authorization: Bearer {TOKEN}").status == 200


class TestThreads:
    def test_the_numbers_are_of_one_moment(self) -> None:
        """What is counted while the text is made comes with the next scrape."""
        later = Later()
        house = House(in_thread=later)
        client = Client(house.site)
        assert client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        house.counter.labels("acme").inc()
        later.calls.pop()()
        assert b'gatekeeper_things_total{service="acme"} 3.0' in client.transport.value()

    def test_one_at_a_time(self) -> None:
        later = Later()
        house = House(in_thread=later)
        clients = [Client(house.site) for _ in range(3)]
        for client in clients:
            client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in clients:
            (call,) = later.calls
            later.calls.clear()
            call()
        for client in clients:
            assert b"gatekeeper_things_total" in client.transport.value()

    def test_readers_that_do_not_wait(self) -> None:
        later = Later()
        house = House(in_thread=later)
        clients = [Client(house.site) for _ in range(3)]
        with capturedLogs() as events:
            for client in clients:
                client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            clients[1].channel.connectionLost()
            clients[0].channel.connectionLost()
            for call in later.calls:
                call()
        assert b"gatekeeper_things_total" in clients[2].transport.value()
        assert errors(events) == []
