"""Tokens that must not be accepted, made from what would be good ones.

Each function gives them by name, as the value of the credential field. ``trap`` is the URL of a
server that nobody has a reason to ask.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from joserfc import jwe, jws
from joserfc.jwk import OctKey

from tests.auth.signing import EC, ED, OTHER_RSA, RSA, public, sign
from tests.auth.support import KEY, token
from tests.hostile.issuers import CIPHER_KEY, LATER, access_claims, access_token, jwt_claims
from tests.hostile.token_parts import (
    ALGORITHMS,
    DEEP,
    WEAK,
    as_bytes,
    bad_json,
    bad_times,
    encrypted,
    hmac_of,
    hostile_headers,
    mangled,
    signed_rsa,
    unsigned,
)


def api_key_tokens(trap: str) -> dict[str, str]:
    """For keys of the file: HS256, the id in the payload."""
    good = {"id": "001", "exp": LATER}
    hs256 = {"alg": "HS256", "typ": "JWT"}
    found = {
        f"alg {algorithm!r}": token(
            good, header={"typ": "JWT", **({} if algorithm is None else {"alg": algorithm})}
        ).decode()
        for algorithm in ALGORITHMS
    }
    for size in ("384", "512"):
        header = {"alg": f"HS{size}", "typ": "JWT"}
        found[f"HS{size}"] = token(good, header=header, algorithm=f"sha{size}").decode()
    found["none, unsigned"] = unsigned({"alg": "none"}, good)
    found["HS256, unsigned"] = unsigned(hs256, good)
    found["HS256, signed with nothing"] = token(good, key="").decode()
    found["HS256, signed with what the hex stands for"] = unsigned(
        hs256, good, hmac_of(bytes.fromhex(KEY), hs256, good)
    )
    found["RS256, signed by somebody"] = sign(OTHER_RSA, "RS256", good, kid=None).decode()
    for name, more in hostile_headers(trap).items():
        found[f"header: {name}"] = token(good, header={**hs256, **more}).decode()
        if name.startswith(("jwk", "jku", "x5u", "kid")):
            forged = token(good, header={**hs256, **more}, key=WEAK).decode()
            found[f"header: {name}, signed with another"] = forged
    for name, claims in {**bad_times(good), **bad_json(good)}.items():
        found[f"claims: {name}"] = token(claims).decode()
    for name, claims in {
        "id twice": b'{"id":"003","id":"001","exp":%d}' % LATER,
        "id a number": {**good, "id": 1},
        "id a list": {**good, "id": ["001"]},
        "id missing": {"exp": LATER},
        "id with a newline": {**good, "id": "001\n"},
        "id of another key": {**good, "id": "003"},
        "id, a surrogate": b'{"id":"\\ud800","exp":%d}' % LATER,
    }.items():
        found[f"claims: {name}"] = token(claims).decode()
    for name, head in {
        "alg twice": b'{"alg":"none","alg":"HS256"}',
        "alg twice, equal": b'{"alg":"HS256","alg":"HS256"}',
        "deep": b'{"alg":"HS256","x":' + DEEP + b"}",
        "an array": b'["HS256"]',
        "NaN": b'{"alg":"HS256","x":NaN}',
    }.items():
        found[f"header: {name}"] = token(good, header=head).decode()
    return found | mangled(token(good).decode())


def jwt_tokens(trap: str) -> dict[str, str]:
    """For an identity provider's public keys: RS256, PS256, ES256 and EdDSA are allowed."""
    good = jwt_claims()
    header = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}
    found = {
        f"alg {algorithm!r}": signed_rsa(
            {"typ": "JWT", "kid": "rsa", **({} if algorithm is None else {"alg": algorithm})}, good
        )
        for algorithm in ALGORITHMS
    }
    known = RSA.public_key
    whole, bare = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
    encodings = {
        "pem": known.public_bytes(serialization.Encoding.PEM, whole),
        "pkcs1": known.public_bytes(serialization.Encoding.PEM, bare),
        "der": known.public_bytes(serialization.Encoding.DER, whole),
        "jwk": json.dumps(public(RSA, "rsa")).encode(),
        "n": base64.urlsafe_b64decode(str(public(RSA)["n"]) + "=="),
    }
    for name, secret in encodings.items():
        for algorithm in ("HS256", "RS256"):  # said to be what it is, and what is expected
            said = {**header, "alg": algorithm}
            forged = unsigned(said, good, hmac_of(secret, said, good))
            found[f"{algorithm} with the public key as secret, {name}"] = forged
    found["none, unsigned"] = unsigned({"alg": "none", "kid": "rsa"}, good)
    found["RS256, unsigned"] = unsigned(header, good)
    found["RS256, zeros"] = unsigned(header, good, bytes(256))
    found["RS512, not allowed"] = sign(RSA, "RS512", good, kid="rsa").decode()
    found["PS256 as RS256"] = sign(RSA, "PS256", good, header=header).decode()
    found["RS256 as PS256"] = signed_rsa({**header, "alg": "PS256"}, good)
    es256 = {"alg": "ES256", "kid": "ec"}
    found["ES256, zeros"] = unsigned(es256, good, bytes(64))
    found["ES256, one and one"] = unsigned(es256, good, (bytes(31) + b"\1") * 2)
    found["ES256 with the rsa key's id"] = sign(EC, "ES256", good, kid="rsa").decode()
    found["RS256 with the ec key's id"] = sign(RSA, "RS256", good, kid="ec").decode()
    found["EdDSA, zeros"] = unsigned({"alg": "EdDSA", "kid": "ed"}, good, bytes(64))
    found["EdDSA with the rsa key's id"] = sign(ED, "EdDSA", good, kid="rsa").decode()
    found["another's key, our id"] = sign(OTHER_RSA, "RS256", good, kid="rsa").decode()
    for name, more in hostile_headers(trap).items():
        found[f"header: {name}"] = signed_rsa({**header, **more}, good)
        forged = sign(OTHER_RSA, "RS256", good, header={**header, **more}).decode()
        found[f"header: {name}, signed with another"] = forged
    for name, claims in {**bad_times(good), **bad_json(good)}.items():
        found[f"claims: {name}"] = sign(RSA, "RS256", claims, kid="rsa").decode()
    for name, changed in {
        "iss missing": {"iss": None},
        "iss of another": {"iss": good["iss"] + "x"},
        "iss a list": {"iss": [good["iss"]]},
        "aud of another": {"aud": "acm"},
        "aud missing": {"aud": None},
        "aud true": {"aud": True},
        "aud an object": {"aud": {"acme": 1}},
        "sub missing": {"sub": None},
        "sub a number": {"sub": 1},
        "sub with a newline": {"sub": "alice\r\nX-SF-User-Id: root"},
        "sub empty": {"sub": ""},
        "iat in the future": {"iat": LATER},
    }.items():
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        found[f"claims: {name}"] = sign(RSA, "RS256", claims, kid="rsa").decode()
    for name, head in {
        "alg twice": b'{"alg":"none","alg":"RS256","kid":"rsa"}',
        "kid twice": b'{"alg":"RS256","kid":"ec","kid":"rsa"}',
        "deep": b'{"alg":"RS256","kid":"rsa","x":' + DEEP + b"}",
    }.items():
        found[f"header: {name}"] = signed_rsa(head, good)
    return found | mangled(sign(RSA, "RS256", good, kid="rsa").decode())


