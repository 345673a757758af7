"""Burning for good: real stores, the real contracts, and what goes wrong on a real chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gatekeeper.config.model import Store
from gatekeeper.credits.burn_report import Ending, Trouble
from gatekeeper.credits.burn_terms import Schedule
from gatekeeper.credits.ledger import ChargeState, SettlementState
from gatekeeper.credits.signing import Signer
from gatekeeper.store.interface import IStore
from gatekeeper.store.opening import make_store
from gatekeeper.usage.records import Account, Batch
from tests.anvil import BURNER, BURNER_PATH, OWNER, STRANGER, Anvil
from tests.auth.http_peers import fixture_in_reactor, in_reactor
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS, Contract, deploy
from tests.credits.burning_on_chain import (
    GWEI,
    HOLDERS,
    POLICY,
    TOKEN_ID,
    House,
    signer_at,
)
from tests.servers import PostgresServer

ALICE, BOB, CAROL, DAVE = HOLDERS[:4]
NOBODY = "0x" + "00" * 20
BURN, BURN_BATCH = "f5298aca", "cc3394e1"

MakeHouse = Callable[..., House]


@pytest.fixture(scope="module")
def signer() -> Signer:
    return signer_at(BURNER_PATH)


@pytest.fixture
def contract(node: Anvil) -> Contract:
    return prepared(node, UPGRADEABLE)


@fixture_in_reactor
async def sqlite(tmp_path: Path) -> AsyncIterator[IStore]:
    store = make_store(Store(url=f"sqlite:///{tmp_path / 'store.sqlite'}"))
    await store.open()
    yield store
    await store.close()


@fixture_in_reactor
async def postgresql(postgres: PostgresServer) -> AsyncIterator[IStore]:
    store = make_store(Store(url=postgres.create_database(), statement_timeout=10))
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> IStore:
    found: IStore = request.getfixturevalue(request.param)
    return found


@fixture_in_reactor
async def house(
    node: Anvil, contract: Contract, sqlite: IStore, signer: Signer
) -> AsyncIterator[House]:
    house = House(node, contract, sqlite, signer)
    yield house
    await house.close()


def prepared(node: Anvil, name: str) -> Contract:
    contract = deploy(node, name)
    contract.prepare(TOKEN_ID)
    return contract


# --- with every store and every contract ----------------------------------------------------------


@pytest.mark.parametrize("name", [UPGRADEABLE, WITHOUT_BLOCKS])
@in_reactor
async def test_many_requests_become_one_burn(
    node: Anvil, store: IStore, signer: Signer, name: str
) -> None:
    house = House(node, prepared(node, name), store, signer)
    house.mint({ALICE: 100})
    for credits in (1, 2, 3, 4):
        await house.meter({ALICE: credits})
    await house.go()
    assert await house.balances([ALICE]) == [90]
    assert (await house.only()).settlement.state is SettlementState.MINED
    await house.finish()
    assert house.calls() == [BURN]
    assert await house.total(ChargeState.BURNED) == 10
    assert house.report.endings == {Ending.CONFIRMED: 1}
    assert house.report.burned == 10
    (transaction,) = (await house.only()).transactions
    assert (transaction.outcome, transaction.nonce) == ("succeeded", await spent(house) - 1)
    assert house.report.gas_spent == transaction.gas_used * transaction.gas_price  # type: ignore[operator]
    assert not house.report.failures
    await house.close()


@pytest.mark.parametrize("name", [UPGRADEABLE, WITHOUT_BLOCKS])
@in_reactor
async def test_a_batch_with_holders_who_are_short(
    node: Anvil, store: IStore, signer: Signer, name: str
) -> None:
    house = House(node, prepared(node, name), store, signer)
    house.mint({ALICE: 100, BOB: 3, DAVE: 100})
    await house.meter({ALICE: 10, BOB: 10, CAROL: 10, DAVE: 10})
    await house.finish()
    assert house.calls() == [BURN_BATCH]
    assert await house.balances([ALICE, BOB, CAROL, DAVE]) == [90, 0, 0, 90]
    assert await house.total(ChargeState.UNCOLLECTED) == 7 + 10
    house.mint({BOB: 100})
    house.clock.advance(60)
    await house.finish()
    assert house.calls() == [BURN_BATCH, BURN]
    assert await house.balances([BOB]) == [93]
    assert await house.total(ChargeState.UNCOLLECTED) == 10
    await house.close()


@in_reactor
async def test_nothing_is_sent_for_who_has_nothing(
    node: Anvil, contract: Contract, store: IStore, signer: Signer
) -> None:
    house = House(node, contract, store, signer)
    house.minted = {ALICE: 0, BOB: 0}
    await house.meter({ALICE: 5, BOB: 5})
    await house.finish()
    assert house.calls() == []
    assert house.report.endings == {Ending.NOTHING: 1}
    assert await house.total(ChargeState.UNCOLLECTED) == 10
    await house.close()


@in_reactor
async def test_one_process_burns(
    node: Anvil, contract: Contract, store: IStore, signer: Signer
) -> None:
    one, two = (House(node, contract, store, signer) for _ in range(2))
    one.mint({ALICE: 100})
    await one.meter({ALICE: 10})
    await one.go()
    await two.go(passes=3)
    assert (one.report.owner, two.report.owner) == (True, False)
    await one.close()
    await two.go(blocks=3)
    assert two.report.owner
    assert two.report.burned == 10  # by its predecessor's transaction
    assert two.calls() == [BURN]
    await two.close()


@in_reactor
async def test_who_comes_after_goes_on_with_what_was_stored(
    node: Anvil, contract: Contract, store: IStore, signer: Signer
) -> None:
    """The node was away when the first one wanted to send."""
    one, two = (House(node, contract, store, signer) for _ in range(2))
    one.mint({ALICE: 100})
    await one.meter({ALICE: 10})
    node.call("evm_setAutomine", False)
    one.client.swallowed = 1
    await one.go()
    node.call("anvil_dropAllTransactions")
    (first,) = (await one.only()).transactions
    await one.close()
    node.call("evm_setAutomine", True)
    two.minted, two.metered = one.minted, one.metered
    await two.finish()
    (second,) = (await two.only()).transactions
    assert (second.hash, second.raw) == (first.hash, first.raw)
    assert two.calls() == [BURN]
    assert await two.balances([ALICE]) == [90]
    await two.close()


async def spent(house: House) -> int:
    return await house.chain.nonce_at(BURNER, "latest")


# --- transactions that do not get through ---------------------------------------------------------


@in_reactor
async def test_a_replacement_keeps_its_nonce(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.node.call("evm_setAutomine", False)
    nonce = await spent(house)
    await house.go()
    house.clock.advance(house.burner._terms.policy.stuck)
    await house.go()
    first, second = (await house.only()).transactions
    assert first.nonce == second.nonce == nonce
    assert second.max_fee > first.max_fee
    assert second.priority > first.priority
    waiting = house.node.call("txpool_content")["pending"]
    ((only,),) = (each.values() for each in waiting.values())
    assert only["hash"] == second.hash
    house.node.call("evm_setAutomine", True)
    await house.finish()
    assert house.calls() == [BURN]
    assert [each.outcome for each in (await house.only()).transactions] == [
        "displaced",
        "succeeded",
    ]
    assert await house.balances([ALICE]) == [90]


@in_reactor
async def test_a_fee_spike_is_waited_for(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.node.call("anvil_setNextBlockBaseFeePerGas", hex(500 * GWEI))
    await house.go(passes=2)
    assert house.report.troubles == {Trouble.TOO_DEAR}
    assert await house.settlements() == []
    house.node.mine(30)  # empty blocks make it cheaper
    await house.finish()
    assert house.calls() == [BURN]
    assert not house.report.troubles


@in_reactor
async def test_a_block_that_is_replaced(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    await house.go()
    assert (await house.only()).settlement.state is SettlementState.MINED
    house.node.call("anvil_reorg", 1, [])
    assert await house.balances([ALICE]) == [100]
    await house.go()
    assert house.report.failures[Trouble.REORGANIZED] == 1
    await house.finish()
    assert house.calls() == [BURN]
    assert len((await house.only()).transactions) == 1
    assert await house.balances([ALICE]) == [90]


@in_reactor
async def test_another_wallet_takes_the_nonce(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.node.call("evm_setAutomine", False)
    nonce = await spent(house)
    await house.go()
    house.node.call(
        "eth_sendTransaction",
        {
            "from": BURNER, "to": OWNER, "value": "0x1", "nonce": hex(nonce), "gas": hex(21_000),
            "maxFeePerGas": hex(90 * GWEI), "maxPriorityFeePerGas": hex(20 * GWEI),
        },
    )  # fmt: skip
    house.node.mine()
    house.node.call("evm_setAutomine", True)
    await house.go(passes=2)
    assert (await house.only()).settlement.nonce == nonce
    await house.go(blocks=3)
    assert house.report.failures[Trouble.DISPLACED] == 1
    await house.finish()
    stored = await house.only()
    assert [(each.nonce, each.outcome) for each in stored.transactions] == [
        (nonce, "displaced"),
        (nonce + 1, "succeeded"),
    ]
    assert house.calls() == [BURN]
    assert await house.balances([ALICE]) == [90]


@in_reactor
async def test_an_answer_that_is_lost_after_the_node_took_it(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.client.swallowed = 1
    await house.go()
    assert (await house.only()).settlement.state is SettlementState.SIGNED
    assert house.report.troubles == {Trouble.UNREACHABLE}
    assert await house.balances([ALICE]) == [90]
    await house.finish()
    assert house.calls() == [BURN]
    assert await house.balances([ALICE]) == [90]
    assert not house.report.troubles


@in_reactor
async def test_a_node_that_forgets_what_waits(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.node.call("evm_setAutomine", False)
    await house.go()
    house.node.call("anvil_dropAllTransactions")
    await house.go(passes=4)
    house.node.call("evm_setAutomine", True)
    await house.finish()
    assert house.calls() == [BURN]
    assert len((await house.only()).transactions) == 1


@in_reactor
async def test_an_account_without_funds(house: House) -> None:
    house.mint({ALICE: 100})
    await house.meter({ALICE: 10})
    house.node.call("anvil_setBalance", BURNER, "0x1")
    await house.go(passes=2)
    assert Trouble.NO_FUNDS in house.report.troubles
    assert house.report.funds == 1
    house.node.call("anvil_setBalance", BURNER, hex(10**20))
    await house.finish()
    assert house.calls() == [BURN]


# --- what the contract refuses --------------------------------------------------------------------


@in_reactor
async def test_the_bad_one_of_a_batch_is_found(node: Anvil, sqlite: IStore, signer: Signer) -> None:
    """This contract does not even tell the balance of the address that is nobody's."""
    house = House(node, prepared(node, WITHOUT_BLOCKS), sqlite, signer)
    house.mint({ALICE: 100, BOB: 100, CAROL: 100})
    await house.meter({ALICE: 10, BOB: 10, NOBODY: 10, CAROL: 10})
    await house.finish()
    assert house.calls() == [BURN_BATCH]
    assert await house.balances([ALICE, BOB, CAROL]) == [90, 90, 90]
    assert await house.total(ChargeState.ERROR) == 10
    assert await house.reasons(ChargeState.ERROR) == {
        "reverted: ERC1155: address zero is not a valid owner"
    }
    await house.close()


