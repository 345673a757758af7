"""What it costs to burn the credits of 1 000 requests: once in a while, or request by request."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench import Bench
from benchmarks.burning import Order
from benchmarks.results import Figure, NotMeasuredError, Results
from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from tests.contracts import Contract

REQUESTS: Final = 1000
HOLDERS: Final = 20
SETTLEMENTS: Final = 24  #: of a day, an hour each

_UNIT: Final = "Mgas"
_TOKEN_ID: Final = 13
_LONGEST: Final = 300.0  # seconds


def gas(bench: Bench, results: Results) -> None:
    """Gas on Nevermined's contract: one burn a settlement, and one burn a request."""
    with _contract() as contract:
        _one_by_one(contract, bench.burns, results)
        _settled(contract, [_holder(1)], 1, results, "gatekeeper, 1 holder")
        many = [_holder(number) for number in range(2, 2 + HOLDERS)]
        _settled(contract, many, 1, results, f"gatekeeper, {HOLDERS} holders")
        again = [_holder(number) for number in range(2 + HOLDERS, 2 + 2 * HOLDERS)]
        name = f"gatekeeper, {HOLDERS} holders, {SETTLEMENTS} settlements"
        _settled(contract, again, SETTLEMENTS, results, name)


def _one_by_one(contract: Contract, burns: int, results: Results) -> None:
    """Burn after burn of one holder, each of one credit; what it comes to is computed."""
    from tests.anvil import BURNER
    from tests.contracts import call_data

    contract.mint(_holder(0), _TOKEN_ID, burns)
    data = call_data(
        "burn(address,uint256,uint256)", ("address", "uint256", "uint256"), _holder(0), _TOKEN_ID, 1
    )
    used = [
        int(contract.node.transact(BURNER, contract.address, data)["gasUsed"], 16)
        for _ in range(burns)
    ]
    results.add(Figure("gas", "a burn a request: the 1st", _UNIT, (used[0] / 1e6,)))
    results.add(Figure("gas", f"a burn a request: number {burns}", _UNIT, (used[-1] / 1e6,)))
    for holders in (1, HOLDERS):
        each = total(used, REQUESTS // holders)
        name = f"a burn a request, {_several(holders)}"
        results.add(Figure("gas", name, _UNIT, (holders * each / 1e6,)))
    results.miss(
        "gas",
        f"a burn a request, after a holder's first {burns}",
        f"computed: each is {growth(used):,.0f} gas dearer than the one before, as those were",
    )


def growth(used: Sequence[int]) -> float:
    """By how much each burn is dearer than the one before, from the second one on."""
    return (used[-1] - used[1]) / (len(used) - 2)


def total(used: Sequence[int], burns: int) -> float:
    """The gas of so many burns of a holder: those that were measured, and more like the last."""
    more = max(burns - len(used), 0)
    return sum(used[:burns]) + more * used[-1] + growth(used) * more * (more + 1) / 2


def _settled(
    contract: Contract, holders: list[str], settlements: int, results: Results, name: str
) -> None:
    """As many requests, with the burner's own code; all of it is measured."""
    from tests.anvil import BURNER_PATH, MNEMONIC

    credits = max(REQUESTS // len(holders) // settlements, 1)
    for holder in holders:
        contract.mint(holder, _TOKEN_ID, REQUESTS)
    order = Order(
        contract.node.url,
        contract.node.chain_id,
        MNEMONIC,
        BURNER_PATH,
        contract.address,
        _TOKEN_ID,
        holders,
        credits,
        settlements,
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.burning"],
        input=json.dumps(order._asdict()),
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise NotMeasuredError(f"burning fails: {lines[-1]}")
    used: list[int] = json.loads(done.stdout)
    assert len(used) == settlements, "one transaction for each"
    results.add(Figure("gas", name, _UNIT, (sum(used) / 1e6,)))


def _several(holders: int) -> str:
    return "1 holder" if holders == 1 else f"{holders} holders"


def _holder(number: int) -> str:
    return f"0x{0xA000 + number:040x}"


@contextmanager
def _contract() -> Iterator[Contract]:
    """The contract that Nevermined uses, on a private chain, with a token that can be minted."""
    try:
        import pytest

        from tests.anvil import Anvil
        from tests.contracts import UPGRADEABLE, deploy
    except ImportError as error:
        raise NotMeasuredError(f"the chain needs a package: pip install {error.name}") from error
    missing: Any = pytest.skip.Exception
    try:
        node = Anvil()
    except missing as error:
        raise NotMeasuredError(str(error)) from error
    try:
        node.start()
        contract = deploy(node, UPGRADEABLE)
        contract.prepare(_TOKEN_ID)
        yield contract
    except (AssertionError, subprocess.SubprocessError) as error:
        raise NotMeasuredError(str(error)) from error
    finally:
        node.destroy()
