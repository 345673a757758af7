from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.units.codings import PIECE, Decoder, make_decoder
from tests.usage.units.documents import cut

TEXT = b'{"usage": {"total_tokens": 12}}'
NOISE = random.Random(4).randbytes(300_000)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


CODED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": raw_deflate,
    "identity, gzip,": gzip.compress,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "deflate,gzip": lambda data: gzip.compress(zlib.compress(data)),
}


def decoder(content_encoding: str) -> Decoder:
    made = make_decoder(content_encoding)
    assert made is not None
    return made


def decode(content_encoding: str, pieces: list[bytes]) -> Iterator[bytes]:
    made = decoder(content_encoding)
    for piece in pieces:
        yield from made.feed(piece)


@given(
    st.sampled_from([*CODED]),
    st.sampled_from([b"", TEXT, NOISE, b"a" * 200_000]),
    st.lists(st.integers(0, 10**6)),
)
def test_codings(coding: str, body: bytes, places: list[int]) -> None:
    pieces = [*decode(coding, cut(CODED[coding](body), places))]
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= PIECE for piece in pieces)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_byte_by_byte(coding: str) -> None:
    coded = CODED[coding](TEXT)
    assert b"".join(decode(coding, [coded[i : i + 1] for i in range(len(coded))])) == TEXT


@pytest.mark.parametrize("nothing", ["", "identity", " Identity ,", ","])
def test_no_coding(nothing: str) -> None:
    assert make_decoder(nothing) is None


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "compress", "dcb", "gzip, br", "x", "gzip;q=1", "gzip, gzip, gzip"]
)
def test_codings_that_cannot_be_read(coding: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        make_decoder(coding)


def test_several_members() -> None:
    coded = gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(TEXT)
    assert b"".join(decode("gzip", [coded])) == TEXT * 2
    assert b"".join(decode("gzip", [coded[i : i + 1] for i in range(len(coded))])) == TEXT * 2


def test_what_is_behind_the_end_is_not_read() -> None:
    assert b"".join(decode("deflate", [zlib.compress(TEXT) + TEXT, TEXT])) == TEXT


@given(st.sampled_from(["gzip", "deflate", "gzip, deflate"]), st.binary())
def test_damage_ends_it_quietly(coding: str, noise: bytes) -> None:
    whole = TEXT
    for word in coding.split(", "):
        whole = CODED[word](whole)
    assert b"".join(decode(coding, [whole[:-9], noise, noise])).startswith(TEXT[:10])


def test_what_came_before_the_damage_is_read() -> None:
    stream = zlib.compressobj(wbits=31)
    coded = stream.compress(TEXT) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert b"".join(decode("gzip", [coded, b"\xff" * 100, coded])) == TEXT


def bomb(times: int) -> bytes:
    body = b" " * 50_000_000
    for _ in range(times):
        body = gzip.compress(body)
    return body


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
def test_a_bomb_is_given_up(coding: str) -> None:
    coded = bomb(1 + coding.count(","))
    made = decoder(coding)
    size = sum(map(len, made.feed(coded)))
    assert size <= 2**20 + 100 * len(coded)
    assert [*made.feed(gzip.compress(TEXT))] == []


def test_many_empty_members_are_given_up() -> None:
    made = decoder("gzip")
    assert [*made.feed(gzip.compress(b"") * 10_000)] == []
    assert [*made.feed(gzip.compress(TEXT))] == []
