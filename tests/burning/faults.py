"""The faults. Each of them is done to a house whose holders are new, and may leave it unsettled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

from tests.anvil import BURNER, OWNER
from tests.burning.house import CONFIRMATIONS, CREDITS, MAX_FEE_GWEI, Burner, House, Result
from tests.burning.market import COST_OF_ALL
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS

Fault: TypeAlias = Callable[[House], None]

_GWEI: Final = 10**9


def none(house: House) -> None:
    """Nothing goes wrong."""
    house.start_burner()
    house.meter()
    house.meter()


def _killed(house: House, seam: str, times: int = 1) -> None:
    """SIGKILL of the burner at a step; with 2, of its successor there, too."""
    for _ in range(times):
        house.start_burner()
        house.burner.kill_at(seam)
        house.meter()
        house.mine_until(lambda: not house.burner.is_running, f"it dies at {seam}")
    house.meter()


def killed_before_signing(house: House) -> None:
    """Settlements are claimed."""
    _killed(house, "SIGNING")


def killed_before_storing(house: House) -> None:
    """What was signed is lost."""
    _killed(house, "SIGNED")


def killed_after_storing(house: House) -> None:
    """It is signed, and was not sent."""
    _killed(house, "STORED", 2)


def killed_after_sending(house: House) -> None:
    """A node has it, and that is not written down."""
    _killed(house, "SENT", 2)


def killed_after_marking(house: House) -> None:
    """A node has it."""
    _killed(house, "MARKED")


def killed_before_the_end(house: House) -> None:
    """It is final, and that is not written down."""
    _killed(house, "ENDING")


def killed_after_the_end(house: House) -> None:
    """It is written down; there may be others."""
    _killed(house, "ENDED")


def answers_lost(house: House) -> None:
    """The node takes a transaction, and its answer never comes; three times."""
    house.start_burner()
    for number in range(1, 4):
        house.relay.cuts_left = 1
        house.meter()
        house.mine_until(lambda: not house.relay.cuts_left, f"answer {number} lost")


def node_restarts(house: House) -> None:
    """The node ends with transactions that are in no block, of which it knows nothing then."""
    house.meter_before_burning()
    house.node.call("evm_setAutomine", False)
    house.start_burner()
    house.wait_for("sent", 2)
    house.node.stop()
    house.wait_until_said("the connection failed")
    house.node.start()


def blocks_replaced(house: House) -> None:
    """``anvil_reorg``: the blocks with the burns give way to empty ones, and nobody keeps them."""
    house.meter_before_burning()
    house.start_burner()
    house.wait_for("mined", 2)
    _go_back(house, "anvil_reorg", CONFIRMATIONS - 1, [])


def chain_goes_back(house: House) -> None:
    """``evm_revert``: the chain is as it was before the burns, and shorter."""
    house.meter_before_burning()
    snapshot = house.node.call("evm_snapshot")
    house.start_burner()
    house.wait_for("mined", 2)
    _go_back(house, "evm_revert", snapshot)


def _go_back(house: House, method: str, *parameters: object) -> None:
    """The node would put what was in its blocks into new ones at once: not here."""
    house.node.call("evm_setAutomine", False)
    house.node.call(method, *parameters)
    house.node.call("anvil_dropAllTransactions")
    assert house.all_is_there()
    house.wait_until_said("it is sent again")
    house.node.call("evm_setAutomine", True)


def nonce_taken(house: House) -> None:
    """Another wallet has the same key, and its transaction is first in the block."""
    house.meter_before_burning()
    nonce = house.node.call("eth_getTransactionCount", BURNER, "latest")
    house.node.call("evm_setAutomine", False)
    house.start_burner()
    house.wait_for("sent", 2)
    house.node.call(
        "eth_sendTransaction",
        {"from": BURNER, "to": OWNER, "value": "0x1", "nonce": nonce, "gas": hex(21_000), **_PAYS},
    )
    house.node.mine()
    house.node.call("evm_setAutomine", True)
    house.mine_until(lambda: "has used nonce" in house.burner.log, "it is noticed")


def two_burners(house: House) -> None:
    """Two start at once; the one that burns is killed, and the other one goes on."""
    house.meter_before_burning()
    house.node.call("evm_setAutomine", False)
    both = [house.burner, house.make_burner("other")]
    for each in both:
        each.pid_file.unlink(missing_ok=True)
        each.spawn()

    def waiting() -> list[Burner]:
        return [each for each in both if "Another process burns" in each.log]

    house.wait(waiting, "one of them waits")
    (heir,) = waiting()
    house.wait_for("sent", 2)
    for each in both:
        if each is not heir:
            each.kill()
    house.wait(lambda: "Burning from" in heir.log, "the other one goes on")
    house.node.call("evm_setAutomine", True)
    house.meter()
    house.mine_until(house.has_settled, "the other one settles everything")
    heir.stop()


def fees_rise(house: House) -> None:
    """Gas costs more than may be offered, with transactions under way, and is cheap again."""
    house.meter_before_burning()
    house.node.call("evm_setAutomine", False)
    house.start_burner()
    house.wait_for("sent", 2)
    house.node.call("anvil_setNextBlockBaseFeePerGas", hex(5 * MAX_FEE_GWEI * _GWEI))
    house.node.mine()
    house.meter()
    house.wait_until_said("gas costs more than burner.max_fee_gwei: waiting")
    assert house.count("sent") + house.count("signed") == 2
    house.node.call("evm_setAutomine", True)


def holder_short(house: House) -> None:
    """One of a batch has less than was metered when its turn comes."""
    house.meter_before_burning()
    contract = house.contracts[UPGRADEABLE]
    house.node.receipt(house.take_away(contract, house.holders[1], CREDITS - 1))
    house.start_burner()


def holder_short_in_the_block(house: House) -> None:
    """One of a batch has less when the burn is executed: it is reverted, for all of them."""
    house.meter_before_burning()
    house.node.call("evm_setAutomine", False)
    house.start_burner()
    house.wait_for("sent", 2)
    contract = house.contracts[WITHOUT_BLOCKS]
    house.take_away(contract, house.holders[2], CREDITS - 2, **_PAYS)
    house.node.mine()
    house.node.call("evm_setAutomine", True)
    house.mine_until(lambda: "was reverted" in house.burner.log, "it is reverted")


def gateway_killed(house: House) -> None:
    """SIGKILL of the gateway while requests run, twice."""
    house.start_burner()
    for _ in range(2):
        with house.selling():
            house.wait_for_answers(len(house.holders))
            house.kill_gateway()


def store_crashes(house: House) -> None:
    """``pg_ctl stop -m immediate`` in the middle of settlements, and a restart."""
    assert house.server is not None
    house.meter_before_burning()
    house.node.call("evm_setAutomine", False)
    house.start_burner()
    house.wait_for("sent", 2)
    house.server.stop()
    house.node.mine()
    house.node.call("evm_setAutomine", True)
    house.wait_until_said("Burning: ")
    house.server.start()
    house.meter()


#: Higher fees than the burner's: it is the first one in the block.
_PAYS: Final = {
    "maxFeePerGas": hex(MAX_FEE_GWEI * _GWEI),
    "maxPriorityFeePerGas": hex(80 * _GWEI),
}

FAULTS: Final[tuple[Fault, ...]] = (
    none,
    killed_before_signing,
    killed_before_storing,
    killed_after_storing,
    killed_after_sending,
    killed_after_marking,
    killed_before_the_end,
    killed_after_the_end,
    answers_lost,
    node_restarts,
    blocks_replaced,
    chain_goes_back,
    nonce_taken,
    two_burners,
    fees_rise,
    holder_short,
    holder_short_in_the_block,
    gateway_killed,
    store_crashes,
)

#: Those that the store has a part in, done with SQLite, too.
WITH_SQLITE: Final[tuple[Fault, ...]] = (killed_after_storing, two_burners)


def run(fault: Fault, house: House) -> Result:
    """Do one round of a fault, and say what it came to."""
    house.welcome()
    begun = time.monotonic()
    fault(house)
    house.settle()
    house.check_records()
    name = fault.__name__.replace("_", " ")
    if house.server is None:
        name += ", SQLite"
    return house.compare(name, time.monotonic() - begun)


def uncollected_in(fault: Fault) -> int:
    """What is left uncollected of a round: exactly what holders did not have."""
    if fault is holder_short:
        return COST_OF_ALL[UPGRADEABLE] - 1
    return COST_OF_ALL[WITHOUT_BLOCKS] - 2 if fault is holder_short_in_the_block else 0
