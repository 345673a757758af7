from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import ANONYMOUS, Chain
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    CERTIFICATE,
    CLIENT,
    PEER_TRUSTED,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Unavailable,
    Verdict,
)
from tests.auth.support import Logged, credentials, outcome

SECRET = b"Bearer top.secret.token"
ALICE = Grant(user="alice")
NO = Deny("no", "no")


@implementer(IChecker)
class Scripted:
    """Answers what it was made with; counts how often it is asked."""

    def __init__(
        self,
        answer: Any = ABSTAIN,
        *,
        challenges: Sequence[bytes] = (b'Bearer realm="x"',),
        varies: frozenset[bytes] | None = frozenset(),
    ) -> None:
        self.answer = answer
        self.challenges = challenges
        self.varies = varies
        self.asked: list[Credentials] = []
        self.open: list[Deferred[Verdict]] = []

    def __repr__(self) -> str:
        return "<scripted>"

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        self.asked.append(credentials)
        if self.answer == "later":
            self.open.append(Deferred())
            return self.open[-1]
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Verdict = self.answer
        return answer

    def close(self) -> None:
        raise AssertionError("a chain does not own its checkers")


@pytest.fixture
def cache() -> VerdictCache:
    return VerdictCache(100, 300, 5)


Make = Callable[..., Chain]


@pytest.fixture
def make(cache: VerdictCache) -> Make:
    return lambda *checkers, name="acme": Chain(name, checkers, cache)


def test_nobody_to_ask_is_public(make: Make) -> None:
    chain = make()
    assert chain.public
    assert chain.lookup(b"anything") == chain.check(credentials(SECRET)) == ANONYMOUS
    assert repr(chain) == "<Chain 'acme': public>"


@pytest.mark.parametrize("answer", [ALICE, NO, Deny("no", "no", 403), Unavailable("x", "y")])
def test_the_first_answer_ends_it(make: Make, answer: Verdict) -> None:
    first, second, third = Scripted(), Scripted(answer), Scripted(ALICE)
    chain = make(first, second, third)
    assert chain.check(credentials(SECRET)) == answer
    assert [len(checker.asked) for checker in (first, second, third)] == [1, 1, 0]


def test_later_answers_go_the_same_way(make: Make) -> None:
    first, second, third = Scripted("later"), Scripted("later"), Scripted("later")
    results = outcome(make(first, second, third).check(credentials(SECRET)))
    first.open[0].callback(ABSTAIN)
    assert (len(second.asked), results) == (1, [])
    second.open[0].callback(ALICE)
    assert (len(third.asked), results) == (0, [ALICE])


def test_late_and_early_answers_mix(make: Make) -> None:
    first = Scripted("later")
    results = outcome(make(first, Scripted(), Scripted(ALICE)).check(credentials(SECRET)))
    first.open[0].callback(ABSTAIN)
    assert results == [ALICE]


@pytest.mark.parametrize(
    ("presented", "reason", "error"),
    [
        (b"", "no_credentials", ""),
        (SECRET, "invalid_credentials", "invalid_token"),
        (b"bEaReR x", "invalid_credentials", "invalid_token"),
        (b"Basic YTpi", "invalid_credentials", ""),
        (b"bare", "invalid_credentials", ""),
    ],
)
def test_all_abstain(make: Make, presented: bytes, reason: str, error: str) -> None:
    verdict = make(Scripted(), Scripted()).check(credentials(presented))
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.reason, verdict.error) == (401, reason, error)


def test_without_a_challenge_there_is_no_401(make: Make) -> None:
    for presented in (b"", SECRET):
        verdict = make(Scripted(challenges=())).check(credentials(presented))
        assert isinstance(verdict, Deny)
        assert verdict.status == 403


