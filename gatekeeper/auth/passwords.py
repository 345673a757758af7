"""Passwords as argon2id hashes (RFC 9106) in the PHC string format.

Everything here that computes a hash takes tens of milliseconds and megabytes: off the reactor
thread with it.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import unicodedata
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import verify_secret

#: What a new hash costs: 19 MiB, 2 passes, one lane, the OWASP recommendation for servers that
#: check many. One lane, because the processors are wanted for other requests meanwhile.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)

#: The most that one check may cost, in KiB times passes. RFC 9106's first choice (2 GiB, one
#: pass) is just within; more would let one login hold a processor for many seconds.
_MAX_WORK: Final = 2**21
_MAX_LANES: Final = 16

_PHC: Final = re.compile(
    r"(?P<cost>\$argon2id\$v=19\$m=(?P<memory>[1-9][0-9]{0,7}),t=(?P<passes>[1-9][0-9]{0,7}),"
    r"p=(?P<lanes>[1-9][0-9]{0,2})\$)(?P<salt>[A-Za-z0-9+/]{1,128})\$(?P<tag>[A-Za-z0-9+/]{1,128})"
)


def normalize(text: str) -> str:
    """Unicode normal form C: keyboards differ in how they compose ``é`` (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", text)


def has_control_character(text: str) -> bool:
    """Whether there is one, which neither a name nor a password may have (RFC 7617, section 2)."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def hash_password(password: str) -> str:
    """A hash for the configuration or the store, with a salt of its own.

    :raises ValueError: where no client could send this password.
    """
    if has_control_character(password):
        raise ValueError("a password cannot have control characters")
    try:
        return _HASHER.hash(normalize(password).encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("the password is not valid Unicode") from None


def verify_password(password: str, hashed: str) -> bool:
    """Whether the password fits. ``hashed`` has passed :func:`check_hash`.

    :raises argon2.exceptions.VerificationError: it cannot be told (memory is short).
    """
    try:
        return verify_secret(hashed.encode("ascii"), normalize(password).encode("utf-8"), Type.ID)
    except VerifyMismatchError:
        return False


def check_hash(text: str) -> str:
    """Take a hash from a configuration, as it is.

    :raises ValueError: it is no argon2id hash, or checking it costs too much; without the text.
    """
    match = _PHC.fullmatch(text)
    if match is None:
        raise ValueError("must be an argon2id hash, as made by `gatekeeper hash-password`")
    memory, passes, lanes = (int(match[name]) for name in ("memory", "passes", "lanes"))
    if memory < 8 * lanes:  # RFC 9106, 3.1
        raise ValueError("has less memory (m) than its lanes (p) need, 8 each")
    if memory * passes > _MAX_WORK or lanes > _MAX_LANES:
        raise ValueError(
            f"costs too much to check: m times t may be {_MAX_WORK} and p {_MAX_LANES} at the most"
        )
    if not 8 <= _length(match["salt"]) <= 64 or not 16 <= _length(match["tag"]) <= 64:
        raise ValueError("is damaged: salt or hash have no usable length")
    return text


def imitate(hashed: str) -> str:
    """A hash that takes as long to check as ``hashed`` does, and that no password fits."""
    match = _PHC.fullmatch(hashed)
    assert match is not None, "checked before"
    return f"{match['cost']}{_noise(match['salt'])}${_noise(match['tag'])}"


#: Stands in where no user is known whose hash could be imitated.
SAMPLE_HASH: Final = (
    f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def _length(part: str) -> int:
    """How many bytes the unpadded base64 holds; 0 where it is not canonical."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
    except binascii.Error:
        return 0
    return len(raw) if base64.b64encode(raw).decode("ascii").rstrip("=") == part else 0


def _noise(like: str) -> str:
    return base64.b64encode(secrets.token_bytes(_length(like))).decode("ascii").rstrip("=")
