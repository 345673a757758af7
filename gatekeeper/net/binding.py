"""Listening sockets, bound before the process goes into the background."""

from __future__ import annotations

import socket

from gatekeeper.config.values import parse_bind
from gatekeeper.errors import ConfigurationError, Problem


def listening_socket(bind: str, path: str, backlog: int = 128) -> socket.socket:
    """Listen on ``bind`` (``127.0.0.1:80``, ``[::1]:80``, ``localhost:0``), at once.

    :raises ConfigurationError: with ``path``; the port is taken, or the address is not ours.
    """
    host, port = parse_bind(bind)
    address = "127.0.0.1" if host == "localhost" else host
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((address, port))
        # With SO_REUSEADDR it is here that a taken port shows.
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        problem = Problem(path, f"cannot listen on {bind}: {error.strerror}")
        raise ConfigurationError([problem]) from None
    return listening
