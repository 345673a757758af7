"""What a service with an action file is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.auth.interfaces import Grant
from gatekeeper.errors import ConfigurationError
from tests.world import GUARDED, Table, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
def node(tmp_path: Path) -> Table:
    path = tmp_path / "api.properties"
    path.write_text("action_spend=spender\naction_conf=internal\n")
    return GUARDED | {"actions_file": path}


@pytest.mark.parametrize(
    ("base", "path", "seen"),
    [
        ("", b"/v0/spend", b"/spend"),
        ("", b"/v0/spend/", b"/spend/"),
        ("", b"/v0/spend/a/b?c=/v0/d", b"/spend/a/b?c=/v0/d"),
        ("", b"/v0/spend/v0/x", b"/spend/v0/x"),
        ("/base", b"/v0/spend", b"/base/spend"),
        ("", b"/s/spender/a", b"/s/spender/a"),
        ("/base", b"/s/spender", b"/base/s/spender"),
    ],
)
def test_the_upstream_does_not_see_the_version(
    make_world: MakeWorld, node: Table, base: str, path: bytes, seen: bytes
) -> None:
    world = make_world(services=[node | {"to": f"http://origin.example{base}"}])
    world.gate.answer = Grant(user="001", groups=frozenset({"spender"}))
    client = world.connect()
    client.sends(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % path)
    upstream = world.upstream()
    assert upstream.message().line == b"POST %b HTTP/1.1" % seen
    upstream.sends(OK)
    assert client.message().status == 200
    assert world.entry.path == path.decode().partition("?")[0]


def test_below_from(make_world: MakeWorld, node: Table) -> None:
    world = make_world(services=[node | {"from": "/node"}])
    world.gate.answer = Grant(user="001", groups=frozenset({"spender"}))
    client = world.connect()
    client.sends(b"GET /node/v0/spend/x HTTP/1.1\r\nhost: x\r\n\r\n")
    assert world.upstream().message().line == b"GET /spend/x HTTP/1.1"


def test_the_upstream_sees_nothing_that_is_forbidden(make_world: MakeWorld, node: Table) -> None:
    world = make_world(services=[node])
    world.gate.answer = Grant(user="001", groups=frozenset({"spend", "stats"}))
    for path in (b"/v0/spend", b"/v0/conf", b"/spend", b"/v0", b"/", b"/s/spender", b"/v0/x"):
        client = world.connect()
        client.sends(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        answer = client.message()
        assert answer.status == 403
        assert answer.values(b"www-authenticate") == [
            b'Bearer realm="here", error="insufficient_scope"'
        ]
    assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"


def test_the_file_is_read_again(make_world: MakeWorld, node: Table) -> None:
    world = make_world(services=[node])
    world.gate.answer = Grant(user="001", groups=frozenset({"stats"}))
    client = world.connect()
    client.sends(b"GET /v0/spend HTTP/1.1\r\nhost: x\r\n\r\n")
    assert client.message().status == 403
    node["actions_file"].write_text("action_spend=stats\n")
    world.assembly.reload()
    client.sends(b"GET /v0/spend HTTP/1.1\r\nhost: x\r\n\r\n")
    assert world.upstream().message().line == b"GET /spend HTTP/1.1"


def test_a_file_with_mistakes(make_world: MakeWorld, node: Table) -> None:
    node["actions_file"].write_text("action_a=b\nwrong\nworse\n")
    with pytest.raises(ConfigurationError) as caught:
        make_world(services=[GUARDED | {"name": "first", "from": "/x"}, node])
    first, second = caught.value.problems
    assert first.path == second.path == "services[1].actions_file"
    assert first.message.startswith(f"{node['actions_file']}:2: ")


@pytest.mark.parametrize(
    ("common", "own", "expected"),
    [
        ({}, {}, (180.0, 180.0)),
        ({"response": 10.0, "body": 300.0}, {}, (180.0, 300.0)),
        ({}, {"response": 10.0}, (10.0, 180.0)),
        ({"body": 300.0}, {"response": 400.0, "body": 20.0}, (400.0, 20.0)),
    ],
)
def test_timeouts(
    make_world: MakeWorld,
    node: Table,
    common: Table,
    own: Table,
    expected: tuple[float, float],
) -> None:
    world = make_world(services=[node | {"timeouts": own}], timeouts=common)
    timeouts = world.assembly._timeouts(world.settings.services[0])
    assert (timeouts.response, timeouts.body) == expected
    assert timeouts.connect == world.settings.timeouts.connect
    without = world.assembly._timeouts(None)
    assert without.response == world.settings.timeouts.response


def test_a_slow_action(make_world: MakeWorld, node: Table) -> None:
    world = make_world(services=[node])
    world.gate.answer = Grant(user="001", groups=frozenset({"spender"}))
    client = world.connect()
    client.sends(b"GET /v0/spend HTTP/1.1\r\nhost: x\r\n\r\n")
    upstream = world.upstream()
    assert upstream.message()
    for _ in range(17):
        world.advance(10.0)
    assert not client.received()
    upstream.sends(OK)
    assert client.message().status == 200
