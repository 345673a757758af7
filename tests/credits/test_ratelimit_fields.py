"""The fields are lists of structured fields, whatever the numbers are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.config.model_selling import Rate
from gatekeeper.credits.ratelimit_fields import CONTENT_BYTES, Policy

#: One member of such a list, as far as it is needed here (RFC 9651, 3.1.2 and 3.3).
KEY = r"[a-z*][a-z0-9_.*-]*"
INTEGER = r"-?[0-9]{1,15}"
STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
MEMBER = re.compile(rf"({STRING})((?:;{KEY}=(?:{INTEGER}|{STRING}))*)")
PARAMETER = re.compile(rf";({KEY})=({INTEGER}|{STRING})")


def parse(line: bytes) -> tuple[str, str, dict[str, int | str]]:
    """The field's name, the member's, and its parameters."""
    field, _, text = line.decode("ascii").partition(": ")
    match = MEMBER.fullmatch(text)
    assert match is not None, text
    return (
        field,
        match[1].strip('"'),
        {
            key: value.strip('"') if value.startswith('"') else int(value)
            for key, value in PARAMETER.findall(match[2])
        },
    )


def test_as_in_the_draft() -> None:
    policy = Policy("default", 100, 60)
    assert policy.line == b'ratelimit-policy: "default";q=100;w=60'
    assert policy.limit_line(50, 30) == b'ratelimit: "default";r=50;t=30'


def test_another_unit() -> None:
    policy = Policy("peruser", 65535, 10, CONTENT_BYTES)
    assert policy.line == b'ratelimit-policy: "peruser";q=65535;qu="content-bytes";w=10'


def test_a_burst_is_a_parameter_of_our_own() -> None:
    policy = Policy("rate", 10, 1, burst=100)
    assert policy.line == b'ratelimit-policy: "rate";q=10;w=1;gatekeeper-burst=100'


def test_fields_of_a_refusal() -> None:
    assert Policy("day", 100, 86400).refusal_fields(3, 17) == (
        (b"retry-after", b"17"),
        (b"ratelimit-policy", b'"day";q=100;w=86400'),
        (b"ratelimit", b'"day";r=3;t=17'),
    )


def test_it_tells_what_it_is() -> None:
    assert repr(Policy("a", 1, 1)) == "<Policy 'ratelimit-policy: \"a\";q=1;w=1'>"


@given(
    quota=st.integers(1, 2**63 - 1),
    burst=st.none() | st.integers(1, 2**63 - 1),
    window=st.integers(1, 31 * 86400),
    remaining=st.integers(0, 2**63 - 1),
    seconds=st.integers(0, 31 * 86400),
    unit=st.sampled_from(["requests", "content-bytes", "units"]),
)
def test_they_can_be_parsed(
    quota: int, burst: int | None, window: int, remaining: int, seconds: int, unit: str
) -> None:
    policy = Policy("rate-second-user", quota, window, unit, burst)
    largest = 10**15 - 1
    field, name, parameters = parse(policy.line)
    assert (field, name) == ("ratelimit-policy", "rate-second-user")
    assert parameters == {
        "q": min(quota, largest),
        **({} if unit == "requests" else {"qu": unit}),
        "w": window,
        **({} if burst is None else {"gatekeeper-burst": min(burst, largest)}),
    }
    field, name, parameters = parse(policy.limit_line(remaining, seconds))
    assert (field, name) == ("ratelimit", "rate-second-user")
    assert parameters == {"r": min(remaining, largest), "t": seconds}


@pytest.mark.parametrize("text", [b'x: "a";q=1.5', b"x: a;q=1", b'x: "a";Q=1', b'x: "a"; q=12\n'])
def test_the_parser_of_this_test_is_strict(text: bytes) -> None:
    with pytest.raises(AssertionError):
        parse(text)


def test_the_numbers_of_the_configuration_have_more_digits_than_fit() -> None:
    assert Rate(requests=2**63 - 1).requests > 10**15
