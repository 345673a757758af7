"""How much callers may use, with a clock of the tests and accounts in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gatekeeper.config.model_selling import Quota
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.admission import STALE, Admission, Admitted, Caller, Ending
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.lending import Lending
from gatekeeper.credits.quotas import QuotaHold, QuotaLimit
from gatekeeper.errors import Refusal
from gatekeeper.usage.records import QUOTA, Account, Spent
from tests.credits.callers import ENDING, Clock, caller
from tests.credits.sellers import MemoryLedger

TTL = 30.0
NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC).timestamp()


def ending(units: int, status: int = 200) -> Ending:
    return Ending(status, units, None)


class World:
    """A store that has what was flushed into it, accounts over it, and the time."""

    def __init__(self) -> None:
        self.wall = Clock(NOON)
        self.monotonic = Clock(100.0)
        self.store = MemoryLedger()
        self.unflushed: dict[Account, int] = {}
        self.soon: list[Callable[[], None]] = []
        self.accounts = self.make_accounts()
        self.accounts.open("here-0")

    def make_accounts(self) -> Accounts:
        """Those of one process."""
        store: Any = self.store
        lending = Lending(store, Balances(store, None, None), TTL, self.monotonic)
        return Accounts(lending, TTL, self.monotonic, self.soon.append)

    @property
    def stored(self) -> dict[Account, int]:
        return {account: kept.spent for account, kept in self.store.kept.items()}

    @property
    def asked(self) -> list[Account]:
        return [account for accounts in self.store.asked for account in accounts]

    def limit(self, units: int = 10, *, meter: str = "requests", **quota: Any) -> QuotaLimit:
        return QuotaLimit(
            "acme",
            Quota(units=units, **{"per": "day", **quota}),
            self.accounts,
            self.wall,
            meter,
        )

    def turn(self) -> None:
        """The event loop's next turn."""
        soon, self.soon[:] = self.soon[:], []
        for each in soon:
            each()

    def know(self, limit: QuotaLimit, caller: Caller) -> None:
        reading = Deferred.fromCoroutine(limit.read(caller))
        self.turn()
        results: list[Any] = []
        reading.addBoth(results.append)
        if isinstance(results[0], Failure):
            results[0].raiseException()

    def hold(self, limit: QuotaLimit, caller: Caller) -> QuotaHold:
        """Reserve; read before that where it is needed."""
        while (held := limit.reserve(caller)) is STALE:
            self.know(limit, caller)
        assert isinstance(held, QuotaHold)
        return held

    def admit(self, admission: Admission, caller: Caller) -> Admitted | Refusal:
        """What becomes of a request, once all is read."""
        try:
            found = admission.admit(caller)
        except Refusal as refusal:
            return refusal
        results: list[Any] = [found]
        if isinstance(found, Deferred):
            results.clear()
            found.addBoth(results.append)
            while not results:
                self.turn()
        result = results[0].value if isinstance(results[0], Failure) else results[0]
        assert isinstance(result, Admitted | Refusal)
        return result

    def settle(self, hold: QuotaHold, units: int) -> Spent | None:
        """End an exchange; its usage record is written."""
        spent = hold.settle(ending(units))
        if spent is not None:
            account = Account(*spent[:3])
            self.unflushed[account] = self.unflushed.get(account, 0) + spent.amount
        return spent

    def flush(self) -> None:
        flushed, self.unflushed = self.unflushed, {}
        self.store.write("here-0", flushed)
        self.accounts.flushed(flushed)


@pytest.fixture
def world() -> World:
    return World()


def refusal(limit: QuotaLimit, caller: Caller) -> Refusal:
    with pytest.raises(Refusal) as caught:
        limit.reserve(caller)
    return caught.value


# --- what is set aside, and what is used ----------------------------------------------------


def test_nothing_is_known_at_first(world: World) -> None:
    limit = world.limit()
    assert limit.reserve(caller()) is STALE
    world.know(limit, caller())
    assert world.asked == [Account(QUOTA, "acme/user/day/2024-05-01", "alice")]
    assert isinstance(limit.reserve(caller()), QuotaHold)


def test_what_is_told(world: World) -> None:
    limit = world.limit(10, assumed=3)
    assert world.hold(limit, caller()).lines == (
        b'ratelimit-policy: "quota-day-user";q=10;w=86400',
        b'ratelimit: "quota-day-user";r=7;t=43200',
    )
    world.wall.now += 0.5
    assert world.hold(limit, caller()).lines[1] == b'ratelimit: "quota-day-user";r=4;t=43200'


@pytest.mark.parametrize(
    ("meter", "unit"),
    [
        ("requests", b""),
        ("bytes", b';qu="content-bytes"'),
        ("bytes_in", b';qu="content-bytes"'),
        ("bytes_out", b';qu="content-bytes"'),
        ("seconds", b';qu="units"'),
        ("header", b';qu="units"'),
        ("json", b';qu="units"'),
    ],
)
def test_the_unit_is_told(world: World, meter: str, unit: bytes) -> None:
    limit = world.limit(meter=meter, per="month", by="key")
    line = b'ratelimit-policy: "quota-month-key";q=10%b;w=2678400' % unit
    assert world.hold(limit, caller()).lines[0] == line


