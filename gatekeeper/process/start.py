"""How this process was started, and what it has to do with others therefore."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Any, NamedTuple, Self

from gatekeeper.net.inherited import Inherited
from gatekeeper.process.notify import Notifier
from gatekeeper.process.pidfile import PidFile
from gatekeeper.process.sockets import handed
from gatekeeper.process.upgrade import Launch


class Start(NamedTuple):
    """``inherited`` are sockets that listen already.

    ``lock`` is the journal's, ``buckets`` the memory for rates; -1: there is none. ``channel``
    leads to the process that this one is to follow, ``None``: to none. ``launch`` is how another
    one like this is started.
    """

    inherited: Inherited
    lock: int
    buckets: int
    channel: socket.socket | None
    launch: Launch
    pid_file: PidFile
    notifier: Notifier

    @classmethod
    def here(
        cls, options: MutableMapping[str, Any], environ: MutableMapping[str, str] = os.environ
    ) -> Self:
        """Find out. ``options`` are twistd's; of the environment, what was meant for us is taken.

        The pid file of the process that this one follows is left to that one.
        """
        sockets, lock, buckets, channel = handed(environ)
        pid_file = PidFile(options)
        if channel is not None:
            pid_file.leave_alone()
        told = Inherited(sockets), lock, buckets, channel
        return cls(*told, Launch.ours(), pid_file, Notifier(environ))
