"""Tokens that operators have revoked."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import Credentials, Deny, Grant, IChecker, Verdict
from gatekeeper.auth.revoked import REVOKED, Revoked, jti_digest, token_digest
from gatekeeper.store.state import Revocation
from tests.auth.directories import FakeDirectory
from tests.auth.support import NOW, basic, credentials, outcome, token

SIGNED = token({"id": "001", "jti": "id 1 ☃", "for": "a?b>c~~~~"})
TOKEN = SIGNED.split()[1]


def revoked(digest: str, until: float = NOW + 1) -> Revoked:
    return Revoked(FakeDirectory(revocations=[Revocation(digest, until, NOW)]), lambda: NOW)


def test_by_the_whole_of_an_opaque_token() -> None:
    assert token_digest(b"opaque") == sha256(b"opaque").hexdigest()
    known = revoked(token_digest(b"opaque"))
    assert known.covers(b"Bearer opaque")
    assert known.covers(b"bearer   opaque ")
    assert not known.covers(b"Bearer Opaque")
    assert not known.covers(b"opaque")
    assert not known.covers(b"")


@pytest.mark.parametrize(
    "alter",
    [
        lambda h, p, s: b".".join((h, p, s[:-1] + (b"A" if s[-1:] != b"A" else b"B"))),
        lambda h, p, s: b".".join((h + b"=" * (-len(h) % 4), p + b"=" * (-len(p) % 4), s)),
        lambda h, p, s: b".".join((h, p.translate(bytes.maketrans(b"_-", b"/+")), s)),
        lambda h, p, s: b".".join((h[:4] + b" " + h[4:], p, s)),
    ],
)
def test_a_signed_token_cannot_be_written_so_that_it_is_another(
    alter: Callable[[bytes, bytes, bytes], bytes],
) -> None:
    header, payload, signature = TOKEN.split(b".")
    altered = alter(header, payload, signature)
    assert altered != TOKEN
    assert revoked(token_digest(TOKEN)).covers(b"Bearer " + altered)


def test_another_token_of_the_same_maker_holds() -> None:
    other = token({"id": "001", "jti": "id 2"})
    assert not revoked(token_digest(TOKEN)).covers(other)
    assert token_digest(b"not.base64!.x") == sha256(b"not.base64!.x").hexdigest()


def test_by_its_id() -> None:
    known = revoked(jti_digest("id 1 ☃"))
    assert known.covers(SIGNED)
    assert not known.covers(token({"id": "001", "jti": "id 2"}))
    for other in (token({"jti": 1}), token([1]), token(b"\xff"), b"Bearer a.b.c", b"Bearer id 1"):
        assert not known.covers(other)


def test_until_it_has_expired_anyway() -> None:
    assert not revoked(token_digest(TOKEN), NOW).covers(SIGNED)


def test_passwords_are_no_tokens() -> None:
    presented = basic("alice", "x")
    assert not revoked(token_digest(presented.split()[1])).covers(presented)


def test_without_anything_revoked() -> None:
    assert not Revoked().covers(SIGNED)
    assert not Revoked(FakeDirectory()).covers(SIGNED)


@implementer(IChecker)
class Yes:
    """Grants to everybody, at once or later."""

    challenges = ()
    varies: frozenset[bytes] | None = frozenset()

    def __init__(self, answer: Verdict | Deferred[Verdict]) -> None:
        self.answer = answer

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        return self.answer

    def close(self) -> None:
        """Nothing is held."""


class TestInAChain:
    def test_the_right_token_is_refused(self) -> None:
        known = revoked(token_digest(TOKEN))
        later: Deferred[Verdict] = succeed(Grant("alice"))
        for answer in Grant("alice"), later:
            chain = Chain("c", [Yes(answer)], VerdictCache(9, 9.0, 9.0), revoked=known)
            assert outcome(chain.check(credentials(SIGNED))) == [REVOKED]
        again = Chain("c", [Yes(Grant("alice"))], VerdictCache(9, 9.0, 9.0), revoked=known)
        assert again.check_again(credentials(SIGNED)) == REVOKED
        assert REVOKED.status == 403

    def test_a_wrong_one_is_still_wrong(self) -> None:
        wrong = Deny("bad_signature", "")
        known = revoked(token_digest(TOKEN))
        chain = Chain("c", [Yes(wrong)], VerdictCache(9, 9.0, 9.0), revoked=known)
        assert chain.check(credentials(SIGNED)) == wrong

    def test_while_the_checker_makes_up_its_mind(self) -> None:
        directory = FakeDirectory()
        answer: Deferred[Verdict] = Deferred()
        known = Revoked(directory, lambda: NOW)
        chain = Chain("c", [Yes(answer)], VerdictCache(9, 9.0, 9.0), revoked=known)
        asked = outcome(chain.check(credentials(SIGNED)))
        directory.become(revocations=[Revocation(token_digest(TOKEN), NOW + 1, NOW)])
        answer.callback(Grant("alice"))
        assert asked == [REVOKED]

    def test_what_is_known_of_tokens_can_be_forgotten(self) -> None:
        cache = VerdictCache(9, 9.0, 9.0)
        chain = Chain("c", [Yes(Grant("alice"))], cache)
        password = basic("alice", "x")
        for presented in SIGNED, password:
            chain.check(credentials(presented))
        cache.drop_revocable()
        assert chain.lookup(SIGNED) is None
        assert chain.lookup(password) == Grant("alice")

    def test_a_chain_that_comes_back_with_other_checkers_believes_nothing(self) -> None:
        cache = VerdictCache(9, 9.0, 9.0)
        Chain("c", [Yes(Grant("alice"))], cache, scope="c one").check(credentials(SIGNED))
        assert Chain("c", [Yes(Grant("bob"))], cache, scope="c two").lookup(SIGNED) is None
