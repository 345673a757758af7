from __future__ import annotations

import base64

import argon2
import pytest
from argon2.exceptions import VerificationError
from pydantic import ValidationError
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from gatekeeper.auth.basic import BasicChecker, BasicSettings
from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Deny,
    Grant,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.users import ConfiguredUsers, Decoys, KnownUser, UserSource
from tests.auth.support import ALICE, CHEAP, ManualThreads, basic, credentials, outcome
from tests.store.support import in_reactor

USERS = {"alice": ALICE, "jörg": CHEAP.hash("p:w")}


@pytest.fixture
def threads() -> ManualThreads:
    return ManualThreads()


def make(threads: ManualThreads, *sources: UserSource, limit: int = 64) -> BasicChecker:
    return BasicChecker(
        "users",
        sources or [ConfiguredUsers(USERS)],
        Decoys(list(USERS.values())),
        HashingQueue(threads, limit),
    )


def ask(
    checker: BasicChecker, presented: bytes, client: str = "192.0.2.1", service: str = "acme"
) -> list[Verdict | Failure]:
    return outcome(checker.check(credentials(presented, client=client, service=service)))


@pytest.mark.parametrize(
    ("user", "password", "found"),
    [
        ("alice", "wonderland", "alice"),
        ("jörg", "p:w", "jörg"),
        ("jo\N{COMBINING DIAERESIS}rg", "p:w", "jörg"),
    ],
)
def test_the_right_password(threads: ManualThreads, user: str, password: str, found: str) -> None:
    verdict = ask(make(threads), basic(user, password))
    threads.finish_all()
    assert verdict == [Grant(user=found)]


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC"])
def test_the_scheme_in_any_case(threads: ManualThreads, scheme: bytes) -> None:
    presented = scheme + b"  " + base64.b64encode(b"alice:wonderland")
    verdict = ask(make(threads), presented)
    threads.finish_all()
    assert verdict == [Grant(user="alice")]


@pytest.mark.parametrize("presented", [b"", b"Bearer YTpi", b"Digest x", b"Basicx YTpi"])
def test_another_scheme_is_left_to_others(threads: ManualThreads, presented: bytes) -> None:
    assert make(threads).check(credentials(presented)) is ABSTAIN


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"!!!!",
        b"YWxpY2U6d29uZGVybGFuZA",  # not padded
        b"YWxpY2U6d29uZGVybGFuZA===",
        b"YWxpY2U6d29uZGVybGFuZB==",  # bits that nothing reads
        b"YWxpY2U6 d29uZGVybGFuZA==",
        b"YWxpY2U6d29uZGVybGFuZA==x",
        b"YWxpY2U6\td29uZGVybGFuZA==",
        b"YWxpY2U6d29uZGVybGFuZA-_",
        "YWxpY2U6ä".encode(),
        base64.b64encode(b"alice"),
        base64.b64encode(b":wonderland"),
        base64.b64encode(b":"),
        base64.b64encode(b"alice:\xff\xfe"),
        base64.b64encode(b"alice:\xc0\xafx"),  # overlong
        base64.b64encode(b"alice:won\x00derland"),
        base64.b64encode(b"ali\nce:wonderland"),
        base64.b64encode(b"alice:wonderland\x7f"),
        base64.b64encode(b"alice:wonder\xc2\x85land"),
        base64.b64encode(b"alice:" + b"x" * 8192),
        base64.b64encode(b"alice:" + b"x" * 1_000_000),
    ],
)
def test_malformed(threads: ManualThreads, token: bytes) -> None:
    verdict = make(threads).check(credentials(b"Basic " + token))
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.reason, verdict.error) == (401, "malformed_credentials", "")
    assert not threads.running


def test_unknown_user_and_wrong_password_are_the_same_answer_and_work() -> None:
    results = []
    for presented in (basic("alice", "wrong"), basic("nobody", "wrong"), basic("nobody", "")):
        threads = ManualThreads()
        verdict = ask(make(threads), presented)
        assert verdict == []
        threads.finish_all()
        (work,) = threads.done
        _, hashed = work.args  # type: ignore[attr-defined]
        results.append((verdict, argon2.extract_parameters(hashed)))
    assert results[0][0] == [Deny("wrong_password", "User name or password are wrong.")]
    assert results[0] == results[1] == results[2]


def test_equal_passwords_are_checked_once_at_a_time(threads: ManualThreads) -> None:
    checker = make(threads)
    verdicts = [ask(checker, basic("alice", "wonderland")) for _ in range(10)]
    threads.finish_all()
    assert verdicts == [[Grant(user="alice")]] * 10
    assert len(threads.done) == 1
    assert ask(checker, basic("alice", "wonderland")) == []  # nothing is remembered here


