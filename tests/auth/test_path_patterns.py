from __future__ import annotations

import random
import re
import string

import pytest

from gatekeeper.auth.automaton import PatternError
from gatekeeper.auth.path_patterns import MAX_LENGTH, MAX_PATH, PathPattern, without_query
from gatekeeper.http.target import canonical_path
from tests.npm import installed, run_node


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/a", "/a /a/ /A", "/ /ab /a/b /a// a"),
        ("/a/", "/a/ /a//", "/a"),
        ("/:name", "/a /a.b /a-b/ /%20", "/ /a/b"),
        ("/a/:b/c", "/a/x/c /A/x/C", "/a/c /a//c /a/x/y/c"),
        ("/(.*)", "/ /a /a/b/c", ""),
        ("/v1/(.*)", "/v1/ /v1/a /v1/a/b", "/v1 /v2/a"),
        ("/a/:b*", "/a /a/ /a/x /a/x/y/z", "/ab"),
        ("/a/:b+", "/a/x /a/x/y /a/x/", "/a /a/ /a//x"),
        ("/a/:b?", "/a /a/x /a/", "/a/x/y"),
        (r"/:id(\d+)", "/1 /123/", "/a /1a /"),
        (r"/(a|b)/:c", "/a/x /b/x", "/c/x"),
        ("/:a-:b", "/x-y", "/x /x- /-y"),
        ("/:a.:b", "/x.y /x.y.z", "/x"),
        ("/:file.json", "/a.json /A.JSON", "/a.xml /a"),
        ("{/:a}?/b", "/b /x/b", "/x/y/b"),
        ("/a{-:b-}*", "/a /a-x- /a-x--y-", "/a-x"),
        ("/a{bc}+", "/abc /abcbc", "/a"),
        (r"/\:a", "/:a", "/x"),
        (r"/a\(b\)", "/a(b)", "/ab"),
        ("/:a(.*)@:b", "/x@y /x/z@y", "/x"),
        ("/", "/", "/a"),
        ("/:a*", "/ /x /x/y", ""),
    ],
)
def test_the_rules(pattern: str, matching: str, others: str) -> None:
    compiled = PathPattern(pattern)
    for path in matching.split():
        assert compiled.matches(path.encode()), path
    for path in others.split():
        assert not compiled.matches(path.encode()), path


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/a b", "/a%20b"),
        ("/caf\u00e9", "/caf%c3%a9"),
        ("/caf%C3%a9", "/caf%c3%A9"),
        ("/%7Euser", "/%7euser"),
        ("/~user", "/%7Euser"),
        ("/[x]", "/%5Bx%5D"),
        ('/"x"|y', "/%22x%22%7Cy"),
        ("/a;b=1,2!$&'", "/a;b=1,2!$&'"),
        ("/:a\u00e9:b", "/x%c3%a9y"),
    ],
)
def test_a_patterns_text_is_spelt_like_a_canonical_path(pattern: str, path: str) -> None:
    assert PathPattern(pattern).matches(canonical_path(path.encode()))


REFUSED = r"""
    /: /:-a /a* /a? /(a /a)( /() /(?:a) /((a)) /([(]) /{a /a} /{:a:b} /:a:b /:a(.*):b (.*)* :a*
    {:a}+ /{a{b}} /a\ /(a\ /:a?? /:a(?=x) /(é) /(\1) /(a{1000})
"""


@pytest.mark.parametrize("pattern", [*REFUSED.split(), "/" + "a" * MAX_LENGTH, "/:a" * 40])
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        PathPattern(pattern)


def test_the_work_is_bounded() -> None:
    """Each of these would keep a backtracking matcher busy for hours."""
    for pattern in ("/((?:a+)+)b", "/(.*)a(.*)a(.*)a(.*)b", "/((?:a|a)*)b", "/(.*a.{30})b"):
        assert not PathPattern(pattern).matches(b"/" + b"a" * (MAX_PATH - 1))
    assert PathPattern("/(.*)").matches(b"/" + b"a" * (MAX_PATH - 1))
    assert not PathPattern("/(.*)").matches(b"/" + b"a" * MAX_PATH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a", "/a"),
        ("/a?b=c", "/a"),
        ("/a?b=:", "/a"),
        ("/a#b", "/a"),
        ("/:a?", "/:a?"),
        ("/:a??b", "/:a?"),
        ("/:a/?b", "/:a/"),
        ("/(.*)?", "/(.*)?"),
        ("/(.*)/x?y=(", "/(.*)/x"),
        ("{/:a}?", "{/:a}?"),
        ("/([?#])", "/([?#])"),
        (r"/a\?b", r"/a\?b"),
        ("", ""),
    ],
)
def test_without_query(text: str, expected: str) -> None:
    assert without_query(text) == expected


