"""Who tries one token after the other is answered late; operators are not."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from gatekeeper.management.attempts import FREE
from gatekeeper.management.site import BoundedRequest, BoundedSite
from gatekeeper.management.slowdown import LONGEST, MOST, Slowdown
from gatekeeper.management.token import OperatorToken
from tests.management.test_management import Answer, Client

TOKEN = "s3cret-token-of-operators"
PATH = b"/v1/users"


class Echo(Resource):
    """Answers with the path that was asked for."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        path: bytes = request.path
        return path


class Door:
    def __init__(self) -> None:
        self.clock = Clock()
        echo = Echo()  # type: ignore[no-untyped-call]
        root = Slowdown(echo, OperatorToken(TOKEN), self.clock)
        self.site = BoundedSite(root, BoundedRequest, Clock(), most=MOST + 9, head=4096)

    def ask(self, token: str | None = "wrong") -> Client:
        """Somebody asks; the answer may have to be waited for."""
        client = Client(self.site)
        field = b"" if token is None else b"Authorization: Bearer %b\r\n" % token.encode()
        client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (PATH, field))
        return client

    def annoyed(self, times: int = FREE - 1) -> None:
        for _ in range(times):
            assert answered(self.ask())


def answered(client: Client) -> bool:
    return bool(client.transport.value()) and Answer(client.transport.value()).body == PATH


@pytest.fixture
def door() -> Door:
    return Door()


def test_some_wrong_tokens_cost_nothing(door: Door) -> None:
    door.annoyed()


def test_then_each_takes_longer(door: Door) -> None:
    door.annoyed()
    for seconds in (1.0, 2.0, 4.0, LONGEST, LONGEST):
        client = door.ask()
        door.clock.advance(seconds - 0.01)
        assert not answered(client)
        door.clock.advance(0.01)
        assert answered(client)


@pytest.mark.parametrize("token", [TOKEN, None])
def test_who_does_not_guess_never_waits(door: Door, token: str | None) -> None:
    door.annoyed()
    held = door.ask()
    assert answered(door.ask(token))
    assert not answered(held)


def test_so_many_are_held_at_once(door: Door) -> None:
    door.annoyed()
    held = [door.ask() for _ in range(MOST)]
    assert not any(map(answered, held))
    assert answered(door.ask())
    assert answered(door.ask(TOKEN))
    door.clock.advance(LONGEST)
    assert all(map(answered, held))


def test_who_goes_makes_room(door: Door) -> None:
    door.annoyed()
    for client in [door.ask() for _ in range(MOST)]:
        client.channel.connectionLost()
    assert door.clock.getDelayedCalls() == []
    assert not answered(door.ask())


def test_a_right_token_between_two_fields_is_a_wrong_one(door: Door) -> None:
    for _ in range(FREE):
        client = Client(door.site)
        two = b"Authorization: Bearer %b\r\n" % TOKEN.encode() * 2
        client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (PATH, two))
    assert not answered(client)
