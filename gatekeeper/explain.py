"""What would become of a request, and why.

The request takes the way that it takes in the daemon, through the same code: door, route, chain,
authorization. The checkers are asked in earnest, and what they say is noted. Where the request
would go upstream, the way ends: no port is bound, no store opened, no file written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from gatekeeper.assembly import Assembly
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import (
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.registry import close_checkers, make_checkers
from gatekeeper.config.destinations import parse_allow_rule
from gatekeeper.config.model import Settings
from gatekeeper.config.model_services import Service
from gatekeeper.config.values import is_network_bind, parse_bind
from gatekeeper.doors import Door, Request
from gatekeeper.errors import Refusal
from gatekeeper.exchange import Exchange
from gatekeeper.explain_question import Choice, Question, choose_listener
from gatekeeper.http.heads import RequestHead, parse_request_head
from gatekeeper.net.destinations import DestinationPolicy
from gatekeeper.net.dialing import destination
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.sweep import Sweep
from gatekeeper.plane import Plane

if TYPE_CHECKING:
    from gatekeeper.clientside import ClientSide

T = TypeVar("T")


class Step(NamedTuple):
    """What a checker said.

    Without ``verdict`` it broke, by a fault of this kind, or was not asked (no ``fault`` either).
    """

    checker: str
    verdict: Verdict | None = None
    fault: str = ""


@dataclass(slots=True)
class Explanation:
    """What became of the request.

    ``steps`` are all checkers of the chain, in its order. ``exchange`` is None where the head is
    malformed. ``refusal`` is the answer; where there is none, the request goes upstream.
    ``addresses`` are those that its destination's name was resolved to.
    """

    settings: Settings
    question: Question
    choice: Choice
    door: Door
    steps: list[Step]
    exchange: Explained | None = None
    refusal: Refusal | None = None
    addresses: tuple[str, ...] = ()

    @property
    def request(self) -> Request | None:
        """What the request means; None where it is not understood, or belongs nowhere."""
        return None if self.exchange is None else self.exchange.request

    @property
    def service(self) -> Service | None:
        """The service that the request is for."""
        if self.request is None or not self.request.route.is_service:
            return None
        name = self.request.route.name
        return next(each for each in self.settings.services if each.name == name)

    @property
    def allow(self) -> tuple[str, ...]:
        """The rules for a destination that the request, or its token, names."""
        return self.choice.listener.allow if self.service is None else self.service.allow

    @property
    def chain(self) -> tuple[str, ...]:
        """The checkers that the request needs to pass: names and URLs."""
        if self.request is None:
            return ()
        if self.service is None:
            return self.choice.listener.checkers or ()
        return self.service.checkers


async def explain(
    settings: Settings, question: Question, loop: asyncio.AbstractEventLoop
) -> Explanation:
    """Find out what would become of a request. ``loop`` is the reactor's.

    :raises ConfigurationError: the daemon would not start with these settings.
    :raises QuestionError: there is no such listener.
    """
    checkers = make_checkers(settings)
    resolver = Resolver(loop, timeout=settings.timeouts.connect)
    try:
        return await _explain(settings, question, checkers, loop, resolver)
    finally:
        resolver.close()
        close_checkers(checkers)


async def _explain(
    settings: Settings,
    question: Question,
    checkers: Mapping[str, IChecker],
    loop: asyncio.AbstractEventLoop,
    resolver: Resolver,
) -> Explanation:
    plane = Plane(
        sweep=Sweep(loop.time),
        limits=settings.limits,
        timeouts=settings.timeouts,
        meter=None,
        access_log=None,
    )
    steps: list[Step] = []
    observed = {name: _Observed(name, checker, steps) for name, checker in checkers.items()}
    cache = VerdictCache(settings.cache.size, settings.cache.ttl, settings.cache.negative_ttl)
    assembly = Assembly(settings, plane, observed, cache, loop, resolver, own_addresses(settings))
    listeners = [each for each in settings.listeners if each.role != "introspection"]
    doors = {each.name: assembly.door(each) for each in listeners}
    choice = choose_listener(listeners, doors, question)
    explanation = Explanation(settings, question, choice, doors[choice.listener.name], steps)
    try:
        await _take(explanation, plane)
        await _check_destination(explanation, resolver)
    except Refusal as refusal:
        explanation.refusal = refusal
    steps += [Step(observed[name].label) for name in explanation.chain[len(steps) :]]
    return explanation


async def _take(explanation: Explanation, plane: Plane) -> None:
    """Take the request as far as it comes without an upstream.

    :raises Refusal: the answer that ends it.
    """
    question, door = explanation.question, explanation.door
    head = parse_request_head(question.head(absolute=door.is_proxy), plane.head_limits)
    exchange = Explained(plane, cast("ClientSide", _Caller(door, question.peer)), head)
    explanation.exchange = exchange
    exchange.begin()
    await exchange.ended


async def _check_destination(explanation: Explanation, resolver: Resolver) -> None:
    """Check where the request wants to go, if it is the request (or its token) that says so.

    :raises Refusal: it may not, or the name cannot be resolved.
    """
    exchange = explanation.exchange
    assert exchange is not None
    if exchange.request.route.origin is not None:
        return
    _, host, port = destination(exchange)
    addresses = own_addresses(explanation.settings)
    policy = DestinationPolicy(map(parse_allow_rule, explanation.allow), addresses)
    if explanation.question.resolve:
        explanation.addresses = tuple(await resolver.resolve_checked(policy, host, port))
    else:
        policy.check_name(host, port)


class Explained(Exchange):
    """An exchange that ends where it would go upstream.

    ``ended`` fires then, or fails with the :class:`Refusal` that the client would get.
    """

    def __init__(self, plane: Plane, client: ClientSide, head: RequestHead) -> None:
        super().__init__(plane, client, head)
        self.ended: Deferred[None] = Deferred()

    def forward(self) -> None:
        """Go no further."""
        self.finish("ok")
        self.ended.callback(None)

    def refuse(self, refusal: Refusal) -> None:
        """Tell what the answer is, in place of sending it."""
        self.finish(refusal.reason)
        self.ended.errback(refusal)


@dataclass
class _Caller:
    """What an exchange asks of its client's side before it answers."""

    door: Door
    peer: str
    certificate: Mapping[str, Any] | None = None
    digest: tuple[Chain | None, bytes, bytes] = (None, b"", b"")


