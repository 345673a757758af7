from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.importing.nginx import Directive, parse


def test_directives_and_blocks() -> None:
    text = """
    # a comment; with { braces }
    user nginx;
    server {
        listen 443 ssl;   # behind
        location ~ \\.php$ { deny all; }
    }
    """
    assert parse(text) == (
        Directive("user", ("nginx",), 3),
        Directive(
            "server",
            (),
            4,
            (
                Directive("listen", ("443", "ssl"), 5),
                Directive("location", ("~", "\\.php$"), 6, (Directive("deny", ("all",), 6),)),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('a "x y";', ("x y",)),
        ("a 'x;y{';", ("x;y{",)),
        ('a "x\\"y";', ('x"y',)),
        ("a x#y;", ("x#y",)),
        ("a ${b}c d${e};", ("${b}c", "d${e}")),
        ("a it's;", ("it's",)),
        ('a "";', ("",)),
        ('a "1\n2";', ("1\n2",)),
        ('a "~*^bearer (.*)$" $1;', ("~*^bearer (.*)$", "$1")),
    ],
)
def test_words(text: str, arguments: tuple[str, ...]) -> None:
    assert parse(text) == (Directive("a", arguments, 1),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;\n}", "2: a `}`"),
        ("a\n{ b }", "2: a `}` too many, or a `;`"),
        ("\n;", "2: a `;` without"),
        ("{}", "1: a `{` without"),
        ("a {", "the end"),
        ("a b", "the end"),
        ("a;\nb 'x", "2: a quote"),
        ("a \\", "1: a quote or an escape"),
        ("a {" * 40, "1: the blocks are nested too deeply"),
    ],
)
def test_what_is_not_nginx_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        parse(text)
    assert str(caught.value).startswith(message)


@given(st.text(st.sampled_from("ab \n{};#'\"\\$x")))
def test_any_text_is_read_or_refused(text: str) -> None:
    directives: tuple[Directive, ...] = ()
    with suppress(ValueError):
        directives = parse(text)
    assert all(directive.name in text.replace("\\", "") + text for directive in directives)
