"""The checkers of one service, asked in order, and their cached verdicts."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.challenges import one_per_scheme
from gatekeeper.auth.flight import SingleFlight
from gatekeeper.auth.interfaces import (
    CERTIFICATE,
    CLIENT,
    PEER_TRUSTED,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IAnswersMissing,
    IChecker,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.revoked import REVOKED, Revoked
from gatekeeper.stats import ChainStats

#: What a chain says in the end.
Decision: TypeAlias = Grant | Deny | Unavailable

ANONYMOUS: Final = Grant(consumed=False)
_FAILED: Final = Unavailable("checker_failed", "The credentials cannot be checked at the moment.")


class Chain:
    """Checkers in order: Abstain falls through, anything else is the answer.

    :param name: unique among the chains that there are.
    :param checkers: asked in this order; none at all means that everybody may pass.
    :param cache: where verdicts are kept, if every checker says what its verdicts depend on.
    :param labels: what the checkers are called in ``stats``: nothing secret. By default, their
        classes' names.
    :param revoked: knows tokens that count no more, whatever the checkers say.
    :param scope: chains of one scope believe each other's verdicts in the cache; ``name`` if left
        out.

    ``public`` tells whether there is no checker at all: the credential field is not ours then.
    ``challenges`` are those of all checkers, one per scheme. ``checkers`` and ``scope`` are what
    was given.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        checkers: Sequence[IChecker],
        cache: VerdictCache,
        labels: Sequence[str] | None = None,
        revoked: Revoked | None = None,
        scope: str = "",
    ) -> None:
        self.name = name
        self._revoked = revoked or Revoked()
        self.stats = ChainStats(labels or [type(each).__name__ for each in checkers])
        self.public = not checkers
        self.challenges = one_per_scheme(c for checker in checkers for c in checker.challenges)
        self._missing = _missing(checkers)
        self.checkers = tuple(checkers)
        self.scope = scope or name
        self._cache = cache
        self._get = cache.get
        self._secret = cache.secret_for(self.scope)
        self._flights: SingleFlight[bytes, Decision] = SingleFlight()
        varies = [checker.varies for checker in checkers]
        names = frozenset[bytes]().union(*(each for each in varies if each is not None))
        self._cacheable = bool(checkers) and None not in varies
        #: The credential field alone decides: the hot path looks at nothing else.
        self.plain = self._cacheable and not names
        self._names = names
        self._uncached: Grant | None = ANONYMOUS if self.public else None

    def __repr__(self) -> str:
        return f"<Chain {self.name!r}: {', '.join(map(repr, self.checkers)) or 'public'}>"

    def lookup(self, presented: bytes) -> Grant | Deny | None:
        """The answer, where the credential field alone gives it and it is known: the hot path.

        None: :meth:`check` the request.
        """
        return self.known(self.digest(presented)) if self.plain else self._uncached

    def digest(self, presented: bytes) -> bytes:
        """What a plain chain's verdict is known by. A caller who has it need not make it again."""
        return blake2b(presented, key=self._secret, digest_size=16).digest()

    def known(self, digest: bytes) -> Grant | Deny | None:
        """The verdict under :meth:`digest`, if there is one."""
        verdict = self._get(digest)
        if isinstance(verdict, Grant):
            self.stats.cached_grants += 1
        elif verdict is not None:
            self.stats.cached_denials += 1
        return verdict

    def check(self, credentials: Credentials) -> Decision | Deferred[Decision]:
        """Say what is known, or ask the checkers; the Deferred never fails, unless cancelled.

        Equal requests that come meanwhile wait for the same answer.
        """
        if not self._cacheable:
            return ANONYMOUS if self.public else self._ask(credentials)
        key = self._key(credentials)
        known = self.known(key)
        if known is not None:
            return known
        self.stats.misses += 1
        waiter = self._flights.join(key)
        if waiter is not None:
            return waiter
        generation = self._cache.generation
        decision = self._ask(credentials)
        if isinstance(decision, Deferred):
            decision.addCallback(self._keep, key, generation, credentials.scheme != b"basic")
            return self._flights.lead(key, decision)
        return self._keep(decision, key, generation, credentials.scheme != b"basic")

    def check_again(self, credentials: Credentials) -> Decision | Deferred[Decision]:
        """Ask the checkers, whatever is known: for an exchange that runs under a grant."""
        return ANONYMOUS if self.public else self._ask(credentials)

    def _key(self, credentials: Credentials) -> bytes:
        """A digest of all that the verdict depends on; no two different requests share it."""
        message = credentials.presented
        if not self.plain:
            names = self._names
            message = repr(
                (
                    message,
                    [field for field in credentials.fields if field[0] in names],
                    credentials.client if CLIENT in names else "",
                    credentials.peer_trusted if PEER_TRUSTED in names else False,
                    credentials.certificate if CERTIFICATE in names else None,
                )
            ).encode()
        return blake2b(message, key=self._secret, digest_size=16).digest()

    def _keep(self, decision: Decision, key: bytes, generation: int, revocable: bool) -> Decision:
        if not isinstance(decision, Unavailable):
            self._cache.put(key, decision, generation, revocable=revocable)
        return decision

    def _ask(self, credentials: Credentials, first: int = 0) -> Decision | Deferred[Decision]:
        for index in range(first, len(self.checkers)):
            checker = self.checkers[index]
            try:
                verdict = checker.check(credentials)
            except Exception:
                return self._failed(index, Failure())
            if isinstance(verdict, Deferred):
                failed = partial(self._failed, index)
                return verdict.addCallbacks(self._go_on, failed, (credentials, index))
            if not isinstance(verdict, Abstain):
                return self._checked(index, verdict, credentials)
        return self._nobody(credentials)

    def _go_on(
        self, verdict: Verdict, credentials: Credentials, index: int
    ) -> Decision | Deferred[Decision]:
        if isinstance(verdict, Abstain):
            return self._ask(credentials, index + 1)
        return self._checked(index, verdict, credentials)

    def _checked(self, index: int, verdict: object, credentials: Credentials) -> Decision:
        """Fail closed, whatever else a checker may have answered."""
        # Not before the checker was asked: a token may be revoked while it makes up its mind.
        if isinstance(verdict, Grant) and self._revoked.covers(credentials.presented):
            verdict = REVOKED
        if isinstance(verdict, Grant | Deny | Unavailable):
            granted, denied = isinstance(verdict, Grant), isinstance(verdict, Deny)
            said = "granted" if granted else "denied" if denied else "unavailable"
            self.stats.decided(index, said)
            return verdict
        self.stats.decided(index, "failed")
        self.log.error(
            "Checker {checker} answered with {kind}, which is no verdict",
            checker=repr(self.checkers[index]),
            kind=type(verdict).__qualname__,
        )
        return _FAILED

    def _failed(self, index: int, failure: Failure) -> Decision:
        self.stats.decided(index, "failed")
        # The type and the place, not the message: that may quote a credential.
        frames = traceback.extract_tb(failure.getTracebackObject())
        self.log.error(
            "Checker {checker} failed: {kind} at {place}",
            checker=repr(self.checkers[index]),
            kind=failure.type.__qualname__ if failure.type else "unknown",
            place=f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown",
        )
        return _FAILED

    def _nobody(self, credentials: Credentials) -> Deny:
        """All abstained. A 401 needs a challenge (RFC 9110, 15.5.2): without one it is a 403."""
        self.stats.nobody_decided()
        status = 401 if self.challenges else 403
        if not credentials.presented:
            return self._missing or Deny("no_credentials", "Credentials are required.", status)
        error = "invalid_token" if credentials.scheme == b"bearer" else ""
        return Deny("invalid_credentials", "These credentials are not accepted.", status, error)


def _missing(checkers: Iterable[IChecker]) -> Deny | None:
    """The answer where nothing is presented: of the first checker that has one of its own."""
    answers = (IAnswersMissing(checker, None) for checker in checkers)
    return next((each.missing for each in answers if each is not None and each.missing), None)
