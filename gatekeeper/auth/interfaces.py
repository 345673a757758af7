"""What a checker is given, what it says, and how it is found.

A *checker* turns :class:`Credentials` into a :data:`Verdict`. Checkers are the open seam of the
project: an installed package adds one by putting a module into ``gatekeeper/plugins/`` that
holds an object providing :class:`ICheckerPlugin` (see ``CONTRIBUTING.rst``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gatekeeper.http.fields import encode, is_field, normalize

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]

#: Stand among the field names of :attr:`IChecker.varies`; no field can have such a name.
CLIENT: Final = b":client"  #: the client's address
PEER_TRUSTED: Final = b":peer-trusted"  #: whether the peer is one of the listener's trusted peers
CERTIFICATE: Final = b":certificate"  #: the certificate that the client has shown


class Opened(NamedTuple):
    """Where a request may go that a grant opens: the upstream, and its own credential.

    ``scheme`` is ``http`` or ``https``; ``authorization`` is the value of the upstream's
    ``Authorization``, ``None`` for none.
    """

    scheme: str
    host: str
    port: int
    authorization: bytes | None


class Subscription(NamedTuple):
    """What a Nevermined access token says of who pays: see the ``chain`` credits of a service.

    ``did`` is the service's DID, ``token`` the subscription's NFT (64 hex digits in lower case),
    ``owner`` the address of the service's owner; each is empty where the token does not say.
    """

    did: str
    token: str
    owner: str


class Opens(Protocol):
    """The URLs that a grant is limited to."""

    def find(self, host: str, port: int | None, path: bytes) -> Opened | None:
        """Whether a request may pass, and where to; ``path`` is canonical, without the query.

        ``port`` is ``None`` where the request's authority has none.
        """


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one request presents, as a checker sees it.

    ``presented`` is the value of the credential field (``Authorization``, or
    ``Proxy-Authorization`` on a forward proxy), ``b""`` where there is none. ``fields`` are all
    the request's header fields in the order they came, names in lower case, values as bytes.
    ``peer`` is the address at the other end of the connection, ``client`` the real client's
    (it differs only where the peer is trusted). ``url`` is path and query, canonical; ``host`` and
    ``port`` are the authority asked for (``port`` ``None`` where it has none). ``certificate`` is
    the client's as :meth:`ssl.SSLObject.getpeercert` gives it, ``None`` where there is none.
    ``count`` is 1, and one more each time that a running exchange is checked again. ``trace_id`` is
    the W3C trace id of the request, 32 hex digits.
    """

    presented: bytes = field(repr=False)
    fields: Fields = field(repr=False)
    method: bytes
    url: bytes
    service: str
    peer: str
    client: str
    peer_trusted: bool
    host: str = ""
    port: int | None = None
    certificate: Mapping[str, Any] | None = field(default=None, repr=False)
    count: int = 1
    trace_id: str = ""

    @property
    def scheme(self) -> bytes:
        """The authentication scheme in lower case, ``b""`` where nothing is presented."""
        return self.presented.partition(b" ")[0].lower()

    @property
    def token(self) -> bytes:
        """What follows the scheme, blanks stripped."""
        return self.presented.partition(b" ")[2].strip()


@dataclass(frozen=True, slots=True)
class Grant:
    """Who it is, what goes upstream, until when.

    ``user`` and ``key_id`` name the caller in the usage records (``user`` empty: nobody is
    identified). ``headers`` are set on the upstream request, after every field of the same name
    was removed, and those that ``removes`` names go as well; ``authorization`` becomes the
    upstream's ``Authorization`` (``None``: the client's is removed, since it was meant for us,
    unless ``consumed`` is false). ``real_ip`` asks for ``x-real-ip``. ``expires`` is in seconds
    since the epoch. ``opens`` limits the grant to some URLs. ``recheck`` asks that the chain is
    asked again every so many seconds while an exchange runs under the grant; a verdict other than
    Grant then ends the exchange.

    :raises ValueError: what goes upstream cannot stand in a header field.
    """

    user: str = ""
    key_id: str = ""
    groups: frozenset[str] = frozenset()
    headers: Fields = field(default=(), repr=False)
    removes: tuple[bytes, ...] = ()
    authorization: bytes | None = field(default=None, repr=False)
    real_ip: bool = False
    consumed: bool = True
    expires: float | None = None
    opens: Opens | None = field(default=None, repr=False)
    recheck: float | None = None
    subscription: Subscription | None = None
    #: The name in the usage records, which is ``user`` but for a user who has been removed since.
    metered_user: str = field(init=False, repr=False, compare=False)
    #: ``x-forwarded-user`` and ``headers`` as lines for the upstream, and the names of those fields
    #: of the client's that do not go there.
    user_line: bytes = field(init=False, repr=False, compare=False)
    header_lines: bytes = field(init=False, repr=False, compare=False)
    header_names: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        user = self.user.encode("utf-8")
        for name, value in (
            (b"user", user),
            (b"authorization", self.authorization or b""),
            *self.headers,
        ):
            if not is_field(name, value):
                raise ValueError(f"a grant's {name!r} cannot stand in a header field")
        put = object.__setattr__  # frozen for everybody else
        put(self, "metered_user", self.user)
        put(self, "user_line", b"x-forwarded-user: %b\r\n" % user if user else b"")
        put(self, "header_lines", encode(self.headers))
        names = (*(name for name, _ in self.headers), *self.removes)
        put(self, "header_names", frozenset(map(normalize, names)))

    def metered_as(self, name: str) -> Grant:
        """The same under another name in the usage records, and nowhere else."""
        renamed = replace(self)
        object.__setattr__(renamed, "metered_user", name)
        return renamed


