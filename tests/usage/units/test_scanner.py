from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.units.paths import parse_path
from gatekeeper.usage.units.scanner import LONGEST_TOKEN, Scanner
from gatekeeper.usage.units.tree import make_tree
from tests.usage.units.documents import PATHS, cut, found, meaning, objects, texts

TREE = make_tree(parse_path(path) for path in PATHS)
cuts = st.lists(st.integers(0, 10**6), max_size=6)


def scan(pieces: list[bytes], *paths: str) -> list[bytes | None]:
    scanner = Scanner(make_tree(map(parse_path, paths)) if paths else TREE)
    for piece in pieces:
        scanner.feed(piece)
    scanner.restart()
    return scanner.values


@given(texts(), cuts)
def test_it_finds_what_a_parser_finds(document: bytes, places: list[int]) -> None:
    wanted = found(document)
    assert [*map(meaning, scan(cut(document, places)))] == wanted
    assert [*map(meaning, scan([document[i : i + 1] for i in range(len(document))]))] == wanted


@given(texts(), st.integers(0, 10**6))
def test_a_document_cut_short_has_what_was_seen(document: bytes, place: int) -> None:
    """No value is there before its last byte was, and every one is soon after."""
    head, _ = [*cut(document, [place]), b""][:2]
    values = scan([head])
    for value in filter(None, values):
        assert value in head
    # What is read so does not depend on the pieces either.
    assert scan([head[i : i + 1] for i in range(len(head))]) == values


@given(st.lists(texts(objects), max_size=4), cuts)
def test_documents_one_after_another(documents: list[bytes], places: list[int]) -> None:
    wanted: list[object] = [None] * len(PATHS)
    for document in documents:
        for slot, value in enumerate(found(document)):
            wanted[slot] = wanted[slot] if value is None else value
    assert [*map(meaning, scan(cut(b"\n".join(documents), places)))] == wanted


@given(st.binary(), st.lists(st.sampled_from([*b'{}[]",:\\u1e ']), max_size=80).map(bytes), cuts)
def test_anything_can_be_fed(noise: bytes, structure: bytes, places: list[int]) -> None:
    data = b'{"usage":' + structure + noise + structure
    values = scan(cut(data, places))
    assert values == scan([data[i : i + 1] for i in range(len(data))])
    assert all(value is None or value in data for value in values)


@pytest.mark.parametrize(
    ("document", "units"),
    [
        (b'{"usage":{"total_tokens":12}}', b"12"),
        (b'\xef\xbb\xbf {"usage":{"total_tokens":12}}', b"12"),
        (b'{"choices":[{"content":"\\"usage\\":{\\"total_tokens\\":1}"}]}', None),
        (b'{"x":{"usage":{"total_tokens":1}},"usage":{"total_tokens":2}}', b"2"),
        (b'{"usage":{"x":{"total_tokens":1}}}', None),
        (b'{"usage":[{"total_tokens":1}]}', None),
        (b'{"usage":null}', None),
        (b'{"usage":{"total_tokens":null}}', None),
        (b'{"usage":{"total_tokens":1,"total_tokens":2}}', b"2"),
        (b'{"usage":{"total_tokens":1},"usage":{}}', None),
        (b'{"us\\u0061ge":{"\\u0074otal_tokens":3}}', b"3"),
        (b'{"usage":{"total_tokens":12', None),
        (b'{"usage":{"total_tokens":12,', b"12"),
        (b'{"usage":{"total_tokens":[1]}}', None),
        (b'{"x":"\xff\xfe","usage":{"total_tokens":4}}', b"4"),
        (b'{"\xff":1,"usage":{"total_tokens":4}}', b"4"),
        (b'{"\\ud800":1,"usage":{"total_tokens":4}}', b"4"),
        (b'{"\\x":1,"usage":{"total_tokens":4}}', b"4"),
        (b'[{"usage":{"total_tokens":1}}]', None),
        (b'"usage"', None),
        (b"", None),
    ],
)
def test_where_the_value_is(document: bytes, units: bytes | None) -> None:
    assert scan([document], "usage.total_tokens") == [units]


def test_a_large_document_is_read_to_its_end() -> None:
    filling = json.dumps([[0.25] * 1000, {"a": [1, {"b": '"usage"'}]}, "\\" * 5000] * 20)
    document = f'{{"data":{filling},"usage":{{"total_tokens":7}}}}'.encode()
    pieces = [document[i : i + 16_384] for i in range(0, len(document), 16_384)]
    assert len(pieces) > 10
    assert scan(pieces, "usage.total_tokens") == [b"7"]


@pytest.mark.parametrize(
    "filling",
    [
        b"[" * 1_000_000 + b"]" * 1_000_000,
        b'"' + b"\\\\" * 1_000_000 + b'"',
        b"9" * 1_000_000,
        b" " * 1_000_000 + b"null",
        b"[" + b"1," * 1_000_000 + b"1]",
        b'[{"usage":"' + b"x" * 1_000_000 + b'"}]',
    ],
    ids=["deep", "escapes", "digits", "blanks", "elements", "string"],
)
def test_nothing_of_what_is_skipped_is_kept(filling: bytes) -> None:
    scanner = Scanner(make_tree([parse_path("usage.total_tokens"), parse_path("x")]))
    document = b'{"x":' + filling + b',"usage":{"total_tokens":7}}'
    for start in range(0, len(document), 65_536):
        scanner.feed(document[start : start + 65_536])
        assert len(scanner._carry) <= LONGEST_TOKEN
        assert len(scanner._stack) <= 2
    assert scanner.values == [b"7", None]


@pytest.mark.parametrize("size", [LONGEST_TOKEN - 2, LONGEST_TOKEN - 1])
@pytest.mark.parametrize("piece", [1, 700, 5000])
def test_the_longest_value(size: int, piece: int) -> None:
    document = b'{"x":"' + b"m" * size + b'","y":1}'
    pieces = [document[i : i + piece] for i in range(0, len(document), piece)]
    wanted = b'"' + b"m" * size + b'"' if size + 2 <= LONGEST_TOKEN else None
    assert scan(pieces, "x", "y") == [wanted, b"1"]


def test_a_long_key_is_none_that_is_wanted() -> None:
    document = b'{"' + b"k" * 5000 + b'":{"y":2},"y":1}'
    assert scan([document[i : i + 100] for i in range(0, len(document), 100)], "y") == [b"1"]


def test_a_document_of_nothing_but_steps_is_given_up() -> None:
    steps = b'{"\\u0061":1,' + b'"\\u0061":1,' * 20_000
    assert scan([steps + b'"y":1}'], "y") == [None]
    # An ordinary one is not, in however small pieces it comes.
    document = b'{"a":1,"b":[{}],"y":{"z":1}}' * 2_000 + b'{"y":{"z":2}}'
    assert scan([document[i : i + 1] for i in range(len(document))], "y.z") == [b"2"]
