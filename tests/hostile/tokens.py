"""Tokens that must not be accepted, made from what would be good ones.

Each function gives them by name, as the value of the credential field. ``trap`` is the URL of a
server that nobody has a reason to ask.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
import zlib
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from joserfc import jwe, jws
from joserfc.jwk import OctKey

from tests.auth.signing import EC, ED, OTHER_RSA, RSA, public, sign
from tests.auth.support import KEY, base64url, token
from tests.hostile.checkers import CIPHER_KEY, LATER, access_claims, access_token, jwt_claims

#: Deeper than parsers go, and as deep as they do.
_DEEP: Final = b"[" * 2500 + b"]" * 2500
_NESTED: Final = b'{"a":' * 900 + b"1" + b"}" * 900

_WEAK: Final = "0" * 64


def _b(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _joined(*parts: bytes) -> str:
    return "Bearer " + b".".join(parts).decode("ascii")


def _unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    return _joined(base64url(_b(header)), base64url(_b(claims)), base64url(signature))


def hostile_headers(trap: str) -> dict[str, dict[str, Any]]:
    """Parameters for a header (RFC 7515, section 4.1) that is good without them."""
    weak = {"kty": "oct", "k": base64url(_WEAK.encode()).decode()}
    chain = base64.b64encode(b"\x30\x03\x02\x01\x01").decode()
    return {
        "kid with a path": {"kid": "../../../../../../dev/null"},
        "kid that is a file": {"kid": "/etc/passwd"},
        "kid for sql": {"kid": "x' UNION SELECT '0' --"},
        "kid for a shell": {"kid": "`id`|$(id)"},
        "kid that is a url": {"kid": f"{trap}/key"},
        "kid that is a list": {"kid": ["1"]},
        "kid that is a number": {"kid": 1},
        "jku": {"jku": f"{trap}/jwks"},
        "jku, no string": {"jku": [f"{trap}/jwks"]},
        "x5u": {"x5u": f"{trap}/chain"},
        "x5c": {"x5c": [chain]},
        "jwk, an rsa key": {"jwk": public(OTHER_RSA)},
        "jwk, a secret": {"jwk": weak},
        "crit, unknown": {"crit": ["x-unknown"], "x-unknown": True},
        "crit, known": {"crit": ["exp"], "exp": LATER},
        "crit, empty": {"crit": []},
        "crit, no list": {"crit": "exp"},
        "b64": {"b64": False, "crit": ["b64"]},
        "zip": {"zip": "DEF"},
        "enc": {"enc": "A128CBC-HS256"},
        "typ of another kind": {"typ": "dpop+jwt", "kid": "/"},
    }


#: Algorithms that are never the right one. ``None`` stands for a header without any.
ALGORITHMS: Final = (
    "none", "None", "NONE", "nOnE", "", " HS256", "hs256", "HS256\0", "HS1", "HS257",
    "RSA-OAEP", "dir", ["HS256"], {"HS256": 1}, 256, True, None,
)  # fmt: skip


def bad_times(good: dict[str, Any]) -> dict[str, Any]:
    """Claims (objects, or JSON as bytes) whose times are no good."""
    now = int(time.time())
    without = {name: value for name, value in good.items() if name != "exp"}

    def raw(text: str, name: str = "exp") -> bytes:
        """JSON that Python does not write."""
        return (json.dumps(without)[:-1] + f', "{name}": {text}}}').encode()

    found: dict[str, Any] = {
        "exp missing": without,
        "exp null": {**good, "exp": None},
        "exp a string": {**good, "exp": str(LATER)},
        "exp a float": {**good, "exp": LATER + 0.5},
        "exp a round float": {**good, "exp": float(LATER)},
        "exp true": {**good, "exp": True},
        "exp a list": {**good, "exp": [LATER]},
        "exp an object": {**good, "exp": {"$gt": 0}},
        "exp NaN": raw("NaN"),
        "exp Infinity": raw("Infinity"),
        "exp 1e400": raw("1e400"),
        "exp 1e10": raw("1e10"),
        "exp huge": raw("9" * 4000),
        "exp too huge for Python": raw("9" * 5000),
        "exp negative": {**good, "exp": -LATER},
        "exp past": {**good, "exp": now - 10},
        "exp long past": {**good, "exp": 0},
        "exp twice": raw(f'{LATER}, "exp": {LATER}'),
        "exp twice, once past": raw(f'1, "exp": {LATER}'),
        "exp in another case": {**without, "EXP": LATER},
        "exp escaped twice": raw(f'{LATER}, "\\u0065xp": {LATER}'),
        "nbf in the future": {**good, "nbf": LATER},
        "nbf a string": {**good, "nbf": "0"},
        "nbf true": {**good, "nbf": True},
        "nbf NaN": (json.dumps(good)[:-1] + ', "nbf": NaN}').encode(),
    }
    return found


def bad_json(good: dict[str, Any]) -> dict[str, bytes]:
    """Claims that are no such object at all."""
    text = json.dumps(good).encode()
    return {
        "empty": b"",
        "an array": b"[" + text + b"]",
        "a string": json.dumps(text.decode()).encode(),
        "a number": b"1",
        "null": b"null",
        "cut off": text[:-1],
        "with more behind": text + text,
        "with a comment": text[:-1] + b"/**/}",
        "with a comma": text[:-1] + b",}",
        "in utf-16": text.decode().encode("utf-16"),
        "with a mark before": b"\xef\xbb\xbf" + text,
        "no utf-8": text[:-1] + b', "x": "\xff"}',
        "deep": text[:-1] + b', "x": ' + _DEEP + b"}",
        "deep objects, each key twice": text[:-1] + b', "x": {"a": 1, "a": ' + _NESTED + b"}}",
        "compressed": zlib.compress(text),
    }


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
    found["none, unsigned"] = _unsigned({"alg": "none"}, good)
    found["HS256, unsigned"] = _unsigned(hs256, good)
    found["HS256, signed with nothing"] = token(good, key="").decode()
    found["HS256, signed with what the hex stands for"] = _unsigned(
        hs256, good, _hmac(bytes.fromhex(KEY), hs256, good)
    )
    found["RS256, signed by somebody"] = sign(OTHER_RSA, "RS256", good, kid=None).decode()
    for name, more in hostile_headers(trap).items():
        found[f"header: {name}"] = token(good, header={**hs256, **more}).decode()
        if name.startswith(("jwk", "jku", "x5u", "kid")):
            forged = token(good, header={**hs256, **more}, key=_WEAK).decode()
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
    for name, header in {
        "alg twice": b'{"alg":"none","alg":"HS256"}',
        "alg twice, equal": b'{"alg":"HS256","alg":"HS256"}',
        "deep": b'{"alg":"HS256","x":' + _DEEP + b"}",
        "an array": b'["HS256"]',
        "NaN": b'{"alg":"HS256","x":NaN}',
    }.items():
        found[f"header: {name}"] = token(good, header=header).decode()
    return found | _mangled(token(good).decode())


def jwt_tokens(trap: str) -> dict[str, str]:
    """For an identity provider's public keys: RS256, PS256, ES256 and EdDSA are allowed."""
    good = jwt_claims()
    header = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}
    found = {
        f"alg {algorithm!r}": _signed_rsa(
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
            head = {**header, "alg": algorithm}
            forged = _unsigned(head, good, _hmac(secret, head, good))
            found[f"{algorithm} with the public key as secret, {name}"] = forged
    found["none, unsigned"] = _unsigned({"alg": "none", "kid": "rsa"}, good)
    found["RS256, unsigned"] = _unsigned(header, good)
    found["RS256, zeros"] = _unsigned(header, good, bytes(256))
    found["RS512, not allowed"] = sign(RSA, "RS512", good, kid="rsa").decode()
    found["PS256 as RS256"] = sign(RSA, "PS256", good, header=header).decode()
    found["RS256 as PS256"] = _signed_rsa({**header, "alg": "PS256"}, good)
    es256 = {"alg": "ES256", "kid": "ec"}
    found["ES256, zeros"] = _unsigned(es256, good, bytes(64))
    found["ES256, one and one"] = _unsigned(es256, good, (bytes(31) + b"\1") * 2)
    found["ES256 with the rsa key's id"] = sign(EC, "ES256", good, kid="rsa").decode()
    found["RS256 with the ec key's id"] = sign(RSA, "RS256", good, kid="ec").decode()
    found["EdDSA, zeros"] = _unsigned({"alg": "EdDSA", "kid": "ed"}, good, bytes(64))
    found["EdDSA with the rsa key's id"] = sign(ED, "EdDSA", good, kid="rsa").decode()
    found["another's key, our id"] = sign(OTHER_RSA, "RS256", good, kid="rsa").decode()
    for name, more in hostile_headers(trap).items():
        found[f"header: {name}"] = _signed_rsa({**header, **more}, good)
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
        "deep": b'{"alg":"RS256","kid":"rsa","x":' + _DEEP + b"}",
    }.items():
        found[f"header: {name}"] = _signed_rsa(head, good)
    return found | _mangled(sign(RSA, "RS256", good, kid="rsa").decode())


def access_tokens(port: int, trap: str) -> dict[str, str]:
    """For the encrypted ones: exactly ``dir`` and ``A128CBC-HS256``."""
    good = access_claims(port)
    plain = _b(good)
    oct_key = OctKey.import_key(CIPHER_KEY)
    header = {"alg": "dir", "enc": "A128CBC-HS256"}
    found = {
        "a JWS with the same key": _jws("HS256", good, oct_key),
        "a JWS with the same key, five parts": _jws("HS256", good, oct_key) + "..",
        "unsigned": _unsigned({"alg": "none"}, good),
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
        "another key": _encrypted(header, plain, bytes(32)),
    }
    # What no library makes: the header says what the rest is not.
    parameters = {name: more for name, more in hostile_headers(trap).items() if name != "enc"}
    huge = {"p2s": "c2FsdHNhbHQ", "p2c": 2**31 - 1}
    for name, more in {
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
        **{f"header: {name}": more for name, more in parameters.items()},
    }.items():
        found[name] = _encrypted({**header, **more}, plain, CIPHER_KEY)
    for name, head in {
        "enc twice": b'{"alg":"dir","enc":"none","enc":"A128CBC-HS256"}',
        "alg twice": b'{"alg":"dir","alg":"dir","enc":"A128CBC-HS256"}',
        "deep header": b'{"alg":"dir","enc":"A128CBC-HS256","x":' + _DEEP + b"}",
        "only enc": b'{"enc":"A128CBC-HS256"}',
        "no object": b'["dir","A128CBC-HS256"]',
    }.items():
        found[name] = _encrypted(head, plain, CIPHER_KEY)
    for name, claims in {**bad_times(good), **bad_json(good)}.items():
        found[f"claims: {name}"] = _encrypted(header, _b(claims), CIPHER_KEY)
    for name, changed in {
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
    }.items():
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        found[f"claims: {name}"] = f"Bearer {access_token(claims)}"
    nested = sign(RSA, "RS256", jwt_claims(), kid="rsa").removeprefix(b"Bearer ")
    found["a JWS inside"] = f"Bearer {access_token(nested)}"
    found["a token inside"] = f"Bearer {access_token(access_token(good).encode())}"
    return found | _mangled(f"Bearer {access_token(good)}")


def good_tokens(port: int) -> dict[str, list[str]]:
    """What the helpers make of what is good: were these refused, nothing above would say much."""
    key, jwt = {"id": "001", "exp": LATER}, jwt_claims()
    hs256, rs256 = {"alg": "HS256"}, {"alg": "RS256", "kid": "rsa"}
    encrypted = {"alg": "dir", "enc": "A128CBC-HS256"}
    return {
        "keys": [
            _unsigned(hs256, key, _hmac(KEY.encode(), hs256, key)),
            token({**key, "nbf": 0, "x": json.loads("[" * 99 + "]" * 99)}).decode(),
        ],
        "jwt": [
            _signed_rsa(rs256, jwt),
            sign(RSA, "PS256", jwt, kid="rsa").decode(),
            sign(EC, "ES256", jwt, kid="ec").decode(),
            sign(ED, "EdDSA", jwt, kid="ed").decode(),
        ],
        "nevermined": [
            _encrypted(encrypted, _b(access_claims(port)), CIPHER_KEY),
            _jwe(encrypted, _b(access_claims(port)), OctKey.import_key(CIPHER_KEY)),
        ],
    }


def _mangled(value: str) -> dict[str, str]:
    """What becomes of good credentials when something is done to them."""
    scheme, _, good = value.partition(" ")
    parts = good.split(".")
    last = parts[-1]
    other = "B" if last.endswith("A") else "A"
    swapped = ".".join([*parts[:-2], parts[-1], parts[-2]])
    # The last character's unused bits: another spelling of the same bytes.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = last[:-1] + alphabet[alphabet.index(last[-1]) ^ 1]
    return {
        f"mangled: {name}": f"{scheme} {text}"
        for name, text in {
            "one part less": ".".join(parts[:-1]),
            "one part more": good + ".",
            "a dot before": "." + good,
            "two more parts": good + ".x.y",
            "parts swapped": swapped,
            "end changed": good[:-8] + other * 8,
            "end cut off": good[:-8],
            "end spelled otherwise": ".".join([*parts[:-1], spelled]),
            "padding": good + "====",
            "quoted": f'"{good}"',
            "a quoted pair": f'token="{good}"',
            "a list": f"{good}, {good}",
            "a comma": good + ",",
            "a semicolon": good + ";x=y",
            "8-bit behind": good + "\xa0",
            "escaped": good.replace(".", "%2e"),
        }.items()
    }


def _hmac(secret: bytes, header: Any, claims: Any) -> bytes:
    signed = b".".join(base64url(_b(part)) for part in (header, claims))
    return hmac.digest(secret, signed, "sha256")


def _signed_rsa(header: Any, claims: Any) -> str:
    """Signed as RS256 does it, whatever the header says."""
    return sign(RSA, "RS256", claims, header=header).decode()


def _jws(algorithm: str, claims: Any, key: OctKey) -> str:
    made = jws.serialize_compact({"alg": algorithm}, _b(claims), key, algorithms=[algorithm])
    return f"Bearer {made}"


_ALL: Final = [
    "dir", "A256KW", "A256GCMKW", "RSA-OAEP", "ECDH-ES", "PBES2-HS256+A128KW",
    "A128CBC-HS256", "A256GCM", "DEF",
]  # fmt: skip


def _jwe(header: dict[str, Any], plain: bytes, key: Any) -> str:
    """What joserfc makes of it."""
    registry = jwe.JWERegistry(algorithms=_ALL, strict_check_header=False)
    return f"Bearer {jwe.encrypt_compact(header, plain, key, registry=registry)}"


def _encrypted(header: Any, plain: bytes, key: bytes) -> str:
    """Encrypted by ``dir`` and ``A128CBC-HS256`` (RFC 7518, 5.2), whatever the header says."""
    protected = base64url(_b(header))
    vector = bytes(range(16))
    padder = PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(vector)).encryptor()
    text = encryptor.update(padded) + encryptor.finalize()
    mac = protected + vector + text + (8 * len(protected)).to_bytes(8, "big")
    tag = hmac.digest(key[:16], mac, "sha256")[:16]
    return _joined(protected, b"", base64url(vector), base64url(text), base64url(tag))
