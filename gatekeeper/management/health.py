"""Whether the daemon is ready for work: named checks, asked together, each with a timeout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

Check: TypeAlias = Callable[[], "str | Deferred[str | None] | None"]
"""Says what is wrong in words for the operator, None if nothing; may answer later."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks said: for each name a problem, or None."""

    problems: Mapping[str, str | None]
    draining: bool

    @property
    def ready(self) -> bool:
        """Whether to send requests here."""
        return not self.draining and not any(self.problems.values())


class Readiness:
    """Asks ``checks``; one that says nothing for ``timeout`` seconds counts as a problem.

    Set ``draining`` when the daemon begins to stop.
    """

    def __init__(self, checks: Mapping[str, Check], timeout: float = 2.0) -> None:
        self.draining = False
        self._timeout = timeout
        self.use(checks)

    def use(self, checks: Mapping[str, Check]) -> None:
        """Ask these from now on."""
        self._checks = {name: _Asked(name, check) for name, check in checks.items()}

    def report(self, clock: IReactorTime) -> Deferred[Report]:
        """Ask all checks. Never fails, but may be cancelled, which the checks do not notice."""
        checks = self._checks
        answers = [
            check.ask().addTimeout(self._timeout, clock, self._no_answer)
            for check in checks.values()
        ]
        return gatherResults(answers, consumeErrors=True).addCallbacks(
            lambda problems: Report(dict(zip(checks, problems, strict=True)), self.draining),
            lambda failure: failure.value.subFailure,  # the cancellation itself
        )

    def _no_answer(self, _: object, timeout: float) -> str:
        return f"no answer within {timeout:g} s"


class _Asked:
    """A check that is asked once at a time, by however many.

    It is never cancelled: a database driver need not survive that. One that hangs is not asked
    again, so that nothing piles up behind it.
    """

    _log = Logger()

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._running = False
        self._waiters: list[Deferred[str | None]] = []

    def ask(self) -> Deferred[str | None]:
        waiter: Deferred[str | None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        if not self._running:
            self._running = True
            answer = succeed(None).addCallback(lambda _: self._check())
            answer.addErrback(self._failed).addCallback(self._answered)
        return waiter

    def _failed(self, failure: Failure) -> str:
        self._log.failure("Readiness check {name} failed", failure, name=self._name)
        return "the check itself failed; see the log"

    def _answered(self, problem: str | None) -> None:
        self._running = False
        while self._waiters:
            self._waiters.pop().callback(problem)
