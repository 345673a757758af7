"""A private chain for one test run: anvil, from npm, on a free port of 127.0.0.1."""

from __future__ import annotations

import itertools
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.npm import installed

VERSION: Final = "1.7.1"

#: What every development chain's accounts come from; the first three have 10 000 ether each.
MNEMONIC: Final = "test test test test test test test test test test test junk"
OWNER: Final = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
BURNER: Final = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
STRANGER: Final = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
#: Where the burner's key is on the mnemonic's tree.
BURNER_PATH: Final = "m/44'/60'/0'/0/1"


class RpcFailure(AssertionError):
    """The node answered with an error."""


class Anvil:
    """A node that mines a block for each transaction, unless it is told otherwise.

    :param options: more of anvil's options, such as ``--no-mining``.
    """

    def __init__(self, chain_id: int = 31337, options: tuple[str, ...] = ()) -> None:
        self._program = _program()
        self._process: subprocess.Popen[bytes] | None = None
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="gatekeeper-anvil-")
        self._ids = itertools.count(1)
        self.chain_id = chain_id
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers. What it knew before :meth:`stop` is still there."""
        assert self._process is None
        directory = Path(self._directory.name)
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._program), "--host", "127.0.0.1", "--port", str(self.port),
                    "--chain-id", str(self.chain_id), "--mnemonic", MNEMONIC, "--accounts", "3",
                    "--state", str(directory / "state.json"), "--quiet", *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": self._directory.name},  # it leaves files there
            )  # fmt: skip
        self._wait_until_it_answers(directory / "log")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: with SIGINT it keeps its chain for the next start, with SIGKILL it does not."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def destroy(self) -> None:
        """Stop it and remove its files."""
        self.stop(signal.SIGKILL)
        self._directory.cleanup()

    def call(self, method: str, *parameters: Any) -> Any:
        """Ask the node, and give its ``result``."""
        request = urllib.request.Request(
            self.url,
            json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": next(self._ids),
                    "method": method,
                    "params": parameters,
                }
            ).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            document = json.load(answer)
        if "error" in document:
            raise RpcFailure(f"{method}: {document['error']}")
        return document["result"]

    def transact(self, sender: str, to: str | None, data: str) -> dict[str, Any]:
        """Have an account of the node send a transaction; its receipt, status 1."""
        transaction = {"from": sender, "data": data, "gas": hex(25_000_000)}
        if to is not None:
            transaction["to"] = to
        receipt = self.receipt(self.call("eth_sendTransaction", transaction))
        assert receipt["status"] == "0x1", receipt
        return receipt

    def receipt(self, transaction: str) -> dict[str, Any]:
        """The receipt of a transaction, once it is in a block."""
        give_up_at = time.monotonic() + 30
        while True:
            receipt: dict[str, Any] | None = self.call("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                return receipt
            assert time.monotonic() < give_up_at, "the transaction is in no block"
            time.sleep(0.005)

    def mine(self, blocks: int = 1) -> None:
        """Add so many blocks."""
        self.call("anvil_mine", hex(blocks))

    def _wait_until_it_answers(self, log: Path) -> None:
        give_up_at = time.monotonic() + 60
        while True:
            try:
                self.call("eth_chainId")
            except OSError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    said = log.read_text(errors="replace")
                    raise AssertionError(f"anvil does not start:\n{said}") from None
                time.sleep(0.02)
            else:
                return


def running_anvil(*options: str) -> Iterator[Anvil]:
    """For fixtures: a node that runs, and is gone in the end."""
    node = Anvil(options=options)
    try:
        node.start()
        yield node
    finally:
        node.destroy()


def _program() -> Path:
    """The program, in the package for this machine; skips where there is none, but not in CI."""
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if sys.platform not in ("linux", "darwin") or machine is None:
        if os.environ.get("CI"):
            raise AssertionError("there is no anvil for this machine")
        pytest.skip("there is no anvil for this machine")
    package = f"@foundry-rs/anvil-{sys.platform}-{machine}"
    return installed(f"{package}@{VERSION}") / "node_modules" / package / "bin" / "anvil"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
