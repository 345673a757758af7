from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from gatekeeper.credits.fees import Fees
from gatekeeper.credits.signing import (
    Keyfile,
    KeyUnusableError,
    Mnemonic,
    Signer,
    Transaction,
    open_key,
    unlock,
)
from tests.anvil import BURNER, BURNER_PATH, MNEMONIC, OWNER
from tests.auth.support import ManualThreads, outcome
from tests.ethereum import Account, HexBytes, TypedTransaction, create_keyfile_json, keccak

PRIVATE = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ADDRESS = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"
PASSWORD = "correct horse"
TRANSACTION = Transaction(31337, 7, "0x" + "c0" * 20, b"\xf5\x29", 90_000, Fees(2000, 10))


def keyfile(kdf: Any = "pbkdf2", **changes: Any) -> str:
    iterations = 2 if kdf == "pbkdf2" else 4
    document = create_keyfile_json(PRIVATE, PASSWORD.encode(), kdf=kdf, iterations=iterations)
    return json.dumps({**document, **changes})


@pytest.fixture(scope="module")
def signer() -> Signer:
    return open_key(Keyfile(keyfile(), PASSWORD))


@pytest.mark.parametrize("kdf", ["pbkdf2", "scrypt"])
def test_a_keyfile_is_opened_in_a_thread(kdf: str) -> None:
    threads = ManualThreads()
    opened = outcome(unlock(Keyfile(keyfile(kdf), PASSWORD), threads))
    assert opened == []
    threads.finish()
    assert opened[0].address == ADDRESS


def test_a_mnemonic_is_opened() -> None:
    assert open_key(Mnemonic(MNEMONIC)).address == OWNER
    assert open_key(Mnemonic(f"  {MNEMONIC}\n".replace(" ", "  "))).address == OWNER
    assert open_key(Mnemonic(MNEMONIC, path=BURNER_PATH)).address == BURNER
    assert open_key(Mnemonic(MNEMONIC, "more")).address not in (OWNER, BURNER)


def test_what_is_signed_is_what_was_asked_for(signer: Signer) -> None:
    signed = signer.sign(TRANSACTION)
    assert signed.hash == "0x" + keccak(signed.raw).hex()
    assert Account.recover_transaction(signed.raw).lower() == ADDRESS
    fields = TypedTransaction.from_bytes(HexBytes(signed.raw)).as_dict()
    wanted = {
        "type": 2, "chainId": 31337, "nonce": 7, "value": 0, "gas": 90_000,
        "maxFeePerGas": 2000, "maxPriorityFeePerGas": 10, "accessList": (),
    }  # fmt: skip
    assert {name: fields[name] for name in wanted} == wanted
    assert bytes(fields["to"]) == b"\xc0" * 20
    assert bytes(fields["data"]) == b"\xf5\x29"


def test_the_same_transaction_gives_the_same_bytes(signer: Signer) -> None:
    again = open_key(Keyfile(keyfile(), PASSWORD))
    assert signer.sign(TRANSACTION) == again.sign(TRANSACTION)
    assert signer.sign(TRANSACTION) != signer.sign(TRANSACTION._replace(nonce=8))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (Keyfile(keyfile(), "wrong horse"), "the password does not open"),
        (Keyfile("no JSON", PASSWORD), "none of a wallet"),
        (Keyfile("[]", PASSWORD), "none of a wallet"),
        (Keyfile("{}", PASSWORD), "none of a wallet"),
        (Keyfile("[" * 100_000, PASSWORD), "none of a wallet"),
        (Keyfile(keyfile(version=7), PASSWORD), "none of a wallet"),
        (Keyfile(keyfile(crypto={"kdfparams": {}}), PASSWORD), "none of a wallet"),
        (
            Keyfile(keyfile(crypto={"kdfparams": {"n": 2**30, "r": 8}}), PASSWORD),
            "asks for too much memory",
        ),
        (Mnemonic("alpha beta gamma"), "not valid"),
        (Mnemonic(MNEMONIC.replace("junk", "test")), "not valid"),
        (Mnemonic(MNEMONIC, path="m/x"), "not valid"),
    ],
)
def test_a_key_that_cannot_be_opened(key: Keyfile | Mnemonic, message: str) -> None:
    with pytest.raises(KeyUnusableError, match=message) as caught:
        open_key(key)
    told = str(caught.value) + repr(caught.value)
    for secret in ("horse", "gamma", "junk"):
        assert secret not in told
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_no_key_is_shown_or_copied(signer: Signer) -> None:
    assert repr(signer) == f"<Signer for {ADDRESS}>"
    assert repr(Keyfile("secret file", PASSWORD)) == "Keyfile()"
    shown = repr(Mnemonic("secret words", "secret too"))
    assert "secret" not in shown
    assert PRIVATE.hex() not in f"{signer!r}{signer}{signer.__slots__}{signer._sign!r}"
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be copied"):
            copying(signer)


def test_nothing_heavy_is_imported_before_a_key_is_opened() -> None:
    program = (
        "import sys, gatekeeper.credits.signing, gatekeeper.credits.chain\n"
        "heavy = {'eth_account', 'eth_keyfile', 'eth_abi', 'web3', 'twisted.internet.reactor'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_nested_calls_stay_bounded() -> None:
    """A package that comes with the library asks for 100 000, and the stack ends long before."""
    program = (
        "import sys\n"
        "from gatekeeper.credits.signing import Mnemonic, open_key\n"
        "before = sys.getrecursionlimit()\n"
        f"open_key(Mnemonic({MNEMONIC!r}))\n"
        "assert 'py_ecc' in sys.modules\n"
        "assert sys.getrecursionlimit() == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eth_account", None)
    with pytest.raises(KeyUnusableError, match=r"pip install gatekeeper\[credits\]"):
        open_key(Mnemonic(MNEMONIC))
