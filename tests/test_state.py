"""What operators have made, as this process knows it, over a store that does what a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from gatekeeper.errors import (
    AlreadyThereError,
    ConfigurationError,
    NotThereError,
    Problem,
    StoreError,
)
from gatekeeper.state import Difference, State, View
from gatekeeper.store.state import (
    Add,
    AuditEntry,
    Change,
    Remove,
    Replace,
    Revocation,
    Snapshot,
    StoredKey,
    StoredService,
    StoredUser,
)
from tests.auth.support import outcome

ACME = StoredService("acme", "v1", "{}", 1.0)
ALICE = StoredUser("acme", "alice", "hash", 1.0)
KEY = StoredKey("k1", "acme", "alice", "digest", 1.0)
REVOKED = Revocation("aa", 9.0, 1.0)
ENTRY = AuditEntry(2.0, "token", "here", "test", "acme")


class FakeStore:
    """A store in memory. ``away``: it cannot be reached. ``held``: what is asked for waits."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.away = False
        self.entries: list[AuditEntry] = []
        self.held: list[Deferred[None]] | None = None
        self.asked: list[str] = []

    def state_version(self) -> Deferred[int]:
        return self._answer("version").addCallback(lambda _: self.view.version)

    def snapshot(self) -> Deferred[Snapshot]:
        view = self.view

        def snapshot(_: None) -> Snapshot:
            return Snapshot(
                view.version,
                tuple(view.services.values()),
                tuple(view.users.values()),
                tuple(view.keys.values()),
                tuple(view.revocations.values()),
            )

        return self._answer("snapshot").addCallback(snapshot)

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        def change(_: None) -> int:
            self.view = self.view.changed(changes)
            self.entries.append(entry)
            return self.view.version

        return self._answer("change").addCallback(change)

    def audit(
        self, limit: int, before: int | None = None
    ) -> Deferred[list[tuple[int, AuditEntry]]]:
        raise NotImplementedError

    def _answer(self, what: str) -> Deferred[None]:
        self.asked.append(what)
        if self.away:
            return fail(StoreError("away"))
        if self.held is None:
            return succeed(None)
        self.held.append(Deferred())
        return self.held[-1]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(View.of(Snapshot(3, (ACME,), (ALICE,), (KEY,), (REVOKED,))))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Difference]:
    return []


@pytest.fixture
def state(store: FakeStore, clock: Clock, told: list[Difference]) -> State:
    state = State(store, clock)  # type: ignore[arg-type]
    state.on_change(told.append)
    return state


def failure(deferred: Deferred[int]) -> str:
    (failed,) = outcome(deferred)
    return str(failed.getErrorMessage())


def test_reads_at_the_start(state: State, told: list[Difference]) -> None:
    assert not state.loaded
    assert outcome(state.start()) == [None]
    assert state.loaded
    assert dict(state.services) == {"acme": ACME}
    assert dict(state.users) == {("acme", "alice"): ALICE}
    assert dict(state.keys) == {"k1": KEY}
    assert dict(state.revocations) == {"aa": REVOKED}
    (difference,) = told
    assert difference[2:] == ({"acme"}, {("acme", "alice")}, {"k1"}, {"aa"}, None)
    assert repr(state) == "<State: version 3, 1 services, 1 users, 1 keys>"


def test_is_empty_until_the_store_is_there(state: State, store: FakeStore, clock: Clock) -> None:
    store.away = True
    assert outcome(state.start()) == [None], "nobody waits for it"
    clock.pump([1.0] * 3)
    assert not state.loaded
    assert failure(state.change([Add(ALICE)], ENTRY)) == "away"
    store.away = False
    clock.advance(1.0)
    assert state.loaded
    assert state.users


def test_what_it_knows_stays_while_the_store_is_away(
    state: State, store: FakeStore, clock: Clock
) -> None:
    state.start()
    store.away = True
    clock.pump([1.0] * 3)
    assert state.users
    assert failure(state.change([Remove(ALICE)], ENTRY)) == "away"
    assert state.users


def test_a_change_goes_into_the_store_and_takes_effect(
    state: State, store: FakeStore, told: list[Difference]
) -> None:
    state.start()
    bob = ALICE._replace(name="bob")
    assert outcome(state.change([Add(bob), Replace(KEY._replace(label="x"))], ENTRY)) == [4]
    assert store.entries == [ENTRY]
    assert store.view.users == state.users == {("acme", "alice"): ALICE, ("acme", "bob"): bob}
    assert [*map(set, told[-1][2:6])] == [set(), {("acme", "bob")}, {"k1"}, set()]
    assert told[-1].time == ENTRY.time
    assert store.asked.count("snapshot") == 1, "it knows what it has changed"


