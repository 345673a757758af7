"""Calls of contracts as bytes (the Ethereum ABI, "Contract ABI Specification"), by hand.

A library's contract objects cost some 9 ms for a call; this costs microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

#: The types that are needed here; addresses are ``0x`` and 40 hex digits, the rest as in Python.
Type = Literal["uint256", "address", "uint256[]", "address[]", "string", "bytes"]

BALANCE_OF: Final = bytes.fromhex("00fdd58e")
BALANCE_OF_BATCH: Final = bytes.fromhex("4e1273f4")
BURN: Final = bytes.fromhex("f5298aca")
BURN_BATCH_FROM_HOLDERS: Final = bytes.fromhex("cc3394e1")

_ERROR: Final = bytes.fromhex("08c379a0")  # Error(string)
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256)
_LONGEST_REASON: Final = 200

_WORD: Final = 32
_LIMIT: Final = 1 << 256


def encode(types: Sequence[Type], values: Sequence[Any]) -> bytes:
    """Arguments, without a selector.

    :raises ValueError: a value does not fit its type.
    """
    heads: list[bytes | None] = []
    tails: list[bytes] = []
    for kind, value in zip(types, values, strict=True):
        if kind in ("uint256", "address"):
            heads.append(_word(kind, value))
            tails.append(b"")
        else:
            heads.append(None)
            tails.append(_tail(kind, value))
    offset = _WORD * len(heads)
    done = []
    for head, tail in zip(heads, tails, strict=True):
        done.append(head if head is not None else offset.to_bytes(_WORD, "big"))
        offset += len(tail)
    return b"".join(done + tails)


def balance_of(holder: str, token_id: int) -> bytes:
    """``balanceOf(address,uint256)``."""
    return BALANCE_OF + encode(("address", "uint256"), (holder, token_id))


def balance_of_batch(holders: Sequence[str], token_ids: Sequence[int]) -> bytes:
    """``balanceOfBatch(address[],uint256[])``."""
    return BALANCE_OF_BATCH + encode(("address[]", "uint256[]"), (holders, token_ids))


def burn(holder: str, token_id: int, amount: int) -> bytes:
    """``burn(address,uint256,uint256)``. The amount is not 0, which would cost gas for nothing."""
    if amount <= 0:
        raise ValueError("only something can be burned")
    return BURN + encode(("address", "uint256", "uint256"), (holder, token_id, amount))


def burn_batch(entries: Sequence[tuple[str, int, int]]) -> bytes:
    """``burnBatchFromHolders(address[],uint256[],uint256[])`` of (holder, token id, amount)."""
    if not entries or any(amount <= 0 for _, _, amount in entries):
        raise ValueError("only something can be burned")
    holders, token_ids, amounts = zip(*entries, strict=True)
    return BURN_BATCH_FROM_HOLDERS + encode(
        ("address[]", "uint256[]", "uint256[]"), (holders, token_ids, amounts)
    )


def decode_number(data: bytes) -> int:
    """One ``uint256`` and nothing else.

    :raises ValueError: it is not that.
    """
    if len(data) != _WORD:
        raise ValueError("not one number")
    return int.from_bytes(data, "big")


def decode_numbers(data: bytes, count: int) -> list[int]:
    """One ``uint256[]`` of this length and nothing else.

    :raises ValueError: it is not that.
    """
    words = [int.from_bytes(data[at : at + _WORD], "big") for at in range(0, len(data), _WORD)]
    if len(data) != _WORD * (count + 2) or words[:2] != [_WORD, count]:
        raise ValueError(f"not {count} numbers")
    return words[2:]


def decode_revert(data: bytes) -> str | None:
    """Why a call was reverted, as its contract says; ``None`` where it does not say.

    The text has no control characters and is not long.
    """
    selector, rest = data[:4], data[4:]
    if selector == _PANIC and len(rest) == _WORD:
        return f"panic {int.from_bytes(rest, 'big'):#x}"
    if selector != _ERROR or len(rest) < 2 * _WORD:
        return None
    length = int.from_bytes(rest[_WORD : 2 * _WORD], "big")
    text = rest[2 * _WORD : 2 * _WORD + min(length, _LONGEST_REASON)].decode("utf-8", "replace")
    return clean(text)


def clean(text: str) -> str:
    """A stranger's text, fit for a log and a report."""
    return "".join(each if each.isprintable() else "?" for each in text[:_LONGEST_REASON])


def _word(kind: str, value: Any) -> bytes:
    if kind == "address":
        if len(value) != 42 or value[:2] != "0x":
            raise ValueError("not an address")
        return bytes(12) + bytes.fromhex(value[2:])
    if not 0 <= value < _LIMIT:
        raise ValueError("not an unsigned number of 256 bits")
    return int(value).to_bytes(_WORD, "big")


def _tail(kind: str, value: Any) -> bytes:
    length = len(value)
    if kind.endswith("[]"):
        return _word("uint256", length) + b"".join(_word(kind[:-2], each) for each in value)
    content: bytes = value.encode() if kind == "string" else value
    return _word("uint256", len(content)) + content + bytes(-len(content) % _WORD)
