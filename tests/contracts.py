"""The real contracts that credits are kept in, compiled in the test run and put on a chain."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatekeeper.credits.abi import Type, encode
from tests.anvil import BURNER, OWNER, Anvil
from tests.ethereum import keccak
from tests.npm import installed, run_node

SOURCES: Final = "@nevermined-io/contracts@3.5.9"
LIBRARY: Final = "@openzeppelin/contracts-upgradeable@4.9.6"
COMPILER: Final = "solc@0.8.17"

UPGRADEABLE: Final = "NFT1155SubscriptionUpgradeable"
WITHOUT_BLOCKS: Final = "NFT1155SubscriptionWithoutBlocks"

#: The registry that the contracts tell of what they do: it must be a contract with such functions.
REGISTRY: Final = """
pragma solidity ^0.8.0;
contract Registry {
    function used(bytes32, bytes32, address, bytes32, bytes memory, string memory)
        external returns (bool) { return true; }
    function isDIDProvider(bytes32, address) external pure returns (bool) { return false; }
    function isDIDProviderOrOwner(bytes32, address) external pure returns (bool) { return false; }
    function getDIDOwner(bytes32) external pure returns (address) { return address(0); }
}
"""

_COMPILE: Final = """
    const fs = require('fs'), path = require('path'), solc = require('solc');
    const find = name => {
        if (name === 'hardhat/console.sol') return { contents: 'library console {}' };
        const base = name.startsWith('@nevermined-io/') ? given.sources : 'node_modules';
        const rest = name.startsWith('@nevermined-io/')
            ? name.split('/').slice(2).join('/') : name;
        return { contents: fs.readFileSync(path.join(base, rest), 'utf8') };
    };
    const input = {
        language: 'Solidity',
        sources: given.input,
        settings: {
            optimizer: { enabled: true, runs: 10 },
            outputSelection: { '*': { '*': ['evm.bytecode.object'] } },
        },
    };
    const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
    const errors = (output.errors || []).filter(each => each.severity === 'error');
    if (errors.length) throw new Error(errors.map(each => each.formattedMessage).join());
    const found = {};
    for (const name of given.wanted)
        for (const file of Object.values(output.contracts))
            if (file[name]) found[name] = '0x' + file[name].evm.bytecode.object;
    answer(found);
"""


def compiled() -> dict[str, str]:
    """The contracts' creation code by name. It is kept beside the compiler for the next run."""
    directory = installed(COMPILER, LIBRARY)
    kept = directory / "compiled-contracts.json"
    if not kept.exists():
        wanted = [UPGRADEABLE, WITHOUT_BLOCKS]
        imports = "".join(
            f"import '@nevermined-io/contracts/lib/token/erc1155/{name}.sol';" for name in wanted
        )
        given = {
            "sources": str(_sources(directory)),
            "input": {
                "all.sol": {"content": "pragma solidity ^0.8.0;" + imports},
                "registry.sol": {"content": REGISTRY},
            },
            "wanted": [*wanted, "Registry"],
        }
        codes = run_node(directory, _COMPILE, given)
        assert set(codes) == {*wanted, "Registry"}
        _keep(kept, json.dumps(codes))
    found: dict[str, str] = json.loads(kept.read_text())
    return found


def call_data(signature: str, types: tuple[Type, ...], *values: Any) -> str:
    """A call's data: the selector of ``signature``, and the encoded values."""
    return "0x" + (keccak(signature.encode())[:4] + encode(types, values)).hex()


class Contract(NamedTuple):
    """One of the contracts, on a chain, with a burner that may burn."""

    node: Anvil
    address: str

    def prepare(self, token_id: int) -> None:
        """Make a token id usable."""
        self._own(
            "setNFTAttributes(uint256,uint256,uint256,string)",
            ("uint256", "uint256", "uint256", "string"),
            token_id, 0, 0, "",
        )  # fmt: skip

    def mint(self, holder: str, token_id: int, amount: int, expires: int | None = None) -> None:
        """Give credits to a holder; ``expires`` is a block, only known to the Upgradeable one."""
        if expires is None:
            self._own(
                "mint(address,uint256,uint256,bytes)",
                ("address", "uint256", "uint256", "bytes"),
                holder, token_id, amount, b"",
            )  # fmt: skip
        else:
            self._own(
                "mint(address,uint256,uint256,uint256,bytes)",
                ("address", "uint256", "uint256", "uint256", "bytes"),
                holder, token_id, amount, expires, b"",
            )  # fmt: skip

    def _own(self, signature: str, types: tuple[Type, ...], *values: Any) -> None:
        self.node.transact(OWNER, self.address, call_data(signature, types, *values))


def deploy(node: Anvil, name: str) -> Contract:
    """Put one of the contracts on the chain; :data:`BURNER` gets the operator's role."""
    codes = compiled()
    registry = node.transact(OWNER, None, codes["Registry"])["contractAddress"]
    address = node.transact(OWNER, None, codes[name])["contractAddress"]
    contract = Contract(node, address)
    contract._own(
        "initialize(address,address,string,string,string,address)",
        ("address", "address", "string", "string", "string", "address"),
        OWNER, registry, "Credits", "CRED", "", "0x" + "00" * 20,
    )  # fmt: skip
    contract._own("grantOperatorRole(address)", ("address",), BURNER)
    return contract


def _sources(directory: Path) -> Path:
    """The contracts' sources, without the 350 MB of what their package depends on."""
    sources = directory / "nevermined"
    if not sources.exists():
        with tempfile.TemporaryDirectory(dir=directory) as made:
            subprocess.run(
                ["npm", "pack", "--silent", "--pack-destination", made, SOURCES],
                check=True,
                timeout=300,
                stdout=subprocess.DEVNULL,
            )
            (archive,) = Path(made).glob("*.tgz")
            with tarfile.open(archive) as packed:
                packed.extractall(made, filter="data")
            (Path(made) / "package").rename(sources)
    return sources


def _keep(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).rename(path)
