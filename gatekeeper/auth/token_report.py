"""An access token, as it is shown to people and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeper.auth.automaton import PatternError
from gatekeeper.auth.interfaces import Opened
from gatekeeper.auth.token_claims import AccessToken
from gatekeeper.auth.url_patterns import compile_url
from gatekeeper.terminal import printable


def describe(claims: AccessToken, show_secrets: bool = False) -> dict[str, Any]:
    """All that a token says; the upstream's credential is masked unless ``show_secrets``.

    Times are in RFC 3339. Every URL pattern has its ``problem``, empty where it can be used.
    """
    return {
        "user": claims.user,
        "did": claims.did,
        "owner": claims.owner,
        "subscription": claims.subscription,
        "erc_type": claims.erc_type,
        "issued": _time(claims.issued),
        "begins": _time(claims.begins),
        "expires": _time(claims.expires),
        "authentication": claims.credential.kind,
        "authorization": _shown(claims.credential.authorization, show_secrets),
        "urls": [{"url": url, "problem": _problem(url)} for url in claims.urls],
    }


def describe_opened(opened: Opened | None, show_secrets: bool = False) -> dict[str, Any] | None:
    """Where a request goes, None where it may not pass."""
    if opened is None:
        return None
    return opened._asdict() | {"authorization": _shown(opened.authorization, show_secrets)}


def print_table(report: Mapping[str, Any], console: Console) -> None:
    """Print a report, a line for each thing that there is to say."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in report.items():
        if name == "urls":
            for url in value:
                problem = f" (opens nothing: {url['problem']})" if url["problem"] else ""
                table.add_row("url", Text(printable(url["url"] + problem)))
        elif name == "opens":
            table.add_row("opens", Text("nothing" if value is None else json.dumps(value)))
        elif value not in (None, ""):
            table.add_row(name, Text(printable(str(value))))
    console.print(table)


def _problem(url: str) -> str:
    try:
        compile_url(url)
    except PatternError as error:
        return str(error)
    return ""


def _shown(authorization: bytes | None, show_secrets: bool) -> str | None:
    if authorization is None:
        return None
    text = authorization.decode("ascii")
    return text if show_secrets else f"{text.partition(' ')[0]} ***"


def _time(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return str(seconds)  # after the year 9999
