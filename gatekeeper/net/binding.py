"""Listening sockets, bound before the process goes into the background."""

from __future__ import annotations

import errno
import os
import socket
import stat

from gatekeeper.config.values import parse_mode
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.inherited import NOTHING, Inherited, where


def listening_socket(
    bind: str, path: str, backlog: int = 128, inherited: Inherited = NOTHING
) -> socket.socket:
    """Listen on ``bind`` (``127.0.0.1:80``, ``[::1]:80``, ``localhost:0``), at once.

    A socket that is ``inherited`` is taken where there is one for the address.

    :raises ConfigurationError: with ``path``; the port is taken, or the address is not ours.
    """
    there = inherited.take(bind)
    address = where(bind)
    listening = there or socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        listening.setblocking(False)
        if there is None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        # With SO_REUSEADDR it is here that a taken port shows.
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        problem = Problem(path, f"cannot listen on {bind}: {error.strerror}")
        raise ConfigurationError([problem]) from None
    return listening


def listening_unix_socket(
    file: str, mode: str, path: str, backlog: int = 128, inherited: Inherited = NOTHING
) -> socket.socket:
    """Listen on a unix socket, a file with permissions ``mode``, such as ``0600``.

    A socket that nobody listens on any more, left over by a process that was killed, is replaced.
    One that is ``inherited`` is taken as it is.

    :raises ConfigurationError: with ``path``; somebody listens there, or it cannot be made.
    """
    there = inherited.take(f"unix:{file}")
    if there is not None:
        there.setblocking(False)
        return there
    listening = socket.socket(socket.AF_UNIX)
    # Nothing else runs yet that could make files: the mask is the process's.
    mask = os.umask(0o777 & ~parse_mode(mode))
    try:
        _remove_stale(file)
        listening.setblocking(False)
        listening.bind(file)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        problem = Problem(path, f"cannot listen on {file}: {error.strerror}")
        raise ConfigurationError([problem]) from None
    finally:
        os.umask(mask)
    return listening


def _remove_stale(file: str) -> None:
    """Remove a socket that nobody listens on.

    :raises OSError: somebody does, or it is no socket.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(file).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(file)
        except ConnectionRefusedError:
            os.unlink(file)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
