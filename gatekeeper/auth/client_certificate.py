"""The ``client-certificate`` checker: whom a TLS client's certificate names.

The listener has verified it (``client_ca``). What is in it is read from the dictionary that
:meth:`ssl.SSLObject.getpeercert` gives.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field
from zope.interface import implementer

from gatekeeper.auth.claims import is_name
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    CERTIFICATE,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
)
from gatekeeper.config.fields import Section

Place: TypeAlias = Literal[
    "subject.CN", "subject.O", "subject.OU", "san.email", "san.dns", "san.uri"
]

#: As OpenSSL calls them.
_SUBJECT: Final = {
    "subject.CN": "commonName",
    "subject.O": "organizationName",
    "subject.OU": "organizationalUnitName",
}
_ALTERNATIVE: Final = {"san.email": "email", "san.dns": "DNS", "san.uri": "URI"}

_NOBODY: Final = Deny("unidentified_certificate", "The client certificate names no user.", 403)
_AMBIGUOUS: Final = Deny(
    "ambiguous_certificate", "The client certificate names more than one user.", 403
)
_EXPIRED: Final = Deny("expired_certificate", "The client certificate has expired.", 403)


class ClientCertificateSettings(Section):
    """The certificate that a client has shown; its listener needs `client_ca`."""

    user: Place = Field(
        default="subject.CN", description="What names the user. There must be exactly one."
    )
    groups: Place | None = Field(
        default=None, description="What names the groups, any number; no groups if left out."
    )

    @property
    def needs_client_ca(self) -> bool:
        """Whether a listener must ask for certificates for this to be of use."""
        return True


@implementer(IChecker)
class ClientCertificateChecker:
    """Grants to whoever has shown a certificate; who has not is left to other checkers.

    :param seconds: the wall clock, seconds since the epoch.
    """

    challenges: tuple[bytes, ...] = ()
    varies = frozenset({CERTIFICATE})

    def __init__(
        self,
        name: str,
        settings: ClientCertificateSettings,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._user = settings.user
        self._groups = settings.groups
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"<client-certificate checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Grant | Deny | Abstain:
        """See :class:`IChecker`."""
        certificate = credentials.certificate
        if not certificate:
            return ABSTAIN
        # A resumed session brings a certificate along that nobody looked at again.
        expires = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
        if expires <= self._seconds():
            return _EXPIRED
        users = read_place(certificate, self._user)
        if not users or not all(map(is_name, users)):
            return _NOBODY
        if len(users) > 1:
            return _AMBIGUOUS
        groups = read_place(certificate, self._groups) if self._groups else ()
        return Grant(
            user=users[0],
            key_id=certificate.get("serialNumber", ""),
            groups=frozenset(filter(is_name, groups)),
            consumed=False,  # the client's Authorization is not what let it in
            expires=expires,
        )

    def close(self) -> None:
        """See :class:`IChecker`."""


def read_place(certificate: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    """The values that a certificate has in one place, in its order."""
    if place in _SUBJECT:
        kind = _SUBJECT[place]
        names = [pair for part in certificate.get("subject", ()) for pair in part]
    else:
        kind = _ALTERNATIVE[place]
        names = certificate.get("subjectAltName", ())
    return tuple(value for name, value in names if name == kind)
