from __future__ import annotations

import pytest

from gatekeeper.usage.units.paths import parse_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("usage", ("usage",)),
        ("usage.total_tokens", ("usage", "total_tokens")),
        ("choices[0].usage", ("choices", 0, "usage")),
        ("a[1][9999]", ("a", 1, 9999)),
        ("[0].cost", (0, "cost")),
        ("x-cost.größe.0", ("x-cost", "größe", "0")),
        (".".join("a" * 16), ("a",) * 16),
        ("a" * 64, ("a" * 64,)),
    ],
)
def test_paths(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a[",
        "a[]",
        "a[-1]",
        "a[01]",
        "a[10000]",
        "a[x]",
        "a.[0]",
        "a[0]b",
        "a b",
        "a\n",
        "$.a",
        "a.*",
        "a['b']",
        'a["b"]',
        "a\\u0062",
        "a/b",
        ".".join("a" * 17),
        "a" * 65,
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_path(text)