def test_what_belongs_to_something_goes_with_it(state: State) -> None:
    state.start()
    everywhere = KEY._replace(id="k2", service="")
    bobs = KEY._replace(id="k3", user="bob")
    state.change([Add(everywhere), Add(bobs)], ENTRY)
    state.change([Remove(ALICE)], ENTRY)
    assert set(state.keys) == {"k2", "k3"}
    state.change([Add(ALICE), Remove(ACME)], ENTRY)
    assert set(state.keys) == {"k2"}
    assert not state.users


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ([Add(ALICE)], AlreadyThereError("user", "alice")),
        ([Add(ACME)], AlreadyThereError("service", "acme")),
        ([Remove(KEY), Remove(KEY)], NotThereError("key", "k1")),
        ([Replace(REVOKED._replace(digest="bb"))], NotThereError("revocation", "bb")),
    ],
)
def test_what_does_not_fit_changes_nothing(
    state: State, store: FakeStore, changes: list[Change], error: Exception
) -> None:
    state.start()
    before = state.view
    assert failure(state.change(changes, ENTRY)) == str(error)
    assert state.view is before
    assert store.entries == []


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ([Remove(ALICE)], True),
        ([Remove(ACME)], True),
        ([Remove(ALICE), Add(ALICE._replace(created=2.0))], True),
        ([Replace(ALICE._replace(password="new"))], False),
        ([Add(ALICE._replace(name="bob"))], False),
    ],
)
def test_users_that_are_removed(
    state: State, told: list[Difference], changes: list[Change], gone: bool
) -> None:
    state.start()
    state.change(changes, ENTRY)
    assert told[-1].removed_users == ({("acme", "alice")} if gone else set())


def test_without_changes_there_is_an_entry_only(state: State, store: FakeStore) -> None:
    state.start()
    assert outcome(state.change([], ENTRY)) == [4]
    assert (store.entries, state.view.version) == ([ENTRY], 4)


def test_notices_what_another_process_has_changed(
    state: State, store: FakeStore, clock: Clock, told: list[Difference]
) -> None:
    state.start()
    store.view = store.view.changed([Remove(ALICE)])
    clock.advance(1.0)
    assert not state.users
    assert told[-1].users == {("acme", "alice")}
    asked = len(store.asked)
    clock.advance(1.0)
    assert store.asked[asked:] == ["version"], "it looks, and reads only what is new"
    assert len(told) == 2


def test_changes_on_top_of_what_another_process_has_changed(state: State, store: FakeStore) -> None:
    state.start()
    store.view = store.view.changed([Remove(ALICE)])
    assert outcome(state.change([Add(ALICE._replace(password="new"))], ENTRY)) == [5]
    assert state.users["acme", "alice"].password == "new"


def test_another_process_is_quicker_in_the_middle(state: State, store: FakeStore) -> None:
    state.start()
    store.held = []
    changing = state.change([Add(ALICE._replace(name="bob"))], ENTRY)
    store.held.pop().callback(None)  # the version
    store.view = store.view.changed([Remove(KEY)])
    while store.held:
        store.held.pop().callback(None)
    assert outcome(changing) == [5]
    assert set(state.users) == {("acme", "alice"), ("acme", "bob")}
    assert (set(state.keys), state.view.version) == (set(), 5)


def test_changes_are_made_in_order(state: State, store: FakeStore) -> None:
    state.start()
    store.held = []
    changes = [
        state.change([Replace(ALICE._replace(password=str(number)))], ENTRY) for number in range(3)
    ]
    while store.held:
        assert len(store.held) == 1, "one at a time"
        store.held.pop().callback(None)
    assert [outcome(each) for each in changes] == [[4], [5], [6]]
    assert state.users["acme", "alice"].password == "2"


def test_one_who_fails_to_listen_does_not_keep_others(state: State, told: list[Difference]) -> None:
    later: list[Difference] = []
    state.on_change(lambda _: 1 / 0)
    state.on_change(later.append)
    state.start()
    assert len(later) == len(told) == 1


class Guardian:
    """Takes services whose definition is JSON, and notes what becomes of what it made ready."""

    def __init__(self) -> None:
        self.prepared = 0
        self.cancelled = 0

    def prepare(self, services: Mapping[str, StoredService]) -> Guardian:
        if any(each.definition == "bad" for each in services.values()):
            raise ConfigurationError([Problem("to", "is bad")])
        self.prepared += 1
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def test_services_are_guarded(state: State, store: FakeStore) -> None:
    guardian = state.guard = Guardian()
    state.start()
    bad = ACME._replace(name="bad", definition="bad")
    assert failure(state.change([Add(bad)], ENTRY)) == "to: is bad"
    assert store.entries == []
    state.change([Add(ALICE._replace(name="bob"))], ENTRY)
    assert guardian.prepared == 0, "users are no business of its"
    state.change([Add(ACME._replace(name="good"))], ENTRY)
    assert (guardian.prepared, guardian.cancelled) == (1, 0)
    store.held = []
    changing = state.change([Remove(ACME)], ENTRY)
    store.held.pop(0).callback(None)
    store.held.pop(0).errback(StoreError("away"))
    assert failure(changing) == "away"
    assert (guardian.prepared, guardian.cancelled) == (2, 1)
    assert "acme" in state.services


def test_stops(state: State, store: FakeStore, clock: Clock) -> None:
    state.start()
    assert outcome(state.stop()) == [None]
    asked = len(store.asked)
    clock.pump([1.0] * 3)
    assert len(store.asked) == asked
