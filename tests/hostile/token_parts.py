"""What tokens that must not be accepted are made of."""

from __future__ import annotations

import base64
import hmac
import json
import time
import zlib
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.auth.signing import OTHER_RSA, RSA, public, sign
from tests.auth.support import base64url
from tests.hostile.issuers import LATER

#: Deeper than parsers go, and as deep as they do.
DEEP: Final = b"[" * 2500 + b"]" * 2500
_NESTED: Final = b'{"a":' * 900 + b"1" + b"}" * 900
WEAK: Final = "0" * 64


def hostile_headers(trap: str) -> dict[str, dict[str, Any]]:
    """Parameters for a header (RFC 7515, section 4.1) that is good without them."""
    weak = {"kty": "oct", "k": base64url(WEAK.encode()).decode()}
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
        "deep": text[:-1] + b', "x": ' + DEEP + b"}",
        "deep objects, each key twice": text[:-1] + b', "x": {"a": 1, "a": ' + _NESTED + b"}}",
        "compressed": zlib.compress(text),
    }


def mangled(value: str) -> dict[str, str]:
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


def hmac_of(secret: bytes, header: Any, claims: Any) -> bytes:
    signed = b".".join(base64url(as_bytes(part)) for part in (header, claims))
    return hmac.digest(secret, signed, "sha256")


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    return _joined(base64url(as_bytes(header)), base64url(as_bytes(claims)), base64url(signature))


def signed_rsa(header: Any, claims: Any) -> str:
    """Signed as RS256 does it, whatever the header says."""
    return sign(RSA, "RS256", claims, header=header).decode()


def encrypted(header: Any, plain: bytes, key: bytes) -> str:
    """Encrypted by ``dir`` and ``A128CBC-HS256`` (RFC 7518, 5.2), whatever the header says."""
    protected = base64url(as_bytes(header))
    vector = bytes(range(16))
    padder = PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(vector)).encryptor()
    text = encryptor.update(padded) + encryptor.finalize()
    mac = protected + vector + text + (8 * len(protected)).to_bytes(8, "big")
    tag = hmac.digest(key[:16], mac, "sha256")[:16]
    return _joined(protected, b"", base64url(vector), base64url(text), base64url(tag))


def _joined(*parts: bytes) -> str:
    return "Bearer " + b".".join(parts).decode("ascii")


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()
