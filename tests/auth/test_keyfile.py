from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.keyfile import ApiKey, KeyFile, parse_keys
from gatekeeper.errors import ConfigurationError
from tests.auth.support import KEY, KEYS, OTHER_KEY, Logged


def test_both_forms() -> None:
    text = f"""
# comment
   # another
key001={KEY}
  key002={KEY.upper()}   # trailing
kapi_id="003";kapi_key="{OTHER_KEY}";kapi_groups="stats,watcher, spender,";eval x=${{y}}; $(z)
kapi_id="abcXYZ9";kapi_key="{OTHER_KEY}";kapi_groups="";\r
kapi_id="4";kapi_key="{OTHER_KEY}";kapi_groups="a_b-c"
"""
    assert parse_keys(text, "keys") == {
        "001": ApiKey("001", KEY.encode()),
        "002": ApiKey("002", KEY.upper().encode()),
        "003": ApiKey("003", OTHER_KEY.encode(), frozenset({"stats", "watcher", "spender"})),
        "abcXYZ9": ApiKey("abcXYZ9", OTHER_KEY.encode()),
        "4": ApiKey("4", OTHER_KEY.encode(), frozenset({"a_b-c"})),
    }


def test_the_secret_is_text_and_not_shown() -> None:
    key = parse_keys(KEYS, "keys")["001"]
    assert key.secret == KEY.encode("ascii")
    assert KEY not in repr(key)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        f"key={KEY}",
        f"key-1={KEY}",
        f"key001 ={KEY}",
        f"key001= {KEY}",
        f"key001={KEY}x",
        f"key001={KEY};",
        f"KEY001={KEY}",
        f"keyé={KEY}",
        f"key001='{KEY}'",
        "key001=",
        f"key001={KEY[:31]}",
        f'kapi_id="";kapi_key="{KEY}";kapi_groups="";',
        f'kapi_id="1";kapi_key="{KEY}";',
        f'kapi_id="1"; kapi_key="{KEY}";kapi_groups="";',
        f'kapi_id="1";kapi_key="{KEY}";kapi_groups="a"b;',
        f'kapi_id="1";kapi_key="{KEY}";kapi_groups="a b";',
        f'kapi_id="1";kapi_key="{KEY}";kapi_groups="$(x)";',
        f'kapi_id="1";kapi_key="{KEY[:31]}";kapi_groups="";',
        f"kapi_id=1;kapi_key={KEY};kapi_groups=a;",
    ],
)
def test_wrong_lines_are_named_and_not_shown(line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(f"# c\nkey9={KEY}\n{line}\n\nalso wrong\n", "my.keys")
    first, second = caught.value.problems
    assert first.message.startswith("my.keys:3: ")
    assert second.message.startswith("my.keys:5: ")
    assert KEY[:31] not in str(caught.value)


def test_an_id_stands_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(f'key003={KEY}\n\nkapi_id="003";kapi_key="{KEY}";kapi_groups="";', "k")
    assert str(caught.value) == "k:3: the id `003` stands in line 1 already"


@given(st.text(max_size=300))
def test_any_text_is_keys_or_problems(text: str) -> None:
    try:
        keys = parse_keys(text, "k")
    except ConfigurationError:
        return
    assert all(len(key.secret) >= 32 for key in keys.values())


# --- the file ----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.properties"
    path.write_text(KEYS)
    return path


def rewrite(path: Path, text: str | bytes) -> None:
    """Replace the file; the new one is another in any case, whatever the clock's grain."""
    new = path.with_suffix(".new")
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.replace(path)


def test_a_change_is_seen_once(path: Path) -> None:
    file = KeyFile(path)
    assert set(file.keys) == {"001", "003"}
    assert not file.reload()
    rewrite(path, f"key7={KEY}\n")
    assert file.reload()
    assert set(file.keys) == {"7"}
    assert not file.reload()


def test_a_change_in_place_is_seen(path: Path) -> None:
    file = KeyFile(path)
    with path.open("a") as stream:
        stream.write(f"key7={KEY}\n")
    assert file.reload()
    assert set(file.keys) == {"001", "003", "7"}


def test_another_comment_is_no_change(path: Path) -> None:
    file = KeyFile(path)
    rewrite(path, "# new\n" + KEYS)
    assert not file.reload()


@pytest.mark.parametrize("broken", [KEYS + "nonsense\n", b"\xff\xfe", f"key1={KEY}\nkey1={KEY}\n"])
def test_a_broken_file_keeps_the_keys(path: Path, logged: Logged, broken: str | bytes) -> None:
    file = KeyFile(path)
    rewrite(path, broken)
    assert [file.reload() for _ in range(3)] == [False] * 3
    assert set(file.keys) == {"001", "003"}
    assert len(logged) == 1
    assert str(path) in logged.text
    assert KEY not in logged.text
    rewrite(path, f"key7={KEY}\n")
    assert file.reload()
    assert set(file.keys) == {"7"}


def test_a_missing_file_keeps_the_keys(path: Path, logged: Logged) -> None:
    file = KeyFile(path)
    away = path.rename(path.with_suffix(".away"))
    assert [file.reload() for _ in range(3)] == [False] * 3
    assert len(logged) == 1
    assert set(file.keys) == {"001", "003"}
    away.rename(path)
    assert not file.reload()
    path.unlink()
    assert not file.reload()
    assert len(logged) == 2


def test_a_file_that_turns_into_a_directory(path: Path, logged: Logged) -> None:
    file = KeyFile(path)
    path.unlink()
    path.mkdir()
    assert [file.reload() for _ in range(3)] == [False] * 3
    assert len(logged) == 1
    assert set(file.keys) == {"001", "003"}


@pytest.mark.parametrize("name", ["missing", "."])
def test_at_the_start_it_must_be_readable(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyFile(tmp_path / name)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 64 * 1024 * 1024 + 1)  # sparse
    with pytest.raises(ConfigurationError, match="larger than"):
        KeyFile(path)