def test_what_is_used_is_the_meters_matter(world: World) -> None:
    limit = world.limit(10)
    used = world.hold(limit, caller()).settle(ending(4, status=500))
    assert used == (QUOTA, "acme/user/day/2024-05-01", "alice", 4)
    assert world.hold(limit, caller()).lines[1].startswith(b'ratelimit: "quota-day-user";r=5;')


def test_nothing_was_used(world: World) -> None:
    limit = world.limit(1)
    assert world.hold(limit, caller()).settle(ending(0)) is None
    world.hold(limit, caller()).release()
    world.hold(limit, caller()).drop()
    world.hold(limit, caller())
    assert refusal(limit, caller()).reason == "quota_exceeded"


def test_more_was_used_than_assumed(world: World) -> None:
    limit = world.limit(10)
    spent = world.settle(world.hold(limit, caller()), 25)
    assert spent is not None
    assert spent.amount == 25
    assert refusal(limit, caller()).members["remaining"] == 0


def test_above_it(world: World) -> None:
    limit = world.limit(10, per="hour", assumed=4)
    world.settle(world.hold(limit, caller()), 7)
    world.wall.now += 59.25
    refused = refusal(limit, caller())
    assert (refused.status, refused.reason) == (429, "quota_exceeded")
    assert refused.fields == (
        (b"retry-after", b"3541"),
        (b"ratelimit-policy", b'"quota-hour-user";q=10;w=3600'),
        (b"ratelimit", b'"quota-hour-user";r=3;t=3541'),
    )
    assert refused.members == {"limit": 10, "remaining": 3, "reset": 3541}
    assert "hour" in refused.detail


def test_retry_after_is_a_second_at_least(world: World) -> None:
    limit = world.limit(1)
    world.wall.now = NOON + 43200 - 1e-4
    world.settle(world.hold(limit, caller()), 1)
    assert refusal(limit, caller()).members["reset"] == 1


def test_what_is_read_again(world: World) -> None:
    """Another node has used some of it."""
    limit = world.limit(10)
    world.settle(world.hold(limit, caller()), 2)
    world.flush()
    world.hold(limit, caller())  # some is leased
    world.store.write("there-0", {world.asked[0]: 3})
    assert world.hold(limit, caller()).lines[1].startswith(b'ratelimit: "quota-day-user";r=6;')
    world.monotonic.now += TTL
    assert world.hold(limit, caller()).lines[1].startswith(b'ratelimit: "quota-day-user";r=2;')


# --- who is counted -------------------------------------------------------------------------


def test_who_is_not_counted(world: World) -> None:
    limit = world.limit()
    assert limit.reserve(caller("", "key")) is None
    assert limit.reserve(caller(counted=False)) is None
    assert world.asked == []


@pytest.mark.parametrize(
    ("by", "user", "key", "name", "holder"),
    [
        ("user", "alice", "", "acme/user/day/2024-05-01", "alice"),
        ("user", "alice", "k1", "acme/user/day/2024-05-01", "alice"),
        ("key", "alice", "k1", "acme/key/day/2024-05-01", "k1"),
        ("key", "alice", "", "acme/keyless/day/2024-05-01", "alice"),
    ],
)
def test_accounts(world: World, by: str, user: str, key: str, name: str, holder: str) -> None:
    spent = world.hold(world.limit(by=by), caller(user, key)).settle(ENDING)
    assert spent == (QUOTA, name, holder, 1)


def test_no_two_share_an_account(world: World) -> None:
    """A user, a key and a user without key, all of one name, under quotas of every kind."""
    callers = [caller("same", ""), caller("same", "same"), caller("other", "same")]
    limits = [world.limit(by=by, per=per) for by in ("user", "key") for per in ("hour", "day")]
    accounts = {
        Account(*spent[:3]): (each.grant.user, each.grant.key_id)
        for limit in limits
        for each in callers
        if (spent := world.hold(limit, each).settle(ENDING)) is not None
    }
    # By user there are two of them; by key there are the key and the user without one.
    assert len(accounts) == 2 * 2 + 2 * 2


def test_several_quotas_of_a_service(world: World) -> None:
    limits = [world.limit(2, per="hour"), world.limit(3, by="key")]
    admission = Admission(limits)
    for _ in range(2):
        admitted = world.admit(admission, caller(key="k"))
        assert isinstance(admitted, Admitted)
        assert len(admitted.lines) == 4
        assert [spent.name for spent in admitted.settle(200, 1)] == [
            "acme/user/hour/2024-05-01T12",
            "acme/key/day/2024-05-01",
        ]
    assert "of this hour" in str(world.admit(admission, caller(key="k")))
    assert world.accounts.available(Account(QUOTA, "acme/key/day/2024-05-01", "k")) == 1


# --- where they are read --------------------------------------------------------------------