@in_reactor
async def test_a_role_that_is_missing_is_an_error_with_its_reason(
    node: Anvil, contract: Contract, sqlite: IStore
) -> None:
    house = House(node, contract, sqlite, signer_at("m/44'/60'/0'/0/2"))
    house.mint({ALICE: 100, BOB: 100})
    await house.meter({ALICE: 10, BOB: 10})
    await house.finish()
    assert house.calls() == []
    assert len(await house.settlements()) == 1
    assert await house.reasons(ChargeState.ERROR) == {
        "reverted: ERC1155: caller is not owner nor approved"
    }
    assert house.report.endings == {Ending.ERROR: 1}
    await house.close()


@in_reactor
async def test_an_address_without_a_contract_is_given_up(
    node: Anvil, contract: Contract, sqlite: IStore, signer: Signer
) -> None:
    """Others, who pay in a contract that there is, do not wait for it."""
    house = House(node, contract, sqlite, signer)
    house.mint({ALICE: 100})
    nowhere = {Account(STRANGER, str(TOKEN_ID), holder): 10 for holder in (ALICE, BOB)}
    await sqlite.write_batch(Batch("another", 0, 1, {}, (), nowhere))
    house.metered += 20
    await house.meter({ALICE: 10})
    await house.finish()
    assert house.calls() == [BURN]
    assert await house.total(ChargeState.ERROR) == 20
    assert await house.reasons(ChargeState.ERROR) == {
        "there is no such contract at this address, where the answer is empty"
    }
    assert house.report.endings == {Ending.CONFIRMED: 1, Ending.ERROR: 1}
    assert house.report.failures == {Trouble.REVERTED: POLICY.retries + 1}
    assert not house.report.troubles
    await house.close()


