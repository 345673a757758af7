"""The answers that we make ourselves."""

from __future__ import annotations

import json

import pytest

from gatekeeper.auth.interfaces import Deny
from gatekeeper.errors import Refusal
from gatekeeper.replies import make_reply, phrase, unauthorized

CHALLENGES = (b'Basic realm="here"', b'Bearer realm="here"')
DENIED = Deny("invalid_credentials", "These credentials are not accepted.")


class TestBodies:
    REFUSAL = Refusal("no_service", 'no "service" is here', status=404, fields=((b"a", b"b"),))

    @pytest.mark.parametrize(
        "accept",
        [
            [],
            [b"*/*"],
            [b"application/json"],
            [b"application/problem+json, text/plain"],
            [b"image/png", b"application/json, text/html"],
        ],
    )
    def test_a_problem_document(self, accept: list[bytes]) -> None:
        reply = make_reply(self.REFUSAL, accept, b"0123")
        assert (reply.status, reply.phrase) == (404, b"Not Found")
        assert reply.fields == [
            (b"content-type", b"application/problem+json"),
            (b"cache-control", b"no-store"),
            (b"a", b"b"),
        ]
        assert json.loads(reply.body) == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": 'no "service" is here',
            "reason": "no_service",
            "request_id": "0123",
        }

    @pytest.mark.parametrize(
        "accept",
        [
            [b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            [b"TEXT/PLAIN ; q=1"],
            [b"image/png", b"text/*"],
        ],
    )
    def test_text_for_who_wants_text(self, accept: list[bytes]) -> None:
        reply = make_reply(self.REFUSAL, accept)
        assert reply.body == b'404 Not Found: no "service" is here\n'
        assert (b"content-type", b"text/plain; charset=utf-8") in reply.fields

    def test_a_message_that_was_no_request_has_no_id(self) -> None:
        assert "request_id" not in json.loads(make_reply(self.REFUSAL, ()).body)

    def test_phrases(self) -> None:
        assert phrase(502) == b"Bad Gateway"
        assert phrase(799) == b""


class TestChallenges:
    @pytest.mark.parametrize(
        ("proxy", "status", "name"),
        [(False, 401, b"www-authenticate"), (True, 407, b"proxy-authenticate")],
    )
    def test_one_for_each_scheme(self, proxy: bool, status: int, name: bytes) -> None:
        refusal = unauthorized(DENIED, CHALLENGES, proxy=proxy)
        assert refusal.status == status
        assert refusal.fields == tuple((name, challenge) for challenge in CHALLENGES)
        assert refusal.reason == "invalid_credentials"

    def test_a_bad_token_is_named_in_the_bearer_challenge(self) -> None:
        refusal = unauthorized(Deny("x", "y", error="invalid_token"), CHALLENGES, proxy=False)
        assert refusal.fields == (
            (b"www-authenticate", b'Basic realm="here"'),
            (b"www-authenticate", b'Bearer realm="here", error="invalid_token"'),
        )

    def test_also_in_one_without_parameters(self) -> None:
        refusal = unauthorized(Deny("x", "y", error="invalid_token"), (b"Bearer",), proxy=False)
        assert refusal.fields == ((b"www-authenticate", b'Bearer error="invalid_token"'),)

    def test_403_has_none(self) -> None:
        refusal = unauthorized(Deny("x", "y", status=403), CHALLENGES, proxy=True)
        assert (refusal.status, refusal.fields) == (403, ())

    @pytest.mark.parametrize("proxy", [False, True])
    def test_401_without_any_is_a_403(self, proxy: bool) -> None:
        refusal = unauthorized(DENIED, (), proxy=proxy)
        assert (refusal.status, refusal.fields) == (403, ())

    def test_a_reason_that_is_for_the_log_alone(self) -> None:
        deny = Deny("unknown_key", "y", told="bad_signature")
        refusal = unauthorized(deny, CHALLENGES, proxy=False)
        assert refusal.reason == "unknown_key"
        assert json.loads(make_reply(refusal, ()).body)["reason"] == "bad_signature"

    def test_but_for_scopes_that_do_not_suffice(self) -> None:
        deny = Deny("x", "y", status=403, error="insufficient_scope")
        refusal = unauthorized(deny, CHALLENGES, proxy=False)
        challenge = b'Bearer realm="here", error="insufficient_scope"'
        assert refusal.fields == ((b"www-authenticate", challenge),)
