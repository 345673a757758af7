"""``twistd gatekeeper``: its options, and the composition root.

Everything is put together here, from the configuration to a service. What can be wrong with a
configuration or with a port is found before the process goes into the background, and ends the
start with one message and a status that is not 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from twisted.application.service import IService
from twisted.python import usage

from gatekeeper.errors import ConfigurationError
from gatekeeper.process.reactor import ReactorError, install_reactor, loop_of
from gatekeeper.process.start import Start

if TYPE_CHECKING:
    from gatekeeper.config.model import Settings


#: Seconds that workers may take to end whose supervisor was killed.
_WORKERS_END_WITHIN: Final = 5.0


class Options(usage.Options):
    """The command line of ``twistd gatekeeper``."""

    synopsis = "[twistd options] gatekeeper --config FILE"
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        ["config", "c", "/etc/gatekeeper/gatekeeper.toml", "The configuration file."]
    ]

    parent: usage.Options | None = None  # twistd's, which sets this

    def __init__(self) -> None:
        try:
            install_reactor()
        except ReactorError as error:
            fail(str(error))
        super().__init__()  # type: ignore[no-untyped-call]

    def postOptions(self) -> None:
        """All is read: find out how we were started, before twistd looks at the pid file."""
        self.start = Start.here({} if self.parent is None else self.parent)


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
    from gatekeeper.usage.journal_directory import wait_until_free

    file = os.path.abspath(options["config"])  # twistd may go elsewhere

    def read() -> Settings:
        return load(file, checker_types())

    ignore_malformed_server_names()
    try:
        settings = prepare(load(options["config"], checker_types()), _echo)
        if options.start.lock < 0 and settings.usage.enabled:
            wait_until_free(settings.state_dir / "journal", _WORKERS_END_WITHIN)
        return Daemon(settings, reactor, loop_of(reactor), read, options.start)
    except ConfigurationError as error:
        fail(str(error))


def _echo(line: str) -> None:
    print(line, file=sys.__stdout__, flush=True)
