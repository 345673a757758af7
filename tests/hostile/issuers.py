"""Those who issue credentials, and those who are asked about them."""

from __future__ import annotations

import json
import time
from typing import Any, Final
from urllib.parse import parse_qs

import grpc

from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.protos.authentication_pb2 import AuthRequest, AuthResponse
from tests.auth.authentication_service import AuthenticationService, answer_of
from tests.auth.signing import EC, ED, ISSUER, RSA, key_set, public
from tests.origin import Conversation, Origin

#: What tokens for the ``access-token`` checker are encrypted with.
CIPHER_KEY: Final = bytes(range(32, 64))


#: Until when the good tokens of this run are good.
LATER: Final = int(time.time()) + 3600

KEY_SET: Final = key_set(public(RSA, "rsa"), public(EC, "ec"), public(ED, "ed"))


def access_token(claims: dict[str, Any] | bytes) -> str:
    """An encrypted token with these claims, or just these bytes inside."""
    plain = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return TokenCipher(CIPHER_KEY).encrypt(plain)


def access_claims(port: int) -> dict[str, Any]:
    """Claims of a good access token for an upstream at this port."""
    return {"userId": "alice", "endpoints": [f"http://127.0.0.1:{port}/(.*)"], "exp": LATER}


def jwt_claims() -> dict[str, Any]:
    """Claims of a good JWT."""
    return {"iss": ISSUER, "aud": "acme", "sub": "alice", "exp": LATER}


class KnowingService(AuthenticationService):
    """Knows one caller, by the credential; ``knows`` may be changed."""

    knows = "Bearer known-to-grpc"

    def _authenticate(self, request: AuthRequest, context: grpc.ServicerContext) -> AuthResponse:
        self.requests.append(request)
        if [header.value for header in request.headers if header.key == "authorization"] != [
            self.knows
        ]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who is that?")
        return answer_of(("x-sf-user-id", "alice"))


class AuthServer(Origin):
    """Gives tokens for credentials, says what tokens are worth, and publishes keys.

    ``tokens`` and ``named`` (by credential and by fields) ``active`` and ``keys`` are what it
    knows; they may be changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {"Bearer exchange-me": "token-of-a-bearer"}
        self.named = {"alice:192.0.2.7:test/1": "token-of-alice"}
        self.active = {"opaque-1": "alice"}
        self.keys = KEY_SET
        self.on |= {
            "/auth": self._exchange,
            "/fields": self._exchange,
            "/introspect": self._introspect,
            "/jwks": self._publish,
        }

    def _exchange(self, conversation: Conversation) -> None:
        (credential,) = conversation.request.values("x-userinfo")
        known = self.tokens if conversation.request.path == "/auth" else self.named
        found = known.get(credential)
        status, body = ("200 OK", found) if found else ("401 Unauthorized", "")
        conversation.send(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def _introspect(self, conversation: Conversation) -> None:
        asked = parse_qs(b"".join(conversation.read_body()).decode())
        user = self.active.get(asked["token"][0])
        conversation.answer({"active": True, "sub": user} if user else {"active": False})

    def _publish(self, conversation: Conversation) -> None:
        conversation.answer(json.loads(self.keys))