def test_one_challenge_per_scheme(make: Make) -> None:
    chain = make(
        Scripted(challenges=[b'Bearer realm="a"']),
        Scripted(challenges=[b'Basic realm="b"', b'bearer realm="c"']),
        Scripted(challenges=()),
        Scripted(challenges=[b'Basic realm="b"', b"Negotiate"]),
    )
    assert chain.challenges == (b'Bearer realm="a"', b'Basic realm="b"', b"Negotiate")


# --- the cache ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [ALICE, NO])
def test_an_answer_is_remembered(make: Make, answer: Verdict) -> None:
    checker = Scripted(answer)
    chain = make(checker)
    assert chain.lookup(SECRET) is None
    chain.check(credentials(SECRET))
    assert chain.lookup(SECRET) == answer
    assert chain.lookup(SECRET + b"x") is None
    assert chain.lookup(b"") is None


def test_late_answers_are_remembered(make: Make) -> None:
    checker = Scripted("later")
    chain = make(checker)
    results = outcome(chain.check(credentials(SECRET)))
    assert chain.lookup(SECRET) is None
    checker.open[0].callback(ALICE)
    assert results == [ALICE]
    assert chain.lookup(SECRET) == ALICE


def test_that_nobody_took_them_is_remembered(make: Make) -> None:
    chain = make(Scripted())
    assert chain.check(credentials()) == chain.lookup(b"")
    assert chain.lookup(b"") is not None


@pytest.mark.parametrize("answer", [Unavailable("x", "y"), ValueError("broken"), None])
def test_outages_are_not_remembered(make: Make, answer: object) -> None:
    chain = make(Scripted(answer))
    assert isinstance(chain.check(credentials(SECRET)), Unavailable)
    assert chain.lookup(SECRET) is None


def test_chains_do_not_share_verdicts(make: Make) -> None:
    one, other = make(Scripted(ALICE), name="one"), make(Scripted(NO), name="other")
    one.check(credentials(SECRET))
    assert other.lookup(SECRET) is None


def known(chain: Chain, checker: Scripted, asked: Credentials) -> bool:
    """Whether the chain answers without asking."""
    before = len(checker.asked)
    chain.check(asked)
    return len(checker.asked) == before


def test_fields_that_matter(make: Make) -> None:
    checker = Scripted(ALICE, varies=frozenset({b"x-a", b"x-b"}))
    chain = make(checker)
    told = ((b"x-a", b"1"), (b"x-b", b"2"))
    assert not known(chain, checker, credentials(SECRET, (*told, (b"other", b"3"))))
    assert known(chain, checker, credentials(SECRET, told))
    assert known(chain, checker, credentials(SECRET, (*told, (b"other", b"4"))))
    for different in [
        (),
        told[:1],
        ((b"x-a", b"1"), (b"x-b", b"3")),
        ((b"x-a", b"12"), (b"x-b", b"")),
        ((b"x-b", b"1"), (b"x-a", b"2")),
        (*told, (b"x-a", b"1")),
    ]:
        assert not known(chain, checker, credentials(SECRET, different))
    assert chain.lookup(SECRET) is None


def test_what_else_matters(make: Make) -> None:
    checker = Scripted(ALICE, varies=frozenset({CLIENT, PEER_TRUSTED, CERTIFICATE}))
    chain = make(checker)
    first = credentials(SECRET, client="192.0.2.1", peer_trusted=True)
    assert not known(chain, checker, first)
    assert known(chain, checker, first)
    assert not known(chain, checker, replace(first, client="192.0.2.2"))
    assert not known(chain, checker, replace(first, peer_trusted=False))
    assert not known(chain, checker, replace(first, certificate={"serialNumber": "1"}))
    checker = Scripted(ALICE)
    indifferent = make(checker, name="indifferent")
    assert not known(indifferent, checker, first)
    assert known(indifferent, checker, replace(first, client="192.0.2.2", peer_trusted=False))


