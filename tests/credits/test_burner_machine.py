"""A burner that is killed anywhere, among others that are, on a chain that does anything.

What :mod:`tests.credits.test_ledger_crashes` asks of the decisions is asked here of what takes
them: however it goes, what is gone from the chain and what is owed is what was metered.
"""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.credits.burn_report import Trouble
from gatekeeper.credits.burn_terms import Schedule, Seam
from gatekeeper.credits.ledger import ChargeState, SettlementState
from gatekeeper.credits.rpc import RefusedError, UnreachableError
from tests.credits.burning import (
    ALICE,
    BOB,
    CAROL,
    GWEI,
    POLICY,
    House,
    Ledger,
    Node,
    RecordingSigner,
)

PEOPLE: Final = (ALICE, BOB, CAROL)
ENDED: Final = (SettlementState.CONFIRMED, SettlementState.ERROR)


class Killed(BaseException):
    """The process is gone."""


class Machine(RuleBasedStateMachine):
    @initialize(balances=st.tuples(*[st.integers(0, 30)] * 3), batch=st.integers(1, 3))
    def begin(self, balances: tuple[int, ...], batch: int) -> None:
        self.ledger = Ledger()
        self.node = Node(RecordingSigner(), dict(zip(PEOPLE, balances, strict=True)))
        self.node.automine = False
        self.clock = Clock()
        self.batch = batch
        self.metered = dict.fromkeys(PEOPLE, 0)
        self.strangers = 0
        self.start()

    def start(self) -> None:
        """A new process: nothing is left of the old one but what it has stored and sent."""
        self.deadly: Seam | None = None
        self.ledger.owner = None
        self.house = House(
            schedule=Schedule(interval=0, batch=self.batch),
            ledger=self.ledger,
            node=self.node,
            clock=self.clock,
            reached=self.reached,
        )

    def reached(self, seam: Seam) -> None:
        if seam is self.deadly:
            raise Killed

    def work(self) -> bool:
        """A pass; whether it was survived."""
        self.clock.advance(5)
        done: list[object] = []
        running = Deferred.fromCoroutine(self.house.burner.run_once())
        running.addErrback(lambda failure: failure.trap(Killed)).addBoth(done.append)
        assert done in ([None], [Killed])
        return done == [None]

    @rule(who=st.sampled_from(PEOPLE), credits=st.integers(1, 9))
    def meter(self, who: str, credits: int) -> None:
        self.ledger.owe(who, credits)
        self.metered[who] += credits

    @rule(passes=st.integers(1, 4))
    def burn(self, passes: int) -> None:
        for _ in range(passes):
            assert self.work()

    @rule(seam=st.sampled_from(Seam))
    def be_killed(self, seam: Seam) -> None:
        self.deadly = seam
        self.work()
        self.start()

    @rule(lost=st.sampled_from(["send", "answer", "look", "balances", "dry_run", "gas_prices"]))
    def lose_an_answer(self, lost: str) -> None:
        self.node.failures[lost] = UnreachableError("no answer")
        self.work()
        self.node.failures.clear()

    @rule()
    def be_refused(self) -> None:
        self.node.failures["send"] = RefusedError(-32000, "no")
        self.work()
        self.node.failures.clear()

    @rule(blocks=st.integers(1, 4))
    def mine(self, blocks: int) -> None:
        self.node.mine(blocks)

    @rule(depth=st.integers(1, POLICY.confirmations), again=st.booleans())
    def reorganize(self, depth: int, again: bool) -> None:
        self.node.reorganize(depth, again)

    @rule()
    def restart_the_node(self) -> None:
        self.node.waiting.clear()

    @rule()
    def use_the_nonce_elsewhere(self) -> None:
        self.strangers += 1
        self.node.use_nonce(f"stranger {self.strangers}")

    @rule(fee=st.sampled_from([1, 40, 95, 300]))
    def change_the_base_fee(self, fee: int) -> None:
        self.node.base_fee = fee * GWEI

    @rule(who=st.sampled_from(PEOPLE), amount=st.integers(1, 20))
    def mint(self, who: str, amount: int) -> None:
        self.node.balances_of[who] += amount

    @rule(who=st.sampled_from(PEOPLE), amount=st.integers(1, 20))
    def give_away(self, who: str, amount: int) -> None:
        self.node.balances_of[who] = max(self.node.balances_of[who] - amount, 0)

    @rule(who=st.sampled_from(PEOPLE), refused=st.booleans())
    def refuse(self, who: str, refused: bool) -> None:
        self.node.refuses.pop(who, None)
        if refused:
            self.node.refuses[who] = "no"

    @rule(seconds=st.sampled_from([20, 130]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_burned_twice(self) -> None:
        for who, burned in self.burned().items():
            assert burned <= self.metered[who]

    @invariant()
    def there_are_no_faults(self) -> None:
        assert not self.house.report.failures[Trouble.FAULT]

    def burned(self) -> dict[str, int]:
        """What is gone from the chain, by holder."""
        found = dict.fromkeys(PEOPLE, 0)
        for block in self.node.blocks:
            for name in block:
                if self.node.succeeded.get(name):
                    for holder, amount in self.node.burns(self.node.signer.signed[name].data):
                        found[holder] += amount
        return found

    def owed(self) -> dict[str, int]:
        """What is metered and not burned, by holder, as the ledger has it."""
        found = dict.fromkeys(PEOPLE, 0)
        for each in self.ledger.charges.values():
            if each.state is not ChargeState.BURNED:
                found[each.charge.holder] += each.charge.credits
        return found

    def teardown(self) -> None:
        """When nothing more gets in its way, all comes to an end, and the sums are right."""
        self.node.refuses.clear()
        self.node.base_fee = GWEI
        for _ in range(200):
            self.node.mine()
            assert self.work()
            waits = self.ledger.total(ChargeState.PENDING)
            if not waits and all(state in ENDED for state in self.ledger.states):
                break
        else:
            raise AssertionError(f"it does not end: {self.ledger.states}")
        burned, owed = self.burned(), self.owed()
        for who, metered in self.metered.items():
            assert burned[who] + owed[who] == metered


TestBurner = Machine.TestCase
TestBurner.settings = settings(max_examples=150, stateful_step_count=40)
