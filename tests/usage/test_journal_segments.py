from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.records import Spent, UsageRecord
from gatekeeper.usage.segments import (
    BLOCK_RECORDS,
    HEAD,
    MARK,
    Key,
    decode_block,
    decode_blocks,
    encode_blocks,
    scan,
)

TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e10)
RECORDS = st.builds(
    UsageRecord, TEXT, SECONDS, SECONDS, TEXT, TEXT, TEXT, TEXT, TEXT, NUMBER, NUMBER, NUMBER,
    NUMBER, NUMBER, TEXT, TEXT, TEXT, TEXT,
    st.lists(st.builds(Spent, TEXT, TEXT, TEXT, NUMBER), max_size=2).map(tuple),
)  # fmt: skip


def records_of(data: bytes) -> list[UsageRecord]:
    return decode_blocks(data, scan(data).blocks)


@pytest.fixture
def blocks(record: UsageRecord) -> list[bytes]:
    """Blocks of one, two and three records."""
    return [
        encode_blocks([record._replace(id=f"{number}-{index}") for index in range(number)])
        for number in (1, 2, 3)
    ]


def ids(data: bytes) -> list[str]:
    return [record.id for record in records_of(data)]


@given(st.lists(st.lists(RECORDS, min_size=1, max_size=5), max_size=5))
def test_what_goes_in_comes_out(appended: list[list[UsageRecord]]) -> None:
    data = HEAD + b"".join(map(encode_blocks, appended))
    assert records_of(data) == [record for records in appended for record in records]
    assert scan(data).records == sum(map(len, appended))
    assert scan(data)[1:] == (0, 0)


def test_much_comes_in_several_blocks(record: UsageRecord) -> None:
    records = [record._replace(id=str(number)) for number in range(2 * BLOCK_RECORDS + 1)]
    data = HEAD + encode_blocks(records)
    assert [block.records for block in scan(data).blocks] == [BLOCK_RECORDS, BLOCK_RECORDS, 1]
    assert records_of(data) == records


def test_every_cut_leaves_the_whole_blocks_before_it(blocks: list[bytes]) -> None:
    data = HEAD + b"".join(blocks)
    ends = [len(HEAD) + sum(map(len, blocks[:count])) for count in range(4)]
    everything = ["1-0", "2-0", "2-1", "3-0", "3-1", "3-2"]
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in ends[1:])
        assert ids(data[:cut]) == everything[: (0, 1, 3, 6)[whole]]
        found = scan(data[:cut])
        assert found.damaged == 0
        assert found.torn == max(0, cut - ends[whole])


def test_every_flipped_bit_costs_its_block_only(blocks: list[bytes]) -> None:
    data = HEAD + b"".join(blocks)
    first, second = len(HEAD) + len(blocks[0]), len(HEAD) + len(blocks[0]) + len(blocks[1])
    for place in range(first, second):
        for bit in range(8):
            broken = bytearray(data)
            broken[place] ^= 1 << bit
            assert ids(bytes(broken)) == ["1-0", "3-0", "3-1", "3-2"]
            assert scan(bytes(broken))[1:] == (len(blocks[1]), 0)


def test_flipped_bits_in_the_last_block_are_a_torn_tail(blocks: list[bytes]) -> None:
    data = HEAD + b"".join(blocks)
    for place in range(len(data) - len(blocks[2]), len(data)):
        broken = bytearray(data)
        broken[place] ^= 1
        assert ids(bytes(broken)) == ["1-0", "2-0", "2-1"]
        assert scan(bytes(broken))[1:] == (0, len(blocks[2]))


@pytest.mark.parametrize("length", [1, 4, 15, 16, 17, 4096])
def test_zeros_are_no_block(blocks: list[bytes], length: int) -> None:
    """A disk that lost its power may give back a file of the right length with nothing in it."""
    found = scan(HEAD + blocks[0] + bytes(length))
    assert (found.records, found.damaged, found.torn) == (1, 0, length)


def test_hole_between_blocks(blocks: list[bytes]) -> None:
    found = scan(HEAD + blocks[0] + bytes(4096) + blocks[2])
    assert (found.records, found.damaged, found.torn) == (4, 4096, 0)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10_000])
def test_length_is_not_believed(length: int) -> None:
    header = struct.pack(">4sII", MARK, length, 1)
    data = HEAD + header + struct.pack(">I", zlib.crc32(header)) + b"x" * 100
    assert scan(data) == ([], 0, len(data) - len(HEAD))


def test_text_of_a_caller_cannot_pass_for_a_block(record: UsageRecord) -> None:
    """Also where the block around it is damaged, what a caller wrote is not searched for blocks."""
    forged = encode_blocks([record._replace(user="victim")])
    text = forged.decode("latin-1")
    data = bytearray(HEAD + encode_blocks([record._replace(path=text)]) + encode_blocks([record]))
    data[len(HEAD) + 20] ^= 1
    assert [found.user for found in records_of(bytes(data))] == ["alice"]
    surrogates = forged.decode("utf-8", "surrogateescape")
    assert encode_blocks([record._replace(path=surrogates)]).count(MARK) == 1


def test_what_the_format_has_no_room_for_is_made_to_fit(record: UsageRecord) -> None:
    odd = record._replace(user="a\ud800b", units=2**70, bytes_in=-(2**70))
    data = HEAD + encode_blocks([record, odd, record])
    largest = 2**63 - 1
    assert records_of(data) == [
        record,
        record._replace(user="a?b", units=largest, bytes_in=-largest),
        record,
    ]


def test_so_is_what_was_spent(record: UsageRecord) -> None:
    spent = record._replace(spent=(Spent("prepaid", "main", "a\udc80b", 2**64),))
    fitting = record._replace(spent=(Spent("prepaid", "main", "a?b", 2**63 - 1),))
    assert records_of(HEAD + encode_blocks([spent])) == [fitting]


def test_fields_that_did_not_exist_have_their_defaults(record: UsageRecord) -> None:
    payload = msgspec.msgpack.encode([tuple(record)[:14], tuple(record._replace(model="m"))])
    assert decode_block(payload) == [record._replace(model=""), record._replace(model="m")]


@pytest.mark.parametrize(
    "strange", [None, 7, [], ["x"], {"id": 1}, ["0", 1.0, "duration"], list(range(30))]
)
def test_record_that_cannot_be_understood_costs_no_other(
    record: UsageRecord, strange: object
) -> None:
    payload = msgspec.msgpack.encode([record, strange, record])
    assert decode_block(payload) == [record, record]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x05", msgspec.msgpack.encode("text")])
def test_block_that_is_none(payload: bytes) -> None:
    assert decode_block(payload) == []


def test_names() -> None:
    key = Key("00c0ffee", 3, 17)
    assert key.file_name == "00c0ffee-3-00000017.journal"
    assert Key.of_file(key.file_name) == key
    assert Key.of_file(Key("n", 0, 10**10).file_name) == ("n", 0, 10**10)


@pytest.mark.parametrize(
    "name",
    [
        "lock",
        "probe",
        "n-0-00000001.journal.damaged",
        "n-0-00000001.journal.rejected",
        "n-0-00000001.journa1",
        "n-0-1.journal",  # the same key as 00000001 must not come twice
        "n-00-00000001.journal",
        "n--00000001.journal",
        "../n-0-00000001.journal",
        "n-0-0000000\N{ARABIC-INDIC DIGIT ONE}.journal",
        "n-0-00000001.journal\n",
    ],
)
def test_names_that_are_no_segments(name: str) -> None:
    assert Key.of_file(name) is None
