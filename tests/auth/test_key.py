"""API keys that operators make."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from gatekeeper.auth.interfaces import ABSTAIN, Deny, Fields, Grant, Unavailable, Verdict
from gatekeeper.auth.key import KeyChecker, new_key
from gatekeeper.store.state import StoredKey, StoredUser
from tests.auth.directories import FakeDirectory
from tests.auth.support import NOW, credentials

NEW = new_key()
KEY = StoredKey(NEW.id, "acme", "alice", NEW.digest, NOW, groups=("a", "b"))
ALICE = StoredUser("acme", "alice", "hash", NOW)
PRESENTED = NEW.presented.encode("ascii")
GRANTED = Grant(user="alice", key_id=NEW.id, groups=frozenset({"a", "b"}))


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory(keys=[KEY])


@pytest.fixture
def checker(directory: FakeDirectory) -> KeyChecker:
    checker = KeyChecker("keys", lambda: NOW)
    checker.use_directory(directory)
    return checker


def ask(
    checker: KeyChecker, presented: bytes = b"", *fields: bytes, service: str = "acme"
) -> Verdict:
    given: Fields = tuple((b"x-api-key", value) for value in fields)
    return checker.check(credentials(presented, given, service=service))


def reason(verdict: Verdict) -> str:
    assert isinstance(verdict, Deny)
    assert verdict.status == 401
    assert (verdict.told or verdict.reason) == "wrong_key", "who asks is told nothing else"
    return verdict.reason


def test_new_keys() -> None:
    prefix, key_id, secret = NEW.presented.split("_", 2)
    assert (prefix, key_id) == ("gk", NEW.id)
    assert len(secret) == 43, "256 bits"
    assert sha256(secret.encode()).hexdigest() == NEW.digest
    assert new_key() != NEW


def test_as_bearer_token(checker: KeyChecker) -> None:
    assert ask(checker, b"Bearer " + PRESENTED) == GRANTED
    assert ask(checker, b"bearer  " + PRESENTED) == GRANTED


def test_in_its_own_field_which_does_not_go_upstream(checker: KeyChecker) -> None:
    verdict = ask(checker, b"", PRESENTED)
    assert verdict == replace(GRANTED, removes=(b"x-api-key",))
    assert isinstance(verdict, Grant)
    assert verdict.header_names == {b"x-api-key"}
    assert ask(checker, b"Basic YTpi", PRESENTED) == verdict
    # Shown twice, it is hidden once more.
    assert ask(checker, b"Bearer " + PRESENTED, PRESENTED) == verdict
    # Another one's is the upstream's.
    assert ask(checker, b"Bearer " + PRESENTED, b"other") == GRANTED


def test_two_fields_are_no_key(checker: KeyChecker) -> None:
    for fields in ((PRESENTED, PRESENTED), (b"x", PRESENTED), (PRESENTED, b"x")):
        verdict = ask(checker, b"", *fields)
        assert isinstance(verdict, Deny)
        assert (verdict.status, verdict.reason) == (401, "malformed_credentials")


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"gk_",
        PRESENTED[:-22],
        PRESENTED + b"=",
        PRESENTED.replace(b"gk_", b"GK_"),
        b"x" + PRESENTED,
        b"gk_ID_" + b"a" * 43,
        b"gk_1_" + b"a" * 257,
        b"aaa.bbb.ccc",
    ],
    ids=["empty", "prefix", "short", "padded", "case", "front", "id", "long", "other"],
)
def test_what_is_no_such_key_is_for_others(checker: KeyChecker, token: bytes) -> None:
    assert ask(checker, b"Bearer " + token) is ABSTAIN
    assert ask(checker, b"", token) is ABSTAIN
    assert ask(checker, b"Basic " + PRESENTED) is ABSTAIN


def test_wrong_ones(checker: KeyChecker) -> None:
    wrong = PRESENTED[:-1] + (b"A" if PRESENTED[-1:] != b"A" else b"B")
    assert reason(ask(checker, b"Bearer " + wrong)) == "wrong_key"
    assert reason(ask(checker, b"Bearer gk_" + b"0" * 16 + b"_" + b"a" * 43)) == "unknown_key"


def test_a_key_is_for_one_service_or_all(checker: KeyChecker, directory: FakeDirectory) -> None:
    asked = ask(checker, b"Bearer " + PRESENTED, service="other")
    assert reason(asked) == "key_of_another_service"
    directory.become(keys=[KEY._replace(service="")])
    assert ask(checker, b"Bearer " + PRESENTED, service="other") == GRANTED


@pytest.mark.parametrize(
    ("key", "user", "expected"),
    [
        (KEY._replace(disabled=True), None, "disabled_key"),
        (KEY._replace(expires=NOW), None, "expired_key"),
        (KEY, ALICE._replace(disabled=True), "disabled_user"),
        (KEY, ALICE._replace(expires=NOW - 1), "disabled_user"),
        (KEY._replace(service=""), ALICE._replace(disabled=True), "disabled_user"),
    ],
)
def test_those_that_count_no_more(
    checker: KeyChecker,
    directory: FakeDirectory,
    key: StoredKey,
    user: StoredUser | None,
    expected: str,
) -> None:
    directory.become([user] if user else [], [key])
    assert reason(ask(checker, b"Bearer " + PRESENTED)) == expected


@pytest.mark.parametrize(
    ("key", "user", "expires"),
    [
        (None, None, None),
        (NOW + 5, None, NOW + 5),
        (None, NOW + 5, NOW + 5),
        (NOW + 7, NOW + 5, NOW + 5),
        (NOW + 5, NOW + 7, NOW + 5),
    ],
)
def test_a_grant_ends_with_the_key_or_the_user(
    checker: KeyChecker,
    directory: FakeDirectory,
    key: float | None,
    user: float | None,
    expires: float | None,
) -> None:
    directory.become([ALICE._replace(expires=user)], [KEY._replace(expires=key)])
    assert ask(checker, b"Bearer " + PRESENTED) == replace(GRANTED, expires=expires)


def test_before_keys_are_known_it_cannot_tell(
    checker: KeyChecker, directory: FakeDirectory
) -> None:
    directory.loaded = False
    assert isinstance(ask(checker, b"Bearer " + PRESENTED), Unavailable)
    assert ask(checker, b"Bearer other") is ABSTAIN
    alone = KeyChecker("keys")
    assert isinstance(ask(alone, b"Bearer " + PRESENTED), Unavailable)