def test_they_cannot_be_read(world: World) -> None:
    world.store.away = True
    limit = world.limit()
    admitting = Admission([limit]).admit(caller())
    assert isinstance(admitting, Deferred)
    world.turn()
    failures: list[Any] = []
    admitting.addErrback(failures.append)
    refused = failures[0].value
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.reason) == (503, "quota_unavailable")
    assert dict(refused.fields) == {b"retry-after": b"5"}


def test_the_usage_of_an_earlier_run_is_not_in_the_store_yet(world: World) -> None:
    world.accounts = world.make_accounts()
    limit = world.limit()
    assert limit.reserve(caller()) is STALE
    with pytest.raises(Refusal, match="cannot be read"):
        world.know(limit, caller())


def test_one_reading_for_all_who_wait(world: World) -> None:
    admission = Admission([world.limit(7, assumed=2)])
    admitting = [admission.admit(caller()) for _ in range(100)]
    world.turn()
    assert len(world.asked) == 1
    results: list[Any] = []
    for each in admitting:
        assert isinstance(each, Deferred)
        each.addBoth(results.append)
    assert len(results) == 100
    assert sum(isinstance(result, Admitted) for result in results) == 3


# --- periods --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "last", "before", "after"),
    [
        ("hour", (2024, 12, 31, 23, 59, 59), "2024-12-31T23", "2025-01-01T00"),
        ("day", (2024, 2, 28, 23, 59, 59), "2024-02-28", "2024-02-29"),
        ("day", (2023, 2, 28, 23, 59, 59), "2023-02-28", "2023-03-01"),
        ("month", (2024, 1, 31, 23, 59, 59), "2024-01", "2024-02"),
        ("month", (2024, 12, 31, 23, 59, 59), "2024-12", "2025-01"),
    ],
)
def test_the_next_period(
    world: World, per: str, last: tuple[int, ...], before: str, after: str
) -> None:
    world.wall.now = datetime(*last, tzinfo=UTC).timestamp() + 0.75  # type: ignore[arg-type,misc]
    limit = world.limit(2, per=per)
    late = world.hold(limit, caller())
    world.settle(world.hold(limit, caller()), 1)
    assert refusal(limit, caller()).members["reset"] == 1
    world.wall.now += 0.25
    new = world.hold(limit, caller())
    assert world.settle(new, 1) == (QUOTA, f"acme/user/{per}/{after}", "alice", 1)
    # What runs over the end counts in the period in which it was let through.
    assert world.settle(late, 1) == (QUOTA, f"acme/user/{per}/{before}", "alice", 1)
    world.hold(limit, caller())
    assert refusal(limit, caller()).reason == "quota_exceeded"


def test_the_length_of_a_month_is_told(world: World) -> None:
    limit = world.limit(per="month")
    world.wall.now = datetime(2024, 2, 10, tzinfo=UTC).timestamp()
    policy, rest = world.hold(limit, caller()).lines
    assert policy.endswith(b";w=%d" % (29 * 86400))
    assert rest.endswith(b";t=%d" % (20 * 86400))


def test_the_clock_is_set_back(world: World) -> None:
    limit = world.limit(1)
    world.settle(world.hold(limit, caller()), 1)
    world.wall.now += 86400
    world.settle(world.hold(limit, caller()), 1)
    world.wall.now -= 86400
    assert refusal(limit, caller()).reason == "quota_exceeded"


# --- whatever happens -----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["alice", "bob"]), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, 4)),
        st.tuples(st.just("release"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 3 * 3600), st.just(0)),
    ),
    max_size=80,
)


@given(units=st.integers(4, 12), assumed=st.integers(1, 4), steps=STEPS)
def test_never_overspent(units: int, assumed: int, steps: list[tuple[str, Any, int]]) -> None:
    """As long as no request uses more than is assumed; and what is left can be used."""
    world = World()
    limit = world.limit(units, per="hour", assumed=assumed)
    running: list[tuple[Account, QuotaHold]] = []
    used: dict[Account, int] = {}
    for step, which, amount in steps:
        if step == "ask":
            who = caller(which)
            try:
                hold = world.hold(limit, who)
                running.append((hold._account, hold))
            except Refusal:
                account = limit._account(who)
                aside = sum(assumed for other, _ in running if other == account)
                assert used.get(account, 0) + aside + assumed > units
        elif step in ("end", "release") and running:
            account, hold = running.pop(which % len(running))
            if step == "release":
                hold.release()
            else:
                world.settle(hold, min(amount, assumed))
                used[account] = used.get(account, 0) + min(amount, assumed)
        elif step == "flush":
            world.flush()
        elif step == "wait":
            world.wall.now += which
            world.monotonic.now += which
        assert all(amount <= units for amount in used.values())
    for account, hold in running:
        world.settle(hold, assumed)
        used[account] = used.get(account, 0) + assumed
    world.flush()
    assert all(amount <= units for amount in used.values())
    assert world.stored == {account: amount for account, amount in used.items() if amount}


def test_it_tells_what_it_is(world: World) -> None:
    assert repr(world.limit(5, by="key")) == "<QuotaLimit of acme: 5 per day by key>"
