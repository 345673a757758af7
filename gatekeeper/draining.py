"""The end of a core: what runs may finish, but not for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from gatekeeper.core import Core

if TYPE_CHECKING:
    from gatekeeper.management.site import SiteService

log = Logger()

#: Seconds that a connection may take from the kernel to us, and a TLS handshake beside that.
_ARRIVES: Final = 0.5
_LOOK: Final = 0.05


async def drain(core: Core, reactor: Any, seconds: float) -> None:
    """Hang up on who has nothing under way, wait for what runs, and cut what takes longer."""
    empty: Deferred[None] = Deferred()

    def done() -> None:
        if not empty.called:
            empty.callback(None)

    if len(core.connections):
        log.info("Draining {count} connections", count=len(core.connections))
    timer = reactor.callLater(seconds, done)
    core.connections.drain(done)
    await empty
    if timer.active():
        timer.cancel()
    await cut_all(core)


async def cut_all(core: Core) -> None:
    """Cut what runs, and hang up on everybody; what is over and counted goes out before."""
    for exchange in list(core.plane.live):
        exchange.cut("shutdown")
    if core.recording is not None:
        await core.recording.drain()
    for connection in list(core.connections.open):
        connection.transport.abortConnection()


async def wind_down(
    core: Core,
    sites: Sequence[SiteService],
    reactor: Any,
    seconds: float,
    given_up: Callable[[], bool],
) -> None:
    """Let everybody finish who has come in: others accept now, where we did.

    Nobody is hung up on who may be about to ask something, which takes a little longer. Ends when
    nobody is left, at ``sites`` neither, after so many seconds at the latest, or when it is
    ``given_up``.
    """
    now = reactor.seconds()
    arrives, give_up_at = now + _ARRIVES, now + seconds
    if any(listener.tls is not None for listener in core.listening.listeners):
        arrives += core.settings.timeouts.head
    for listener in core.listening.listeners:
        core.connections.wind_down(listener.door)
    while not given_up():
        now = reactor.seconds()
        left = len(core.connections) + sum(site.connections for site in sites)
        if now >= give_up_at or (now >= arrives and not left):
            return
        await deferLater(reactor, _LOOK)
