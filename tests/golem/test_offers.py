from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.golem.definitions import read_definition
from gatekeeper.golem.offers import PREFIX, offer_template, property_name, property_value
from tests.golem.test_definitions import CERT, SMALL

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def properties(**changes: Any) -> dict[str, Any]:
    template = offer_template(read_definition(SMALL | changes))
    assert template.keys() == {"properties", "constraints"}
    assert template["constraints"] == ""
    found: dict[str, Any] = template["properties"]
    return found


def test_a_service_without_properties() -> None:
    assert properties() == {"golem.runtime.http-auth.https": False}


def test_what_is_known_of_the_service() -> None:
    found = properties(bindHttps="1.2.3.4:443", cert=CERT, cpuThreads=4)
    assert found == {
        "golem.runtime.http-auth.https": True,
        "golem.runtime.http-auth.cpu-threads": 4,
    }


def test_what_is_known_cannot_be_claimed() -> None:
    claimed = {"HTTPS": True, "cpu_threads": 64}
    assert properties(offerProperties=claimed, cpuThreads=2) == properties(cpuThreads=2)


def test_properties_as_providers_have_them() -> None:
    given = {
        "first": 1,
        'second\\"': True,
        "third/=.3": [1, "two", {"three": 3}, None, [None, {}]],
        " fourth": "4",
        "fifth..": None,
        "Sixth_Key--x..y..": 1.5,
        "ÄÖ!": "nothing is left",
    }
    assert properties(offerProperties=given) == {
        PREFIX + "first": 1,
        PREFIX + "second": True,
        PREFIX + "third.3": [1, "two", '{"three":3}', ["{}"]],
        PREFIX + "fourth": "4",
        PREFIX + "sixth-key-x.y": 1.5,
        PREFIX + "https": False,
    }


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("abc", "abc"),
        ("A_b", "a-b"),
        ("a__b", "a-b"),
        ("a_-_b", "a-b"),
        ("a---b", "a-b"),
        ("a...b", "a.b"),
        ("a./.b", "a.b"),
        ("a-/-b", "a-b"),
        ("a...", "a"),
        ("...", ""),
        ("", ""),
        ("K", "k"),  # KELVIN SIGN, which becomes an ASCII letter in lower case
        ("a\n", "a"),
    ],
)
def test_names(key: str, name: str) -> None:
    assert property_name(key) == name


@given(st.text() | st.text("abAB01-_. /"))
def test_names_keep_the_rules(key: str) -> None:
    name = property_name(key)
    assert re.fullmatch(r"[a-z0-9.-]*", name)
    assert "--" not in name
    assert ".." not in name
    assert not name.endswith(".")
    assert property_name(name) == name
    letters = "".join(character for character in key.lower() if character.isascii())
    assert re.sub(r"[^a-z0-9]", "", name) == re.sub(r"[^a-z0-9]", "", letters)


def holds(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) or (
        isinstance(value, list) and any(holds(item, kind) for item in value)
    )


@given(VALUES)
def test_values_keep_the_rules(value: Any) -> None:
    found = property_value(value)
    assert not holds(found, dict)
    if isinstance(value, dict):
        assert json.loads(found) == value
    elif isinstance(value, list):
        assert not holds(found, type(None))
        assert found == [property_value(item) for item in value if item is not None]
    else:
        assert found is value
    json.dumps(found)
