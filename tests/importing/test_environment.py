from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.errors import ConfigurationError
from gatekeeper.importing.environment import read_environment_file


def read(text: str) -> dict[str, str]:
    return read_environment_file(text, "the.env")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x", "x"),
        ("export A=x", "x"),
        ("  A = x  ", "x"),
        ("A=x # comment", "x"),
        ("A=x#y", "x#y"),
        ("A='x # y'", "x # y"),
        ('A="x\\ny"', "x\ny"),
        ("A='x\\ny'", "x\\ny"),
        ('A="x\ny"', "x\ny"),
        ("A=x=y", "x=y"),
        ("A=", ""),
        ("A=x\r", "x"),
    ],
)
def test_values(line: str, value: str) -> None:
    assert read(line + "\nB=1\n") == {"A": value, "B": "1"}


@pytest.mark.parametrize("value", ["$HOME", "${HOME}", "$(touch pwned)", "`touch pwned`", "~"])
def test_nothing_in_a_value_is_replaced_or_run(value: str) -> None:
    assert read(f"HOME=/root\nA={value}") == {"HOME": "/root", "A": value}
    assert read(f'A="{value}"') == {"A": value}


def test_the_environment_stays_as_it_is() -> None:
    before = dict(os.environ)
    read("GATEKEEPER_IMPORT_TEST=1")
    assert dict(os.environ) == before


def test_names_without_a_value_and_comments_are_left_out() -> None:
    assert read("# A=1\n\nB\nC=2\n") == {"C": "2"}


def test_the_last_of_several_counts() -> None:
    assert read("A=1\nA=2\n") == {"A": "2"}


def test_all_lines_that_cannot_be_read_are_told_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("A=1\n\n\nB='s3cret\n=s3cret\n")
    assert [str(problem) for problem in caught.value.problems] == [
        "the.env:4: not of the form `NAME=value`",
        "the.env:5: not of the form `NAME=value`",
    ]


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found: dict[str, str] = {}
    with suppress(ConfigurationError):
        found = read(text)
    assert all(isinstance(value, str) for value in found.values())
