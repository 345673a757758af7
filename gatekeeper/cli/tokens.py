"""``gatekeeper token``: makes and shows access tokens; for the rest see ``revocations``."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from gatekeeper.cli.options import config_option, load_settings, refuse
from gatekeeper.cli.values import span

if TYPE_CHECKING:
    from gatekeeper.auth.access_token import AccessTokenChecker

#: The token is not good.
EXIT_TOKEN: Final = 3

_LONGEST: Final = 65536  # bytes read from standard input or a file


def _span(_: click.Context, __: click.Parameter, value: str) -> int:
    """``30m``, ``12h``, ``7d`` in seconds."""
    seconds = span(value)
    if not seconds:
        raise click.BadParameter("must be a span such as 30m, 12h or 7d")
    return seconds


checker_option = click.option(
    "--checker",
    metavar="NAME",
    help="The `access-token` checker whose secret is used.  [default: the only one]",
)


@click.group("token")
def token() -> None:
    """Make, show and revoke tokens.

    Access tokens are made and shown with the secret of an `access-token` checker in the
    configuration; tokens of any checker are revoked by the running daemon.
    """


@token.command("mint")
@config_option
@checker_option
@click.option("--user", required=True, metavar="ADDRESS", help="Who may use it (`userId`).")
@click.option(
    "--url",
    "urls",
    required=True,
    multiple=True,
    metavar="PATTERN",
    help="What it opens: https://api.example.com/v1/(.*). Repeat it for more.",
)
@click.option(
    "--lifetime",
    callback=_span,
    default="1h",
    metavar="SPAN",
    show_default=True,
    help="For how long: 30m, 12h, 7d.",
)
@click.option("--did", metavar="DID", help="The service: did:nv: and 64 hex digits.")
@click.option("--owner", metavar="ADDRESS", help="The service's owner.")
@click.option("--subscription", metavar="ID", help="The subscription: 64 hex digits.")
@click.option("--erc-type", type=click.Choice(["721", "1155"]), help="The subscription's kind.")
@click.option(
    "--authentication",
    type=click.Choice(["none", "basic", "bearer", "oauth"]),
    default="none",
    show_default=True,
    help="How the upstream is asked.",
)
@click.option(
    "--credential-file",
    type=click.File("rb"),
    help="Holds the upstream's token, or `user:password` for basic. `-` is standard input. "
    "[default: ask]",
)
def mint(
    config: str,
    checker: str | None,
    user: str,
    urls: tuple[str, ...],
    lifetime: int,
    did: str | None,
    owner: str | None,
    subscription: str | None,
    erc_type: str | None,
    authentication: str,
    credential_file: Any,
) -> None:
    """Make a token and print it.

    It is encrypted, not signed: who knows the secret can read it, and make others. A token that the
    checker itself would refuse is not made.
    """
    from gatekeeper.auth.automaton import PatternError
    from gatekeeper.auth.jwe import TokenError
    from gatekeeper.auth.url_patterns import compile_url

    for url in urls:
        try:
            compile_url(url)
        except PatternError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
    now = int(time.time())
    claims: dict[str, Any] = {
        "userId": user,
        "did": did,
        "owner": owner,
        "subscriptionDid": subscription,
        "ercType": None if erc_type is None else int(erc_type),
        "endpoints": list(urls),
        "headers": {"authentication": _authentication(authentication, credential_file)},
        "iat": now,
        "exp": now + lifetime,
    }
    made = _checker(config, checker)
    try:
        minted = made.mint({name: value for name, value in claims.items() if value is not None})
    except TokenError as error:
        raise click.UsageError(error.detail) from None
    click.echo(minted)


@token.command("inspect")
@config_option
@checker_option
@click.option("--url", metavar="URL", help="Say whether it opens this URL, and where that leads.")
@click.option("--show-secrets", is_flag=True, help="Show the upstream's credential.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    help="How to print it.  [default: table on a terminal, else json]",
)
@click.argument("file", type=click.File("rb"), default="-")
def inspect(
    config: str,
    checker: str | None,
    url: str | None,
    show_secrets: bool,
    form: str | None,
    file: Any,
) -> None:
    """Show what is in a token, and whether it is good.

    The token is read from FILE, by default from standard input: on a command line others could
    see it.

    Exit status: 0, it is good (and opens the URL); 3, it is not.
    """
    from gatekeeper.auth import token_report
    from gatekeeper.auth.jwe import TokenError

    requested = None if url is None else _parse_url(url)
    made = _checker(config, checker)
    text = _read(file, "Token").strip().removeprefix("Bearer ").strip()
    report: dict[str, Any] = {"good": True, "reason": "", "detail": ""}
    try:
        claims = made.read(text.encode())
        report |= token_report.describe(claims, show_secrets)
        if requested is not None:
            opened = made.opened_by(claims).find(*requested)
            report["opens"] = token_report.describe_opened(opened, show_secrets)
        made.check_times(claims)
    except TokenError as error:
        report |= {"good": False, "reason": error.reason, "detail": error.detail}
    if form == "json" or (form is None and not sys.stdout.isatty()):
        click.echo(json.dumps(report, indent=2))
    else:
        from rich.console import Console

        token_report.print_table(report, Console())
    if not report["good"] or report.get("opens", True) is None:
        raise SystemExit(EXIT_TOKEN)


class _Requested(NamedTuple):
    host: str
    port: int | None
    path: bytes


def _checker(config: str, name: str | None) -> AccessTokenChecker:
    """The checker of this name, or the only one of its type."""
    from gatekeeper.auth.access_token import AccessTokenChecker
    from gatekeeper.auth.access_token_settings import AccessTokenSettings
    from gatekeeper.errors import ConfigurationError

    tables = {
        each: table.settings
        for each, table in load_settings(config).checkers.items()
        if isinstance(table.settings, AccessTokenSettings)
    }
    chosen = name or (next(iter(tables)) if len(tables) == 1 else None)
    if chosen not in tables:
        known = ", ".join(tables) or "none"
        raise click.BadParameter(
            f"must be one of the configuration's `access-token` checkers: {known}",
            param_hint="--checker",
        )
    settings = tables[chosen]
    try:
        # Nothing is looked up here: what is open to everybody is not the token's.
        return AccessTokenChecker.configured(
            chosen, settings.model_copy(update={"marketplace_url": None})
        )
    except ConfigurationError as error:
        refuse(config, [p._replace(path=f"checkers.{chosen}.{p.path}") for p in error.problems])


def _authentication(kind: str, file: Any) -> dict[str, str]:
    """The claim ``headers.authentication``."""
    if kind == "none":
        return {"type": kind}
    if kind != "basic":
        return {"type": kind, "token": _read(file, "Upstream's token")}
    user, colon, password = _read(file, "Upstream's user:password").partition(":")
    if not colon:
        raise click.UsageError("the credential for basic is not `user:password`")
    return {"type": kind, "username": user, "password": password}


def _read(file: Any, prompt: str) -> str:
    """A secret from a file without the newline at its end, or from whoever sits at the terminal."""
    if file is None or (file is getattr(sys.stdin, "buffer", None) and sys.stdin.isatty()):
        typed: str = click.prompt(prompt, hide_input=True, err=True)
        return typed
    content: bytes = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise click.UsageError(f"there are more than {_LONGEST} bytes")
    try:
        return content.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.UsageError("this is not UTF-8") from None


def _parse_url(text: str) -> _Requested:
    from gatekeeper.errors import ProtocolError
    from gatekeeper.http.target import parse_target

    try:
        target = parse_target(text.encode())
        if target.authority is None:
            raise click.BadParameter("must begin with http:// or https://", param_hint="--url")
    except ProtocolError as error:
        raise click.BadParameter(error.detail, param_hint="--url") from None
    return _Requested(target.authority.host, target.authority.port, target.path)
