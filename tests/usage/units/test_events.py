from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.units.events import WINDOW, Events, Lines, Parts
from gatekeeper.usage.units.paths import parse_path
from gatekeeper.usage.units.scanner import Scanner
from gatekeeper.usage.units.tree import make_tree
from tests.usage.units.documents import cut

cuts = st.lists(st.integers(0, 10**6), max_size=6)


class Counting(Scanner):
    """Remembers what it was fed with."""

    def __init__(self) -> None:
        super().__init__(make_tree([("model",), parse_path("usage.total_tokens")]))
        self.fed: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.fed.append(data)
        super().feed(data)


def read(kind: type[Parts], pieces: list[bytes]) -> Counting:
    scanner = Counting()
    parts = kind(scanner, [b"total_tokens"], [b"model"], [0])
    for piece in pieces:
        parts.feed(piece)
        assert len(parts._buffer) <= WINDOW + 1
    parts.finish()
    return scanner


def units(kind: type[Parts], *pieces: bytes) -> bytes | None:
    return read(kind, [*pieces]).values[1]


def event(tokens: int, **more: object) -> bytes:
    return b"data: " + json.dumps({"usage": {"total_tokens": tokens}, **more}).encode() + b"\n\n"


CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "tokens"),
    [
        (CHUNK * 3 + event(12) + DONE, b"12"),
        (event(1) + CHUNK + event(2) + CHUNK, b"2"),
        (event(1) + b'data: {"usage":{"total_tokens":null}}\n\n', b"1"),
        (b'data:{"usage":{"total_tokens":3}}\n\n', b"3"),
        (b'event: x\nid: 1\ndata: {"usage":{"total_tokens":3}}\nretry: 5\n\n', b"3"),
        (b'data: {"usage":\ndata:  {"total_\n\ndata: tokens":3}}\n\n', None),
        (b'data: {"usage":\ndata: {"total_tokens":\ndata:3}}\n\n', b"3"),
        (b': data: {"usage":{"total_tokens":3}}\n\n' + CHUNK, None),
        (b'x: {"usage":{"total_tokens":3}}\n\n', None),
        (b'Data: {"usage":{"total_tokens":3}}\n\n', None),
        (b'data: "{\\"usage\\":{\\"total_tokens\\":3}}"\n\n', None),
        (b'data: {"x":"\\n\\ndata: {\\"usage\\":{\\"total_tokens\\":3}}"}\n\n', None),
        (b'data: {"us\\u0061ge":{"\\u0074otal_tokens":3}}\n\n', b"3"),
        (b'data: {"usage":{"total_tokens":3}}', b"3"),
        (b'data: {"usage":{"total_tokens":3', None),
        (b'data: {"usage":{"total_tokens":3}}\n\ndata: {"usage":{"total_tok', b"3"),
        (b'data: {"a":"\n\n' + event(4), b"4"),
        (b"\n\n\n" + event(5) + b"\n\n", b"5"),
        (b"total_tokens\n\n" + b"data\n\n" + b"data:\n\n", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events(stream: bytes, tokens: bytes | None, end: bytes) -> None:
    stream = stream.replace(b"\n", end)
    assert units(Events, stream) == tokens
    assert units(Events, *(stream[i : i + 1] for i in range(len(stream)))) == tokens


def test_line_ends_may_be_mixed() -> None:
    stream = b'data: {"usage":\r\ndata: {"total_tokens":\rdata: 7}}\n\r\n' + CHUNK
    for i in range(len(stream) + 1):
        assert units(Events, stream[:i], stream[i:]) == b"7"


@given(
    st.lists(
        st.sampled_from([CHUNK, event(1), event(2), b"\n", b": x\n\n", b"x" * 99]), max_size=9
    ),
    cuts,
)
def test_events_do_not_depend_on_the_pieces(stream: list[bytes], places: list[int]) -> None:
    data = b"".join(stream)
    for text in (data, data.replace(b"\n", b"\r\n")):
        assert read(Events, cut(text, places)).values == read(Events, [text]).values


def test_an_event_that_is_too_large_is_passed_over() -> None:
    large = event(1, filling="x" * WINDOW)
    for size in (1000, 65_536, 10**6):
        stream = event(5) + large + large + CHUNK
        assert units(Events, *cut(stream, [*range(0, len(stream), size)])) == b"5"
        stream += event(6)
        assert units(Events, *cut(stream, [*range(0, len(stream), size)])) == b"6"
    assert units(Events, large[:-2]) is None


@pytest.mark.parametrize("kind", [Events, Lines])
def test_the_largest_part(kind: type[Parts]) -> None:
    begin, end = b'data: {"usage":{"total_tokens":1},"x":"', b'"}'
    begin = begin if kind is Events else begin[6:]
    for more, wanted in ((0, b"1"), (1, None)):
        part = begin + b"x" * (WINDOW - len(begin + end) + more) + end
        assert len(part) == WINDOW + more
        stream = part + kind.separator
        assert units(kind, stream) == wanted
        for places in ([WINDOW], [WINDOW + 1], [WINDOW - 1, WINDOW + 2], [100]):
            assert units(kind, *cut(stream, places)) == wanted


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"x":1}\n{"usage":{"total_tokens":3}}\n', b"3"),
        (b'{"usage":{"total_tokens":3}}', b"3"),
        (b'{"usage":{"total_tokens":3}}\r\n{"x":0}\r\n\r\n', b"3"),
        (b'{"usage":{"total_tokens":3}}\nnot JSON: "{[\n{"usage":{"total_tokens":4}}\n', b"4"),
        (b'{"total_tokens": "\n{"usage":{"total_tokens":4}}\n', b"4"),
        (b'{"usage":\n{"total_tokens":3}}\n', None),
    ],
)
def test_lines(body: bytes, tokens: bytes | None) -> None:
    assert units(Lines, body) == tokens
    assert units(Lines, *(body[i : i + 1] for i in range(len(body)))) == tokens


def test_a_line_without_an_end() -> None:
    line = b'{"usage":{"total_tokens":1},"x":"' + b"x" * 100_000
    assert units(Lines, *[line] * 20) is None
    assert units(Lines, *[line] * 20, b'\n{"usage":{"total_tokens":2}}\n') == b"2"


def test_only_what_may_say_something_is_looked_into() -> None:
    named = CHUNK.replace(b'"usage"', b'"model":"m","usage"')
    scanner = read(Events, [CHUNK * 50 + named * 50 + event(3, model="m") + DONE])
    assert len(scanner.fed) == 2
    assert scanner.values == [b'"m"', b"3"]


@pytest.mark.parametrize("form", [str, lambda text: text.replace("m", "\\u006d")])
def test_the_model_is_found_by_itself(form: Callable[[str], str]) -> None:
    chunk = f"data: {form(json.dumps({'model': 'm'}))}\n\n".encode()
    assert read(Events, [chunk, CHUNK]).values == [form('"m"').encode(), None]
