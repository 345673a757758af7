"""What every checker must do, run against each one that comes with gatekeeper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyObject

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.api_key import ApiKeyChecker
from gatekeeper.auth.basic import BasicChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.client_certificate import (
    ClientCertificateChecker,
    ClientCertificateSettings,
)
from gatekeeper.auth.encodings import Legacy
from gatekeeper.auth.grpc_checker import CallFailedError, GrpcChecker, Headers, Question
from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.http_client import Answer
from gatekeeper.auth.interfaces import (
    CLIENT,
    PEER_TRUSTED,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
    ICheckerPlugin,
    IReloadable,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.introspection import IntrospectionChecker, IntrospectionSettings
from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.jwks import FileKeys
from gatekeeper.auth.jwt import JwtChecker, JwtSettings
from gatekeeper.auth.key import KeyChecker, new_key
from gatekeeper.auth.keyfile import KeyFile
from gatekeeper.auth.metadata import MetadataClient
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.registry import find_plugins
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.auth.token_exchange import TokenExchangeChecker, TokenExchangeSettings
from gatekeeper.auth.trust import TrustChecker
from gatekeeper.auth.users import ConfiguredUsers, Decoys
from gatekeeper.store.state import StoredKey
from tests.auth.directories import FakeDirectory
from tests.auth.http_peers import Asked, FakeHttp
from tests.auth.signing import ISSUER, RSA, key_set, public, sign
from tests.auth.support import (
    ALICE,
    KEY,
    KEYS,
    NOW,
    Logged,
    ManualThreads,
    basic,
    credentials,
    good_token,
    outcome,
)
from tests.auth.test_client_certificate import CERTIFICATE_OF_ALICE

SECRET = "s3cr3tValue"
SECRET_KEY = b"a key of just as many bytes: 32."


@dataclass
class Subject:
    """A checker, credentials that it takes, and what it must never show.

    ``open``: it grants to everybody. ``decides``: it leaves nothing to others.
    ``decides_tokens``: nor bearer tokens, at least.
    """

    checker: IChecker
    good: Credentials
    secrets: tuple[str, ...]
    threads: ManualThreads
    open: bool = False
    decides: bool = False
    decides_tokens: bool = False

    def ask(self, presented: Credentials) -> Verdict:
        results = outcome(self.checker.check(presented))
        self.threads.finish_all()
        (verdict,) = results
        assert isinstance(verdict, Grant | Deny | Abstain | Unavailable)
        return verdict


def _basic(threads: ManualThreads, directory: Path) -> Subject:
    checker = BasicChecker(
        "users",
        [ConfiguredUsers({"alice": ALICE})],
        Decoys([ALICE]),
        HashingQueue(threads),
    )
    return Subject(checker, credentials(basic("alice", "wonderland")), (ALICE[-20:],), threads)


def _api_key(threads: ManualThreads, directory: Path) -> Subject:
    path = directory / "keys"
    path.write_text(KEYS)
    checker = ApiKeyChecker("keys", KeyFile(path), lambda: NOW)
    return Subject(checker, credentials(good_token()), (KEY,), threads)


def _api_key_legacy(threads: ManualThreads, directory: Path) -> Subject:
    path = directory / "legacy-keys"
    path.write_text(KEYS)
    checker = ApiKeyChecker("keys", KeyFile(path), lambda: NOW, Legacy(), forbids=True)
    return Subject(checker, credentials(good_token()), (KEY,), threads)


def _access_token(threads: ManualThreads, directory: Path) -> Subject:
    return _make_access_token(threads, None)


def _access_token_with_marketplace(threads: ManualThreads, directory: Path) -> Subject:
    return _make_access_token(threads, MetadataClient("https://m.example", FakeHttp()))


def _make_access_token(threads: ManualThreads, metadata: MetadataClient | None) -> Subject:
    checker = AccessTokenChecker(
        "nvm", TokenCipher(SECRET_KEY), metadata=metadata, seconds=lambda: NOW
    )
    headers = {"authentication": {"type": "bearer", "token": SECRET}}
    claims = {"userId": "u", "endpoints": ["http://h/"], "headers": headers, "exp": int(NOW) + 9}
    good = replace(credentials(f"Bearer {checker.mint(claims)}".encode()), host="h")
    return Subject(checker, good, (SECRET, SECRET_KEY.decode()), threads)


def _secret(threads: ManualThreads, directory: Path) -> Subject:
    checker = SecretChecker.from_url(f"secret://{SECRET}?user_id=ops")
    return Subject(checker, credentials(f"Bearer {SECRET}".encode()), (SECRET,), threads)


def _trust(threads: ManualThreads, directory: Path) -> Subject:
    trusted = credentials(b"", ((b"x-sf-user-id", b"u"),), peer_trusted=True)
    return Subject(TrustChecker.from_url("trust://"), trusted, (), threads)


def _trust_some(threads: ManualThreads, directory: Path) -> Subject:
    checker = TrustChecker.from_url("trust://?allowed=x-sf-user-id,x-a")
    trusted = credentials(b"", ((b"x-sf-user-id", b"u"),), peer_trusted=True)
    return Subject(checker, trusted, (), threads)


class _Callers:
    """The service behind ``grpc://``: it knows one caller."""

    def authenticate(self, question: Question) -> Deferred[Headers]:
        if ("authorization", f"Bearer {SECRET}") in question.headers:
            return succeed([("x-sf-user-id", "u")])
        return fail(CallFailedError("UNAUTHENTICATED"))

    def health(self) -> Deferred[str]:
        return succeed("SERVING")

    def close(self) -> None:
        """Nothing is held."""


