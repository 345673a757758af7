"""URL patterns, and what a list of them opens.

A pattern is an absolute URL whose path is a path-to-regexp pattern (see :mod:`path_patterns`):
``https://api.example.com/v1/users/:id``. Its query and fragment mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from gatekeeper.auth.automaton import PatternError
from gatekeeper.auth.interfaces import Opened
from gatekeeper.auth.path_patterns import MAX_LENGTH, PathPattern, without_query
from gatekeeper.config.values import parse_host, parse_port, split_authority

#: Patterns in one list.
MAX_PATTERNS: Final = 128

_URL: Final = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class OriginUrl(NamedTuple):
    """An origin (RFC 6454): ``http`` or ``https``, the host in lower case, the port."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """A pattern, ready to match; ``text`` is as it was given."""

    text: str = field(repr=False)  # a query may hold a secret
    origin: OriginUrl
    path: PathPattern = field(repr=False, compare=False)

    def is_at(self, host: str, port: int | None) -> bool:
        """Whether it is for this authority; without a port, its scheme's default one is meant."""
        origin = self.origin
        wanted = _DEFAULT_PORTS[origin.scheme] if port is None else port
        return origin.host == host and origin.port == wanted


@lru_cache(maxsize=1024)
def compile_url(text: str) -> UrlPattern:
    """Read a pattern.

    :raises PatternError: it can match nothing, or is not supported; the message says why.
    """
    found = _URL.fullmatch(text)
    if len(text) > MAX_LENGTH:
        raise PatternError("the pattern is too long")
    if found is None or not text.isprintable():
        raise PatternError("a pattern is a URL that begins with `http://` or `https://`")
    scheme, authority, rest = found[1].lower(), found[2], without_query(found[3])
    try:
        host, port = split_authority(authority)
        origin = OriginUrl(
            scheme,
            parse_host(host.removesuffix(".")),
            _DEFAULT_PORTS[scheme] if port is None else parse_port(port),
        )
    except ValueError as error:
        raise PatternError(f"the authority of a pattern {error}") from None
    return UrlPattern(text, origin, PathPattern(rest or "/"))


def compile_usable(texts: Iterable[str]) -> tuple[UrlPattern, ...]:
    """The patterns that can be used; what cannot opens nothing."""
    usable = []
    for text in texts:
        try:
            usable.append(compile_url(text))
        except PatternError:
            continue
    return tuple(usable)


@dataclass(frozen=True, slots=True)
class Backend:
    """An upstream that takes the credential ``authorization``, whoever asks."""

    origin: OriginUrl
    authorization: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenedUrls:
    """The URLs that match one of ``patterns``, at their own host and port.

    Requests go to the matching pattern's origin with ``authorization``; the ``backend`` gets its
    own credential instead.
    """

    patterns: tuple[UrlPattern, ...]
    authorization: bytes | None = field(default=None, repr=False)
    backend: Backend | None = None

    def find(self, host: str, port: int | None, path: bytes) -> Opened | None:
        """See :class:`~gatekeeper.auth.interfaces.Opens`."""
        for pattern in self.patterns:
            if pattern.is_at(host, port) and matches_path(pattern, path):
                return Opened(*pattern.origin, self._authorization(pattern.origin))
        return None

    def _authorization(self, origin: OriginUrl) -> bytes | None:
        if self.backend is not None and self.backend.origin == origin:
            return self.backend.authorization
        return self.authorization


@dataclass(frozen=True, slots=True)
class PublicUrls:
    """The paths that match one of ``patterns``, for anybody and without a credential.

    The host does not count: it has said whose patterns these are.
    """

    patterns: tuple[UrlPattern, ...]

    def find(self, host: str, port: int | None, path: bytes) -> Opened | None:
        """See :class:`~gatekeeper.auth.interfaces.Opens`."""
        for pattern in self.patterns:
            if matches_path(pattern, path):
                return Opened(*pattern.origin, None)
        return None


def matches_path(pattern: UrlPattern, path: bytes) -> bool:
    """Whether a canonical path matches; a CONNECT has none, and matches nothing."""
    return path.startswith(b"/") and pattern.path.matches(path)
