from __future__ import annotations

import base64
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.encodings import Legacy, Standard
from tests.auth.support import base64url

LEGACY, STANDARD = Legacy(), Standard()


@given(st.binary(max_size=200))
def test_every_spelling_of_a_part(raw: bytes) -> None:
    padded = base64.b64encode(raw)
    for part in (
        padded,
        padded.rstrip(b"="),
        base64.urlsafe_b64encode(raw),
        base64url(raw),
        base64.encodebytes(raw).rstrip(b"\n").replace(b"\n", b" "),  # 76 characters a line
    ):
        assert LEGACY.decode(part) == raw
    assert STANDARD.decode(base64url(raw)) == raw


@pytest.mark.parametrize(
    "part",
    [
        b"QQ=",
        b"QQ===",
        b"=QQ=",
        b"Q=Q=",
        b"QR==",  # bits that mean nothing
        b"QUJ",
        b"Q",
        b"QQ==\n",
        b"Q Q==",
        b" QQ==",
        b"QQ== ",
        b"Q\tQ==",
        b"Q!==",
        b"\xff\xff\xff\xff",
        b"A" * 76 + b" ",
        b"A" * 75 + b" A",
        b"A" * 77 + b" AAA",
        b"A" * 76 + b"  AAAA",
    ],
)
def test_what_is_no_part(part: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        LEGACY.decode(part)


def test_signatures() -> None:
    raw = bytes(range(224, 256))
    assert LEGACY.decode_signature(raw.hex().encode()) == raw
    assert LEGACY.decode_signature(base64url(raw)) == raw
    for other in (b"\n" + raw.hex().encode(), raw.hex().encode() + b"\n", base64.b64encode(raw)):
        with pytest.raises(ValueError, match=r".+"):
            LEGACY.decode_signature(other)
    # As base64url these are 48 bytes, which is no signature.
    assert LEGACY.decode_signature(raw.hex().upper().encode()) != raw
    assert STANDARD.decode_signature(raw.hex().encode()) != raw


def test_what_may_be_signed() -> None:
    assert STANDARD.signed(b"h", b"p") == (b"h.p",)
    assert LEGACY.signed(b"h", b"p") == (b"h.p", b"h.p\n")
    long = b"A" * 100
    lines = b"A" * 76 + b"\n" + b"A" * 24
    for sent in (long, lines.replace(b"\n", b" ")):
        assert LEGACY.signed(b"h", sent) == (
            b"h." + long,
            b"h." + long + b"\n",
            b"h." + lines,
            b"h." + lines + b"\n",
        )
    assert LEGACY.signed(b"h", b"A" * 76) == (b"h." + b"A" * 76, b"h." + b"A" * 76 + b"\n")


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 115, 300])
def test_lines_are_broken_where_base64_breaks_them(size: int) -> None:
    raw = b"\xfb" * size
    made = subprocess.run(["base64"], input=raw, capture_output=True, check=True).stdout
    lines = made.rstrip(b"\n")
    assert b"h." + lines in LEGACY.signed(b"h", lines.replace(b"\n", b""))
    assert LEGACY.decode(lines.replace(b"\n", b" ")) == raw
