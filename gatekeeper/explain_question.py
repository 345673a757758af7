"""A request as somebody types it, and the listener that it would arrive at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.values import is_address, parse_bind, parse_port, split_authority
from gatekeeper.doors import Door, Gateway
from gatekeeper.errors import GatekeeperError

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_PORTS: Final = {"http": 80, "https": 443}
_ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class QuestionError(GatekeeperError):
    """There is no such request; the message is for whoever typed it, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request: ``url`` with scheme and host, or for CONNECT ``host:port``.

    ``fields`` are further header fields; a Host among them takes the place of the URL's.
    ``listener`` names the listener (None: the one that fits best), ``peer`` is the address that
    the request comes from. ``resolve`` asks for the addresses of a destination that the request
    names, where rules depend on them.

    :raises QuestionError: it is no URL of these.
    """

    method: str
    url: str = field(repr=False)  # a query may hold a secret
    fields: Sequence[tuple[str, str]] = field(default=(), repr=False)
    listener: str | None = None
    peer: str = "127.0.0.1"
    resolve: bool = False

    def __post_init__(self) -> None:
        if self.is_connect:
            if "/" in self.url:
                raise QuestionError("CONNECT goes to `host:port`: leave out scheme and path")
        elif _URL.fullmatch(self.url) is None:
            raise QuestionError("the URL must begin with `http://` or `https://`")
        if "@" in self.authority:
            raise QuestionError(
                "the URL must not hold user name and password: use -H 'Authorization: …'"
            )

    @property
    def is_connect(self) -> bool:
        """Whether a tunnel is asked for."""
        return self.method == "CONNECT"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``; empty for CONNECT."""
        return self._part("scheme").lower()

    @property
    def authority(self) -> str:
        """Host and port as they were typed."""
        return self.url if self.is_connect else self._part("authority")

    @property
    def host_field(self) -> str:
        """The value of Host."""
        given = (value for name, value in self.fields if name.lower() == "host")
        return next(given, self.authority)

    def head(self, *, absolute: bool) -> bytes:
        """The request's head; ``absolute`` as a proxy is asked (RFC 9112, 3.2.2)."""
        rest = self._part("rest")
        origin_form = rest if rest.startswith("/") else f"/{rest}"
        target = self.url if absolute or self.is_connect else origin_form
        lines = [f"{self.method} {target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.fields):
            lines.append(f"Host: {self.authority}")
        lines += [f"{name}: {value}" for name, value in self.fields]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def _part(self, name: str) -> str:
        found = _URL.fullmatch(self.url)
        return found[name] if found is not None else ""


class Choice(NamedTuple):
    """A listener, why it is this one, and the names of others that fit as well."""

    listener: Listener
    why: str
    others: tuple[str, ...] = ()


_Fits: TypeAlias = Callable[[Listener, Door], bool]


def choose_listener(
    listeners: Sequence[Listener], doors: Mapping[str, Door], question: Question
) -> Choice:
    """The listener that is asked for, or the one that a request for this URL most likely reaches.

    ``doors`` are those of the listeners, by name.

    :raises QuestionError: no listener has the name that is asked for, or there is none at all.
    """
    if not listeners:
        raise QuestionError("there is neither a gateway nor a forward proxy")
    if question.listener is not None:
        for listener in listeners:
            if listener.name == question.listener:
                return Choice(listener, "it was asked for")
        known = ", ".join(each.name for each in listeners)
        raise QuestionError(f"no listener has this name; there are: {known}")
    for why, fits in _reasons(question):
        fitting = [each for each in listeners if fits(each, doors[each.name])]
        if fitting:
            return Choice(fitting[0], why, tuple(each.name for each in fitting[1:]))
    return Choice(listeners[0], "it is the first; none fits the URL")


def _reasons(question: Question) -> Iterator[tuple[str, _Fits]]:
    """Why a listener may be meant, the best reason first."""
    scheme = question.scheme
    host, port = _place(question.authority, _PORTS.get(scheme, 0))
    name, _ = _place(question.host_field, 0)

    def is_there(listener: Listener, door: Door) -> bool:
        bind = parse_bind(listener.bind)
        at_address = not is_address(host) or bind.host in (host, *_ANY_ADDRESS)
        return has_scheme(listener, door) and bind.port == port and at_address

    def has_scheme(_: Listener, door: Door) -> bool:
        return not door.is_proxy and door.scheme == scheme.encode("ascii")

    def names_host(_: Listener, door: Door) -> bool:
        return isinstance(door, Gateway) and door.services.names(name)

    def is_proxy(_: Listener, door: Door) -> bool:
        return door.is_proxy

    def both(one: _Fits, other: _Fits) -> _Fits:
        return lambda listener, door: one(listener, door) and other(listener, door)

    if question.is_connect:
        yield "CONNECT goes to a forward proxy", is_proxy
        return
    yield (
        "it has the URL's scheme and port, and a service with its host",
        both(is_there, names_host),
    )
    yield "it has the URL's scheme and port", is_there
    yield "it has the URL's scheme, and a service with its host", both(has_scheme, names_host)
    yield "it has a service with the URL's host", names_host
    if scheme == "http":
        yield "a forward proxy takes http URLs", is_proxy
    yield "it has the URL's scheme", has_scheme


def _place(authority: str, default_port: int) -> tuple[str, int]:
    """Host, without brackets and in lower case, and port; what is malformed fits nothing."""
    try:
        host, port = split_authority(authority)
        number = default_port if port is None else parse_port(port)
    except ValueError:
        return "", 0
    return host.strip("[]").lower().removesuffix("."), number
