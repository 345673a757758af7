"""Several processes over one store: whatever happens, in whatever order, nothing is overspent."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gatekeeper.usage.records import Account
from tests.credits.leases import KINDS, World

#: What happens, and with what: a range of whole numbers, or some choices.
STEPS: dict[str, dict[str, range | list[Any]]] = {
    "come_or_go": {"what": ["start", "kill", "inherit", "stop"], "which": range(3)},
    "request": {
        "which": range(3),
        "credits": range(1, 7),
        "extra": [0, 0, 0, 2],
        "number": range(1, 5),
        "waits": [False, True],
    },
    "end": {"which": range(3), "at": range(20), "share": range(7)},
    "go_on_asking": {"which": range(3), "fails": [False, False, False, True]},
    "ask_and_burn": {
        "which": range(3),
        "credits": range(1, 7),
        "before": range(4),
        "after": range(4),
    },
    "give_back": {"which": range(3)},
    "go_on_flushing": {"which": range(3), "steps": range(1, 4), "again": [False, True]},
    "grant": {"which": range(3), "more": range(1, 10)},
    "go_on_burning": {},
    "wait": {"seconds": [0.5, 1.0, 5.0, 5.0, 12.0]},
}


class Machine(RuleBasedStateMachine):
    world: World | None = None

    @initialize(account=st.sampled_from(KINDS), credits=st.integers(1, 60))
    def begin(self, account: Account, credits: int) -> None:
        self.world = World(account, credits)

    @invariant()
    def nothing_is_overspent(self) -> None:
        if self.world is not None:
            self.world.check()

    def teardown(self) -> None:
        if self.world is not None:
            self.world.close()


def _add_rule(name: str, values: dict[str, range | list[Any]]) -> None:
    def step(self: Machine, **drawn: Any) -> None:
        getattr(self.world, name)(**drawn)

    step.__name__ = name
    strategies: dict[str, Any] = {key: st.sampled_from(choices) for key, choices in values.items()}
    add: Any = rule(**strategies)
    setattr(Machine, name, precondition(lambda self: self.world)(add(step)))


for _name, _values in STEPS.items():
    _add_rule(_name, _values)

TestLeases = Machine.TestCase
TestLeases.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("first", range(0, 800, 100))
def test_random_walks(first: int) -> None:
    """These get further than the machine, and do not say as well what went wrong."""
    for seed in range(first, first + 100):
        random = Random(seed)
        world = World(random.choice(KINDS), random.randint(1, 60))
        weights = [random.random() ** 2 for _ in STEPS]  # each walk likes other steps
        for _ in range(random.randint(5, 120)):
            ((name, values),) = random.choices([*STEPS.items()], weights)
            drawn = {key: random.choice(choices) for key, choices in values.items()}
            getattr(world, name)(**drawn)
            world.check()
        world.close()