def access_tokens(port: int, trap: str) -> dict[str, str]:
    """For the encrypted ones: exactly ``dir`` and ``A128CBC-HS256``."""
    good = access_claims(port)
    plain = as_bytes(good)
    oct_key = OctKey.import_key(CIPHER_KEY)
    header = {"alg": "dir", "enc": "A128CBC-HS256"}
    found = {
        "a JWS with the same key": _jws("HS256", good, oct_key),
        "a JWS with the same key, five parts": _jws("HS256", good, oct_key) + "..",
        "unsigned": unsigned({"alg": "none"}, good),
        "dir, A256GCM": _jwe({"alg": "dir", "enc": "A256GCM"}, plain, oct_key),
        "A256KW": _jwe({**header, "alg": "A256KW"}, plain, oct_key),
        "A256GCMKW": _jwe({**header, "alg": "A256GCMKW"}, plain, oct_key),
        "RSA-OAEP to our public key": _jwe({**header, "alg": "RSA-OAEP"}, plain, RSA),
        "ECDH-ES to our public key": _jwe({**header, "alg": "ECDH-ES"}, plain, EC),
        "PBES2": _jwe(
            {**header, "alg": "PBES2-HS256+A128KW", "p2s": "c2FsdHNhbHQ", "p2c": 1000},
            plain,
            oct_key,
        ),
        "zip": _jwe({**header, "zip": "DEF"}, plain, oct_key),
        "zip, a bomb": _jwe({**header, "zip": "DEF"}, b"[" * 200_000, oct_key),
        "another key": encrypted(header, plain, bytes(32)),
    }
    # What no library makes: the header says what the rest is not.
    parameters = {name: more for name, more in hostile_headers(trap).items() if name != "enc"}
    huge = {"p2s": "c2FsdHNhbHQ", "p2c": 2**31 - 1}
    parameters |= {
        "PBES2, huge p2c": {"alg": "PBES2-HS512+A256KW", **huge},
        "dir, huge p2c": huge,
        "p2c beyond all bounds": {"alg": "PBES2-HS256+A128KW", "p2s": "c2FsdA", "p2c": 10**300},
        "unknown enc": {"enc": "A128CBC-HS257"},
        "enc of another size": {"enc": "A256CBC-HS512"},
        "enc none": {"enc": "none"},
        "enc a list": {"enc": ["A128CBC-HS256"]},
        "alg none": {"alg": "none"},
        "alg A128KW": {"alg": "A128KW"},
        "alg RSA1_5": {"alg": "RSA1_5"},
        "alg Dir": {"alg": "Dir"},
        "alg a number": {"alg": 0},
        "cty": {"cty": "JWT"},
        "typ": {"typ": "JWT"},
        "epk": {"epk": public(EC)},
    }
    for name, more in parameters.items():
        found[f"header: {name}"] = encrypted({**header, **more}, plain, CIPHER_KEY)
    for name, head in {
        "enc twice": b'{"alg":"dir","enc":"none","enc":"A128CBC-HS256"}',
        "alg twice": b'{"alg":"dir","alg":"dir","enc":"A128CBC-HS256"}',
        "deep header": b'{"alg":"dir","enc":"A128CBC-HS256","x":' + DEEP + b"}",
        "only enc": b'{"enc":"A128CBC-HS256"}',
        "no object": b'["dir","A128CBC-HS256"]',
    }.items():
        found[name] = encrypted(head, plain, CIPHER_KEY)
    for name, claims in {**bad_times(good), **bad_json(good)}.items():
        found[f"claims: {name}"] = encrypted(header, as_bytes(claims), CIPHER_KEY)
    changes: dict[str, dict[str, Any]] = {
        "user with a newline": {"userId": "alice\r\nX-SF-User-Id: root"},
        "user a number": {"userId": 1},
        "user missing": {"userId": None},
        "owner with a newline": {"owner": "0x\r\nx: y"},
        "did with a newline": {"did": "did:nv:" + "0" * 64 + "\n"},
        "urls, none": {"endpoints": []},
        "malformed urls": {"endpoints": good["endpoints"][0]},
        "urls, a thousand and more": {"endpoints": good["endpoints"] * 2000},
        "urls of another host": {"endpoints": [f"http://localhost:{port}/(.*)"]},
        "urls of another port": {"endpoints": [f"http://127.0.0.1:{port + 1}/(.*)"]},
        "urls of another path": {"endpoints": [f"http://127.0.0.1:{port}/other"]},
        "urls, a pattern that backtracks": {
            "endpoints": [f"http://127.0.0.1:{port}/" + "(a+)+" * 20 + "b"]
        },
        "credential with a newline": {
            "headers": {"authentication": {"type": "bearer", "token": "x\r\ny: z"}}
        },
    }
    for name, changed in changes.items():
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        found[f"claims: {name}"] = f"Bearer {access_token(claims)}"
    nested = sign(RSA, "RS256", jwt_claims(), kid="rsa").removeprefix(b"Bearer ")
    found["a JWS inside"] = f"Bearer {access_token(nested)}"
    found["a token inside"] = f"Bearer {access_token(access_token(good).encode())}"
    return found | mangled(f"Bearer {access_token(good)}")


