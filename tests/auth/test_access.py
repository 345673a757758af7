from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.access import AccessRules
from gatekeeper.config.model_services import AccessRule

NOBODY: frozenset[str] = frozenset()


def rule(
    path: str, methods: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> AccessRule:
    return AccessRule.model_validate({"path": path, "methods": methods, "groups": groups})


def passes(rules: AccessRules, path: bytes, method: bytes = b"GET", *groups: str) -> bool:
    return rules.decide(method, path, frozenset(groups)) is None


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("/", [b"/"], [b"/a", b"//", b"", b"*"]),
        ("/a", [b"/a"], [b"/a/", b"/A", b"/ab", b"/", b"/a/b", b"a", b"/a;x"]),
        ("/a/", [b"/a/"], [b"/a", b"/a/b", b"/a//"]),
        ("/a/*", [b"/a/b", b"/a/*", b"/a/**"], [b"/a", b"/a/", b"/a/b/", b"/a/b/c"]),
        ("/*", [b"/a"], [b"/", b"/a/", b"/a/b"]),
        ("/*/b", [b"/a/b", b"/b/b"], [b"//b", b"/b", b"/a/c"]),
        ("/a/*/", [b"/a/b/"], [b"/a/b", b"/a//"]),
        (
            "/a/**",
            [b"/a", b"/a/", b"/a/b", b"/a/b/", b"/a/b/c/d", b"/a/" + b"x/" * 5000],
            [b"/ab", b"/", b"/A/b", b"/b/a"],
        ),
        ("/**", [b"/", b"/a", b"/a/b/"], [b"*", b"", b"a/b", b"host:443"]),
        ("/*/**", [b"/a", b"/a/", b"/a/b"], [b"/"]),
        ("/%C3%A9", [b"/%C3%A9"], [b"/%c3%a9", b"/\xc3\xa9"]),
        ("/a.b+c", [b"/a.b+c"], [b"/axb+c", b"/a.bbc"]),
    ],
)
def test_patterns(pattern: str, fits: list[bytes], does_not: list[bytes]) -> None:
    rules = AccessRules([rule(pattern)])
    assert [path for path in fits if not passes(rules, path)] == []
    assert [path for path in does_not if passes(rules, path)] == []


def test_without_rules_everything_passes() -> None:
    assert passes(AccessRules([]), b"/anything")


def test_no_rule_fits() -> None:
    deny = AccessRules([rule("/a")]).decide(b"GET", b"/b", NOBODY)
    assert deny is not None
    assert (deny.status, deny.reason, deny.error) == (
        403,
        "insufficient_scope",
        "insufficient_scope",
    )


def test_groups() -> None:
    rules = AccessRules([rule("/a", groups=["spender", "boss"]), rule("/b", groups=[])])
    assert passes(rules, b"/a", b"GET", "boss", "x")
    assert not passes(rules, b"/a")
    assert not passes(rules, b"/a", b"GET", "spend")
    assert not passes(rules, b"/a", b"GET", "spender,boss")
    assert not passes(rules, b"/b", b"GET", "boss")


def test_methods() -> None:
    rules = AccessRules([rule("/a", ["GET", "PUT"]), rule("/b", [])])
    assert passes(rules, b"/a", b"PUT")
    for method in (b"POST", b"get", b"HEAD", b"GE", b""):
        assert not passes(rules, b"/a", method)
    assert not passes(rules, b"/b")


def test_the_first_rule_that_fits_decides() -> None:
    rules = AccessRules(
        [
            rule("/a/secret", groups=["boss"]),
            rule("/a/*", ["POST"], ["writer"]),
            rule("/a/**"),
            rule("/a/open/never", groups=["nobody"]),
        ]
    )
    assert not passes(rules, b"/a/secret")
    assert passes(rules, b"/a/secret", b"GET", "boss")
    assert not passes(rules, b"/a/x", b"POST")
    assert passes(rules, b"/a/x", b"POST", "writer")
    assert passes(rules, b"/a/x", b"GET")
    assert passes(rules, b"/a/open/never")


segments = st.sampled_from(["a", "b", "*"])
patterns = st.builds(
    lambda parts, end: "/" + "/".join(parts) + end,
    st.lists(segments, min_size=1, max_size=3),
    st.sampled_from(["", "/", "/**"]),
)
rule_lists = st.lists(
    st.tuples(
        patterns,
        st.one_of(st.none(), st.lists(st.sampled_from(["GET", "POST"]))),
        st.one_of(st.none(), st.lists(st.sampled_from(["g", "h"]))),
    ),
    min_size=1,
    max_size=12,
)


def _expression(pattern: str) -> re.Pattern[bytes]:
    rest = pattern.endswith("/**")
    text = (pattern.removesuffix("/**") if rest else pattern).replace("*", "[^/]+")
    return re.compile((text + ("(?:/.*)?" if rest else "")).encode())


@given(
    rule_lists,
    st.lists(st.sampled_from([b"a", b"b", b"c", b""]), min_size=1, max_size=4),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    st.frozensets(st.sampled_from(["g", "h"])),
)
def test_as_if_the_rules_were_tried_one_by_one(
    listed: list[tuple[str, list[str] | None, list[str] | None]],
    parts: list[bytes],
    method: bytes,
    groups: frozenset[str],
) -> None:
    path = b"/" + b"/".join(parts)
    expected = False
    for pattern, methods, wanted in listed:
        if _expression(pattern).fullmatch(path) and (methods is None or method.decode() in methods):
            expected = wanted is None or bool(groups & set(wanted))
            break
    rules = AccessRules([rule(*each) for each in listed])
    assert (rules.decide(method, path, groups) is None) == expected


@given(st.binary(max_size=60))
def test_any_path_has_an_answer(path: bytes) -> None:
    rules = AccessRules([rule("/a/*/**"), rule("/*/b")])
    answer = rules.decide(b"GET", path, NOBODY)
    assert answer is None or answer.status == 403
    if not path.startswith(b"/"):
        assert answer is not None
