"""The reactor: Twisted's, on a uvloop event loop."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any


class ReactorError(Exception):
    """Another reactor is installed already."""

    def __init__(self) -> None:
        super().__init__(
            "gatekeeper brings its own reactor (asyncio on uvloop), but another one is installed: "
            "run twistd without --reactor"
        )


def install_reactor() -> None:
    """Make Twisted's reactor one that runs on a uvloop loop.

    :raises ReactorError: another reactor is there already.
    """
    import uvloop
    from twisted.internet import asyncioreactor

    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    elif not isinstance(getattr(installed, "_asyncioEventloop", None), uvloop.Loop):
        raise ReactorError


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop:
    """The event loop that it runs on."""
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
    return loop


def settle_memory() -> None:
    """Keep the garbage collector from looking at what stays: a tenth of each request's time.

    An exchange leaves no cycles, so a rarer look finds what little there is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def stopped_well(reactor: Any) -> None:
    """Have the process end with status 0: else twistd dies by the signal that has stopped it."""
    reactor._exitSignal = None