def good_tokens(port: int) -> dict[str, list[str]]:
    """What the helpers make of what is good: were these refused, nothing above would say much."""
    key, jwt = {"id": "001", "exp": LATER}, jwt_claims()
    hs256, rs256 = {"alg": "HS256"}, {"alg": "RS256", "kid": "rsa"}
    direct = {"alg": "dir", "enc": "A128CBC-HS256"}
    return {
        "keys": [
            unsigned(hs256, key, hmac_of(KEY.encode(), hs256, key)),
            token({**key, "nbf": 0, "x": json.loads("[" * 99 + "]" * 99)}).decode(),
        ],
        "jwt": [
            signed_rsa(rs256, jwt),
            sign(RSA, "PS256", jwt, kid="rsa").decode(),
            sign(EC, "ES256", jwt, kid="ec").decode(),
            sign(ED, "EdDSA", jwt, kid="ed").decode(),
        ],
        "nevermined": [
            encrypted(direct, as_bytes(access_claims(port)), CIPHER_KEY),
            _jwe(direct, as_bytes(access_claims(port)), OctKey.import_key(CIPHER_KEY)),
        ],
    }


def _jws(algorithm: str, claims: Any, key: OctKey) -> str:
    made = jws.serialize_compact({"alg": algorithm}, as_bytes(claims), key, algorithms=[algorithm])
    return f"Bearer {made}"


_ALL: Final = [
    "dir", "A256KW", "A256GCMKW", "RSA-OAEP", "ECDH-ES", "PBES2-HS256+A128KW",
    "A128CBC-HS256", "A256GCM", "DEF",
]  # fmt: skip


def _jwe(header: dict[str, Any], plain: bytes, key: Any) -> str:
    """What joserfc makes of it."""
    registry = jwe.JWERegistry(algorithms=_ALL, strict_check_header=False)
    return f"Bearer {jwe.encrypt_compact(header, plain, key, registry=registry)}"
