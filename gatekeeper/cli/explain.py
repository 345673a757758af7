"""``gatekeeper explain``: what would become of a request, and why."""

from __future__ import annotations

import ipaddress
import json
import sys
from typing import TYPE_CHECKING, Final

import click

from gatekeeper.cli.options import config_option, load_settings, refuse

if TYPE_CHECKING:
    from gatekeeper.config.model import Settings
    from gatekeeper.explain import Explanation
    from gatekeeper.explain_question import Question

#: The request would be refused.
EXIT_REFUSED: Final = 3

_LONGEST: Final = 1024 * 1024  # characters of a file of header fields


def _read_fields(values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Header fields as name and value; ``@FILE`` holds one a line."""
    lines: list[str] = []
    for value in values:
        lines += _read_lines(value[1:]) if value.startswith("@") else [value]
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not (colon and name) or not set("\r\n\0").isdisjoint(line):
            # Not shown: it may be a secret.
            raise click.BadParameter("must be 'NAME: VALUE', or @FILE", param_hint="-H")
        fields.append((name, value.strip()))
    return tuple(fields)


def _read_lines(path: str) -> list[str]:
    try:
        with click.open_file(path, "r", "utf-8", "surrogateescape") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise click.BadParameter(message, param_hint="-H") from None
    if len(content) > _LONGEST:
        raise click.BadParameter(f"{path} is longer than {_LONGEST}", param_hint="-H")
    return [line for line in content.split("\n") if line]


def _check_address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter("must be an IP address") from None


@click.command("explain")
@config_option
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header field of the request; @FILE reads some from a file, @- from standard input. "
    "Repeat it for more.",
)
@click.option("--listener", metavar="NAME", help="Where it arrives.  [default: told by the URL]")
@click.option(
    "--peer",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    callback=_check_address,
    help="The address that it comes from.",
)
@click.option(
    "--resolve", is_flag=True, help="Look up the destination's name, and check its addresses."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, also on a terminal.")
@click.argument("method")
@click.argument("url")
def explain(
    config: str,
    headers: tuple[str, ...],
    listener: str | None,
    peer: str,
    resolve: bool,
    as_json: bool,
    method: str,
    url: str,
) -> None:
    """Explain what would become of a request: METHOD URL, or CONNECT HOST:PORT.

    Says which listener takes it, what its URL means, which checkers are asked, what each says and
    why, what the access rules say, which limits apply and what it costs, and where it would go. How
    much is left of limits and credits is not looked up. Nothing is sent there. Checkers that ask
    a server do ask it. Credentials are not shown; give them in a file (-H @FILE), since others can
    see a command line.

    \b
    Exit status:
      0  the request would pass
      1  the configuration is wrong, or something unexpected happened
      2  the command line is wrong
      3  the request would be refused
    """
    from gatekeeper.process.reactor import install_reactor

    install_reactor()  # before anything else asks for one

    from gatekeeper.explain_question import Question, QuestionError

    try:
        question = Question(method, url, _read_fields(headers), listener, peer, resolve)
        explanation = _run(config, load_settings(config), question)
    except QuestionError as error:
        raise click.UsageError(str(error)) from None
    _show(explanation, as_json)
    if explanation.refusal is not None:
        raise SystemExit(EXIT_REFUSED)


def _show(explanation: Explanation, as_json: bool) -> None:
    from gatekeeper.explain_report import describe, print_lines

    report = describe(explanation)
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(report, indent=2))
    else:
        from rich.console import Console

        print_lines(report, Console())


def _run(path: str, settings: Settings, question: Question) -> Explanation:
    """Run the reactor until the explanation is there."""
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    from gatekeeper.demo import prepare
    from gatekeeper.errors import ConfigurationError
    from gatekeeper.explain import Explanation
    from gatekeeper.explain import explain as find_out
    from gatekeeper.explain_question import QuestionError
    from gatekeeper.process.reactor import loop_of

    outcomes: list[Explanation | ConfigurationError | QuestionError] = []

    async def run(reactor: object) -> None:
        loop = loop_of(reactor)
        try:
            prepared = prepare(settings, lambda line: None, create=False)
            outcomes.append(await find_out(prepared, question, loop))
        except (ConfigurationError, QuestionError) as error:
            outcomes.append(error)

    _log_to_standard_error()
    try:
        react(lambda reactor: ensureDeferred(run(reactor)))
    except SystemExit as end:  # This is how react() returns.
        if end.code:
            raise
    match outcomes:
        case [ConfigurationError() as error]:
            refuse(path, error.problems)
        case [QuestionError() as error]:
            raise error
        case [Explanation() as explanation]:
            return explanation
    raise click.Abort  # Interrupted.


def _log_to_standard_error() -> None:
    """What checkers warn of says why they could not tell."""
    from twisted.logger import (
        FileLogObserver,
        FilteringLogObserver,
        LogEvent,
        LogLevel,
        LogLevelFilterPredicate,
        eventAsText,
        globalLogBeginner,
    )

    def as_line(event: LogEvent) -> str:
        return f"log: {eventAsText(event, includeTimestamp=False, includeSystem=False)}\n"

    observer = FileLogObserver(sys.stderr, as_line)
    warnings = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    globalLogBeginner.beginLoggingTo(
        [FilteringLogObserver(observer, [warnings])], redirectStandardIO=False
    )
