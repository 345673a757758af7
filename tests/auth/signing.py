"""Keys of an identity provider, their public sets, and tokens that it signs."""

from __future__ import annotations

import json
import warnings
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.auth.support import NOW, base64url

Key = RSAKey | ECKey | OKPKey

ISSUER = "https://login.example.com/"
CLAIMS = {"iss": ISSUER, "aud": "acme", "sub": "alice", "exp": int(NOW) + 60}

#: Made once: a key of each sort, and a second one.
RSA = RSAKey.generate_key(2048)
OTHER_RSA = RSAKey.generate_key(2048)
with warnings.catch_warnings(action="ignore"):
    SMALL_RSA = RSAKey.generate_key(1024)
EC = ECKey.generate_key("P-256")
EC_384 = ECKey.generate_key("P-384")
EC_521 = ECKey.generate_key("P-521")
ED = OKPKey.generate_key("Ed25519")
X = OKPKey.generate_key("X25519")


def public(key: Key, kid: str | None = None, **more: object) -> dict[str, Any]:
    """The public key as a member of a set."""
    members = dict(key.as_dict(private=False))
    members.pop("kid", None)
    return {**members, **({"kid": kid} if kid is not None else {}), **more}


def key_set(*members: object) -> bytes:
    return json.dumps({"keys": members}).encode()


def sign(
    key: Key,
    algorithm: str,
    claims: Any = CLAIMS,
    *,
    kid: str | None = "1",
    header: Any = None,
    **more: object,
) -> bytes:
    """Bearer credentials; ``claims`` and ``header`` are taken as they are if they are bytes."""
    if header is None:
        header = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {}), **more}
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)
    ]
    signed = b".".join(map(base64url, parts))
    name = "Ed25519" if algorithm == "EdDSA" else algorithm
    signature = JWSRegistry.algorithms[name].sign(signed, key)
    return b"Bearer " + signed + b"." + base64url(signature)