def _grpc(threads: ManualThreads, directory: Path) -> Subject:
    checker = GrpcChecker("auth.test:9000", _Callers())
    good = credentials(f"Bearer {SECRET}".encode())
    return Subject(checker, good, (SECRET,), threads, decides=True)


def _key(threads: ManualThreads, directory: Path) -> Subject:
    key = new_key()
    checker = KeyChecker("keys", lambda: NOW)
    checker.use_directory(FakeDirectory(keys=[StoredKey(key.id, "", "alice", key.digest, NOW)]))
    presented = f"Bearer {key.presented}".encode()
    return Subject(checker, credentials(presented), (key.presented[-20:], key.digest), threads)


def _client_certificate(threads: ManualThreads, directory: Path) -> Subject:
    checker = ClientCertificateChecker("mtls", ClientCertificateSettings(), lambda: NOW)
    shown = replace(credentials(), certificate=CERTIFICATE_OF_ALICE)
    return Subject(checker, shown, (), threads)


def _jwt(threads: ManualThreads, directory: Path) -> Subject:
    path = directory / "jwks.json"
    path.write_bytes(key_set(public(RSA, "1")))
    settings = JwtSettings(jwks=path, issuer=ISSUER, audience="acme")
    checker = JwtChecker("provider", settings, FileKeys(path), lambda: NOW)
    return Subject(checker, credentials(sign(RSA, "RS256")), (), threads)


def _introspection(threads: ManualThreads, directory: Path) -> Subject:
    def answer(asked: Asked) -> Answer:
        known = f"token={SECRET}&".encode() in (asked.body or b"")
        return Answer(200, b'{"active": true, "sub": "u"}' if known else b'{"active": false}')

    settings = IntrospectionSettings(
        url="http://h/", client_id="gatekeeper", client_secret=SecretStr("cl1ent-s3cret")
    )
    checker = IntrospectionChecker("oauth", settings, FakeHttp(answer), lambda: NOW)
    good = credentials(f"Bearer {SECRET}".encode())
    return Subject(checker, good, (SECRET, "cl1ent-s3cret"), threads, decides_tokens=True)


def _exchange(threads: ManualThreads, directory: Path) -> Subject:
    def answer(asked: Asked) -> Answer:
        known = asked.fields[b"X-Userinfo"] == f"Bearer {SECRET}".encode()
        return Answer(200, b"t0k3n") if known else Answer(401, b"")

    settings = TokenExchangeSettings(url="http://h/")
    checker = TokenExchangeChecker("tokens", settings, FakeHttp(answer), seconds=lambda: NOW)
    good = credentials(f"Bearer {SECRET}".encode())
    return Subject(checker, good, (SECRET, "t0k3n"), threads, decides_tokens=True)


def _null(threads: ManualThreads, directory: Path) -> Subject:
    return Subject(NullChecker(), credentials(), (), threads, open=True)


MAKERS: list[Callable[[ManualThreads, Path], Subject]] = [
    _basic,
    _api_key,
    _api_key_legacy,
    _access_token,
    _access_token_with_marketplace,
    _secret,
    _trust,
    _trust_some,
    _null,
    _grpc,
    _client_certificate,
    _key,
    _jwt,
    _introspection,
    _exchange,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__.strip("_"))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    subject: Subject = request.param(ManualThreads(), tmp_path)
    yield subject
    subject.checker.close()


@pytest.fixture
def subjects(tmp_path: Path) -> Iterator[list[Subject]]:
    """All at once: pytest-twisted runs a test by Hypothesis with one parameter set only."""
    made = [maker(ManualThreads(), tmp_path) for maker in MAKERS]
    yield made
    for subject in made:
        subject.checker.close()


