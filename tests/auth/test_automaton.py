from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.automaton import (
    MAX_BRANCHES,
    MAX_POSITIONS,
    Automaton,
    Bytes,
    Choice,
    Node,
    PatternError,
    Repeat,
    Sequence,
    byte_set,
    literal,
)

A, B = Bytes(byte_set(b"a")), Bytes(byte_set(b"b"))

nodes: st.SearchStrategy[Node] = st.recursive(
    st.sampled_from([A, B, Bytes(byte_set(b"ab")), Sequence(())]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: Sequence(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: Choice(tuple(options))),
        st.builds(Repeat, inner, st.booleans(), st.booleans()),
    ),
    max_leaves=8,
)


def expression(node: Node) -> str:
    """The same for :mod:`re`."""
    match node:
        case Bytes():
            return "[" + "".join(chr(value) for value in b"ab" if node.allowed >> value & 1) + "]"
        case Sequence():
            return "".join(map(expression, node.parts))
        case Choice():
            return f"(?:{'|'.join(map(expression, node.options))})"
        case Repeat():
            sign = {(0, 0): "", (0, 1): "+", (1, 0): "?", (1, 1): "*"}[node.optional, node.many]
            return f"(?:{expression(node.part)}){sign}"


@given(nodes, st.lists(st.text("ab", max_size=7), max_size=10))
def test_it_matches_what_a_regular_expression_matches(node: Node, texts: list[str]) -> None:
    automaton = Automaton(node)
    for text in texts:
        expected = re.fullmatch(expression(node), text) is not None
        assert automaton.matches(text.encode()) is expected
        assert automaton.matches(text.upper().encode()) is expected


@pytest.mark.parametrize(
    ("unless", "text", "expected"),
    [
        (b"-", b"ab", True),
        (b"-", b"a-b", False),
        (b"-x", b"a-b", True),
        (b"-x", b"a-xb", False),
        (b"-x", b"a-Xb", False),
        (b"--", b"a--", False),
        (b"--", b"-", True),
        # What follows the run counts too: the text begins in it and ends behind it.
        (b"-!", b"a-!", False),
    ],
)
def test_a_text_that_must_not_begin_there(unless: bytes, text: bytes, expected: bool) -> None:
    run = Repeat(Bytes(byte_set(range(128)) & ~byte_set(b"!"), unless), False, True)
    end = Repeat(Bytes(byte_set(b"!")), True, False)
    assert Automaton(Sequence((run, end))).matches(text) is expected


def test_the_memory_is_bounded() -> None:
    window = Sequence((Repeat(Choice((A, B)), True, True), A, *[Choice((A, B))] * 12))
    automaton = Automaton(window)
    for number in range(1 << 13):  # every window of 13 leads to another state
        text = f"{number:013b}".translate({48: "a", 49: "b"}).encode()
        assert automaton.matches(text) is text.startswith(b"a")
    assert len(automaton._states) <= 1024


def test_too_long() -> None:
    Automaton(Sequence((A,) * MAX_POSITIONS))
    with pytest.raises(PatternError, match="too long"):
        Automaton(Sequence((A,) * (MAX_POSITIONS + 1)))


def test_too_many_branches() -> None:
    loop = Sequence((A, Repeat(B, False, True)))
    assert Automaton(Sequence((loop,) * MAX_BRANCHES)).branches <= MAX_BRANCHES
    with pytest.raises(PatternError, match="branches"):
        Automaton(Sequence((loop,) * (MAX_BRANCHES + 2)))
    with pytest.raises(PatternError, match="branches"):
        Automaton(Sequence((Repeat(A, True, False),) * 500))


def test_it_says_how_large_it_is() -> None:
    assert repr(Automaton(literal(b"abc"))) == "<Automaton: 3 positions, 0 branches>"