@dataclass(frozen=True, slots=True)
class Deny:
    """These credentials are no good (401), good and still not enough (403), or too much (429).

    ``reason`` goes into the access log and to the client, ``detail`` to the client; neither holds a
    secret. Where the reason would tell the client too much, ``told`` is what it is told instead.
    ``error`` is RFC 6750's code for the challenge (``invalid_token``, ``insufficient_scope``).
    """

    reason: str
    detail: str
    status: int = 401
    error: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Abstain:
    """Not this checker's kind of credentials: ask the next one."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The checker cannot tell now: the request gets a 503, never a 401."""

    reason: str
    detail: str


ABSTAIN = Abstain()

Verdict: TypeAlias = Grant | Deny | Abstain | Unavailable


class IChecker(Interface):
    """A configured checker."""

    challenges: Sequence[bytes] = Attribute(
        'Challenges for a 401 without credentials, such as ``Basic realm="x"``: bytes each.'
    )
    varies: frozenset[bytes] | None = Attribute(
        "Names (lower case) of the fields that the verdict depends on beside the credential "
        "field, `CLIENT` and `PEER_TRUSTED` among them. None: never cache a verdict."
    )

    def check(credentials: Credentials) -> Verdict | Deferred[Verdict]:
        """Say what these credentials are worth. May answer later; must not block the reactor."""

    def close() -> None:
        """Give back what the checker holds (threads, connections). It is not asked again."""


class IReloadable(Interface):
    """What a checker provides beside :class:`IChecker` where it reads files that may change."""

    def reload() -> bool:
        """Read again what has changed; asked about once a second, so it is cheap if nothing has.

        True where verdicts given before may no longer hold. Never raises: what cannot be read
        leaves everything as it was, and is logged.
        """


class IAnswersMissing(Interface):
    """What a checker provides beside :class:`IChecker` to answer requests without credentials.

    Where no checker of a chain does, and none has taken the request, it gets a 401 with challenges.
    """

    missing: Deny | None = Attribute("The answer to such a request in place of the 401, or None.")


class IReadiness(Interface):
    """What a checker provides beside :class:`IChecker` where its work depends on something else."""

    def ready() -> str | Deferred[str | None] | None:
        """What is wrong now, in words for the operator; None: nothing is. Never fails.

        Asked for the daemon's readiness, by :class:`gatekeeper.management.health.Readiness`.
        """


class ICheckerPlugin(Interface):
    """A kind of checker, found by ``twisted.plugin.getPlugins`` in ``gatekeeper.plugins``."""

    type_name: str = Attribute("The ``type`` of a ``[checkers.NAME]`` table; '' where it has none.")
    schemes: Sequence[str] = Attribute("URL schemes that name it in place of a name: ``secret``.")
    settings: type = Attribute("The pydantic model of the table, ``type`` left out.")

    def make(name: str, settings: object) -> IChecker:
        """Make a checker. ``settings`` is an instance of the model.

        :raises ConfigurationError: with paths inside the table (``file``), all problems at once.
        """

    def from_url(url: str) -> IChecker:
        """Make a checker from a URL with one of ``schemes``.

        :raises ConfigurationError: with the path ``""``; the message never shows a secret.
        """
