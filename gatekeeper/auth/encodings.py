"""The two ways to write a token of three parts, ``header.payload.signature``."""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.auth.jose import decode_part

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_LINE: Final = 76  # characters, after which GNU's and busybox's base64 begin a new line


class Standard:
    """JWS in compact form (RFC 7515): unpadded base64url, one spelling for each value.

    The methods raise ``ValueError`` where the part is malformed, without quoting it.
    """

    def decode(self, part: bytes) -> bytes:
        """What a header or payload holds."""
        return decode_part(part)

    def decode_signature(self, part: bytes) -> bytes:
        """The signature's bytes."""
        return decode_part(part)

    def signed(self, header: bytes, payload: bytes) -> tuple[bytes, ...]:
        """What the signature may have been made over: one of these."""
        return (header + b"." + payload,)


class Legacy(Standard):
    """What shell scripts make with ``echo``, ``base64`` and ``openssl``, beside the standard form.

    * Header and payload may be padded base64 with ``+`` and ``/``; there are clients with one part
      in either encoding, so each part is read by itself.
    * The signature may be lower-case hex.
    * It may cover one trailing newline more: ``echo "$header.$payload" | openssl dgst``.
    * ``base64`` wraps long parts. The signature covers the newlines then, which cannot be sent in a
      field value (RFC 9110, 5.5): clients drop them or send blanks in their place.
    """

    def decode(self, part: bytes) -> bytes:
        """See :class:`Standard`."""
        joined = _join(part)
        bare = joined.translate(_TO_URL).rstrip(b"=")
        if len(joined) not in (len(bare), len(bare) + -len(bare) % 4):
            raise ValueError("padding of a wrong length")
        return decode_part(bare)

    def decode_signature(self, part: bytes) -> bytes:
        """See :class:`Standard`."""
        if _HEX.fullmatch(part):
            return bytes.fromhex(part.decode("ascii"))
        return decode_part(part)

    def signed(self, header: bytes, payload: bytes) -> tuple[bytes, ...]:
        """See :class:`Standard`."""
        parts = _join(header), _join(payload)
        texts = [b".".join(parts)]
        if any(len(part) > _LINE for part in parts):
            texts.append(b".".join(_wrap(part, b"\n") for part in parts))
        return tuple(text + end for text in texts for end in (b"", b"\n"))


def _join(part: bytes) -> bytes:
    """Take out the blanks that stand for the newlines of ``base64``."""
    joined = part.replace(b" ", b"")
    if part not in (joined, _wrap(joined, b" ")):
        raise ValueError("blanks in a part")
    return joined


def _wrap(part: bytes, separator: bytes) -> bytes:
    return separator.join(part[i : i + _LINE] for i in range(0, len(part), _LINE))
