"""How usage records lie on the disk between their exchange and the store.

A segment is a file ``NODE-WORKER-SEQUENCE.journal``: its name is the key of the batch that it
becomes. It begins with :data:`HEAD`, which has the format's version; then come blocks:

=========  =====  ============================================================================
mark       4      :data:`MARK`, which is in no UTF-8 text, and so in nothing that a caller sends
length     4      bytes in the payload, big-endian as all numbers here
records    4      how many records are in it
checksum   4      CRC-32 of the 12 bytes before it and of the payload
payload           MessagePack: an array of records, each of them an array of its fields
=========  =====  ============================================================================

A process that is killed leaves at most a beginning of its last block, the *torn tail*.

Pure: nothing is opened or written here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from gatekeeper.usage.records import UsageRecord

#: The first bytes of a segment; the last of them is the version of the format.
HEAD: Final = b"gkusage\x01"

#: A block's first bytes. 0xFE and 0xFF are never part of UTF-8 (RFC 3629, 1).
MARK: Final = b"\xff\xfeGK"

#: Records in one block at the most: what is decoded in one go.
BLOCK_RECORDS: Final = 500

_HEADER: Final = struct.Struct(">4sIII")
_CHECKED: Final = struct.Struct(">4sII")  # the part of it that is in the checksum
_NAME: Final = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,6})-([0-9]{1,12})\.journal")
_LARGEST: Final = 2**63 - 1

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[UsageRecord]).decode


class Key(NamedTuple):
    """What names a segment, and the batch that it becomes, for good."""

    node: str
    worker: int
    sequence: int

    @property
    def file_name(self) -> str:
        """The segment's file name."""
        return f"{self.node}-{self.worker}-{self.sequence:08}.journal"

    @classmethod
    def of_file(cls, name: str) -> Key | None:
        """Return the key in a file's name; ``None``: it is not a segment's."""
        found = _NAME.fullmatch(name)
        key = None if found is None else cls(found[1], int(found[2]), int(found[3]))
        return key if key is not None and key.file_name == name else None


class Block(NamedTuple):
    """A block whose checksum is right: where its payload is, and how many records it has."""

    start: int
    end: int
    records: int

    @property
    def header(self) -> int:
        """Where its header begins."""
        return self.start - _HEADER.size


class Scan(NamedTuple):
    """What is in a segment: good blocks, bytes that are damaged between them, the torn tail."""

    blocks: list[Block]
    damaged: int
    torn: int

    @property
    def records(self) -> int:
        """Records in the good blocks."""
        return sum(block.records for block in self.blocks)

    @property
    def end(self) -> int:
        """Where the last good block ends."""
        return self.blocks[-1].end if self.blocks else len(HEAD)


def encode_blocks(records: Sequence[UsageRecord]) -> bytes:
    """Return the blocks for ``records``.

    What the format has no room for is made to fit, as the stores would do it anyhow: surrogates
    become ``?``, numbers of more than 63 bits the largest one.
    """
    if 0 < len(records) <= BLOCK_RECORDS:
        return _block(records)
    return b"".join(
        _block(records[begin : begin + BLOCK_RECORDS])
        for begin in range(0, len(records), BLOCK_RECORDS)
    )


def scan(data: bytes) -> Scan:
    """Find the good blocks of a segment, of which ``data`` is everything, :data:`HEAD` included.

    Of what is broken nothing is believed. Blocks behind a damaged one are found by their mark.
    """
    blocks: list[Block] = []
    damaged, offset, view = 0, len(HEAD), memoryview(data)
    while offset < len(data):
        block, position = _block_at(view, offset), offset
        while block is None:
            position = data.find(MARK, position + 1)
            if position < 0:
                return Scan(blocks, damaged, len(data) - offset)
            block = _block_at(view, position)
        damaged += position - offset
        blocks.append(block)
        offset = block.end
    return Scan(blocks, damaged, 0)


def decode_blocks(data: bytes, blocks: Sequence[Block]) -> list[UsageRecord]:
    """Return the records of these blocks, without those that cannot be understood.

    Fields that did not exist when a record was written have their defaults.
    """
    return [record for block in blocks for record in decode_block(data[block.start : block.end])]


def decode_block(payload: bytes) -> list[UsageRecord]:
    """Return the records of a block, without those that cannot be understood.

    Fields that did not exist when a record was written have their defaults.
    """
    try:
        return _decode(payload)
    except msgspec.DecodeError:
        return list(_understood(payload))


def _block(records: Sequence[UsageRecord]) -> bytes:
    try:
        payload = _encode(records)
    except (UnicodeEncodeError, OverflowError):
        payload = _encode([_fitting(record) for record in records])
    checked, checksum = _checked(len(payload), len(records))
    return checked + crc32(payload, checksum).to_bytes(4, "big") + payload


@lru_cache(maxsize=2048)
def _checked(length: int, records: int) -> tuple[bytes, int]:
    """The header up to the checksum, and its share in that."""
    checked = _CHECKED.pack(MARK, length, records)
    return checked, crc32(checked)


def _fitting(value: Any) -> Any:
    """A record, or a part of one."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return max(-_LARGEST, min(value, _LARGEST))
    return tuple(map(_fitting, value)) if isinstance(value, tuple) else value


def _understood(payload: bytes) -> Iterator[UsageRecord]:
    with suppress(msgspec.DecodeError):
        for record in msgspec.msgpack.decode(payload, type=list[msgspec.Raw]):
            with suppress(msgspec.DecodeError):
                yield msgspec.msgpack.decode(record, type=UsageRecord)


def _block_at(view: memoryview, offset: int) -> Block | None:
    start = offset + _HEADER.size
    if start > len(view):
        return None
    mark, length, records, checksum = _HEADER.unpack_from(view, offset)
    end = start + length
    if mark != MARK or end > len(view):
        return None
    if crc32(view[start:end], crc32(view[offset : offset + _CHECKED.size])) != checksum:
        return None
    return Block(start, end, records)
