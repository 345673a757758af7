from __future__ import annotations

import pytest

from gatekeeper.auth.interfaces import ABSTAIN, PEER_TRUSTED, Fields, Grant
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.auth.trust import TrustChecker
from gatekeeper.errors import ConfigurationError
from tests.auth.support import credentials

FULL = "secret://s3cr3t-Value?user_id=ops&api_key_id=k1&meta=a%3Db"


def problem(make: object, url: str) -> str:
    assert callable(make)
    with pytest.raises(ConfigurationError) as caught:
        make(url)
    ((path, message),) = caught.value.problems
    assert path == ""
    return message


# --- null:// -----------------------------------------------------------------------------


def test_null_passes_everybody_as_nobody() -> None:
    checker = NullChecker.from_url("null://")
    for presented in (b"", b"Bearer x"):
        assert checker.check(credentials(presented, ((b"x-sf-user-id", b"me"),))) == Grant(
            consumed=False
        )


@pytest.mark.parametrize("url", ["null://x", "null://?a=b", "null:///", "null://#"])
def test_null_takes_nothing(url: str) -> None:
    assert problem(NullChecker.from_url, url)


# --- secret:// ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "presented",
    [
        b"Bearer s3cr3t-Value",
        b"bearer s3cr3t-Value",
        b"BEARER   s3cr3t-Value",
        b"s3cr3t-Value",
        b"Bearer s3cr3t-Value ",
    ],
)
def test_the_secret(presented: bytes) -> None:
    assert SecretChecker.from_url(FULL).check(credentials(presented)) == Grant(
        user="ops",
        key_id="k1",
        headers=((b"x-sf-user-id", b"ops"), (b"x-sf-api-key-id", b"k1"), (b"x-sf-meta", b"a=b")),
        real_ip=True,
    )


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer s3cr3t-value",
        b"Bearer s3cr3t-Valu",
        b"Bearer s3cr3t-Value2",
        b"Bearer Bearer s3cr3t-Value",
        b"Basic s3cr3t-Value",
        b"Bearers3cr3t-Value",
        b"Bearer s3cr3t-Value, Bearer s3cr3t-Value",
        b"Bearer " + b"x" * 1_000_000,
        b"\xff\x00",
    ],
)
def test_not_the_secret_may_be_somebody_elses(presented: bytes) -> None:
    assert SecretChecker.from_url(FULL).check(credentials(presented)) is ABSTAIN


def test_only_what_is_given_is_set() -> None:
    grant = SecretChecker.from_url("secret://x?meta=").check(credentials(b"Bearer x"))
    assert grant == Grant(headers=((b"x-sf-meta", b""),), real_ip=True)
    assert SecretChecker.from_url("secret://x").check(credentials(b"x")) == Grant(real_ip=True)


def test_percent_encoding() -> None:
    checker = SecretChecker.from_url("secret://a%2Fb%3Fc%25?user_id=J%C3%B6rg+M")
    grant = checker.check(credentials(b"Bearer a/b?c%"))
    assert isinstance(grant, Grant)
    assert grant.user == "Jörg M"
    assert grant.headers == ((b"x-sf-user-id", "Jörg M".encode()),)


@pytest.mark.parametrize(
    "url",
    [
        "secret://",
        "secret://?user_id=x",
        "secret://hunter2/path",
        "secret://hunter2#fragment",
        "secret://hunter2?user_id=a#b",
        "secret://me@hunter2",
        "secret://hunter2?unknown=x",
        "secret://hunter2?user_id=a&user_id=b",
        "secret://hunter2?user_id",
        "secret://hunter2?user_id=a%0d%0ax-evil:1",
        "secret://hunter2?meta=%00",
        "secret://hunter2?meta=%ff",
        "secret://hunter2%0a",
        "secret://%20hunter2",
        "secret://hunter2%ff",
        "secret://hunter2?meta=\ud800",
    ],
)
def test_wrong_secret_urls(url: str) -> None:
    assert "hunter2" not in problem(SecretChecker.from_url, url)


def test_the_secret_is_masked_and_not_even_there() -> None:
    checker = SecretChecker.from_url(FULL)
    assert repr(checker) == "<secret://*** user 'ops'>"
    assert "s3cr3t" not in repr(vars(checker))


