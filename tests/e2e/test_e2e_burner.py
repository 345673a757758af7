"""``twistd gatekeeper-burner`` as a process, and the daemon that burns: to the end on a chain."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper.config.model import Store
from gatekeeper.store.interface import IStore
from gatekeeper.store.opening import make_store
from gatekeeper.usage.records import Account, Batch
from tests.anvil import BURNER_PATH, MNEMONIC, Anvil, running_anvil
from tests.auth.http_peers import fixture_in_reactor, in_reactor
from tests.contracts import UPGRADEABLE, Contract, call_data, deploy
from tests.credits.burning_on_chain import HOLDERS, TOKEN_ID
from tests.daemon import Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.ethereum import Account as Wallet
from tests.ethereum import create_keyfile_json
from tests.origin import Origin
from tests.servers import PostgresServer

ALICE, BOB = HOLDERS[:2]
PASSWORD: Final = "s3cret/pass"

BURNING: Final = f"""
[burner]
interval = 0.1
poll = 0.1
confirmations = 1
mnemonic = {{ file = "words" }}
derivation_path = "{BURNER_PATH}"
"""


class Burner(Daemon):
    service = "gatekeeper-burner"

    def ask(self, path: str) -> str:
        """What it answers."""
        with urllib.request.urlopen(self.url("metrics", path), timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def metrics(self) -> dict[str, float]:
        """What it tells, by name and labels as they stand there."""
        lines = self.ask("/metrics").splitlines()
        return {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    yield from running_anvil("--block-time", "1")


@pytest.fixture(scope="module")
def contract(chain: Anvil) -> Contract:
    contract = deploy(chain, UPGRADEABLE)
    contract.prepare(TOKEN_ID)
    return contract


@fixture_in_reactor
async def store(tmp_path: Path) -> AsyncIterator[IStore]:
    """The store that the process under test has, too."""
    (tmp_path / "words").write_text(MNEMONIC)
    (tmp_path / "state").mkdir()
    store = make_store(Store(url=f"sqlite:///{tmp_path / 'state' / 'gatekeeper.sqlite'}"))
    await store.open()
    yield store
    await store.close()


def chained(chain: Anvil, chain_id: int | None = None) -> str:
    number = chain_id or chain.chain_id
    return f"\n[credits]\nrpc_url = '{chain.url}'\nchain_id = {number}\n"


async def owe(store: IStore, contract: Contract, **credits: int) -> None:
    """Mint ten for each credit that is owed, and owe them."""
    spent = {}
    for name, amount in credits.items():
        holder = {"alice": ALICE, "bob": BOB}[name]
        contract.mint(holder, TOKEN_ID, 10 * amount)
        spent[Account(contract.address, str(TOKEN_ID), holder)] = amount
    await store.write_batch(Batch("test", 0, 1, {}, (), spent))


def balance(contract: Contract, holder: str) -> int:
    data = call_data("balanceOf(address,uint256)", ("address", "uint256"), holder, TOKEN_ID)
    return int(contract.node.call("eth_call", {"to": contract.address, "data": data}, "latest"), 16)


@in_reactor
async def test_a_burner_of_its_own(
    tmp_path: Path, chain: Anvil, contract: Contract, store: IStore
) -> None:
    before = [balance(contract, each) for each in (ALICE, BOB)]
    await owe(store, contract, alice=7, bob=3)
    text = 'state_dir = "state"\n' + chained(chain) + BURNING + 'metrics = "@metrics@"\n'
    with Burner(tmp_path, text) as burner:
        wait_until(
            lambda: "10 credits are burned, 0 cannot be collected now" in burner.log, "the burn"
        )
        metrics = burner.metrics()
        assert json.loads(burner.ask("/readyz"))["status"] == "ready"
        assert MNEMONIC not in burner.log
    assert [balance(contract, each) for each in (ALICE, BOB)] == [before[0] + 63, before[1] + 27]
    assert await store.owed() == []
    assert metrics["gatekeeper_burner_owner"] == 1
    assert metrics["gatekeeper_burner_burned_credits_total"] == 10
    assert metrics['gatekeeper_burner_settlements_total{outcome="confirmed"}'] == 1
    assert metrics["gatekeeper_burner_gas_spent_wei_total"] > 0
    assert metrics["gatekeeper_burner_account_balance_wei"] > 0


@in_reactor
async def test_the_originals_environment(
    tmp_path: Path, chain: Anvil, contract: Contract, postgres: PostgresServer
) -> None:
    """The file says only what the original could not: it is a burner's that runs in its place."""
    before = balance(contract, ALICE)
    url = postgres.create_database()
    store = make_store(Store(url=url))
    await store.open()
    await owe(store, contract, alice=5)
    Wallet.enable_unaudited_hdwallet_features()
    wallet = Wallet.from_mnemonic(MNEMONIC, account_path=BURNER_PATH)
    document: dict[str, Any] = create_keyfile_json(
        bytes(wallet.key), PASSWORD.encode(), kdf="scrypt", iterations=2
    )
    (tmp_path / "key.json").write_text(json.dumps(document))
    environment = {
        "PG_HOST": "127.0.0.1",
        "PG_PORT": str(postgres.port),
        "PG_USER": postgres.user,
        "PG_PASSWORD": postgres.password,
        "PG_DB": url.rsplit("/", 1)[1],
        "WEB3_PROVIDER_URL": chain.url,
        "NETWORK_ID": str(chain.chain_id),
        "KEYFILE_PATH": str(tmp_path / "key.json"),
        "KEYFILE_PASSWORD": PASSWORD,
        "SLEEP_DURATION": "100",
    }
    text = 'state_dir = "state"\n[burner]\ninterval = 0.1\nconfirmations = 1\n'
    burner = Burner(tmp_path, text, environment=environment)
    with burner:
        wait_until(lambda: "5 credits are burned" in burner.log, "the burn")
        (said,) = (line for line in burner.log.splitlines() if "From the environment" in line)
        assert sorted(said.split("environment: ")[1].split(", ")) == sorted(environment)
        for secret in (PASSWORD, postgres.password):
            assert secret not in burner.log
    assert balance(contract, ALICE) == before + 45
    assert await store.owed() == []
    await store.close()


