from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.credits import abi
from tests.ethereum import keccak

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
WORD = 2**256 - 1

_numbers = st.integers(0, WORD)
_addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
_values: dict[abi.Type, st.SearchStrategy[Any]] = {
    "uint256": _numbers,
    "address": _addresses,
    "uint256[]": st.lists(_numbers, max_size=4),
    "address[]": st.lists(_addresses, max_size=4),
    "string": st.text(max_size=70),
    "bytes": st.binary(max_size=70),
}
_arguments = st.lists(
    st.sampled_from(sorted(_values)).flatmap(lambda kind: st.tuples(st.just(kind), _values[kind])),
    max_size=5,
)


@pytest.mark.parametrize(
    ("selector", "signature"),
    [
        (abi.BALANCE_OF, "balanceOf(address,uint256)"),
        (abi.BALANCE_OF_BATCH, "balanceOfBatch(address[],uint256[])"),
        (abi.BURN, "burn(address,uint256,uint256)"),
        (abi.BURN_BATCH_FROM_HOLDERS, "burnBatchFromHolders(address[],uint256[],uint256[])"),
    ],
)
def test_the_selectors(selector: bytes, signature: str) -> None:
    assert selector == keccak(signature.encode())[:4]


@given(_arguments)
def test_arguments_are_encoded_as_the_library_does(arguments: list[tuple[abi.Type, Any]]) -> None:
    kinds = [kind for kind, _ in arguments]
    values = [value for _, value in arguments]
    assert abi.encode(kinds, values) == abi_encode(kinds, values)


def test_a_burn_to_the_byte() -> None:
    assert abi.burn(ALICE, 7, 1000).hex() == (
        "f5298aca"
        "000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
        "0000000000000000000000000000000000000000000000000000000000000007"
        "00000000000000000000000000000000000000000000000000000000000003e8"
    )


def test_the_calls() -> None:
    assert abi.balance_of(ALICE, 7)[4:] == abi_encode(["address", "uint256"], [ALICE, 7])
    lists = ["address[]", "uint256[]"]
    data = abi.balance_of_batch([ALICE, BOB], [7, 8])
    assert list(abi_decode(lists, data[4:])) == [(ALICE, BOB), (7, 8)]
    data = abi.burn_batch([(ALICE, 7, 1), (BOB, 8, 2)])
    assert list(abi_decode([*lists, "uint256[]"], data[4:])) == [(ALICE, BOB), (7, 8), (1, 2)]


def test_nothing_is_never_burned() -> None:
    for amount in (0, -1):
        with pytest.raises(ValueError, match="only something"):
            abi.burn(ALICE, 7, amount)
        with pytest.raises(ValueError, match="only something"):
            abi.burn_batch([(ALICE, 7, 1), (BOB, 7, amount)])
    with pytest.raises(ValueError, match="only something"):
        abi.burn_batch([])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint256", -1),
        ("uint256", WORD + 1),
        ("address", "a1" * 20),
        ("address", "0x" + "a1" * 19),
        ("address", "0x" + "zz" * 20),
        ("uint256[]", [1, -1]),
        ("address[]", [ALICE, "0x"]),
    ],
)
def test_what_does_not_fit_is_refused(kind: abi.Type, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        abi.encode([kind], [value])
    with pytest.raises(ValueError, match="shorter"):
        abi.encode(["uint256", kind], [1])


@given(_numbers, st.binary(max_size=70))
def test_numbers_are_read(number: int, other: bytes) -> None:
    assert abi.decode_number(abi_encode(["uint256"], [number])) == number
    if len(other) != 32:
        with pytest.raises(ValueError, match="not one number"):
            abi.decode_number(other)


@given(st.lists(_numbers, max_size=5), st.binary(min_size=1, max_size=40))
def test_lists_of_numbers_are_read(numbers: list[int], more: bytes) -> None:
    encoded = abi_encode(["uint256[]"], [numbers])
    assert abi.decode_numbers(encoded, len(numbers)) == numbers
    for wrong, count in ((encoded, len(numbers) + 1), (encoded + more, len(numbers)), (b"", 0)):
        with pytest.raises(ValueError, match="numbers"):
            abi.decode_numbers(wrong, count)


def test_reverts_are_read() -> None:
    text = "ERC1155: burn amount exceeds balance"
    data = bytes.fromhex("08c379a0") + abi_encode(["string"], [text])
    assert abi.decode_revert(data) == text
    panic = bytes.fromhex("4e487b71") + abi_encode(["uint256"], [0x11])
    assert abi.decode_revert(panic) == "panic 0x11"
    for nothing in (b"", b"\1\2\3", bytes.fromhex("deadbeef") + bytes(64), data[:60], panic[:20]):
        assert abi.decode_revert(nothing) is None


@given(st.text(max_size=500))
def test_a_revert_s_text_is_fit_for_a_log(text: str) -> None:
    said = abi.decode_revert(bytes.fromhex("08c379a0") + abi_encode(["string"], [text]))
    assert said is not None
    assert len(said) <= 200
    assert said.isprintable()


@given(st.binary(max_size=200))
def test_any_revert_is_read_or_not(data: bytes) -> None:
    said = abi.decode_revert(bytes.fromhex("08c379a0") + data)
    assert said is None or said.isprintable()
