from __future__ import annotations

import pytest

from gatekeeper.usage.units.values import decimal_number, name, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"12", 12),
        (b"12.0", 12),
        (b"1.2e1", 12),
        (b"1200e-2", 12),
        (b"1E3", 1000),
        (b"-0.0", 0),
        (b"9223372036854775807", 2**63 - 1),
        (b"9007199254740993.0", 2**53 + 1),  # not a binary fraction's neighbour
    ],
)
def test_whole_numbers(text: bytes, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"-1",
        b"1.5",
        b"1e-1",
        b"9223372036854775808",
        b"1e19",
        b"1e400",
        b"-1e400",
        b"1e99999999999",
        b"9" * 10_000,
        b"0." + b"0" * 1000,
        b"012",
        b"+1",
        b".5",
        b"1.",
        b"1_0",
        b"0x1",
        b"NaN",
        b"Infinity",
        b"true",
        b"null",
        b'"12"',
        b"\xd9\xa1",  # an Arabic digit
        b"1\xff",
    ],
)
def test_what_is_no_whole_number(text: bytes | None) -> None:
    assert whole_number(text) is None


def test_decimal_numbers() -> None:
    assert decimal_number(b"0") == 0
    assert decimal_number(b"0012") == 12
    assert decimal_number(b"9223372036854775807") == 2**63 - 1
    for text in (b"", b"-1", b"+1", b"1.0", b"1e1", b"1 2", b"9223372036854775808", b"9" * 5000):
        assert decimal_number(text) is None


@pytest.mark.parametrize(
    ("text", "string"),
    [
        (b'"gpt-4o"', "gpt-4o"),
        (b'"gpt\\u002d4\\/o"', "gpt-4/o"),
        ('"größe"'.encode(), "größe"),
        (b'"' + b"m" * 128 + b'"', "m" * 128),
    ],
)
def test_names(text: bytes, string: str) -> None:
    assert name(text) == string


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"12",
        b"null",
        b'""',
        b'"' + b"m" * 129 + b'"',
        b'"' + "ö".encode() * 65 + b'"',
        b'"a\\u0000b"',
        b'"a\\nb"',
        b'"a\x00b"',
        b'"\\ud800"',
        b'"\xff"',
        b'"\\x"',
        b'"\\u202e"',  # turns the text around
    ],
)
def test_what_is_no_name(text: bytes | None) -> None:
    assert name(text) is None
