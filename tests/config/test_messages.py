from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError

from gatekeeper.config.messages import path_of, problems_of, suggestion
from gatekeeper.errors import Problem


class Inner(BaseModel):
    even: int = Field(default=0, multiple_of=2)


class Outer(BaseModel):
    inner: dict[str, list[Inner]] = {}


def test_an_error_without_words_of_ours_keeps_its_own() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {"a b": [{}, {"even": 7654321}]}})
    assert list(problems_of(caught.value, Outer, ("checkers", "x"))) == [
        Problem('checkers.x.inner."a b"[1].even', "must be a multiple of 2")
    ]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ((), ""),
        (("a", "b-c", 0, "d"), "a.b-c[0].d"),
        (("a.b",), '"a.b"'),
        (("a", "\n\x1b"), r'a."\n\u001b"'),
        (("a", ""), 'a.""'),
    ],
)
def test_path_of(location: tuple[str | int, ...], path: str) -> None:
    assert path_of(location) == path


def test_suggestion() -> None:
    assert suggestion("bnid", ["name", "bind"]) == "; did you mean `bind`?"
    assert suggestion("xyz", ["name", "bind"]) == ""
    assert suggestion("a" * 100_000, ["a" * 100]) == f"; did you mean `{'a' * 100}`?"
