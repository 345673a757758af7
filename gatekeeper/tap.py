"""``twistd gatekeeper``: its options, and the composition root.

Everything is put together here, from the configuration to a service. What can be wrong with a
configuration or with a port is found before the process goes into the background, and ends the
start with one message and a status that is not 0.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from twisted.application.service import IService
from twisted.python import usage

from gatekeeper.errors import ConfigurationError
from gatekeeper.process.start import Start

if TYPE_CHECKING:
    from gatekeeper.config.model import Settings


class Options(usage.Options):
    """The command line of ``twistd gatekeeper``."""

    synopsis = "[twistd options] gatekeeper --config FILE"
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        ["config", "c", "/etc/gatekeeper/gatekeeper.toml", "The configuration file."]
    ]

    parent: usage.Options | None = None  # twistd's, which sets this

    def __init__(self) -> None:
        install_reactor()
        super().__init__()  # type: ignore[no-untyped-call]

    def postOptions(self) -> None:
        """All is read: find out how we were started, before twistd looks at the pid file."""
        self.start = Start.here({} if self.parent is None else self.parent)


def install_reactor() -> None:
    """Make Twisted's reactor one that runs on a uvloop loop.

    :raises SystemExit: another reactor is there already.
    """
    import uvloop
    from twisted.internet import asyncioreactor

    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    elif not isinstance(getattr(installed, "_asyncioEventloop", None), uvloop.Loop):
        fail(
            "gatekeeper brings its own reactor (asyncio on uvloop), but another one is installed: "
            "run twistd without --reactor"
        )


def fail(message: str) -> NoReturn:
    """End the start with a message, each line of it with our name."""
    raise SystemExit("\n".join(f"gatekeeper: {line}" for line in message.splitlines()))


def makeService(options: Options) -> IService:
    """The whole daemon, its ports bound already.

    :raises SystemExit: with what is wrong in the configuration, or a port that is taken.
    """
    from twisted.internet import reactor

    from gatekeeper.auth.registry import checker_types
    from gatekeeper.config.loading import load
    from gatekeeper.daemon import Daemon
    from gatekeeper.demo import prepare
    from gatekeeper.net.tls import ignore_malformed_server_names

    file = os.path.abspath(options["config"])  # twistd may go elsewhere

    def read() -> Settings:
        return load(file, checker_types())

    ignore_malformed_server_names()
    try:
        settings = prepare(load(options["config"], checker_types()), _echo)
        loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop  # type: ignore[attr-defined]
        return Daemon(settings, reactor, loop, read, options.start)
    except ConfigurationError as error:
        fail(str(error))


def _echo(line: str) -> None:
    print(line, file=sys.__stdout__, flush=True)
