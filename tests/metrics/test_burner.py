from __future__ import annotations

import pytest

from gatekeeper.credits.burn_report import LASTING, Ending, Trouble
from gatekeeper.credits.chain import Sending
from gatekeeper.credits.rpc import UnreachableError
from gatekeeper.metrics.burner import BurnerCollector
from tests.credits.burning import ALICE, BOB, House
from tests.metrics.reading import counted, sample, samples


class Told:
    """A burner, and what is told of it."""

    def __init__(self, alice: int, bob: int) -> None:
        self.house = House(alice=alice, bob=bob)
        self.collector = BurnerCollector(
            self.house.report, self.house.clock, lambda: 1_000_000 + self.house.clock.seconds()
        )

    def read(self, name: str, **labels: str) -> float | None:
        return samples(self.collector.collect()).get(sample(f"burner_{name}", **labels))

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        return counted(self.collector, f"burner_{name}")


@pytest.fixture
def told() -> Told:
    return Told(alice=10, bob=2)


def test_who_does_not_burn_tells_nothing_of_the_queue(told: Told) -> None:
    told.house.ledger.owe(ALICE, 5)
    assert told.read("owner") == 0
    assert told.counted("owed_credits") == {}
    assert told.read("settlements_under_way") is None
    assert told.read("account_balance_wei") is None
    assert told.read("last_pass_age_seconds") is None
    assert told.counted("failures_total") == {}


def test_every_outcome_and_every_kind_is_there_from_the_start(told: Told) -> None:
    """So that the first one is an increase."""
    names = samples(told.collector.collect())
    for how in Ending:
        assert names[sample("burner_settlements_total", outcome=how.value)] == 0
    for kind in Trouble:
        assert names[sample("burner_failures_total", kind=kind.value)] == 0
        assert (sample("burner_trouble", kind=kind.value) in names) == (kind in LASTING)


def test_a_burn(told: Told) -> None:
    house = told.house
    house.ledger.owe(ALICE, 5, since=999_000)
    house.ledger.owe(BOB, 5, since=999_900)
    house.go()
    assert told.read("owner") == 1
    assert told.counted("owed_credits") == {("pending",): 10}
    assert told.counted("owed_charges") == {("pending",): 2}
    assert told.counted("oldest_charge_seconds") == {("pending",): 1005}
    assert told.read("settlements_under_way") == 1
    assert told.read("account_balance_wei") == 10**18
    assert told.read("last_pass_age_seconds") == 0
    assert told.read("burned_credits_total") == 0
    house.go(passes=10, blocks=1)
    assert told.counted("settlements_total") == {("confirmed",): 1}
    assert told.read("burned_credits_total") == 7
    assert told.read("gas_spent_wei_total") == 50_000 * house.node.base_fee
    assert told.read("settlements_under_way") == 0
    assert told.counted("owed_credits") == {("uncollected",): 3}


def test_what_is_wrong_now_and_what_was(told: Told) -> None:
    house = told.house
    house.ledger.owe(ALICE, 5)
    house.node.says = Sending.NO_FUNDS
    house.go(passes=2)
    assert told.counted("trouble") == {("no_funds",): 1}
    house.node.says = Sending.TAKEN
    house.go()
    assert told.counted("trouble") == {}
    assert told.counted("failures_total") == {("no_funds",): 2}
    house.node.failures["all"] = UnreachableError("away")
    house.go(passes=3)
    assert told.counted("trouble") == {("unreachable",): 1}
    assert told.read("last_pass_age_seconds") == 15
