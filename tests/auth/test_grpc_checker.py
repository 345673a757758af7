"""``grpc://`` with an answer for everything; for a real service see ``test_grpc_service``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from gatekeeper.auth.grpc_checker import CallFailedError, GrpcChecker, Headers, Question
from gatekeeper.auth.interfaces import Credentials, Deny, Grant, IReadiness, Unavailable, Verdict
from gatekeeper.auth.protos.authentication_pb2 import AuthRequest, AuthResponse, Header
from gatekeeper.errors import ConfigurationError
from tests.auth.support import Logged, credentials, outcome

TRACE = "0af7651916cd43dd8448eb211c80319c"
ALICE = (("X-Sf-User-Id", "alice"), ("x-sf-api-key-id", "k1"))


class FakeClient:
    """Answers are fired by the test."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.asked: list[Deferred[Headers]] = []
        self.health_asked: list[Deferred[str]] = []
        self.closed = False

    def authenticate(self, question: Question) -> Deferred[Headers]:
        self.questions.append(question)
        self.asked.append(Deferred())
        return self.asked[-1]

    def health(self) -> Deferred[str]:
        self.health_asked.append(Deferred())
        return self.health_asked[-1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def checker(client: FakeClient) -> GrpcChecker:
    return GrpcChecker("auth.test:9000", client)


def verdict(
    checker: GrpcChecker,
    client: FakeClient,
    said: Sequence[tuple[str, str]] | str,
    presented: Credentials | None = None,
) -> Verdict:
    """What becomes of an answer, or of a status."""
    asked = checker.check(presented or credentials())
    assert not asked.called
    if isinstance(said, str):
        client.asked[-1].errback(CallFailedError(said))
    else:
        client.asked[-1].callback(said)
    (verdict,) = outcome(asked)
    assert isinstance(verdict, Grant | Deny | Unavailable)
    return verdict


def question(client: FakeClient, checker: GrpcChecker, presented: Credentials) -> Question:
    verdict(checker, client, ALICE, presented)
    return client.questions[-1]


# --- the question ------------------------------------------------------------------------


def test_the_question(client: FakeClient, checker: GrpcChecker) -> None:
    asked = question(
        client,
        checker,
        dataclasses.replace(
            credentials(
                b"Bearer t",
                (
                    (b"host", b"example.com"),
                    (b"authorization", b"Bearer t"),
                    (b"x-multiple", b"1"),
                    (b"accept", b"a, b"),
                    (b"x-multiple", b"2"),
                    (b"x-utf8", "ö".encode()),
                ),
                client="198.51.100.7",
            ),
            url=b"/a/b?c=d&e",
            count=3,
            trace_id=TRACE,
        ),
    )
    assert asked == Question(
        "/a/b?c=d&e",
        [
            ("host", "example.com"),
            ("x-multiple", "1"),
            ("accept", "a, b"),
            ("x-multiple", "2"),
            ("x-utf8", "ö"),
            ("authorization", "Bearer t"),
            ("x-trace-id", TRACE),
        ],
        "198.51.100.7",
        3,
        TRACE,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"caf\xe9", "caf?"),
        (b"\xff", "?"),
        (b"a\xff\xfeb\xff", "a?b?"),
        (b"\xc3", "?"),
        (b"\xed\xa0\x80", "?"),  # a surrogate
        ("\ufffd".encode(), "\ufffd"),
        (b"", ""),
        ("日本".encode(), "日本"),
    ],
)
def test_what_is_no_utf8(client: FakeClient, checker: GrpcChecker, value: bytes, text: str) -> None:
    asked = question(client, checker, credentials(value, ((b"x-a", value),)))
    assert asked.headers[0] == ("x-a", text)
    assert ("authorization", text) in asked.headers or not value


@given(st.binary(max_size=50))
def test_any_value_can_be_sent(value: bytes) -> None:
    client = FakeClient()
    asked = question(client, GrpcChecker("a:1", client), credentials(value, ((b"x-a", value),)))
    for key, text in asked.headers:
        assert (
            AuthRequest.FromString(
                AuthRequest(headers=[Header(key=key, value=text)]).SerializeToString()
            )
            .headers[0]
            .value
            == text
        )


def test_identities_that_the_client_claims_are_left_out(
    client: FakeClient, checker: GrpcChecker
) -> None:
    names = [b"x-sf-user-id", b"x-sf-anything", b"x_sf_user_id", b"x-sf_meta", b"x-trace-id"]
    names += [b"x_trace_id"]
    asked = question(client, checker, credentials(fields=tuple((name, b"root") for name in names)))
    assert asked.headers == []