# --- trust:// ----------------------------------------------------------------------------

FIELDS: Fields = (
    (b"host", b"example.com"),
    (b"x-sf-user-id", b"alice"),
    (b"x-sf-api-key-id", b"k1"),
    (b"x-sf-user-id", b"mallory"),
    (b"x-custom", b"1"),
    (b"x-custom", b"2"),
)
TRUSTED: Fields = (
    (b"x-sf-user-id", b"alice"),
    (b"x-sf-api-key-id", b"k1"),
    (b"x-custom", b"1"),
)


def trust(url: str, fields: Fields) -> Grant:
    grant = TrustChecker.from_url(url).check(credentials(b"Bearer x", fields, peer_trusted=True))
    assert isinstance(grant, Grant)
    return grant


def test_only_trusted_peers_are_believed() -> None:
    for url in ("trust://", "trust://?allowed=x-sf-user-id"):
        assert TrustChecker.from_url(url).check(credentials(b"", FIELDS)) is ABSTAIN


def test_the_first_value_of_everything() -> None:
    grant = trust("trust://", FIELDS)
    assert grant == Grant(user="alice", key_id="k1", headers=TRUSTED, consumed=False)


def test_nothing_to_trust_is_somebody_unknown() -> None:
    assert trust("trust://", ()) == Grant(consumed=False)


def test_the_allowed_ones() -> None:
    grant = trust("trust://?allowed=X-Custom,%20x-sf-api-key-id", FIELDS)
    assert grant == Grant(key_id="k1", headers=TRUSTED[1:], consumed=False)


@pytest.mark.parametrize(
    "name",
    [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
        b"traceparent",
        b"authorization",
        b"proxy-authorization",
        b"x_sf_user_id",
        b"x-sf_user-id",
        b"content_length",
    ],
)
def test_what_cannot_be_trusted(name: bytes) -> None:
    assert trust("trust://", ((name, b"1"), *FIELDS)).headers == TRUSTED
    assert problem(TrustChecker.from_url, f"trust://?allowed=x-a,{name.decode()}")


def test_connection_takes_its_own_fields_but_no_identity() -> None:
    fields = ((b"connection", b"X-Custom, x-sf-user-id, close"), *FIELDS)
    expected = Grant(user="alice", key_id="k1", headers=TRUSTED[:2], consumed=False)
    assert trust("trust://", fields) == expected
    allowed = "trust://?allowed=x-custom,x-sf-user-id"
    assert trust(allowed, fields).headers == TRUSTED[:1]


def test_the_real_address_is_told_anew() -> None:
    grant = trust("trust://", ((b"x-real-ip", b"192.0.2.9"),))
    assert grant == Grant(real_ip=True, consumed=False)
    assert trust("trust://?allowed=x-real-ip", ((b"x-real-ip", b"192.0.2.9"),)).real_ip


def test_users_that_are_not_utf8_stay_apart() -> None:
    users = {trust("trust://", ((b"x-sf-user-id", raw),)).user for raw in (b"\xff", b"\xfe")}
    assert users == {"\\xff", "\\xfe"}


@pytest.mark.parametrize(
    "url",
    [
        "trust://host",
        "trust://?allowed=",
        "trust://?allowed=a,,b",
        "trust://?allowed=a:b",
        "trust://?allowed=é",
        "trust://?allowed=a&allowed=b",
        "trust://?other=a",
    ],
)
def test_wrong_trust_urls(url: str) -> None:
    assert problem(TrustChecker.from_url, url)


def test_what_the_verdict_depends_on() -> None:
    assert TrustChecker.from_url("trust://").varies is None
    varies = TrustChecker.from_url("trust://?allowed=X-A").varies
    assert varies == frozenset({b"x-a", b"connection", PEER_TRUSTED})


def test_reprs() -> None:
    assert repr(TrustChecker.from_url("trust://?allowed=b,A")) == "<trust://?allowed=a,b>"
    assert repr(TrustChecker.from_url("trust://")) == "<trust://>"
    assert repr(NullChecker()) == "<null://>"
