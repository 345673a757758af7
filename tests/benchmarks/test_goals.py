from __future__ import annotations

import pytest

from benchmarks.__main__ import ROWS
from benchmarks.goals import GOALS, Goal, Outcome, judge
from benchmarks.report import as_text
from benchmarks.results import Figure, Results


def results(*figures: Figure) -> Results:
    found = Results()
    for figure in figures:
        found.add(figure)
    return found


def test_every_row_has_a_goal_and_every_goal_a_row() -> None:
    assert {goal.row for goal in GOALS} == set(ROWS)


def test_a_ratio_is_of_the_medians() -> None:
    found = results(
        Figure("tls", "nginx", "µs/request", (20.0, 90.0, 25.0)),
        Figure("tls", "gatekeeper", "µs/request", (40.0,)),
    )
    [outcome] = judge(found, frozenset({"tls"}))
    assert outcome.value == pytest.approx(1.6)
    assert outcome.reached(outcome.goal.first) is True
    assert outcome.reached(outcome.goal.then) is False


def test_without_the_other_figure_there_is_no_ratio_and_no_judgement() -> None:
    found = results(Figure("tls", "gatekeeper", "µs/request", (40.0,)))
    [outcome] = judge(found, frozenset({"tls"}))
    assert outcome.value is None
    assert outcome.reached(outcome.goal.first) is None
    assert "40 µs/request" in as_text({}, found, [outcome])


@pytest.mark.parametrize(("value", "reached"), [(1.8, True), (1.79, False)])
def test_more_may_be_better(value: float, reached: bool) -> None:
    goal = Goal("workers", "", "two", "one", 1.8, 1.9, more=True)
    assert Outcome(goal, None, None, value).reached(goal.first) is reached


@pytest.mark.parametrize(("others", "told"), [(0.5, True), (0.01, False), (None, False)])
def test_a_row_in_which_something_else_ran_is_told(others: float | None, told: bool) -> None:
    found = results(Figure("tls", "nginx", "µs/request", (20.0,), others=others))
    assert ("too high, in: tls" in as_text({}, found, [])) is told


def test_what_is_missing_is_in_the_text_with_its_reason() -> None:
    found = results()
    found.miss("tls", "nginx", "nginx is not installed")
    assert "  tls, nginx: nginx is not installed" in as_text({}, found, [])
