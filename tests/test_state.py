"""What operators have made, as this process knows it, over a store that does what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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


class FakeWatch:
    """Tells what a test says."""

    def __init__(self, changed: Callable[[int | None], object]) -> None:
        self.tell = changed
        self.listening = False
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class FakeStore:
    """A store in memory. ``away``: it cannot be reached. ``held``: what is asked for waits.

    ``tells``: it can be watched; ``watch`` is who does.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.tells = False
        self.watch: FakeWatch
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

    def watch_state(self, changed: Callable[[int | None], object]) -> FakeWatch | None:
        if not self.tells:
            return None
        self.watch = FakeWatch(changed)
        return self.watch

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
    assert outcome(state.start()) == [None], "it was stopped before it began"
    clock.pump([1.0] * 3)
    assert len(store.asked) == asked


class Told:
    """A state whose store tells of changes."""

    def __init__(self, state: State, store: FakeStore, clock: Clock) -> None:
        store.tells = True
        state.start()
        store.watch.listening = True
        self.state = state
        self.store = store
        self.clock = clock
        self.reads()

    def others_change(self) -> int:
        """Another process changes something, of which nobody has told yet."""
        self.store.view = self.store.view.changed([Replace(ALICE._replace(created=self.version))])
        return self.version

    @property
    def version(self) -> int:
        return self.store.view.version

    def reads(self) -> list[str]:
        """What was asked of the store since the last time."""
        asked, self.store.asked = self.store.asked, []
        return asked


@pytest.fixture
def house(state: State, store: FakeStore, clock: Clock) -> Told:
    return Told(state, store, clock)


def test_is_told_of_a_change(house: Told) -> None:
    assert house.state.listening
    house.store.watch.tell(house.others_change())
    assert house.state.view.version == house.version
    assert house.state.users["acme", "alice"].created == house.version - 1


def test_does_not_look_while_it_is_told(house: Told) -> None:
    house.clock.pump([1.0] * 20)
    assert house.reads() == []


def test_looks_every_second_while_it_is_not_told(house: Told) -> None:
    house.store.watch.listening = False
    house.others_change()
    house.clock.pump([1.0] * 3)
    assert house.state.view.version == house.version
    assert house.reads() == ["version", "snapshot", "version", "version"]
    house.store.watch.listening = True
    house.clock.pump([1.0] * 3)
    assert house.reads() == []


def test_what_it_knows_is_not_read(house: Told) -> None:
    house.store.watch.tell(house.version)
    house.store.watch.tell(house.version - 1)
    assert house.reads() == []


def test_looks_when_any_change_may_have_been_missed(house: Told) -> None:
    house.store.watch.tell(None)
    assert house.reads() == ["version"]
    house.others_change()
    house.store.watch.tell(None)
    assert house.state.view.version == house.version


def test_an_older_copy_of_the_store_is_noticed(house: Told) -> None:
    house.store.view = View.of(Snapshot(1))  # from a backup
    house.store.watch.tell(None)
    assert (house.state.view.version, dict(house.state.users)) == (1, {})


def test_many_changes_are_read_once(house: Told) -> None:
    house.store.held = []
    for _ in range(10):
        house.store.watch.tell(house.others_change())
    assert house.reads() == ["version"]
    house.store.held.pop().callback(None)
    house.store.held.pop().callback(None)
    assert house.reads() == ["snapshot"]
    assert house.state.view.version == house.version


def test_a_change_during_a_read_is_not_missed(house: Told) -> None:
    house.store.held = []
    house.store.watch.tell(house.others_change())
    house.store.held.pop().callback(None)
    house.reads()
    for _ in range(10):  # The snapshot is of the moment before.
        house.store.watch.tell(house.others_change())
    house.store.held.pop().callback(None)
    assert house.state.view.version == house.version - 10
    assert house.reads() == ["version"]
    house.store.held.pop().callback(None)
    house.store.held.pop().callback(None)
    assert house.state.view.version == house.version
    assert not house.store.held


def test_what_it_changes_itself_is_not_read(house: Told) -> None:
    house.store.held = []
    changing = house.state.change([Remove(ALICE)], ENTRY)
    house.store.held.pop().callback(None)
    house.store.watch.tell(house.version + 1)  # sooner than the answer is here
    house.store.held.pop().callback(None)
    house.store.watch.tell(house.version)  # and later
    assert outcome(changing) == [house.version]
    assert house.reads() == ["version", "change"]


def test_what_could_not_be_read_is_read_a_second_later(house: Told, told: list[Difference]) -> None:
    house.store.away = True
    house.store.watch.tell(house.others_change())
    assert house.state.view.version == house.version - 1
    house.clock.advance(1.0)
    house.store.away = False
    house.clock.advance(1.0)
    assert house.state.view.version == house.version
    house.reads()
    house.clock.pump([1.0] * 3)
    assert house.reads() == []


def test_a_fault_in_reading_is_no_reason_to_stop(
    house: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "of", lambda _: 1 / 0)
    house.store.watch.tell(house.others_change())
    monkeypatch.undo()
    house.clock.advance(1.0)
    assert house.state.view.version == house.version


def test_stops_to_be_told(house: Told) -> None:
    house.state.stop()
    assert house.store.watch.stopped
