"""Keys and tokens for the load, made anew for each run."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

_LIFETIME: Final = 24 * 3600  # seconds; longer than any run


@dataclass(frozen=True)
class Key:
    """An API key; ``secret`` is hex digits, and these *characters* are the HMAC key."""

    id: str
    secret: str = field(repr=False)

    def line(self) -> str:
        """Its line in a key file."""
        return f"key{self.id}={self.secret}\n"

    def token(self) -> str:
        """A JWS in compact form with HS256 (RFC 7515) that names this key and ends tomorrow."""
        header = _part({"alg": "HS256", "typ": "JWT"})
        payload = _part({"id": self.id, "exp": int(time.time()) + _LIFETIME})
        signature = hmac.digest(self.secret.encode(), f"{header}.{payload}".encode(), "sha256")
        return f"{header}.{payload}.{_encode(signature)}"


def make_key(key_id: str) -> Key:
    """A key with a random secret."""
    return Key(key_id, secrets.token_hex(32))


def _part(value: dict[str, object]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
