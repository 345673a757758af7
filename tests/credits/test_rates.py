"""How fast callers may ask, with a clock of the tests."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.config.model_selling import Rate
from gatekeeper.credits.admission import STALE, Admission, Admitted, Caller, Hold, Limit, Stale
from gatekeeper.credits.buckets import BucketMemory
from gatekeeper.credits.rates import RateLimit, network_of
from gatekeeper.errors import Refusal
from tests.credits.callers import ENDING, Clock, caller

SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


def limit(clock: Clock, memory: BucketMemory | None = None, **rate: Any) -> RateLimit:
    """One with a memory of its own, if nothing is said: a small one, for many are made."""
    return RateLimit("acme", "acme/0", Rate(**rate), clock, memory or BucketMemory(slots=64))


def asks(limit: RateLimit, *callers: Caller) -> int:
    """How many of these requests are let through."""
    admitted = 0
    for each in callers:
        try:
            limit.reserve(each).settle(ENDING)
        except Refusal as refusal:
            if (refusal.status, refusal.reason) != (429, "rate_limited"):
                raise
        else:
            admitted += 1
    return admitted


def refused(limit: RateLimit, caller: Caller) -> dict[bytes, bytes]:
    """The fields of the refusal that a request gets."""
    with pytest.raises(Refusal) as caught:
        limit.reserve(caller)
    return dict(caught.value.fields)


# --- one caller -----------------------------------------------------------------------------


def test_a_burst_and_then_evenly(clock: Clock) -> None:
    limited = limit(clock, requests=4)
    assert asks(limited, *[caller()] * 6) == 4
    clock.now += 0.25
    assert asks(limited, caller(), caller()) == 1
    clock.now += 0.125
    assert asks(limited, caller()) == 0
    clock.now += 0.125
    assert asks(limited, caller()) == 1


def test_a_pause_brings_back_no_more_than_the_burst(clock: Clock) -> None:
    limited = limit(clock, requests=2, per="minute", burst=3)
    assert asks(limited, *[caller()] * 5) == 3
    clock.now += 86400
    assert asks(limited, *[caller()] * 5) == 3


def test_a_burst_below_the_rate(clock: Clock) -> None:
    limited = limit(clock, requests=10, burst=1)
    admitted = 0
    for _ in range(32):  # in a second
        admitted += asks(limited, caller())
        clock.now += 1 / 32
    assert admitted == 8  # every fourth of them: 0.1 s have gone by then


@pytest.mark.parametrize("start", [0.0, 1.0, 0.1, 12345.678, 1e7 + 0.3])
@pytest.mark.parametrize("per", ["second", "minute", "hour"])
@pytest.mark.parametrize("requests", [1, 3, 7, 10, 100, 999])
def test_a_burst_is_exact_at_any_time(start: float, per: str, requests: int) -> None:
    limited = limit(Clock(start), requests=requests, per=per)
    assert asks(limited, *[caller()] * (requests + 1)) == requests


def test_what_is_told(clock: Clock) -> None:
    limited = limit(clock, requests=6, per="minute")  # one in 10 seconds
    assert limited.reserve(caller()).lines == (
        b'ratelimit-policy: "rate-minute-user";q=6;w=60',
        b'ratelimit: "rate-minute-user";r=5;t=10',
    )
    clock.now += 4
    assert limited.reserve(caller()).lines[1] == b'ratelimit: "rate-minute-user";r=4;t=6'
    assert asks(limited, *[caller()] * 5) == 4
    assert refused(limited, caller()) == {
        b"retry-after": b"6",
        b"ratelimit-policy": b'"rate-minute-user";q=6;w=60',
        b"ratelimit": b'"rate-minute-user";r=0;t=6',
    }
    clock.now += 0.5
    assert refused(limited, caller())[b"retry-after"] == b"6"


def test_a_burst_is_told(clock: Clock) -> None:
    limited = limit(clock, requests=6, per="minute", burst=2, by="client")
    policy, rest = limited.reserve(caller()).lines
    assert policy == b'ratelimit-policy: "rate-minute-client";q=6;w=60;gatekeeper-burst=2'
    assert rest == b'ratelimit: "rate-minute-client";r=1;t=10'


def test_retry_after_is_a_second_at_least(clock: Clock) -> None:
    limited = limit(clock, requests=1000)
    asks(limited, *[caller()] * 1000)
    assert refused(limited, caller())[b"retry-after"] == b"1"


def test_the_refusal_says_what_is_allowed(clock: Clock) -> None:
    limited = limit(clock, requests=1, per="hour")
    asks(limited, caller())
    with pytest.raises(Refusal, match="1 per hour"):
        limited.reserve(caller())


@given(
    requests=st.integers(1, 5000),
    per=st.sampled_from(["second", "minute", "hour"]),
    burst=st.none() | st.integers(1, 50),
    start=st.floats(0, 1e6),
    asked=st.integers(1, 60),
)
def test_who_comes_back_then_gets_in(
    requests: int, per: str, burst: int | None, start: float, asked: int
) -> None:
    clock = Clock(start)
    limited = limit(clock, requests=requests, per=per, burst=burst)
    for _ in range(asked):
        try:
            limited.reserve(caller())
        except Refusal as refusal:
            clock.now += int(dict(refusal.fields)[b"retry-after"])
            limited.reserve(caller())


class Exact:
    """The same by the book, with exact numbers: a bucket of tokens."""

    def __init__(self, rate: Fraction, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.tokens: dict[str, tuple[Fraction, Fraction]] = {}

    def admits(self, key: str, now: Fraction) -> bool:
        tokens, at = self.tokens.get(key, (Fraction(self.burst), now))
        tokens = min(tokens + (now - at) * self.rate, Fraction(self.burst))
        admits = tokens >= 1
        self.tokens[key] = (tokens - admits, now)
        return admits


@given(
    requests=st.integers(1, 20),
    per=st.sampled_from(["second", "minute", "hour"]),
    burst=st.none() | st.integers(1, 8),
    start=st.integers(0, 2**20),
    steps=st.lists(
        st.tuples(
            st.integers(0, 4) | st.integers(0, 2**22),  # in 1/1024 s
            st.sampled_from(["a", "b"]),
            st.booleans(),
        ),
        max_size=60,
    ),
)
def test_never_more_than_burst_and_rate_in_any_window(
    requests: int, per: str, burst: int | None, start: int, steps: list[tuple[int, str, bool]]
) -> None:
    rate, most = Fraction(requests, SECONDS[per]), burst or requests
    clock, exact = Clock(), Exact(rate, most)
    limited = limit(clock, requests=requests, per=per, burst=burst)
    now, admitted = Fraction(start, 1024), dict[str, list[Fraction]]()
    for pause, user, made in steps:
        now += Fraction(pause, 1024)
        clock.now = float(now)
        before = dict(exact.tokens)
        try:
            hold = limited.reserve(caller(user))
        except Refusal:
            assert not exact.admits(user, now)
            continue
        assert exact.admits(user, now)
        if made:
            hold.settle(ENDING)
            admitted.setdefault(user, []).append(now)
        else:
            hold.release()
            exact.tokens = before
    for times in admitted.values():
        for first, begin in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= most + rate * (times[last] - begin)


# --- what a hold comes to -------------------------------------------------------------------


def test_a_request_that_was_not_made_is_given_back(clock: Clock) -> None:
    limited = limit(clock, requests=1)
    limited.reserve(caller()).release()
    limited.reserve(caller()).drop()  # it was made; it makes no usage record
    assert asks(limited, caller()) == 0


def test_a_request_is_not_given_back_under_another_one(clock: Clock) -> None:
    limited = limit(clock, requests=1, burst=2)
    first, _ = limited.reserve(caller()), limited.reserve(caller())
    first.release()
    assert asks(limited, caller()) == 0


def test_a_request_cannot_be_given_back_after_its_time(clock: Clock) -> None:
    """It has come back by itself."""
    limited = limit(clock, requests=1)
    late = limited.reserve(caller())
    clock.now += 10
    asks(limited, caller())
    clock.now += 0.5
    late.release()
    assert asks(limited, caller()) == 0


def test_it_makes_no_usage(clock: Clock) -> None:
    hold: Hold = limit(clock, requests=1).reserve(caller())
    assert hold.settle(ENDING) is None


class Refuses(Limit):
    def reserve(self, caller: Caller) -> Hold | Stale | None:
        raise Refusal("quota_exceeded", "no", status=429)

    async def read(self, caller: Caller) -> None:
        raise AssertionError


class KnowsLater(Refuses):
    known = False

    def reserve(self, caller: Caller) -> Hold | Stale | None:
        return None if self.known else STALE

    async def read(self, caller: Caller) -> None:
        self.known = True


def test_a_request_that_another_limit_refuses_does_not_count(clock: Clock) -> None:
    limited = limit(clock, requests=1)
    for _ in range(3):
        with pytest.raises(Refusal, match="no"):
            Admission([limited, Refuses()]).admit(caller())
    assert asks(limited, caller()) == 1


def test_a_request_that_waits_for_another_limit_counts_once(clock: Clock) -> None:
    limited = limit(clock, requests=2)
    admitted = Admission([limited, KnowsLater()]).admit(caller())
    assert not isinstance(admitted, Admitted)
    assert isinstance(admitted.result, Admitted)
    assert asks(limited, caller(), caller()) == 1


def test_a_request_without_usage_record_counts(clock: Clock) -> None:
    limited = limit(clock, requests=1, by="client")
    admitted = Admission([limited]).admit(caller("", counted=False))
    assert isinstance(admitted, Admitted)
    admitted.release()
    assert asks(limited, caller("", counted=False)) == 0


def test_several_rates_have_lines_each(clock: Clock) -> None:
    rates = [limit(clock, requests=1), limit(clock, requests=9, per="hour", by="client")]
    admitted = Admission(rates).admit(caller())
    assert isinstance(admitted, Admitted)
    assert [line.split(b";")[0] for line in admitted.lines] == [
        b'ratelimit-policy: "rate-second-user"',
        b'ratelimit: "rate-second-user"',
        b'ratelimit-policy: "rate-hour-client"',
        b'ratelimit: "rate-hour-client"',
    ]


# --- who counts together --------------------------------------------------------------------

ALICE, BOB, NOBODY = caller("alice"), caller("bob"), caller("")
HOME, WORK = caller("alice", "home"), caller("alice", "work")
AWAY = caller("alice", "home", "198.51.100.1")


@pytest.mark.parametrize(
    ("by", "callers", "admitted"),
    [
        ("user", [ALICE, HOME, WORK, AWAY], 1),
        ("user", [ALICE, BOB], 2),
        ("user", [NOBODY, caller("", "key")], 1),
        ("user", [NOBODY, caller("", client="198.51.100.1")], 2),
        ("key", [HOME, AWAY], 1),
        ("key", [HOME, WORK], 2),
        ("key", [ALICE, BOB], 1),  # without keys, from one address
        ("key", [ALICE, caller("alice", client="198.51.100.1")], 2),
        ("client", [ALICE, BOB, NOBODY, HOME], 1),
        ("client", [HOME, AWAY], 2),
    ],
)
def test_by(clock: Clock, by: str, callers: list[Caller], admitted: int) -> None:
    assert asks(limit(clock, requests=1, by=by), *callers) == admitted


def test_a_user_with_the_name_of_an_address(clock: Clock) -> None:
    limited = limit(clock, requests=1)
    assert asks(limited, caller("192.0.2.1", client="198.51.100.1"), NOBODY) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:DB8:0:0:1:2:3:4", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:c000:201", "::ffff:192.0.2.2", False),
        ("::1", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("no:address", "no:other", False),
        ("\udcff:1", "\udcff:2", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


# --- many callers ---------------------------------------------------------------------------


def users(count: int) -> list[Caller]:
    return [caller(f"user{number}") for number in range(count)]


def test_who_is_at_rest_needs_no_room(clock: Clock) -> None:
    limited = limit(clock, BucketMemory(slots=1), requests=1)
    for each in users(100):
        assert asks(limited, each, each) == 1
        clock.now += 1


def test_one_who_is_busy_stays(clock: Clock) -> None:
    memory = BucketMemory(slots=8)  # all within reach of all
    limited = limit(clock, memory, requests=1, per="hour")
    rests = limit(clock, memory, requests=100)
    for each in users(100):
        asks(limited, caller("busy"))
        asks(rests, each, caller("busy"))
        clock.now += 1
    assert asks(limited, caller("busy")) == 0


def test_nobody_gets_around_it_by_crowding(clock: Clock) -> None:
    """With more callers than there is room, none has more than one burst."""
    limited = limit(clock, BucketMemory(slots=16), requests=2, per="hour")
    crowd = users(100)
    admitted = [asks(limited, each, each, each) for each in crowd]
    assert admitted[:4] == [2] * 4  # there is room for a few, whatever their digests
    assert max(admitted) == 2
    assert sum(admitted) == 16 * 2
    assert [asks(limited, each) for each in crowd] == [0] * 100


def test_who_shares_a_bucket(clock: Clock) -> None:
    limited = limit(clock, BucketMemory(slots=1), requests=2, per="hour")
    first, second, third = users(3)
    assert asks(limited, first, second, first, second) == 2
    clock.now += 1800
    assert asks(limited, third, second, first) == 1


def test_a_shared_one_is_given_back(clock: Clock) -> None:
    limited = limit(clock, BucketMemory(slots=1), requests=1, burst=2, per="hour")
    first, second = users(2)
    assert asks(limited, first) == 1
    limited.reserve(second).release()
    assert asks(limited, second, second) == 1


def test_addresses_are_not_in_the_way_of_users(clock: Clock) -> None:
    limited = limit(clock, BucketMemory(slots=8), requests=1, per="hour")
    asks(limited, *(caller("", client=f"192.0.2.{number}") for number in range(50)))
    assert asks(limited, *users(8)) == 8


@given(
    slots=st.sampled_from([1, 2, 16]),
    steps=st.lists(st.tuples(st.integers(0, 8192), st.integers(0, 7), st.booleans()), max_size=80),
)
def test_whoever_crowds(slots: int, steps: list[tuple[int, int, bool]]) -> None:
    """However many there are: nobody gets more than alone."""
    clock = Clock(1.0)
    limited = limit(clock, BucketMemory(slots=slots), requests=1, burst=2)
    alone, now = Exact(Fraction(1), 2), Fraction(1)
    for pause, number, made in steps:
        now += Fraction(pause, 1024)
        clock.now = float(now)
        before = dict(alone.tokens)
        try:
            hold = limited.reserve(caller(f"user{number}"))
        except Refusal:
            continue
        assert alone.admits(f"user{number}", now)
        if not made:
            hold.release()
            alone.tokens = before


# --- several limits, and several processes, with the same memory ----------------------------


def test_limits_do_not_count_each_others_requests(clock: Clock) -> None:
    memory = BucketMemory(slots=64)
    hourly = Rate(requests=1, per="hour")
    limits = [
        RateLimit("acme", "acme/0", hourly, clock, memory),
        RateLimit("acme", "acme/1", hourly, clock, memory),
        RateLimit("acme", "acme/0", Rate(requests=1, per="hour", by="key"), clock, memory),
        RateLimit("acme", "acme/0", Rate(requests=1), clock, memory),
        RateLimit("acme", "acme/0", Rate(requests=1, per="hour", burst=2), clock, memory),
    ]
    assert [asks(each, *[caller("alice", "alice")] * 3) for each in limits] == [1, 1, 1, 1, 2]


def test_a_limit_that_is_made_anew_goes_on(clock: Clock) -> None:
    memory = BucketMemory(slots=64)
    assert asks(limit(clock, memory, requests=2), *[caller()] * 3) == 2
    assert asks(limit(clock, memory, requests=2), caller()) == 0


def test_processes_count_together(clock: Clock) -> None:
    ours = BucketMemory(slots=64)
    theirs = BucketMemory(os.dup(ours.descriptor), slots=64)
    assert asks(limit(clock, ours, requests=5), *[caller()] * 3) == 3
    assert asks(limit(clock, theirs, requests=5), *[caller()] * 3) == 2
    assert asks(limit(clock, ours, requests=5), caller()) == 0


@pytest.mark.parametrize("content", [b"", bytes(64 + 2 * 64 * 16), b"gk-buckets-1" + bytes(99)])
def test_memory_of_another_kind_is_not_used(clock: Clock, content: bytes) -> None:
    descriptor = os.memfd_create("other", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    memory = BucketMemory(descriptor, slots=64)
    assert asks(limit(clock, memory, requests=5), *[caller()] * 9) == 5
    assert os.pread(memory.descriptor, 12, 0) == b"gk-buckets-1"
    with open(memory.descriptor, "rb", closefd=False) as file:
        assert os.fstat(file.fileno()).st_size == 64 + 2 * 64 * 16


def test_it_tells_what_it_is(clock: Clock) -> None:
    text = repr(limit(clock, requests=5, per="minute", by="key"))
    assert text == "<RateLimit of acme: 5 per minute by key>"
