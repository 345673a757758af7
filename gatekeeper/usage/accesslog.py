"""The access log: one JSON line for every exchange, the refused ones as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import Final, NamedTuple

from twisted.logger import Logger

from gatekeeper.usage.logfile import LogFile, LogStream, Sink

log = Logger()


#: Not sys.stdout: twistd puts a logger in its place.
STDOUT: Final = 1


class AccessEntry(NamedTuple):
    """One exchange, as the access log tells it.

    ``time`` is when it began, in seconds since the epoch; ``duration`` is in seconds. ``path`` has
    no query, for queries hold secrets. ``status`` is what the client got, ``upstream_status`` what
    the upstream said; each is 0 where there was none. ``reason`` is ``ok`` or a short code for
    why the exchange was refused or cut (``no_credentials``).
    """

    time: float
    id: str
    listener: str
    client: str
    service: str
    user: str
    key_id: str
    method: str
    host: str
    path: str
    status: int
    upstream_status: int
    bytes_in: int
    bytes_out: int
    duration: float
    reason: str


_LINE: Final = (
    '{"time":"%s.%03dZ","id":%s,"listener":%s,"client":%s,"service":%s,"user":%s,"key_id":%s,'
    '"method":%s,"host":%s,"path":%s,"status":%d,"upstream_status":%d,"bytes_in":%d,'
    '"bytes_out":%d,"duration":%.6f,"reason":%s}\n'
)


class _Formatter:
    """Makes the lines. ``%`` and the C function behind ``json.dumps``: 1.5 us a line."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def lines(self, entries: list[AccessEntry]) -> bytes:
        """Format entries; everything but printable ASCII is escaped as JSON does it."""
        lines = []
        for (
            start, id_, listener, client, service, user, key_id, method, host, path,
            status, upstream_status, bytes_in, bytes_out, duration, reason,
        ) in entries:  # fmt: skip
            second = int(start)
            if second != self._second:
                self._second = second
                self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            lines.append(
                _LINE
                % (
                    self._date,
                    (start - second) * 1000,
                    quote(id_),
                    quote(listener),
                    quote(client),
                    quote(service),
                    quote(user),
                    quote(key_id),
                    quote(method),
                    quote(host),
                    quote(path),
                    status,
                    upstream_status,
                    bytes_in,
                    bytes_out,
                    duration,
                    quote(reason),
                )
            )
        return "".join(lines).encode("ascii")


class AccessLog:
    """Collects entries and writes them with one write per turn of the event loop.

    ``sink`` takes the lines, ``call_soon`` is ``loop.call_soon`` or the like, ``seconds`` a clock.
    A sink that fails costs the lines, not the requests: they are counted in ``dropped``, and
    this is logged at most once a minute.
    """

    complaint_interval = 60.0

    def __init__(
        self,
        sink: Sink,
        call_soon: Callable[[Callable[[], None]], object],
        seconds: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._call_soon = call_soon
        self._seconds = seconds
        self._formatter = _Formatter()
        self._entries: list[AccessEntry] = []
        self._complain_at = float("-inf")
        self._unreported = 0
        self.dropped = 0

    def write(self, entry: AccessEntry) -> None:
        """Take in an entry. Never fails, never waits."""
        if not self._entries:
            self._call_soon(self.flush)
        self._entries.append(entry)

    def flush(self) -> None:
        """Write what was collected. Called by the loop."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            self._sink.write(self._formatter.lines(entries))
        except OSError as error:
            self._drop(len(entries), error)

    def close(self) -> None:
        """Write the rest and let go of the sink. No call may follow."""
        self.flush()
        self._sink.close()

    def _drop(self, lines: int, error: OSError) -> None:
        self.dropped += lines
        self._unreported += lines
        now = self._seconds()
        if now >= self._complain_at:
            self._complain_at = now + self.complaint_interval
            log.error(
                "Access log: lost {lines} lines: {error}", lines=self._unreported, error=error
            )
            self._unreported = 0


def open_access_log(
    where: str,
    call_soon: Callable[[Callable[[], None]], object],
    seconds: Callable[[], float],
    *,
    shared: bool = False,
) -> AccessLog | None:
    """Make the access log that ``log.access`` asks for: a file, ``-`` (stdout), or ``none``.

    ``None`` for ``none``. A file is opened at the first line. ``shared``: other processes write
    there, too.
    """
    if where == "none":
        return None
    sink: Sink = LogStream(STDOUT, shared=shared) if where == "-" else LogFile(Path(where), seconds)
    return AccessLog(sink, call_soon, seconds)