def test_through_a_forward_proxy(client: FakeClient, checker: GrpcChecker) -> None:
    """The credentials are in Proxy-Authorization; Authorization is for the origin, and its own."""
    fields = ((b"proxy-authorization", b"Bearer p"), (b"authorization", b"Bearer origin"))
    asked = question(client, checker, credentials(b"Bearer p", fields))
    assert asked.headers == [("authorization", "Bearer p")]


def test_it_is_asked_even_if_nothing_is_presented(client: FakeClient, checker: GrpcChecker) -> None:
    assert question(client, checker, credentials()).headers == []


def test_bytes_on_the_wire() -> None:
    request = AuthRequest(url="/x", headers=[Header(key="a", value="b")], ip="::1", auth_count=300)
    assert request.SerializeToString() == (
        b"\x0a\x02/x" + b"\x12\x06\x0a\x01a\x12\x01b" + b"\x1a\x03::1" + b"\x20\xac\x02"
    )
    assert request.DESCRIPTOR.full_name == "sf.authentication.v1.AuthRequest"
    response = AuthResponse.FromString(b"\x1a\x06\x0a\x01a\x12\x01b")
    assert [(each.key, each.value) for each in response.authenticated_headers] == [("a", "b")]


# --- the answer --------------------------------------------------------------------------


def test_trusted_headers(client: FakeClient, checker: GrpcChecker) -> None:
    said = (
        *ALICE,
        ("X-Sf-Substreams-Parallel-Jobs", "10"),
        ("X-Sf-Substreams-Cache-Tag", "tag"),
        ("x-sf-meta", "ö"),
        ("x-real-ip", "203.0.113.9"),
        ("X-Custom", " first "),
        ("x-custom", "last"),
    )
    assert verdict(checker, client, said) == Grant(
        user="alice",
        key_id="k1",
        headers=(
            (b"x-sf-user-id", b"alice"),
            (b"x-sf-api-key-id", b"k1"),
            (b"x-sf-substreams-parallel-jobs", b"10"),
            (b"x-sf-substreams-cache-tag", b"tag"),
            (b"x-sf-meta", "ö".encode()),
            (b"x-real-ip", b"203.0.113.9"),
            (b"x-custom", b"last"),
        ),
    )


def test_nobody_in_particular(client: FakeClient, checker: GrpcChecker) -> None:
    assert verdict(checker, client, ()) == Grant()


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-authenticate",
        "proxy-authorization",
        "Transfer-Encoding",
        "Content-Length",
        "host",
        "expect",
        "via",
        "authorization",
        "traceparent",
        "x-request-id",
        "x-forwarded-for",
        "forwarded",
    ],
)
def test_what_belongs_to_a_connection_is_no_trusted_header(
    client: FakeClient, checker: GrpcChecker, name: str
) -> None:
    grant = verdict(checker, client, ((name, "1"), *ALICE))
    assert isinstance(grant, Grant)
    assert [key for key, _ in grant.headers] == [b"x-sf-user-id", b"x-sf-api-key-id"]


@pytest.mark.parametrize(
    "header",
    [
        ("x-a", "1\r\nx-evil: 2"),
        ("x-a", "1\n2"),
        ("x-a", "a\0"),
        ("x-a", "\x7f"),
        ("x-a: 1\r\nx-b", "2"),
        ("x a", "1"),
        ("", "1"),
        ("x_sf_user_id", "root"),
        ("x-ä", "1"),
        (":path", "/"),
    ],
)
def test_an_answer_that_cannot_be_used(
    client: FakeClient, checker: GrpcChecker, logged: Logged, header: tuple[str, str]
) -> None:
    said = verdict(checker, client, (*ALICE, header))
    assert isinstance(said, Unavailable)
    assert "malformed" in logged.text


@pytest.mark.parametrize("headers", [[("x-a", "a" * 17_000)], [(f"x-{n}", "") for n in range(101)]])
def test_an_answer_that_is_too_large(
    client: FakeClient, checker: GrpcChecker, headers: list[tuple[str, str]]
) -> None:
    assert isinstance(verdict(checker, client, headers), Unavailable)


@pytest.mark.parametrize(
    ("code", "status"),
    [("UNAUTHENTICATED", 401), ("PERMISSION_DENIED", 403), ("RESOURCE_EXHAUSTED", 429)],
)
def test_denials(client: FakeClient, checker: GrpcChecker, code: str, status: int) -> None:
    denied = verdict(checker, client, code)
    assert isinstance(denied, Deny)
    assert denied.status == status


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "NOT_FOUND", "CANCELLED"]
)
def test_anything_else_is_no_denial(client: FakeClient, checker: GrpcChecker, code: str) -> None:
    assert isinstance(verdict(checker, client, code), Unavailable)