def test_checking_again_asks_whatever_is_known(make: Make) -> None:
    checker = Scripted(ALICE)
    chain = make(checker)
    chain.check(credentials(SECRET))
    checker.answer = NO
    assert chain.check_again(credentials(SECRET)) == NO
    assert chain.lookup(SECRET) == ALICE
    assert make().check_again(credentials(SECRET)) == ANONYMOUS


def test_one_checker_that_cannot_say_keeps_the_chain_out_of_the_cache(make: Make) -> None:
    first, second = Scripted(ALICE), Scripted(varies=None)
    chain = make(first, second)
    for _ in range(2):
        assert chain.check(credentials(SECRET)) == ALICE
        assert chain.lookup(SECRET) is None
    assert len(first.asked) == 2


def test_an_answer_from_before_a_drop_is_not_remembered(make: Make, cache: VerdictCache) -> None:
    checker = Scripted("later")
    chain = make(checker)
    results = outcome(chain.check(credentials(SECRET)))
    cache.clear()
    checker.open[0].callback(ALICE)
    assert results == [ALICE]
    assert chain.lookup(SECRET) is None


def test_no_credential_is_held(make: Make) -> None:
    chain = make(Scripted(ALICE, varies=frozenset({b"x-a"})), Scripted())
    secret = b"Bearer " + b"s3cr3t" * 3
    chain.check(credentials(secret, ((b"x-a", secret),)))
    cache = chain._cache
    held = [key for area in (cache._grants, cache._denials) for key in area]
    assert [len(key) for key in held] == [16]
    assert not any(b"s3cr3t" in key for key in held)


# --- single flight -----------------------------------------------------------------------


def test_equal_requests_are_one_question(make: Make) -> None:
    checker = Scripted("later")
    chain = make(checker)
    results = [outcome(chain.check(credentials(SECRET))) for _ in range(5)]
    other = outcome(chain.check(credentials(b"Bearer other")))
    assert len(checker.asked) == 2
    checker.open[0].callback(ALICE)
    assert (results, other) == ([[ALICE]] * 5, [])


def test_a_caller_that_goes_away_takes_nobody_along(make: Make) -> None:
    checker = Scripted("later")
    chain = make(checker)
    leader, follower = chain.check(credentials(SECRET)), chain.check(credentials(SECRET))
    assert isinstance(leader, Deferred)
    gone, there = outcome(leader), outcome(follower)
    leader.cancel()
    assert isinstance(gone[0], Failure)
    assert gone[0].check(CancelledError)
    checker.open[0].callback(ALICE)
    assert there == [ALICE]
    assert chain.lookup(SECRET) == ALICE


# --- trouble -----------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_a_checker_that_breaks_is_an_outage(make: Make, logged: Logged, late: bool) -> None:
    error = ValueError("cannot read top.secret.token")
    checker = Scripted("later" if late else error)
    after = Scripted(ALICE)
    asked = make(checker, after).check(credentials(SECRET))
    if late:
        results = outcome(asked)
        checker.open[0].errback(error)
        asked = results[0]
    assert isinstance(asked, Unavailable)
    assert not after.asked
    del asked, checker
    gc.collect()  # an unhandled Failure would be logged now
    (event,) = logged
    assert "<scripted> failed: ValueError" in logged.text
    assert "secret" not in logged.text
    assert event["log_level"].name == "error"


@pytest.mark.parametrize("answer", [None, True, "grant", Grant])
def test_what_is_no_verdict_admits_nobody(make: Make, logged: Logged, answer: object) -> None:
    assert isinstance(make(Scripted(answer)).check(credentials(SECRET)), Unavailable)
    assert "no verdict" in logged.text


def test_every_waiting_caller_hears_of_an_outage(make: Make) -> None:
    checker = Scripted("later")
    chain = make(checker)
    results = [outcome(chain.check(credentials(SECRET))) for _ in range(3)]
    checker.open[0].errback(OSError())
    assert all(isinstance(result[0], Unavailable) for result in results)
    assert chain.check(credentials(SECRET)) is not None
    assert len(checker.asked) == 2
