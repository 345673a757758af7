"""What is thought of an upstream: when it is left alone, for how long, and how it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.net.balancing_health import EjectionPolicy, Health, State

POLICY = EjectionPolicy(failures=3, duration=10.0, longest=60.0)


def ejected(now: float = 0.0) -> Health:
    health = Health(POLICY)
    for _ in range(3):
        health.failed(now, probe=False)
    return health


def test_it_begins_up() -> None:
    health = Health(POLICY)
    assert health.state is State.UP
    assert health.is_available(0.0)
    assert not health.take(0.0)


def test_failures_in_a_row_eject() -> None:
    health = Health(POLICY)
    assert [health.failed(5.0, probe=False) for _ in range(3)] == [0.0, 0.0, 10.0]
    assert health.state is State.EJECTED
    assert health.ejections == 1
    assert not health.is_available(14.9)
    assert health.is_available(15.0)


def test_a_success_in_between_counts_anew() -> None:
    health = Health(POLICY)
    for _ in range(10):
        assert health.failed(0.0, probe=False) == 0.0
        assert health.failed(0.0, probe=False) == 0.0
        assert not health.succeeded()
    assert health.state is State.UP


def test_when_it_is_over_one_request_is_the_probe() -> None:
    health = ejected()
    assert not health.take(9.9)
    assert health.take(10.0)
    assert not health.is_available(10.0)
    assert not health.take(10.0)
    assert health.state is State.EJECTED


def test_a_probe_that_succeeds_ends_it() -> None:
    health = ejected()
    assert health.take(10.0)
    assert health.succeeded()
    assert health.state is State.UP
    assert health.is_available(10.0)


def test_a_probe_that_fails_doubles_it_up_to_a_bound() -> None:
    health = ejected()
    now, spans = 0.0, []
    for _ in range(6):
        assert health.until is not None
        now = health.until
        assert health.take(now)
        spans.append(health.failed(now, probe=True))
    assert spans == [20.0, 40.0, 60.0, 60.0, 60.0, 60.0]
    assert health.ejections == 7


def test_after_a_success_it_begins_small_again() -> None:
    health = ejected()
    health.take(10.0)
    health.failed(10.0, probe=True)
    health.succeeded()
    assert [health.failed(100.0, probe=False) for _ in range(3)][-1] == 10.0


def test_others_failures_do_not_prolong_it() -> None:
    health = ejected()
    assert health.failed(5.0, probe=False) == 0.0
    assert health.until == 10.0
    assert health.ejections == 1


def test_a_probe_without_outcome_does_not_hold_it_up_for_ever() -> None:
    health = ejected()
    assert health.take(10.0)
    assert not health.is_available(19.9)
    assert health.take(20.0)


def test_any_success_ends_it() -> None:
    """A request that had begun before, or a last resort: it does answer."""
    health = ejected()
    assert health.succeeded()
    assert health.is_available(1.0)


def test_checks_have_a_say_of_their_own() -> None:
    health = Health(POLICY)
    health.checked(up=False)
    seen = [health.state]
    assert not health.is_available(0.0)
    assert not health.succeeded()
    seen.append(health.state)
    health.checked(up=True)
    assert [*seen, health.state] == [State.DOWN, State.DOWN, State.UP]


def test_who_is_found_up_again_is_not_ejected_any_more() -> None:
    health = ejected()
    health.checked(up=False)
    health.checked(up=True)
    assert health.is_available(0.0)


@pytest.mark.parametrize("longest", [10.0, 15.0])
def test_the_bound_may_be_near(longest: float) -> None:
    health = Health(EjectionPolicy(1, 10.0, longest))
    assert health.failed(0.0, probe=False) == 10.0
    assert health.take(10.0)
    assert health.failed(10.0, probe=True) == longest


EVENTS = st.lists(
    st.one_of(
        st.just("succeeded"),
        st.just("failed"),
        st.just("taken"),
        st.floats(0.0, 100.0),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens(events: list[str | float]) -> None:
    health, now, in_a_row = Health(POLICY), 0.0, 0
    for event in events:
        if isinstance(event, float):
            now += event
        elif event == "succeeded":
            health.succeeded()
            in_a_row = 0
            assert health.state is State.UP
        elif event == "taken":
            if health.is_available(now) and health.take(now):
                assert not health.is_available(now)  # one at a time
        else:
            in_a_row += 1
            before = health.ejections
            span = health.failed(now, probe=False)
            assert (span > 0) == (health.ejections > before)
            assert span in (0.0, POLICY.duration)
        assert in_a_row >= POLICY.failures or health.state is State.UP
        # It is never left alone for longer than the bound.
        assert health.until is None or health.until <= now + POLICY.longest
        assert health.is_available(now + POLICY.longest)