@in_reactor
async def test_a_contract_of_another_kind_is_given_up(
    node: Anvil, contract: Contract, sqlite: IStore, signer: Signer
) -> None:
    """It takes every call, and answers with a word."""
    word = "602060005260206000f3"  # puts 32 into memory, and returns that
    code = f"0x600a600c600039600a6000f3{word}"
    address = node.transact(OWNER, None, code)["contractAddress"].lower()
    house = House(node, contract, sqlite, signer)
    house.minted = {ALICE: 0}
    spent = {Account(address, str(TOKEN_ID), ALICE): 10}
    await sqlite.write_batch(Batch("another", 0, 1, {}, (), spent))
    house.metered += 10
    await house.finish()
    assert await house.reasons(ChargeState.ERROR) == {
        "there is no such contract at this address, where the answer is not 1 numbers"
    }
    await house.close()


@in_reactor
async def test_credits_that_are_gone_when_it_comes_to_it(house: House) -> None:
    """The holder's balance falls after the dry run: the transaction is in a block, and reverted."""
    house.mint({ALICE: 100})
    await house.meter({ALICE: 60})
    house.node.call("evm_setAutomine", False)
    await house.go()
    # The stranger's burn pays more, and is first in the block.
    data = "0x" + BURN + f"{int(ALICE, 16):064x}{TOKEN_ID:064x}{70:064x}"
    house.node.call(
        "eth_sendTransaction",
        {
            "from": OWNER, "to": house.contract.address, "data": data, "gas": hex(1_000_000),
            "maxFeePerGas": hex(90 * GWEI), "maxPriorityFeePerGas": hex(50 * GWEI),
        },
    )  # fmt: skip
    house.node.mine()
    house.node.call("evm_setAutomine", True)
    assert await house.balances([ALICE]) == [30]
    house.minted[ALICE] -= 70
    await house.finish()
    stored = await house.only()
    assert [each.outcome for each in stored.transactions] == ["reverted", "succeeded"]
    assert stored.settlement.attempts == 1
    assert await house.balances([ALICE]) == [0]
    assert await house.total(ChargeState.UNCOLLECTED) == 30


# --- how much it costs ----------------------------------------------------------------------------


@in_reactor
async def test_groups_of_a_batchs_size(
    node: Anvil, contract: Contract, sqlite: IStore, signer: Signer
) -> None:
    house = House(node, contract, sqlite, signer, schedule=Schedule(interval=0, batch=3))
    house.mint(dict.fromkeys(HOLDERS, 100))
    await house.meter(dict.fromkeys(HOLDERS, 10))
    await house.finish()
    assert house.calls() == [BURN_BATCH] * 3
    assert await house.balances(HOLDERS) == [90] * len(HOLDERS)
    await house.close()
