"""``null://``: everybody passes, nobody is identified."""

from __future__ import annotations

from zope.interface import implementer

from gatekeeper.auth.interfaces import Credentials, Grant, IChecker
from gatekeeper.auth.urls import parse_checker_url


@implementer(IChecker)
class NullChecker:
    """Grants whatever comes, to nobody in particular. Checkers after it are never asked."""

    challenges: tuple[bytes, ...] = ()
    varies = frozenset[bytes]()

    @classmethod
    def from_url(cls, url: str) -> NullChecker:
        """The checker of ``null://``.

        :raises ConfigurationError: where anything follows.
        """
        parse_checker_url(url, ())
        return cls()

    def __repr__(self) -> str:
        return "<null://>"

    def check(self, credentials: Credentials) -> Grant:
        """See :class:`IChecker`."""
        return Grant(consumed=False)

    def close(self) -> None:
        """See :class:`IChecker`."""
