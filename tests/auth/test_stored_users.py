"""Users that operators have made, and how the ``basic`` checker lets them in."""

from __future__ import annotations

import argon2
import pytest

from gatekeeper.auth.basic import BasicChecker
from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.interfaces import Deny, Grant, Unavailable, Verdict
from gatekeeper.auth.users import ConfiguredUsers, Decoys, KnownUser, StoredUsers
from gatekeeper.errors import StoreError
from gatekeeper.store.state import StoredUser
from tests.auth.directories import FakeDirectory
from tests.auth.support import ALICE, CHEAP, NOW, ManualThreads, basic, credentials, outcome

BUILDER = CHEAP.hash("builder")
BOB = StoredUser("acme", "bob", BUILDER, NOW, groups=("g",))


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory([BOB])


@pytest.fixture
def threads() -> ManualThreads:
    return ManualThreads()


@pytest.fixture
def checker(directory: FakeDirectory, threads: ManualThreads) -> BasicChecker:
    users = ConfiguredUsers({"alice": ALICE})
    checker = BasicChecker("users", [users], Decoys([ALICE]), HashingQueue(threads))
    checker.use_directory(directory)
    return checker


def begin(checker: BasicChecker, user: str, password: str, service: str = "acme") -> list[Verdict]:
    return outcome(checker.check(credentials(basic(user, password), service=service)))


class TestTheSource:
    @pytest.mark.parametrize(
        ("user", "found"),
        [
            (BOB, True),
            (BOB._replace(disabled=True), False),
            (BOB._replace(expires=NOW), False),
            (BOB._replace(expires=NOW + 1), True),
            (BOB._replace(service="other"), False),
            (BOB._replace(name="Bob"), False),
        ],
    )
    def test_finds_who_may_log_in(self, user: StoredUser, found: bool) -> None:
        known = StoredUsers(FakeDirectory([user]), lambda: NOW).find("acme", "bob")
        assert known == (KnownUser(BUILDER, frozenset({"g"}), user.expires) if found else None)

    def test_cannot_tell_before_they_are_known(self, directory: FakeDirectory) -> None:
        directory.loaded = False
        with pytest.raises(StoreError):
            StoredUsers(directory).find("acme", "bob")

    def test_samples_are_one_of_each_cost(self, directory: FakeDirectory) -> None:
        other = argon2.PasswordHasher(1, 16, 1).hash("x")
        source = StoredUsers(directory)
        assert source.samples("acme") == [BUILDER]
        same = BOB._replace(name="b2", password=CHEAP.hash("y"))
        directory.become([BOB, same, BOB._replace(name="b3", password=other)])
        assert source.samples("acme") == [BUILDER, other]
        assert source.samples("other") == []


def test_they_are_let_in_with_their_groups(
    checker: BasicChecker, threads: ManualThreads, directory: FakeDirectory
) -> None:
    directory.become([BOB._replace(expires=9e9)])
    verdict = begin(checker, "bob", "builder")
    wrong = begin(checker, "bob", "wonderland")
    elsewhere = begin(checker, "bob", "builder", "other")
    threads.finish_all()
    assert verdict == [Grant(user="bob", groups=frozenset({"g"}), expires=9e9)]
    for each in wrong, elsewhere:
        assert isinstance(each[0], Deny)
        assert each[0].reason == "wrong_password"


def test_those_of_the_configuration_win(
    checker: BasicChecker, threads: ManualThreads, directory: FakeDirectory
) -> None:
    directory.become([BOB._replace(name="alice")])
    verdicts = [begin(checker, "alice", password) for password in ("wonderland", "builder")]
    threads.finish_all()
    assert verdicts[0] == [Grant(user="alice")]
    assert isinstance(verdicts[1][0], Deny)


@pytest.mark.parametrize("change", [{"disabled": True}, {"expires": 1.0}])
def test_disabled_and_expired_ones_are_as_unknown(
    checker: BasicChecker,
    threads: ManualThreads,
    directory: FakeDirectory,
    change: dict[str, object],
) -> None:
    directory.become([BOB._replace(**change)])  # type: ignore[arg-type]
    gone, unknown = begin(checker, "bob", "builder"), begin(checker, "nobody", "builder")
    threads.finish_all()
    assert gone == unknown
    assert isinstance(gone[0], Deny)


def test_an_unknown_name_costs_what_stored_users_cost(directory: FakeDirectory) -> None:
    decoys = Decoys([])
    samples = StoredUsers(directory).samples("acme")
    decoy = decoys.hash_for("nobody", samples)
    assert argon2.extract_parameters(decoy) == argon2.extract_parameters(BUILDER)


def test_before_they_are_known_nobody_is_wrong(
    checker: BasicChecker, threads: ManualThreads, directory: FakeDirectory
) -> None:
    directory.loaded = False
    bob, alice = begin(checker, "bob", "builder"), begin(checker, "alice", "wonderland")
    threads.finish_all()
    assert isinstance(bob[0], Unavailable)
    assert alice == [Grant(user="alice")]


def test_who_is_removed_while_the_password_is_checked_is_not_let_in(
    checker: BasicChecker, threads: ManualThreads, directory: FakeDirectory
) -> None:
    verdict = begin(checker, "bob", "builder")
    directory.become()
    threads.finish_all()
    assert isinstance(verdict[0], Deny)


def test_a_password_that_changes_meanwhile_is_checked_again(
    checker: BasicChecker, threads: ManualThreads, directory: FakeDirectory
) -> None:
    verdict = begin(checker, "bob", "new")
    directory.become([BOB._replace(password=CHEAP.hash("new"))])
    threads.finish_all()
    assert verdict == [Grant(user="bob", groups=frozenset({"g"}))]