field_names = st.sampled_from(
    [
        b"x-sf-user-id",
        b"x-sf-api-key-id",
        b"x_sf_user_id",
        b"authorization",
        b"connection",
        b"x-a",
        b"x-b",
        b"host",
        b"cookie",
        b"x-real-ip",
        b"x-forwarded-for",
    ]
)
field_lists = st.lists(st.tuples(field_names, st.binary(max_size=20)), max_size=6).map(tuple)
presentations = st.one_of(
    st.binary(max_size=100),
    st.tuples(
        st.sampled_from([b"Basic ", b"basic  ", b"Bearer ", b"BEARER\t", b"Digest "]),
        st.one_of(
            st.binary(max_size=100),
            st.from_regex(rb"[A-Za-z0-9+/_=-]{0,40}", fullmatch=True),
            st.from_regex(
                rb"[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}", fullmatch=True
            ),
        ),
    ).map(b"".join),
)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_every_plugin_has_a_subject() -> None:
    found = find_plugins()
    builtin = {"basic", "api-key", "key", "access-token", "secret", "trust", "null", "grpc"}
    builtin |= {"client-certificate", "jwt", "introspection", "exchange"}
    assert set(found.types) | set(found.schemes) == builtin
    for plugin in {**found.types, **found.schemes}.values():
        assert verifyObject(ICheckerPlugin, plugin)


def test_it_is_a_checker(subject: Subject) -> None:
    assert verifyObject(IChecker, subject.checker)
    assert subject.checker.varies is None or all(
        name == name.lower() for name in subject.checker.varies
    )
    for challenge in subject.checker.challenges:
        assert challenge.isascii()
        assert challenge.decode().isprintable()


def test_it_grants_what_it_should(subject: Subject) -> None:
    assert isinstance(subject.ask(subject.good), Grant)


def test_it_abstains_where_nothing_is_presented(subject: Subject) -> None:
    verdict = subject.ask(credentials(b"", ((b"x-sf-user-id", b"root"),)))
    assert isinstance(verdict, Grant if subject.open else Deny if subject.decides else Abstain)


@SETTINGS
@given(presented=presentations, fields=field_lists, trusted=st.booleans())
def test_whatever_comes_there_is_a_verdict(
    subjects: list[Subject],
    logged: Logged,
    presented: bytes,
    fields: tuple[tuple[bytes, bytes], ...],
    trusted: bool,
) -> None:
    asked = credentials(presented, fields, peer_trusted=trusted)
    for subject in subjects:
        verdict = subject.ask(asked)
        if isinstance(verdict, Deny):
            assert verdict.status in (401, 403)
            words = f"{verdict.reason} {verdict.detail}"
            assert len(presented) < 12 or presented[8:].decode("latin-1") not in words
        if not trusted and not subject.open:
            assert not isinstance(verdict, Grant), subject
    assert not logged


@SETTINGS
@given(fields=field_lists, client=st.sampled_from(["192.0.2.1", "::1"]), trusted=st.booleans())
def test_the_verdict_depends_on_nothing_that_is_not_declared(
    subjects: list[Subject], fields: tuple[tuple[bytes, bytes], ...], client: str, trusted: bool
) -> None:
    for subject in subjects:
        varies, good = subject.checker.varies, subject.good
        if varies is None:
            continue
        declared = tuple(field for field in good.fields if field[0] in varies)
        changed = replace(
            good,
            fields=(*declared, *(field for field in fields if field[0] not in varies)),
            client=client if CLIENT not in varies else good.client,
            peer_trusted=trusted if PEER_TRUSTED not in varies else good.peer_trusted,
        )
        assert subject.ask(changed) == subject.ask(good), subject


def test_nothing_secret_is_shown(subject: Subject, logged: Logged) -> None:
    grant = subject.ask(subject.good)
    chain = Chain("acme", [subject.checker], VerdictCache(9, 300, 5))
    shown = " ".join(
        f"{thing!r} {thing!s}" for thing in (subject.checker, chain, subject.good, grant)
    )
    for secret in (*subject.secrets, subject.good.presented.decode()[6:]):
        assert not secret or secret not in shown
        assert not secret or secret not in logged.text


def test_a_megabyte_is_no_trouble(subject: Subject) -> None:
    for scheme in (b"Basic ", b"Bearer ", b""):
        verdict = subject.ask(credentials(scheme + b"A" * 1_000_000))
        assert subject.open or isinstance(verdict, Deny | Abstain)


def test_reloading_without_a_change(subject: Subject) -> None:
    reloadable = IReloadable(subject.checker, None)
    if reloadable is not None:
        assert reloadable.reload() is False
    assert isinstance(subject.ask(subject.good), Grant)


def test_in_a_chain_it_lets_others_have_their_turn(subject: Subject) -> None:
    """Credentials of a kind that no built-in checker knows reach whoever comes after."""
    last = SecretChecker.from_url("secret://for-the-last?user_id=last")
    chain = Chain("acme", [subject.checker, last], VerdictCache(9, 300, 5))
    if subject.decides or subject.decides_tokens:
        chain = Chain("acme", [last, subject.checker], VerdictCache(9, 300, 5))
    decision = chain.check(credentials(b"Bearer for-the-last"))
    assert decision == Grant(consumed=False) if subject.open else isinstance(decision, Grant)
    assert isinstance(decision, Grant)
    assert decision.user == ("" if subject.open else "last")