@in_reactor
async def test_the_daemon_burns(
    tmp_path: Path, chain: Anvil, contract: Contract, store: IStore, origin: Origin
) -> None:
    before = balance(contract, BOB)
    await owe(store, contract, bob=4)
    text = PLAIN + chained(chain) + BURNING + "enabled = true\n"
    with Daemon(tmp_path, text, ports={"origin": origin.port}) as daemon:
        wait_until(lambda: "4 credits are burned" in daemon.log, "the burn")
    assert balance(contract, BOB) == before + 36
    assert await store.owed() == []


@in_reactor
async def test_another_chain(
    tmp_path: Path, chain: Anvil, contract: Contract, store: IStore
) -> None:
    before = balance(contract, ALICE)
    await owe(store, contract, alice=1)
    text = 'state_dir = "state"\n' + chained(chain, 1) + BURNING
    with Burner(tmp_path, text) as burner:
        said = "credits.chain_id is 1, and the node at credits.rpc_url is one of chain 31337"
        wait_until(lambda: said in burner.log, "what is wrong")
    assert balance(contract, ALICE) == before + 10
    (owed,) = await store.owed()
    assert owed.credits == 1


def test_a_key_that_cannot_be_opened(tmp_path: Path, chain: Anvil) -> None:
    document = create_keyfile_json(bytes(range(1, 33)), b"another", kdf="scrypt", iterations=2)
    (tmp_path / "key.json").write_text(json.dumps(document))
    text = 'state_dir = "state"\n' + chained(chain)
    text += f'[burner]\nkeyfile = "key.json"\nkeyfile_password = "{PASSWORD}"\n'
    burner = Burner(tmp_path, text)
    status, _ = burner.refuse_to_start()
    assert status == 1
    assert "Cannot start: burner: the password does not open the key's file" in burner.log
    assert PASSWORD not in burner.log


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    burner = Burner(tmp_path, 'state_dir = "state"\n')
    status, errors = burner.refuse_to_start()
    assert status == 1
    assert "burner: needs a key to burn with: `keyfile` or `mnemonic`" in errors
    assert "credits.rpc_url: is required to burn credits" in errors
    assert "credits.chain_id: is required to burn credits" in errors
