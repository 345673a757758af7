from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.importing.toml import Table, render, to_toml

#: All that can be in a TOML file. Surrogates cannot.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    assert tomllib.loads(f"key = {to_toml(value)}") == {"key": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_with_a_fraction_stay_such(value: float) -> None:
    (read,) = tomllib.loads(f"key = {to_toml(value)}").values()
    assert isinstance(read, float)
    assert read == value


@pytest.mark.parametrize("char", [chr(code) for code in (*range(32), 0x7F, 0x85, 0x2028, 0xFEFF)])
def test_control_characters_are_written_so_that_they_can_be_read(char: str) -> None:
    assert tomllib.loads(f"key = {to_toml(char)}") == {"key": char}


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], {"\ud800": 1}, float("nan"), float("inf")])
def test_what_cannot_be_written_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        to_toml(value)


@given(TEXT, TEXT, TEXT)
def test_comments_are_never_anything_else(head: str, above: str, beside: str) -> None:
    text = render(head, [Table("[a]", {"b c": 1, "d": "x"}, {"": above, "d": beside})])
    assert tomllib.loads(text) == {"a": {"b c": 1, "d": "x"}}


def test_tables_stand_one_after_the_other() -> None:
    text = render(
        "What this is.",
        [
            Table("", {"top": "x"}),
            Table("[[a]]", {"n": 1.0, "in": {"env": "NAME"}}, {"": "First.", "n": "A number."}),
            Table("[[a]]", {"n": True, "in": []}),
        ],
    )
    assert text == (
        "# What this is.\n"
        "\n"
        'top = "x"\n'
        "\n"
        "# First.\n"
        "[[a]]\n"
        "# A number.\n"
        "n = 1.0\n"
        'in = { env = "NAME" }\n'
        "\n"
        "[[a]]\n"
        "n = true\n"
        "in = []\n"
    )


def test_long_comments_are_broken_and_names_in_them_are_not() -> None:
    text = render("word " * 40 + "a-very-long-name-with-hyphens", [])
    lines = text.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("# ") and len(line) <= 100 for line in lines)
    assert lines[-1].endswith("a-very-long-name-with-hyphens")