# --- against the npm package ------------------------------------------------------------------

TEXTS = [
    *("a", "b", "ab", "v1", "users", "A", "x-y", "f.txt", "a-b", "~", "1", "22", "%20"),
    *("-", "--", ".", "@"),
]
GROUPS = r"""
    .* \d+ [a-z]+ [^/]+? a|b (?:a|b)* \w{1,3} a? [\w-]+ [^a-c]+ ab|a (?:a+)+ [A-F0-9]{2,} . a{2}
    \D* |a (?:a|)b [-x] \. \W
"""
BROKEN = ["(", ")", "{", "}", ":", "?", "*", "(?=a)", "((a))", "()", "{a{b}}", "(?:a)", "(a", "[("]


class Generator:
    """Patterns, and paths that are likely to be at their borders; the same ones every time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pattern(self) -> str:
        parts = []
        for _ in range(self.random.randint(1, 5)):
            makers = [self._text, self._name, self._group, self._both, self._braces]
            make = self.random.choice(makers)
            parts += [self.random.choice(["/", "/", "/", "", "-", "."]), make()]
        if self.random.random() < 0.06:
            parts.insert(self.random.randint(0, len(parts)), self.random.choice(BROKEN))
        return "".join(parts)

    def path(self, pattern: str) -> str:
        choice = self.random.choice
        if self.random.random() < 0.4:
            count = self.random.randint(1, 5)
            path = "".join(choice(["/", "/", "-", ".", ""]) + choice(TEXTS) for _ in range(count))
        else:
            values = ["a", "ab", "x-y", "a-b", "1", "b--a"]
            path = re.sub(r":\w+", lambda _: choice(values), pattern)
            fillings = ["a", "b", "aa", "ab", "1", "22", "a/b", "", "FF", "-x"]
            path = re.sub(r"(?<!\\)\((?:[^()]|\(\?:[^()]*\))*\)", lambda _: choice(fillings), path)
            path = re.sub(r"[?*+]", lambda _: choice(["", "", "/a", "-a"]), path)
            path = re.sub(r"[{}\\]", "", path)
        if path and self.random.random() < 0.1:
            place = self.random.randrange(len(path))
            path = path[:place] + choice("/ab-.1") + path[place:]
        path += "/" if self.random.random() < 0.15 else ""
        return path.swapcase() if self.random.random() < 0.1 else path

    def _text(self) -> str:
        if self.random.random() < 0.2:
            return "\\" + self.random.choice(":.*(/a{")
        return self.random.choice(TEXTS)

    def _name(self) -> str:
        return ":" + self.random.choice(["a", "b", "id", "n1", "_", "B"]) + self._modifier()

    def _group(self) -> str:
        return f"({self.random.choice(GROUPS.split())}){self._modifier()}"

    def _both(self) -> str:
        return f":{self.random.choice(string.ascii_lowercase)}{self._group()}"

    def _braces(self) -> str:
        inner = self.random.choice(["", ":q", f"({self.random.choice(GROUPS.split())})", ":w(a|b)"])
        before = self.random.choice(["", "/", "-", "/a", ".", "/x-", r"\:"])
        behind = self.random.choice(["", "", "/", "-", ".b"])
        return f"{{{before}{inner}{behind}}}{self._modifier()}"

    def _modifier(self) -> str:
        return self.random.choice(["", "", "", "?", "*", "+"])


def test_as_the_npm_package() -> None:
    generate = Generator(20260101)
    cases = [
        (pattern, [generate.path(pattern) for _ in range(12)])
        for pattern in (generate.pattern() for _ in range(5000))
    ]
    theirs = run_node(
        installed("path-to-regexp@6.3.0"),
        """
        const { pathToRegexp, match } = require('path-to-regexp');
        answer(given.map(([pattern, paths]) => {
            try {
                const expression = pathToRegexp(pattern), find = match(pattern);
                return paths.map(path => {
                    const found = expression.test(path);
                    if (found !== Boolean(find(path))) throw Error('they differ');
                    return found;
                });
            } catch (error) {
                return error.message;
            }
        }));
        """,
        cases,
    )
    matching = refused = 0
    for (pattern, paths), expected in zip(cases, theirs, strict=True):
        if isinstance(expected, str):
            refused += 1
            with pytest.raises(PatternError):
                PathPattern(pattern)
            continue
        compiled = PathPattern(pattern)
        found = [compiled.matches(path.encode()) for path in paths]
        assert found == expected, (pattern, paths)
        matching += sum(found)
    # Were it otherwise, this would prove little.
    assert refused > 400
    assert matching > 7000
