"""``RateLimit-Policy`` and ``RateLimit``: what clients are told about limits that hold for them.

Lists of structured fields (RFC 9651), after draft-ietf-httpapi-ratelimit-headers-10, which is no
standard yet. Each limit has lines of its own, since such lists may be split over several lines
(section 3.1 of the RFC), and so nobody has to put them together.
"""

from __future__ import annotations

from typing import Final, TypeAlias

#: One header field.
Field: TypeAlias = "tuple[bytes, bytes]"

#: What is counted where nothing is said, and the bytes of bodies, as the draft calls them (3.1.2).
REQUESTS: Final = "requests"
CONTENT_BYTES: Final = "content-bytes"

#: Integers have 15 digits (RFC 9651, 3.3.1).
_LARGEST: Final = 10**15 - 1


class Policy:
    """One limit: so much in a time.

    :param name: what clients know it by: visible ASCII without ``"`` and ``\\``.
    :param quota: how much.
    :param window: the time in whole seconds, 1 at least.
    :param unit: what is counted.
    :param burst: how much at once, where that is not the ``quota``.

    ``line`` is its field line.
    """

    __slots__ = ("_limit", "line")

    def __init__(
        self, name: str, quota: int, window: int, unit: str = REQUESTS, burst: int | None = None
    ) -> None:
        item = f'"{name}";q={min(quota, _LARGEST)}'
        if unit != REQUESTS:
            item += f';qu="{unit}"'
        item += f";w={window}"
        if burst is not None:
            item += f";gatekeeper-burst={min(burst, _LARGEST)}"
        self.line = b"ratelimit-policy: " + item.encode("ascii")
        self._limit = f'ratelimit: "{name}";r='.encode("ascii")

    def __repr__(self) -> str:
        return f"<Policy {self.line.decode('ascii')!r}>"

    def limit_line(self, remaining: int, seconds: int) -> bytes:
        """The line that says how much is left, and in how many ``seconds`` there will be more."""
        return b"%b%d;t=%d" % (self._limit, min(remaining, _LARGEST), seconds)

    def refusal_fields(self, remaining: int, seconds: int) -> tuple[Field, ...]:
        """What goes with a 429: both fields, and ``Retry-After``, which must say the same time.

        (Section 6: it should not be earlier, and section 7: it takes precedence.)
        """
        lines = (self.line, self.limit_line(remaining, seconds))
        fields = (line.partition(b": ") for line in lines)
        return (
            (b"retry-after", b"%d" % seconds),
            *((name, value) for name, _, value in fields),
        )
