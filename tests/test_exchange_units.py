"""What a service charges by gets from the upstream's answers into the usage records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatekeeper.usage.records import UsageRecord
from tests.net.messages import GET
from tests.world import GUARDED, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

TOKENS = {
    "units": "json",
    "prices": {"gpt-4o": {"prompt": 1, "completion": 2, "per": 1}},
    "fallback": 7,
}
USAGE = b'{"model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
EVENTS = (
    b'data: {"model": "gpt-4o", "usage": null}\n\n',
    b"data: " + USAGE[:20],
    USAGE[20:] + b"\n\ndata: [DONE]\n\n",
)


def record(world: World, *answer: bytes, request: bytes = GET) -> UsageRecord:
    client = world.connect()
    client.sends(request)
    world.upstream().sends(*answer)
    client.received()
    client.hangs_up()
    return world.record


def metered(make_world: MakeWorld, meter: dict[str, Any]) -> World:
    return make_world(services=[{**GUARDED, "meter": meter}])


def test_a_request_is_a_unit(make_world: MakeWorld) -> None:
    world = make_world(services=[GUARDED])
    used = record(world, b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
    assert (used.units, used.model) == (1, "")


def test_bytes(make_world: MakeWorld) -> None:
    world = metered(make_world, {"units": "bytes"})
    post = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\nabc"
    used = record(world, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", request=post)
    assert used.units == 5


def test_a_field_of_the_head(make_world: MakeWorld) -> None:
    world = metered(make_world, {"units": "header", "header": "NVMCreditsConsumed"})
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nnvmcreditsconsumed: 12\r\n\r\n"
    assert record(world, head).units == 12


def test_tokens_in_a_document(make_world: MakeWorld) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    used = record(metered(make_world, TOKENS), head % len(USAGE) + USAGE)
    assert (used.units, used.model) == (11, "gpt-4o")


@pytest.mark.parametrize("seen", [3, 2])
def test_tokens_in_a_stream(make_world: MakeWorld, seen: int) -> None:
    """The first piece has no counts; the client leaves after ``seen`` pieces."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    used = record(metered(make_world, TOKENS), head, *EVENTS[:seen])
    assert used.units == (11 if seen == 3 else 7)
    assert used.reason == "client_gone"


def test_an_answer_of_our_own_costs_nothing(make_world: MakeWorld) -> None:
    used = record(metered(make_world, TOKENS), b"HTTP/1.1 nonsense\r\n\r\n")
    assert (used.status, used.units) == (502, 0)


def test_a_tunnel(make_world: MakeWorld) -> None:
    world = metered(make_world, TOKENS)
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    switched = (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    used = record(world, switched, request=upgrade)
    assert (used.status, used.units) == (101, 7)
