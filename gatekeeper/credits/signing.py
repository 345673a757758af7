"""The burner's key, and transactions signed with it (EIP-1559, EIP-2718).

Needs the extra ``credits``. Its libraries take most of a second to import and 30 MB: nothing is
imported before a key is opened, which only the process does that burns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

from twisted.internet.defer import Deferred

from gatekeeper.auth.hashing import Threads
from gatekeeper.credits.fees import Fees
from gatekeeper.errors import GatekeeperError

#: Where wallets keep their first account (BIP-44).
FIRST_ACCOUNT: Final = "m/44'/60'/0'/0/0"

#: scrypt takes 128 bytes times both of these; wallets take 2**18 and 8, which are 256 MiB.
_MOST_MEMORY: Final = 1 << 29
_NO_WALLET: Final = "the key's file is none of a wallet (Web3 Secret Storage)"


class KeyUnusableError(GatekeeperError):
    """There is no key to sign with; the message says why, and nothing secret."""


@dataclass(frozen=True, slots=True)
class Keyfile:
    """A wallet's file (Web3 Secret Storage), as text, and its password."""

    content: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mnemonic:
    """Twelve or more words (BIP-39), and which of their accounts is meant (BIP-44)."""

    words: str = field(repr=False)
    passphrase: str = field(default="", repr=False)
    path: str = FIRST_ACCOUNT


class Transaction(NamedTuple):
    """A call of a contract that pays nothing but its gas; ``to`` is an address."""

    chain_id: int
    nonce: int
    to: str
    data: bytes
    gas: int
    fees: Fees


class Signed(NamedTuple):
    """A transaction as it is sent, and its hash: ``0x`` and 64 hex digits in lower case."""

    raw: bytes
    hash: str


class Signer:
    """Signs for one account: ``address``, in lower case. It cannot be copied or written down."""

    __slots__ = ("_sign", "address")

    def __init__(self, address: str, sign: Callable[[dict[str, Any]], Any]) -> None:
        self.address = address.lower()
        self._sign = sign

    def __repr__(self) -> str:
        return f"<Signer for {self.address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be copied")

    def sign(self, transaction: Transaction) -> Signed:
        """Sign it. The same transaction gives the same bytes (RFC 6979)."""
        signed = self._sign(
            {
                "type": 2,
                "chainId": transaction.chain_id,
                "nonce": transaction.nonce,
                "to": bytes.fromhex(transaction.to.removeprefix("0x")),
                "value": 0,
                "data": transaction.data,
                "gas": transaction.gas,
                "maxFeePerGas": transaction.fees.max_fee,
                "maxPriorityFeePerGas": transaction.fees.priority,
                "accessList": [],
            }
        )
        return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def unlock(key: Keyfile | Mnemonic, threads: Threads) -> Deferred[Signer]:
    """The signer for a key; opening it takes a second, which is spent in one of ``threads``.

    The Deferred fails with :class:`KeyUnusableError`.
    """
    return threads.run(lambda: open_key(key))


def open_key(key: Keyfile | Mnemonic) -> Signer:
    """The signer for a key; this takes a second.

    :raises KeyUnusableError: the key cannot be opened.
    """
    library = _library()
    if isinstance(key, Keyfile):
        account = library.from_key(_decrypt(key))
    else:
        library.enable_unaudited_hdwallet_features()
        try:
            account = library.from_mnemonic(" ".join(key.words.split()), key.passphrase, key.path)
        except Exception:  # of many kinds, and some of them quote the words
            raise KeyUnusableError("the words of the key, or its path, are not valid") from None
    return Signer(account.address, account.sign_transaction)


def _library() -> Any:
    """What opens keys, and signs.

    One of the packages that come with it allows the whole process 100 000 nested calls when it is
    imported. There is no stack for so many: a deeply nested JSON text would end the process.
    """
    limit = sys.getrecursionlimit()
    try:
        import py_ecc  # noqa: F401 - first of all, so that this is over at once

        sys.setrecursionlimit(limit)
        from eth_account import Account
    except ImportError:
        raise KeyUnusableError("signing needs `pip install gatekeeper[credits]`") from None
    finally:
        sys.setrecursionlimit(limit)
    return Account


def _decrypt(key: Keyfile) -> bytes:
    from eth_keyfile.keyfile import decode_keyfile_json

    try:
        document = json.loads(key.content)
        crypto = {name.lower(): value for name, value in document.items()}["crypto"]
        parameters = crypto["kdfparams"]
        if 128 * parameters.get("n", 0) * parameters.get("r", 0) > _MOST_MEMORY:
            raise KeyUnusableError("the key's file asks for too much memory to be opened")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyUnusableError(_NO_WALLET) from None
    try:
        return bytes(decode_keyfile_json(document, key.password.encode()))
    except Exception as error:  # of many kinds, where a field is missing or is something else
        if "MAC" in str(error):
            raise KeyUnusableError("the password does not open the key's file") from None
        raise KeyUnusableError(_NO_WALLET) from None
