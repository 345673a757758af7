"""Our calls against the real contracts on a real (private) chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from itertools import pairwise

import pytest

from gatekeeper.auth.http_client import HttpClient
from gatekeeper.credits import abi
from gatekeeper.credits.chain import Chain, Sending
from gatekeeper.credits.fees import FeeBounds, Fees, choose, gas_limit
from gatekeeper.credits.grouping import Entry, burnable, fit, separate
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import (
    RefusedError,
    RevertedError,
    Rpc,
    StrangeContractError,
)
from gatekeeper.credits.signing import Mnemonic, Signed, Signer, Transaction, open_key
from tests.anvil import BURNER, BURNER_PATH, MNEMONIC, OWNER, STRANGER, Anvil
from tests.auth.http_peers import fixture_in_reactor, in_reactor
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS, Contract, deploy

TOKEN_ID = 0x0D
HOLDERS = [f"0x{number:040x}" for number in range(0xA000, 0xA008)]
BOUNDS = FeeBounds(max_fee=100 * 10**9, max_priority=10 * 10**9)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return open_key(Mnemonic(MNEMONIC, path=BURNER_PATH))


@fixture_in_reactor
async def chain(node: Anvil) -> AsyncIterator[Chain]:
    chain = Chain(Rpc(node.url, HttpClient("the chain", secret_path=True, max_body=1 << 20)))
    yield chain
    chain.close()


@pytest.fixture(params=[UPGRADEABLE, WITHOUT_BLOCKS])
def contract(request: pytest.FixtureRequest, node: Anvil) -> Contract:
    contract = deploy(node, request.param)
    contract.prepare(TOKEN_ID)
    for number, holder in enumerate(HOLDERS):
        contract.mint(holder, TOKEN_ID, 10 * number + 10)
    return contract


@pytest.fixture
def upgradeable(node: Anvil) -> Contract:
    contract = deploy(node, UPGRADEABLE)
    contract.prepare(TOKEN_ID)
    return contract


async def signed(
    chain: Chain, signer: Signer, contract: Contract, data: bytes, nonce: int | None = None
) -> Signed:
    estimate = await chain.estimate_gas(signer.address, contract.address, data)
    fees = choose(*await chain.gas_prices(), BOUNDS)
    assert fees is not None
    if nonce is None:
        nonce = await chain.nonce_at(signer.address, "latest")
    return signer.sign(
        Transaction(
            contract.node.chain_id,
            nonce,
            contract.address,
            data,
            gas_limit(estimate, Fraction(5, 4), 30_000_000),
            fees,
        )
    )


# --- asking -------------------------------------------------------------------------------


@in_reactor
async def test_balances(chain: Chain, contract: Contract) -> None:
    token = Token(contract.address, TOKEN_ID)
    assert [await chain.balance(token, each) for each in HOLDERS[:2]] == [10, 20]
    asked = [(holder, TOKEN_ID) for holder in HOLDERS] + [(HOLDERS[0], 99), (STRANGER, TOKEN_ID)]
    assert await chain.balances(contract.address, asked) == [
        *(10, 20, 30, 40, 50, 60, 70, 80),
        *(0, 0),
    ]
    assert await chain.balances(contract.address, asked * 21) == [*range(10, 90, 10), 0, 0] * 21
    assert await chain.balances(contract.address, []) == []


@in_reactor
async def test_each_balance_by_itself(chain: Chain, contract: Contract) -> None:
    nobody = "0x" + "00" * 20
    asked = [(HOLDERS[0], TOKEN_ID), (nobody, TOKEN_ID), (HOLDERS[1], TOKEN_ID)]
    first, none, second = await chain.each_balance(contract.address, asked)
    assert (first, second) == (10, 20)
    assert none == 0 or isinstance(none, RevertedError)
    (stranger,) = await chain.each_balance(STRANGER, asked[:1])
    assert isinstance(stranger, StrangeContractError)


@in_reactor
async def test_the_chain_itself(chain: Chain, node: Anvil) -> None:
    assert await chain.chain_id() == node.chain_id
    head = await chain.head()
    node.mine(3)
    assert await chain.head() == head + 3
    assert await chain.funds(BURNER) > 10**18
    assert (await chain.gas_prices()).base_fee > 0


@in_reactor
async def test_what_is_no_such_contract(chain: Chain) -> None:
    with pytest.raises(StrangeContractError, match="no such contract at this address"):
        await chain.balance(Token(STRANGER, TOKEN_ID), HOLDERS[0])
    with pytest.raises(StrangeContractError, match="no such contract at this address"):
        await chain.balances(STRANGER, [(HOLDERS[0], TOKEN_ID)])


@in_reactor
async def test_a_refusal_of_the_contract(chain: Chain, contract: Contract) -> None:
    too_much = abi.burn(HOLDERS[0], TOKEN_ID, 11)
    enough = abi.burn(HOLDERS[0], TOKEN_ID, 10)
    for ask in (chain.dry_run, chain.estimate_gas):
        with pytest.raises(RevertedError) as caught:
            await ask(BURNER, contract.address, too_much)
        assert caught.value.text == "ERC1155: burn amount exceeds balance"
        with pytest.raises(RevertedError) as caught:
            await ask(STRANGER, contract.address, enough)
        assert caught.value.text == "ERC1155: caller is not owner nor approved"
        await ask(BURNER, contract.address, enough)


# --- burning ------------------------------------------------------------------------------


@in_reactor
async def test_a_burn(chain: Chain, contract: Contract, signer: Signer) -> None:
    token = Token(contract.address, TOKEN_ID)
    transaction = await signed(chain, signer, contract, abi.burn(HOLDERS[2], TOKEN_ID, 7))
    before = await chain.look(BURNER, [transaction.hash], 2)
    assert before.receipts == {}
    assert await chain.send(transaction.raw, transaction.hash) is Sending.TAKEN
    contract.node.receipt(transaction.hash)
    contract.node.mine(2)
    after = await chain.look(BURNER, [transaction.hash], 2)
    receipt = after.receipts[transaction.hash]
    assert receipt.succeeded
    assert receipt.block + 2 == after.head == before.head + 3
    assert receipt.gas_used > 0 < receipt.gas_price
    assert (before.spent, after.spent, after.settled) == (
        before.spent,
        before.spent + 1,
        after.spent,
    )
    assert await chain.balance(token, HOLDERS[2]) == 23
    assert await chain.send(transaction.raw, transaction.hash) is Sending.SPENT  # the same again
    assert await chain.balance(token, HOLDERS[2]) == 23


@in_reactor
async def test_a_batch_is_burned_as_a_whole_or_not_at_all(
    chain: Chain, contract: Contract, signer: Signer
) -> None:
    """One who is short stops all; who it is has to be found; then each burns what there is."""
    entries = [Entry(holder, TOKEN_ID, 25, 25) for holder in HOLDERS]  # two of them have less
    with pytest.raises(RevertedError, match="exceeds balance"):
        await chain.dry_run(BURNER, contract.address, abi.burn_batch(burnable(entries)))

    async def works(some: Sequence[Entry]) -> bool:
        try:
            await chain.dry_run(BURNER, contract.address, abi.burn_batch(burnable(some)))
        except RevertedError:
            return False
        return True

    good, bad = await separate(entries, works)
    assert [each.holder for each in bad] == HOLDERS[:2]
    assert [each.holder for each in good] == HOLDERS[2:]
    asked = [(holder, TOKEN_ID) for holder in HOLDERS]
    fitted = fit(entries, await chain.balances(contract.address, asked))
    assert [each.short for each in fitted] == [15, 5, 0, 0, 0, 0, 0, 0]
    transaction = await signed(chain, signer, contract, abi.burn_batch(burnable(fitted)))
    await chain.send(transaction.raw, transaction.hash)
    contract.node.receipt(transaction.hash)
    assert (await chain.look(BURNER, [transaction.hash], 0)).receipts[transaction.hash].succeeded
    balances = await chain.balances(contract.address, asked)
    assert balances == [0, 0, 5, 15, 25, 35, 45, 55]
    assert sum(each.burn for each in fitted) == sum(range(10, 90, 10)) - sum(balances)


@in_reactor
async def test_to_burn_nothing_succeeds_and_costs(chain: Chain, upgradeable: Contract) -> None:
    """Which is why our encoder refuses to."""
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 10, 0)
    something = abi.burn(HOLDERS[0], TOKEN_ID, 1)
    nothing = something[:-32] + bytes(32)
    before = await chain.estimate_gas(BURNER, upgradeable.address, something)
    upgradeable.node.transact(BURNER, upgradeable.address, "0x" + nothing.hex())
    after = await chain.estimate_gas(BURNER, upgradeable.address, something)
    assert after - before == pytest.approx(9_932, rel=0.05)


@in_reactor
async def test_every_burn_makes_the_next_one_dearer(upgradeable: Contract) -> None:
    """So a payer is burned once for each settlement, and not once for each request."""
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 1000, 0)
    data = "0x" + abi.burn(HOLDERS[0], TOKEN_ID, 5).hex()
    used = [
        int(upgradeable.node.transact(BURNER, upgradeable.address, data)["gasUsed"], 16)
        for _ in range(5)
    ]
    assert {later - earlier for earlier, later in pairwise(used)} == {9_932}
    assert used[0] - 9_932 == pytest.approx(89_901, rel=0.01)
    much = "0x" + abi.burn(HOLDERS[0], TOKEN_ID, 500).hex()
    sixth = int(upgradeable.node.transact(BURNER, upgradeable.address, much)["gasUsed"], 16)
    assert sixth - used[-1] == pytest.approx(9_932, abs=50)  # whatever the amount


@in_reactor
async def test_without_blocks_a_burn_costs_the_same_each_time(node: Anvil) -> None:
    contract = deploy(node, WITHOUT_BLOCKS)
    contract.prepare(TOKEN_ID)
    contract.mint(HOLDERS[0], TOKEN_ID, 1000)
    data = "0x" + abi.burn(HOLDERS[0], TOKEN_ID, 5).hex()
    used = {node.transact(BURNER, contract.address, data)["gasUsed"] for _ in range(5)}
    assert len(used) == 1


@in_reactor
async def test_a_balance_can_rise_when_a_mint_expires(chain: Chain, upgradeable: Contract) -> None:
    node, token = upgradeable.node, Token(upgradeable.address, TOKEN_ID)
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 5, await chain.head() + 20)
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 10, 0)
    data = "0x" + abi.burn(HOLDERS[0], TOKEN_ID, 5).hex()
    node.transact(BURNER, upgradeable.address, data)
    node.transact(BURNER, upgradeable.address, data)  # of the first mint again
    assert await chain.balance(token, HOLDERS[0]) == 5
    node.mine(30)
    assert await chain.balance(token, HOLDERS[0]) == 10


# --- sending ------------------------------------------------------------------------------


@in_reactor
async def test_what_a_node_says_to_what_is_sent(
    chain: Chain, upgradeable: Contract, signer: Signer
) -> None:
    node = upgradeable.node
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 10, 0)
    node.call("anvil_setAutomine", False)
    first = await signed(chain, signer, upgradeable, abi.burn(HOLDERS[0], TOKEN_ID, 1))
    assert await chain.send(first.raw, first.hash) is Sending.TAKEN
    assert await chain.send(first.raw, first.hash) is Sending.TAKEN  # it is known already
    nonce = await chain.nonce_at(BURNER, "latest")
    assert await chain.nonce_at(BURNER, "pending") == nonce + 1

    def sibling(fees: Fees, nonce: int = nonce) -> Signed:
        data = abi.burn(HOLDERS[0], TOKEN_ID, 1)
        return signer.sign(
            Transaction(node.chain_id, nonce, upgradeable.address, data, 200_000, fees)
        )

    cheap = sibling(Fees(10**9 // 2, 1))
    assert await chain.send(cheap.raw, cheap.hash) is Sending.UNDERPRICED
    dear = sibling(Fees(50 * 10**9, 5 * 10**9))
    assert await chain.send(dear.raw, dear.hash) is Sending.TAKEN
    node.mine()
    sight = await chain.look(BURNER, [first.hash, dear.hash], 0)
    assert list(sight.receipts) == [dear.hash]
    assert sight.spent == sight.settled == nonce + 1
    assert await chain.send(first.raw, first.hash) is Sending.SPENT
    node.call("anvil_setBalance", BURNER, "0x1")
    poor = sibling(Fees(50 * 10**9, 5 * 10**9), nonce + 1)
    assert await chain.send(poor.raw, poor.hash) is Sending.NO_FUNDS


@in_reactor
async def test_what_a_node_refuses_for_another_reason(
    chain: Chain, upgradeable: Contract, signer: Signer
) -> None:
    data = abi.burn(HOLDERS[0], TOKEN_ID, 1)
    nonce = await chain.nonce_at(BURNER, "latest")
    other_chain = signer.sign(
        Transaction(1, nonce, upgradeable.address, data, 200_000, Fees(50 * 10**9, 10**9))
    )
    with pytest.raises(RefusedError):
        await chain.send(other_chain.raw, other_chain.hash)


@in_reactor
async def test_who_used_a_nonce(chain: Chain, upgradeable: Contract, signer: Signer) -> None:
    node = upgradeable.node
    nonce = await chain.nonce_at(BURNER, "latest")
    node.mine(3)
    stranger = node.call("eth_sendTransaction", {"from": BURNER, "to": OWNER, "value": "0x1"})
    node.receipt(stranger)
    node.mine(4)
    head = await chain.head()
    assert await chain.find_spender(BURNER, nonce, head) == stranger
    assert await chain.find_spender(BURNER, nonce + 1, head) is None


@in_reactor
async def test_a_block_that_is_reorganized(
    chain: Chain, upgradeable: Contract, signer: Signer
) -> None:
    upgradeable.mint(HOLDERS[0], TOKEN_ID, 10, 0)
    token = Token(upgradeable.address, TOKEN_ID)
    burn = await signed(chain, signer, upgradeable, abi.burn(HOLDERS[0], TOKEN_ID, 4))
    await chain.send(burn.raw, burn.hash)
    upgradeable.node.receipt(burn.hash)
    assert await chain.balance(token, HOLDERS[0]) == 6
    upgradeable.node.call("anvil_reorg", 1, [])
    sight = await chain.look(BURNER, [burn.hash], 0)
    assert sight.receipts == {}
    assert await chain.balance(token, HOLDERS[0]) == 10
    assert await chain.send(burn.raw, burn.hash) is Sending.TAKEN  # the same bytes
    upgradeable.node.mine()
    assert (await chain.look(BURNER, [burn.hash], 0)).receipts[burn.hash].succeeded
    assert await chain.balance(token, HOLDERS[0]) == 6


def test_a_node_that_is_restarted_keeps_its_chain() -> None:
    node = Anvil()
    try:
        node.start()
        contract = deploy(node, WITHOUT_BLOCKS)
        contract.prepare(TOKEN_ID)
        contract.mint(HOLDERS[0], TOKEN_ID, 10)
        node.stop()
        node.start()
        data = "0x" + abi.balance_of(HOLDERS[0], TOKEN_ID).hex()
        balance = node.call("eth_call", {"to": contract.address, "data": data}, "latest")
        assert int(balance, 16) == 10
    finally:
        node.destroy()