def test_services_are_kept_apart(threads: ManualThreads) -> None:
    class OneService:
        def find(self, service: str, user: str) -> KnownUser | None:
            return KnownUser(ALICE) if service == "acme" else None

    checker = make(threads, OneService())
    here = ask(checker, basic("alice", "wonderland"))
    there = ask(checker, basic("alice", "wonderland"), service="other")
    threads.finish_all()
    assert here == [Grant(user="alice")]
    assert isinstance(there[0], Deny)


def test_a_flood_of_wrong_passwords_does_not_keep_others_out(threads: ManualThreads) -> None:
    checker = make(threads, limit=8)
    flood = [ask(checker, basic("alice", f"{number}"), "203.0.113.1") for number in range(200)]
    right = ask(checker, basic("alice", "wonderland"), "192.0.2.1")
    for _ in range(3):  # what runs, at most one of the flood's, and ours
        threads.finish()
    assert right == [Grant(user="alice")]
    threads.finish_all()
    busy = [verdict for verdict in flood if isinstance(verdict[0], Unavailable)]
    assert len(busy) == 192
    assert all(isinstance(verdict[0], Deny) for verdict in flood if verdict not in busy)


def test_sources_are_asked_in_order_and_may_take_their_time(threads: ManualThreads) -> None:
    class Slow:
        carol = KnownUser(CHEAP.hash("stored"))

        def find(self, service: str, user: str) -> Deferred[KnownUser | None]:
            return succeed(self.carol if user == "carol" else None)

    checker = make(threads, Slow(), ConfiguredUsers(USERS))
    carol = ask(checker, basic("carol", "stored"))
    threads.finish_all()
    alice = ask(checker, basic("alice", "wonderland"))
    threads.finish_all()
    assert (carol, alice) == ([Grant(user="carol")], [Grant(user="alice")])


def test_what_cannot_be_told_is_no_denial(threads: ManualThreads) -> None:
    """A damaged hash stands for memory that is short: the library raises for both."""
    checker = make(threads, ConfiguredUsers({"alice": "$argon2id$v=19$m=8,t=1,p=1$$"}))
    verdict = ask(checker, basic("alice", "x"))
    threads.finish_all()
    assert isinstance(verdict[0], Failure)
    assert verdict[0].check(VerificationError, argon2.exceptions.InvalidHashError)


def test_closing(threads: ManualThreads) -> None:
    checker = make(threads)
    ask(checker, basic("alice", "1"))
    waiting = ask(checker, basic("alice", "2"))
    checker.close()
    assert isinstance(waiting[0], Unavailable)
    assert threads.closed


@in_reactor
async def test_with_real_threads() -> None:
    checker = BasicChecker.configured("users", BasicSettings(users={"alice": ALICE}))
    try:
        verdicts: list[Verdict] = []
        for password in ("wonderland", "wrong"):
            asked = checker.check(credentials(basic("alice", password)))
            assert isinstance(asked, Deferred)
            verdicts.append(await asked)
        assert verdicts[0] == Grant(user="alice")
        assert isinstance(verdicts[1], Deny)
    finally:
        checker.close()


def test_the_challenge() -> None:
    checker = BasicChecker.configured("users", BasicSettings())
    assert checker.challenges == (b'Basic realm="Service access", charset="UTF-8"',)
    checker = BasicChecker.configured("users", BasicSettings(realm="Acme, Inc."))
    assert checker.challenges == (b'Basic realm="Acme, Inc.", charset="UTF-8"',)


@pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "a\r\nb", "\N{SNOWMAN}", "x" * 101])
def test_realms_that_would_break_the_challenge(realm: str) -> None:
    with pytest.raises(ValidationError):
        BasicSettings(realm=realm)


def test_wrong_users_are_named_without_what_stands_there() -> None:
    users = {
        "alice": ALICE,
        "bob": "hunter2-hunter2",
        "co:lon": ALICE,
        "e\N{COMBINING ACUTE ACCENT}": ALICE,
        "": ALICE,
        "tab\t": ALICE,
    }
    with pytest.raises(ValidationError) as caught:
        BasicSettings(users=users)
    places = [error["loc"][1] for error in caught.value.errors()]
    assert places == ["bob", "co:lon", "e\N{COMBINING ACUTE ACCENT}", "", "tab\t"]
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_show_hashes() -> None:
    assert "argon2" not in repr(BasicSettings(users={"alice": ALICE}))
