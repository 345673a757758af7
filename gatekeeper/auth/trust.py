"""``trust://``: a proxy before us has checked the caller, and says who it is in header fields."""

from __future__ import annotations

import re
from typing import Final

from zope.interface import implementer

from gatekeeper.auth.interfaces import (
    ABSTAIN,
    PEER_TRUSTED,
    Abstain,
    Credentials,
    Fields,
    Grant,
    IChecker,
)
from gatekeeper.auth.urls import parse_checker_url
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.http.fields import KEEP, RESERVED, classify, is_field, list_members

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")  # RFC 9110, 5.6.2, without "_"

USER: Final = b"x-sf-user-id"
KEY: Final = b"x-sf-api-key-id"
_REAL_IP: Final = b"x-real-ip"
_OUR_OWN: Final = frozenset({b"forwarded", b"x-request-id"})


@implementer(IChecker)
class TrustChecker:
    """Grants to the listener's trusted peers; anybody else is nobody, and left to other checkers.

    The first value of each field is kept. Never kept are fields that belong to one connection or
    to the framing, credentials, Host, and what we write ourselves about the way of the request;
    nor a name with ``_``, which an upstream may read as another name with ``-``.

    :param allowed: the only names kept, in lower case; None for all.
    """

    challenges: tuple[bytes, ...] = ()

    def __init__(self, allowed: frozenset[bytes] | None = None) -> None:
        self.varies = None if allowed is None else allowed | {PEER_TRUSTED, b"connection"}
        self._allowed = allowed

    @classmethod
    def from_url(cls, url: str) -> TrustChecker:
        """The checker of ``trust://`` or ``trust://?allowed=a,b``.

        :raises ConfigurationError: the URL is malformed, or a name is none that can be trusted.
        """
        parameters = parse_checker_url(url, ("allowed",)).parameters
        if "allowed" not in parameters:
            return cls()
        names = [name.strip() for name in parameters["allowed"].split(",")]
        for name in names:
            if not _TOKEN.fullmatch(name):
                raise ConfigurationError(
                    [Problem("", "`allowed` is a list of field names, without `_` in them")]
                )
            if not trustworthy(name.encode().lower()):
                raise ConfigurationError([Problem("", f"`{name}` cannot be a trusted header")])
        return cls(frozenset(name.encode().lower() for name in names))

    def __repr__(self) -> str:
        if self._allowed is None:
            return "<trust://>"
        return f"<trust://?allowed={','.join(sorted(map(bytes.decode, self._allowed)))}>"

    def check(self, credentials: Credentials) -> Grant | Abstain:
        """See :class:`IChecker`."""
        if not credentials.peer_trusted:
            return ABSTAIN
        kept = self._keep(credentials.fields)
        real_ip = kept.pop(_REAL_IP, None) is not None
        return Grant(
            consumed=False,
            user=_text(kept.get(USER, b"")),
            key_id=_text(kept.get(KEY, b"")),
            headers=tuple(kept.items()),
            real_ip=real_ip,
        )

    def close(self) -> None:
        """See :class:`IChecker`."""

    def _keep(self, fields: Fields) -> dict[bytes, bytes]:
        of_connection = set(list_members(value for name, value in fields if name == b"connection"))
        kept: dict[bytes, bytes] = {}
        for name, value in fields:
            if self._allowed is not None and name not in self._allowed:
                continue
            # Connection may name fields of its own hop, but cannot take an identity away.
            if not is_field(name, value):
                continue
            if trustworthy(name) and (name not in of_connection or classify(name)[1] == RESERVED):
                kept.setdefault(name, value)
        return kept


def trustworthy(name: bytes) -> bool:
    """Whether a field (its name in lower case) may go upstream as somebody else's word."""
    return (
        classify(name)[1] in (KEEP, RESERVED)
        and b"_" not in name
        and name not in _OUR_OWN
        and not name.startswith(b"x-forwarded-")
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
