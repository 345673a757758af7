from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from gatekeeper.auth.client_certificate import (
    ClientCertificateChecker,
    ClientCertificateSettings,
)
from gatekeeper.auth.interfaces import ABSTAIN, CERTIFICATE, Deny, Grant
from tests.auth.support import NOW, basic, credentials

#: As ssl.SSLObject.getpeercert() gives it. NOW is Nov 14 22:13:20 2023 GMT.
CERTIFICATE_OF_ALICE: dict[str, Any] = {
    "subject": (
        (("countryName", "DE"),),
        (("organizationName", "Acme"),),
        (("organizationalUnitName", "ops"), ("organizationalUnitName", "dev")),
        (("organizationalUnitName", "night shift"),),
        (("commonName", "Alice"),),
    ),
    "issuer": ((("commonName", "Mallory"),),),
    "version": 3,
    "serialNumber": "0A1B",
    "notBefore": "Nov 14 22:00:00 2023 GMT",
    "notAfter": "Nov 14 22:14:20 2023 GMT",
    "subjectAltName": (
        ("DNS", "a.example.com"),
        ("email", "alice@example.com"),
        ("URI", "spiffe://example.com/alice"),
        ("IP Address", "192.0.2.1"),
        ("DNS", "b.example.com"),
    ),
}


def ask(certificate: dict[str, Any] | None, now: float = NOW, **settings: Any) -> Any:
    configured = ClientCertificateSettings.model_validate(settings)
    checker = ClientCertificateChecker("mtls", configured, lambda: now)
    return checker.check(replace(credentials(basic("x", "y")), certificate=certificate))


def without(key: str, **changed: Any) -> dict[str, Any]:
    return {**{k: v for k, v in CERTIFICATE_OF_ALICE.items() if k != key}, **changed}


@pytest.mark.parametrize(
    ("place", "user"),
    [
        ("subject.CN", "Alice"),
        ("subject.O", "Acme"),
        ("san.email", "alice@example.com"),
        ("san.uri", "spiffe://example.com/alice"),
    ],
)
def test_whom_it_names(place: str, user: str) -> None:
    grant = ask(CERTIFICATE_OF_ALICE, user=place)
    assert grant == Grant(user=user, key_id="0A1B", consumed=False, expires=NOW + 60)


def test_groups() -> None:
    grant = ask(CERTIFICATE_OF_ALICE, groups="subject.OU")
    assert grant.groups == {"ops", "dev", "night shift"}
    assert ask(CERTIFICATE_OF_ALICE, groups="san.dns").groups == {
        "a.example.com",
        "b.example.com",
    }
    assert ask(without("subjectAltName"), groups="san.dns").groups == frozenset()


@pytest.mark.parametrize("certificate", [None, {}])
def test_no_certificate(certificate: dict[str, Any] | None) -> None:
    assert ask(certificate) is ABSTAIN


@pytest.mark.parametrize("place", ["subject.OU", "san.dns"])
def test_more_than_one_user(place: str) -> None:
    verdict = ask(CERTIFICATE_OF_ALICE, user=place)
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.reason) == (403, "ambiguous_certificate")


@pytest.mark.parametrize(
    ("certificate", "place"),
    [
        (without("subject"), "subject.CN"),
        (without("subject", subject=()), "subject.CN"),
        (without("subjectAltName"), "san.email"),
        (without("subject", subject=((("commonName", ""),),)), "subject.CN"),
        (without("subject", subject=((("commonName", "a\r\nX-Admin: 1"),),)), "subject.CN"),
        (without("subject", subject=((("commonName", "a\0b"),),)), "subject.CN"),
        (without("subject", subject=((("commonName", "a" * 257),),)), "subject.CN"),
        (
            without("subject", subject=((("commonName", "a"),), (("commonName", " "),))),
            "subject.CN",
        ),
    ],
)
def test_nobody(certificate: dict[str, Any], place: str) -> None:
    verdict = ask(certificate, user=place)
    assert isinstance(verdict, Deny)
    assert verdict.reason == "unidentified_certificate"


@pytest.mark.parametrize(("seconds", "good"), [(59, True), (60, False), (1e9, False)])
def test_a_certificate_that_ended_while_its_session_lived(seconds: float, good: bool) -> None:
    verdict = ask(CERTIFICATE_OF_ALICE, NOW + seconds)
    assert isinstance(verdict, Grant) is good
    assert good or verdict.reason == "expired_certificate"


def test_the_chains_key_has_the_certificate() -> None:
    assert ClientCertificateChecker.varies == {CERTIFICATE}


@pytest.mark.parametrize(
    "wrong", [{"user": "subject.cn"}, {"user": "issuer.CN"}, {"groups": "x"}, {"unknown": 1}]
)
def test_wrong_settings(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ClientCertificateSettings.model_validate(wrong)
