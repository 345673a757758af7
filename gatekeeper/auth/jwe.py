"""Encrypted tokens (JWE in compact form, RFC 7516) with one shared key: ``dir``, ``A128CBC-HS256``.

The header must be exactly that. What is another algorithm, compressed, or names a key is refused
before the key is touched (RFC 8725, sections 3.1 and 3.6).
"""

from __future__ import annotations

import base64
from typing import Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from gatekeeper.auth.jose import decode_part, load_object
from gatekeeper.errors import GatekeeperError

#: A longer token is not looked at.
MAX_SIZE: Final = 16384

_HEADER: Final = {"alg": "dir", "enc": "A128CBC-HS256"}
_REGISTRY: Final = jwe.JWERegistry(algorithms=list(_HEADER.values()))
_BLOCK: Final = 16


class TokenError(GatekeeperError):
    """A token that is refused.

    ``reason`` is a short code for the access log, ``detail`` says what is wrong; it shows nothing
    of the token.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def is_compact(token: bytes) -> bool:
    """Whether this has the five parts of an encrypted token, and no more than fits."""
    return len(token) <= MAX_SIZE and token.count(b".") == 4


class TokenCipher:
    """Encrypts and decrypts tokens with a key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        encoded = base64.urlsafe_b64encode(key).rstrip(b"=").decode("ascii")
        self._key = OctKey.import_key({"kty": "oct", "k": encoded})

    def __repr__(self) -> str:
        return "<TokenCipher>"

    def encrypt(self, plaintext: bytes) -> str:
        """A token with this inside."""
        return jwe.encrypt_compact(dict(_HEADER), plaintext, self._key, registry=_REGISTRY)

    def decrypt(self, token: bytes) -> bytes:
        """What is inside.

        :raises TokenError: ``malformed_token``; ``unsupported_token``, the header is another;
            ``forged_token``, it was not made with this key, or was changed since.
        """
        _check_form(token)
        try:
            plaintext = jwe.decrypt_compact(token, self._key, registry=_REGISTRY).plaintext
        except (JoseError, ValueError):
            raise TokenError("forged_token", "It was not encrypted with this key.") from None
        assert plaintext is not None
        return plaintext


def _check_form(token: bytes) -> None:
    if not is_compact(token):
        raise TokenError("malformed_token", "It has not five parts, or is too long.")
    try:
        header, key, vector, text, tag = map(decode_part, token.split(b"."))
        parameters = load_object(header)
    except ValueError as error:
        raise TokenError("malformed_token", f"It is malformed: {error}.") from None
    if parameters != _HEADER:
        raise TokenError("unsupported_token", "Its header is not just `dir` and `A128CBC-HS256`.")
    if key or len(vector) != _BLOCK or len(tag) != _BLOCK or not text or len(text) % _BLOCK:
        raise TokenError("malformed_token", "Its parts have not the right sizes.")
