"""What a change of users, keys and revocations does to what runs, and to what is remembered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import Deny, Grant
from gatekeeper.auth.revoked import Revoked, token_digest
from gatekeeper.effects import Effects
from gatekeeper.state import Difference, View
from gatekeeper.store.state import (
    Revocation,
    Snapshot,
    StoredKey,
    StoredService,
    StoredUser,
)
from gatekeeper.usage.records import UsageRecord
from tests.auth.directories import FakeDirectory
from tests.net.messages import GET
from tests.world import GUARDED, NOW, World, worlds

make_world = pytest.fixture(worlds)

ALICE = StoredUser("shop", "alice", "hash", 1.0)
KEY = StoredKey("k1", "shop", "alice", "digest", 1.0)
SHOP = StoredService("shop", "v1", "{}", 1.0)
REVOKED = Revocation(token_digest(b"opaque"), NOW + 9, 1.0)
NOTHING = View.of(Snapshot(1))


class Scene:
    """Somebody asks, and the answer does not come; then something changes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cache = VerdictCache(100, 300.0, 5.0)
        self.directory = FakeDirectory()
        self.effects = Effects(self.cache, world.plane, Revoked(self.directory, lambda: NOW))
        self.before = NOTHING

    def asks(self, grant: Grant, presented: bytes = b"Bearer token") -> None:
        self.world.gate.answer = grant
        client = self.world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nauthorization: " + presented + b"\r\n\r\n"))
        self.upstream = self.world.upstream()
        self.world.gate.asked.clear()

    def ends(self) -> UsageRecord:
        """The origin answers, and what was used is written down."""
        self.upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        self.world.loop.settle()
        return self.world.record

    def becomes(self, *parts: tuple[object, ...], time: float | None = None) -> list[bytes]:
        """Change what there is; what is checked again is known by what it presents."""
        after = View.of(Snapshot(2, *parts))  # type: ignore[arg-type]
        self.directory.become((), (), after.revocations.values())
        self.effects.apply(Difference.between(self.before, after, time))
        self.before = after
        return [asked.presented for asked in self.world.gate.asked]


@pytest.fixture
def scene(make_world: Callable[..., World]) -> Scene:
    return Scene(make_world(services=[GUARDED]))


def test_the_user_who_has_changed_is_checked_again(scene: Scene) -> None:
    scene.asks(Grant("alice"))
    assert scene.becomes((), (ALICE,)) == [b"Bearer token"]
    scene.world.gate.answer = Deny("wrong_password", "")
    scene.becomes((), (ALICE._replace(disabled=True),))
    assert scene.world.log.entries[-1].reason == "grant_withdrawn"


@pytest.mark.parametrize("grant", [Grant("bob"), Grant("bob", "k2"), Grant(""), Grant("", "alice")])
def test_others_are_left_alone(scene: Scene, grant: Grant) -> None:
    scene.asks(grant)
    assert scene.becomes((), (ALICE,), (KEY,), (REVOKED,)) == []


def test_so_is_a_user_of_that_name_of_another_service(scene: Scene) -> None:
    scene.asks(Grant("alice"))
    assert scene.becomes((), (ALICE._replace(service="other"),)) == []


def test_the_key_that_has_changed_is_checked_again(scene: Scene) -> None:
    scene.asks(Grant("alice", "k1"))
    assert scene.becomes((), (), (KEY,)) == [b"Bearer token"]


def test_the_token_that_is_revoked_is_checked_again(scene: Scene) -> None:
    scene.asks(Grant("alice"), b"Bearer opaque")
    scene.asks(Grant("alice"), b"Bearer other")
    assert scene.becomes((), (), (), (REVOKED,)) == [b"Bearer opaque"]


def test_what_runs_of_a_service_that_is_gone_may_end(scene: Scene) -> None:
    scene.before = View.of(Snapshot(1, (SHOP,), (ALICE,), (KEY,)))
    scene.asks(Grant("alice", "k1"))
    assert scene.becomes() == []


def test_what_a_removed_user_still_used_is_not_the_next_ones(scene: Scene) -> None:
    scene.before = View.of(Snapshot(1, (SHOP,), (ALICE,)))
    scene.asks(Grant("alice"))
    scene.world.gate.answer = Deny("wrong_password", "")
    assert scene.becomes((SHOP,), time=0.0) == [b"Bearer token"]
    scene.world.loop.settle()
    record = scene.world.record
    assert (record.user, record.reason) == ("alice~1970-01-01T00:00:00Z", "grant_withdrawn")


def test_nor_what_somebody_else_still_grants(scene: Scene) -> None:
    scene.before = View.of(Snapshot(1, (SHOP,), (ALICE,)))
    scene.asks(Grant("alice"))
    again = ALICE._replace(created=2.0)
    assert scene.becomes((SHOP,), (again,)) == [b"Bearer token"]
    scene.becomes((SHOP,), time=NOW + 60)
    assert scene.ends().user == "alice~1994-11-06T08:49:37Z"


def test_nor_what_runs_of_a_service_that_is_gone(scene: Scene) -> None:
    scene.before = View.of(Snapshot(1, (SHOP,), (ALICE,)))
    scene.asks(Grant("alice"))
    scene.becomes(time=1.0)
    scene.becomes((SHOP._replace(created=3.0),), (ALICE._replace(created=4.0),))
    assert scene.ends().user == "alice~1970-01-01T00:00:01Z"


def test_who_only_changes_stays_who_it_is(scene: Scene) -> None:
    scene.before = View.of(Snapshot(1, (SHOP,), (ALICE,)))
    scene.asks(Grant("alice"))
    scene.becomes((SHOP,), (ALICE._replace(groups=("spender",)),))
    assert scene.ends().user == "alice"


def test_what_is_remembered_and_has_to_do_with_it_is_forgotten(scene: Scene) -> None:
    cache = scene.cache
    verdicts: dict[bytes, Grant | Deny] = {
        b"user": Grant("alice"),
        b"key": Grant("carol", "k1"),
        b"other": Grant("bob"),
        b"wrong": Deny("wrong_password", ""),
    }

    def left() -> set[bytes]:
        return {name for name in verdicts if cache.get(name) is not None}

    def remember() -> None:
        for name, verdict in verdicts.items():
            cache.put(name, verdict, cache.generation, revocable=name == b"key")

    remember()
    scene.becomes((), (ALICE,), (KEY,))
    assert left() == {b"other"}, "who was wrong may be right now"
    remember()
    scene.becomes((), (ALICE,), (KEY,), (REVOKED,))
    assert left() == {b"user", b"other", b"wrong"}
    remember()
    scene.becomes((SHOP,), (ALICE,), (KEY,), (REVOKED,))
    assert left() == set(verdicts)