def test_failures_are_logged_once(client: FakeClient, checker: GrpcChecker, logged: Logged) -> None:
    for _ in range(3):
        verdict(checker, client, "UNAVAILABLE")
    assert len(logged) == 1
    verdict(checker, client, "CANCELLED")
    assert len(logged) == 1
    for _ in range(3):
        verdict(checker, client, ALICE)
    assert len(logged) == 2
    verdict(checker, client, "UNAUTHENTICATED")
    verdict(checker, client, "INTERNAL")
    assert [event["log_level"].name for event in logged] == ["error", "info", "error"]


def test_asking_again(client: FakeClient) -> None:
    grant = verdict(GrpcChecker("a:1", client, 30.0), client, ALICE)
    assert isinstance(grant, Grant)
    assert grant.recheck == 30.0


def test_nothing_is_cached(checker: GrpcChecker) -> None:
    assert checker.varies is None


# --- readiness ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ("SERVING", None),
        ("NOT_SERVING", "auth.test:9000 says that it is NOT_SERVING"),
        ("UNKNOWN", "auth.test:9000 says that it is UNKNOWN"),
    ],
)
def test_readiness(
    client: FakeClient, checker: GrpcChecker, status: str, problem: str | None
) -> None:
    assert verifyObject(IReadiness, checker)
    asked = checker.ready()
    client.health_asked[0].callback(status)
    assert outcome(asked) == [problem]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("UNAVAILABLE", "auth.test:9000 does not answer: UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", "auth.test:9000 does not answer: DEADLINE_EXCEEDED"),
        ("UNIMPLEMENTED", None),
    ],
)
def test_without_a_word_of_health(
    client: FakeClient, checker: GrpcChecker, code: str, problem: str | None
) -> None:
    asked = checker.ready()
    client.health_asked[0].errback(CallFailedError(code))
    assert outcome(asked) == [problem]


def test_closing(client: FakeClient, checker: GrpcChecker) -> None:
    checker.close()
    assert client.closed


# --- the URL -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown", "recheck"),
    [
        ("grpc://localhost:9000", "<grpc://localhost:9000>", None),
        ("grpc://AUTH.example:9000", "<grpc://auth.example:9000>", None),
        ("grpc://[::1]:9000", "<grpc://[::1]:9000>", None),
        ("grpc://a:1?continuous=false", "<grpc://a:1>", None),
        ("grpc://a:1?interval=30s", "<grpc://a:1>", None),
        ("grpc://a:1?continuous=true", "<grpc://a:1>", 60.0),
        ("grpc://a:1?continuous=true&interval=30s", "<grpc://a:1>", 30.0),
        ("grpc://a:1?interval=1m30s&continuous=true", "<grpc://a:1>", 90.0),
        ("grpc://a:1?continuous=true&interval=1s", "<grpc://a:1>", 1.0),
        ("grpc://a:1?continuous=true&interval=1000ms", "<grpc://a:1>", 1.0),
    ],
)
def test_urls(url: str, shown: str, recheck: float | None) -> None:
    checker = GrpcChecker.from_url(url)
    assert repr(checker) == shown
    assert checker._recheck == recheck
    checker.close()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("grpc://", "host"),
        ("grpc://?continuous=true", "host"),
        ("grpc://host", "HOST:PORT"),
        ("grpc://:9000", "HOST:PORT"),
        ("grpc://host:0", "port"),
        ("grpc://host:99999", "port"),
        ("grpc://host:9000/path", "%2F"),
        ("grpc://me@host:9000", "%40"),
        ("grpc://::1:9000", "host"),
        ("grpc://h%0d:9000", "control"),
        ("grpc://host:9000?secure=true", "unknown parameter"),
        ("grpc://host:9000?continuous=yes", "continuous"),
        ("grpc://host:9000?continuous=", "continuous"),
        ("grpc://host:9000?continuous", "malformed"),
        ("grpc://host:9000?continuous=true&interval=999ms", "interval"),
        ("grpc://host:9000?continuous=true&interval=0", "interval"),
        ("grpc://host:9000?continuous=true&interval=-30s", "interval"),
        ("grpc://host:9000?continuous=true&interval=30", "interval"),
        ("grpc://host:9000?continuous=true&interval=", "interval"),
        ("grpc://host:9000?continuous=true&interval=9999999h", "interval"),
        ("grpc://host:9000?interval=500ms", "interval"),
        ("grpc://host:9000?interval=30s&interval=60s", "twice"),
    ],
)
def test_wrong_urls(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        GrpcChecker.from_url(url)
    ((path, message),) = caught.value.problems
    assert path == ""
    assert word in message


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "gatekeeper.auth.grpc_client", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'gatekeeper\[grpc\]'"):
        GrpcChecker.from_url("grpc://localhost:9000")
