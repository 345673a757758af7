"""The log of a worker: what it has to say is in its supervisor's log."""

from __future__ import annotations

from typing import Final

from twisted.logger import (
    ILogObserver,
    InvalidLogLevelError,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    globalLogBeginner,
)
from zope.interface import provider

from gatekeeper.process.link import Link

_LONGEST: Final = 64 * 1024  # characters of one entry


def log_over(link: Link) -> None:
    """Send what is logged here from now on to the other end."""

    @provider(ILogObserver)
    def send(event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        namespace = str(event.get("log_namespace", ""))
        link.tell("log", level.name, namespace, text[:_LONGEST])

    globalLogBeginner.beginLoggingTo([send], redirectStandardIO=False)


def log_of(worker: str, level: str, namespace: str, text: str) -> None:
    """Log what a worker has sent."""
    try:
        severity = LogLevel.levelWithName(level)
    except InvalidLogLevelError:
        severity = LogLevel.error
    Logger(namespace).emit(severity, "{worker}: {text}", worker=worker, text=text)
