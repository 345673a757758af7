from __future__ import annotations

import re

import pytest

from gatekeeper.auth.automaton import Automaton, PatternError
from gatekeeper.auth.group_patterns import parse_group

TEXTS = [
    *("", "a", "A", "b", "ab", "abab", "aa", "aaa", "aaaa", "z", "1", "12", "123", "_", "-", "]"),
    *("^", "a-z", "\\", "a b", "\t", "a.b", "axb", "a/b", "{", "a{2}", "(", ")", "\n", "a\nb", "|"),
]

#: What JavaScript and Python read alike.
SHARED = [
    *(".*", ".+", "a", "ab", "a|b", "a|", "|a", "a*", "a+?", "a??", "(?:ab)+", "(?:a|b)*", "a{2}"),
    *("a{1,}", "a{0,2}", "a{2,3}?", r"\d+", r"\D", r"\w*", r"\W", r"\s", r"\S+", "[ab]", "[^ab]"),
    *("[a-c]+", "[A-C]+", "[^a-c]", r"[\w-]", r"[-a]", r"[a-]", r"[\d\s]", r"[^\d]", r"[\]\\]"),
    *(r"\.", r"a\.b", r"\\", r"\/", r"\{", "(?:a(?:b(?:c)?)?)?", "(?:a+)+", "(?:(?:a))", "]", "}"),
    *(r"[.*+?]", r"[(|)]", "[A-z]", "[^A-z]", "a-z"),
]


@pytest.mark.parametrize("group", SHARED)
def test_what_python_reads_alike(group: str) -> None:
    automaton = Automaton(parse_group(group))
    for text in TEXTS:
        expected = re.fullmatch(group, text, re.IGNORECASE | re.ASCII) is not None
        assert automaton.matches(text.encode()) is expected, (group, text)


def test_what_only_javascript_reads() -> None:
    anything, nothing = Automaton(parse_group("[^]+")), Automaton(parse_group("[]"))
    assert [anything.matches(text.encode()) for text in TEXTS] == [bool(text) for text in TEXTS]
    assert not any(nothing.matches(text.encode()) for text in TEXTS)
    assert not Automaton(parse_group(".")).matches(b"\r")


REFUSED = r"""
    (?=a) (?!a) (?<=a) (?<!a) (?<n>a) (a) ^a a$ \b \B \1 \k<n> \x41 \u0041 \cA \0 \n \p
    * +a ? a** a{2}{3} a{ {2} a{3,2} a{999} a{,2} [ [a [b-a] [\d-z] [a-\d] [\b] [a\
    (?: (?:a a) a\ é
"""


@pytest.mark.parametrize("group", [*REFUSED.split(), "(?:" * 30 + "a" + ")" * 30])
def test_what_is_refused(group: str) -> None:
    with pytest.raises(PatternError):
        parse_group(group)
