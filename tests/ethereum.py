"""Ethereum's Python libraries, imported so that they leave the process as it was.

One of them allows 100 000 nested calls when it is imported, for which there is no stack: a test
of deeply nested JSON, anywhere, would then end the whole run.
"""

from __future__ import annotations

import sys

_limit = sys.getrecursionlimit()
from eth_account import Account  # noqa: E402
from eth_account.typed_transactions.typed_transaction import TypedTransaction  # noqa: E402
from eth_keyfile.keyfile import create_keyfile_json  # noqa: E402
from eth_utils.crypto import keccak  # noqa: E402
from hexbytes import HexBytes  # noqa: E402

sys.setrecursionlimit(_limit)

__all__ = ["Account", "HexBytes", "TypedTransaction", "create_keyfile_json", "keccak"]