@implementer(IChecker)
class _Observed:
    """A checker whose verdicts are noted in ``steps``. In all else it is the checker itself."""

    def __init__(self, name: str, checker: IChecker, steps: list[Step]) -> None:
        # Of a URL only what the checker shows of it: the rest may be a secret.
        self.label = repr(checker) if "://" in name else name
        self.challenges = checker.challenges
        self.varies = checker.varies
        self._checker = checker
        self._steps = steps
        directlyProvides(self, providedBy(checker))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checker, name)

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        """See :class:`IChecker`."""
        try:
            verdict = self._checker.check(credentials)
        except Exception as error:
            self._note(Failure(error))
            raise
        return verdict.addBoth(self._note) if isinstance(verdict, Deferred) else self._note(verdict)

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._checker.close()

    def _note(self, said: T) -> T:
        if isinstance(said, Grant | Deny | Abstain | Unavailable):
            step = Step(self.label, said)
        elif isinstance(said, Failure):
            # The type, not the message: that may quote a credential.
            step = Step(self.label, fault=said.type.__qualname__ if said.type else "unknown")
        else:
            step = Step(self.label, fault=f"{type(said).__qualname__} is no verdict")
        self._steps.append(step)
        return said


def own_addresses(settings: Settings) -> list[tuple[str, int]]:
    """Where the daemon listens, as far as the configuration tells (port 0 is any)."""
    binds = [listener.bind for listener in settings.listeners]
    if is_network_bind(settings.management.bind):
        binds.append(settings.management.bind)
    return [
        ("127.0.0.1" if address.host == "localhost" else address.host, address.port)
        for address in map(parse_bind, binds)
        if address.port
    ]
