from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from gatekeeper.auth.answer_cache import AnswerCache
from tests.auth.support import outcome


class Asking:
    """Answers are numbers, which are how long they are believed."""

    def __init__(self, size: int = 10) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[int]] = []
        self.cache: AnswerCache[str, int] = AnswerCache(float, size, self.clock.seconds)

    def ask(self) -> Deferred[int]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def know(self, key: str, answer: int) -> None:
        found = outcome(self.cache.find(key, self.ask))
        self.asked.pop().callback(answer)
        assert found == [answer]


def test_an_answer_is_believed_for_as_long_as_it_is_good() -> None:
    asking = Asking()
    asking.know("a", 5)
    asking.know("b", 60)
    asking.clock.advance(4.9)
    assert outcome(asking.cache.find("a", asking.ask)) == [5]
    assert asking.cache.get("a") == 5
    asking.clock.advance(0.1)
    assert asking.cache.get("a") is None
    assert asking.cache.get("b") == 60
    assert outcome(asking.cache.find("a", asking.ask)) == []
    assert len(asking.asked) == 1


def test_equal_questions_share_an_answer() -> None:
    asking = Asking()
    first = asking.cache.find("a", asking.ask)
    second = outcome(asking.cache.find("a", asking.ask))
    first.cancel()
    (cancelled,) = outcome(first)
    assert cancelled.check(CancelledError)
    (asked,) = asking.asked
    assert asking.cache.get("a") is None
    asked.callback(5)
    assert second == [5]
    assert asking.cache.get("a") == 5


def test_a_failure_is_not_remembered() -> None:
    asking = Asking()
    found = [outcome(asking.cache.find("a", asking.ask)) for _ in range(2)]
    asking.asked.pop().errback(ValueError("no"))
    for (failure,) in found:
        with pytest.raises(ValueError, match="no"):
            failure.raiseException()
    asking.know("a", 5)


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    asking = Asking(size=2)
    asking.know("a", 60)
    asking.know("b", 60)
    assert asking.cache.get("a") == 60
    asking.know("c", 60)
    assert [asking.cache.get(key) for key in "abc"] == [60, None, 60]
    assert len(asking.cache) == 2
