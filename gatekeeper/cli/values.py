"""Values of options: passwords, spans and times."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import Final

import click

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LATEST: Final = 253_370_764_799  # the last second of the year 9998, as the API has it
_LONGEST: Final = 65536  # bytes read from standard input

password_option = click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input, its first line.  [default: ask]",
)


def span(text: str) -> int | None:
    """``30m``, ``12h``, ``7d`` in seconds; None: it is no span."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text, re.ASCII)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def later(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A time to come in RFC 3339: ``30d`` is so long from now, a date is its beginning in UTC."""
    if value is None:
        return None
    seconds = span(value)
    if seconds is not None and seconds > 0:
        end = min(time.time() + seconds, _LATEST)
        return datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        value += "T00:00:00Z"
    try:
        if datetime.fromisoformat(value).tzinfo is not None:
            return value
    except ValueError:
        pass
    raise click.BadParameter("must be a span such as 30d, a date, or a time with its zone")


def ask_password() -> str:
    """A password that was typed at the terminal, twice."""
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def first_line(what: str) -> str:
    """A secret that stands in the first line of standard input.

    :raises click.UsageError: it is empty, not UTF-8 or too long; ``what`` is what it is called.
    """
    line = sys.stdin.buffer.readline(_LONGEST + 1)
    if len(line) > _LONGEST:
        raise click.UsageError(f"the {what} is longer than {_LONGEST} bytes")
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"the {what} is not UTF-8") from None
    if not text:
        raise click.UsageError(f"the {what} is empty")
    return text


def read_password(*, from_stdin: bool) -> str:
    """The password of a user: from standard input, or from whoever sits at the terminal.

    :raises click.UsageError: nobody does, or what was read is none.
    """
    if from_stdin:
        return first_line("password")
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: give --password-stdin")
    return ask_password()
