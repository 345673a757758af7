"""``gatekeeper credits``: what users were granted, and what is owed and burned on a chain."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper.cli.completion import (
    complete_any_user,
    complete_charge,
    complete_payer,
    complete_pool,
)
from gatekeeper.cli.management import (
    EXIT_REFUSED,
    asks_daemon,
    complain,
    format_option,
    limit_option,
)
from gatekeeper.cli.management_output import in_json, tell

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

_LARGEST: Final = 2**63 - 1
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_CREDITS: Final = ("v1", "credits")

holder_option = click.option("--holder", metavar="ADDRESS", help="Of this payer only.")


@click.group("credits")
def credits() -> None:
    """Grant credits, see what is left of them, and look after what is burned on a chain.

    \b
    Examples:
      gatekeeper credits grant alice 1000
      gatekeeper credits balance alice
      gatekeeper credits uncollected
      gatekeeper credits retry --all
    """


@credits.command("grant", context_settings={"ignore_unknown_options": True})  # such as -5
@asks_daemon
@click.argument("user", shell_complete=complete_any_user)
@click.argument("credits", type=click.IntRange(-_LARGEST, _LARGEST))
@click.option(
    "--pool",
    default="default",
    show_default=True,
    shell_complete=complete_pool,
    help="Which credits: what `credits.pool` of services says.",
)
@click.option("--note", default="", help="What they are for, for the audit log.")
@click.option(
    "--id",
    "grant_id",
    metavar="ID",
    help="Of your own, for a grant that may have to be run again: it is made once.  "
    "[default: a random one]",
)
@format_option
def grant(
    client: Client,
    user: str,
    credits: int,
    pool: str,
    note: str,
    grant_id: str | None,
    form: str | None,
) -> None:
    """Grant USER so many CREDITS more; a negative number takes some back.

    They can be spent at once; over other daemons that share the store, after a second. Where the
    daemon does not answer, it is not known whether the grant was made: run it again with the --id
    that the message says.

    \b
    Examples:
      gatekeeper credits grant alice 1000
      gatekeeper credits grant alice 1000 --id invoice-16
      gatekeeper credits grant alice -200 --pool maps --note 'invoice 17 was not paid'
    """
    body = {"user": user, "credits": credits, "pool": pool, "note": note}
    body["id"] = grant_id = os.urandom(16).hex() if grant_id is None else grant_id
    with _may_be_made(grant_id):
        made = client.call("POST", (*_CREDITS, "grants"), body=body)
    before = "This grant was made before. " if made["repeated"] else ""
    tell(
        form,
        made,
        f"{before}User {made['user']} has {made['left']:,d} credits left in pool {made['pool']}: "
        f"{made['granted']:,d} were granted, {made['spent']:,d} are spent.",
    )


@credits.command("balance")
@asks_daemon
@click.argument("who", metavar="[USER|ADDRESS]", required=False, shell_complete=complete_payer)
@click.option("--pool", shell_complete=complete_pool, help="Granted credits, in this pool only.")
@click.option("--contract", metavar="ADDRESS", help="Credits of this contract; with --token.")
@click.option("--token", metavar="ID", help="The token's id in it: 64 hex digits.")
@limit_option
@format_option
def balance(
    client: Client,
    who: str | None,
    pool: str | None,
    contract: str | None,
    token: str | None,
    limit: int | None,
    form: str | None,
) -> None:
    """Show what USER, or everybody, was granted, and what is left of it.

    An ADDRESS (0x and 40 hex digits) is looked up on the chain instead, unless a pool is named:
    for --contract and --token, else for all that it was ever charged in. The exit status is 1
    where something cannot be read there.

    \b
    Examples:
      gatekeeper credits balance alice --pool maps
      gatekeeper credits balance 0x00000000000000000000000000000000000a11ce
    """
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    on_chain = contract is not None or token is not None
    if on_chain and (who is None or pool is not None):
        raise click.UsageError("--contract and --token go with an ADDRESS, and without --pool")
    if on_chain or (pool is None and who is not None and _ADDRESS.fullmatch(who)):
        query = {"holder": who, "contract": contract, "token": token}
        found = client.call("GET", (*_CREDITS, "balances"), query)["items"]
        headings = ("contract", "token", "holder", "balance", "owed", "left", "problem")
        show_list(form, found, map(Column, headings), limit)
        if any(each["problem"] for each in found):
            complain("a balance cannot be read; the daemon's log says more")
            raise SystemExit(EXIT_REFUSED)
        return
    accounts = client.items(
        (*_CREDITS, "accounts"), {"user": who, "pool": pool}, most=asked_for(form, limit)
    )
    show_list(form, accounts, map(Column, ("pool", "user", "granted", "spent", "left")), limit)


@credits.command("pending")
@asks_daemon
@holder_option
@limit_option
@format_option
def pending(client: Client, holder: str | None, limit: int | None, form: str | None) -> None:
    """List what is owed on the chain and waits to be burned, or is being burned."""
    columns = ("id", "credits", "state", "holder", "contract", "token", "settlement", "created")
    _show_charges(client, ("pending", "claimed"), columns, holder, limit, form)


@credits.command("uncollected")
@asks_daemon
@holder_option
@limit_option
@format_option
def uncollected(client: Client, holder: str | None, limit: int | None, form: str | None) -> None:
    """List what could not be burned: the payer has not enough, or the contract refuses.

    What is uncollected is burned when the payer's balance is back; what is in error, after
    `gatekeeper credits retry`.
    """
    columns = ("id", "credits", "state", "holder", "contract", "token", "reason", "created")
    _show_charges(client, ("uncollected", "error"), columns, holder, limit, form)


@credits.command("ledger")
@asks_daemon
@click.argument("subject", required=False)
@limit_option
@format_option
def ledger(client: Client, subject: str | None, limit: int | None, form: str | None) -> None:
    """Show the ledger's log, the newest first: what has happened to credits, and when.

    SUBJECT is the only thing that it is to be about: a charge, a settlement, or a user's granted
    credits in a pool.

    \b
    Examples:
      gatekeeper credits ledger --limit 20
      gatekeeper credits ledger charge/12
      gatekeeper credits ledger prepaid/default/alice
    """
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    columns = [
        *map(Column, ("number", "time", "subject", "event", "before", "after")),
        Column("detail", lambda entry: json.dumps(entry["detail"]) if entry["detail"] else ""),
    ]
    found = client.items(
        (*_CREDITS, "ledger"), {"subject": subject}, cursor="before", most=asked_for(form, limit)
    )
    show_list(form, found, columns, limit)


@credits.command("settlements")
@asks_daemon
@click.option(
    "--state",
    multiple=True,
    type=click.Choice(["claimed", "signed", "sent", "mined", "confirmed", "error"]),
    help="In this state only; repeat it for more.",
)
@limit_option
@format_option
def settlements(
    client: Client, state: tuple[str, ...], limit: int | None, form: str | None
) -> None:
    """List what was burned on the chain, or is being burned, the newest first.

    A settlement burns what several payers owe with one transaction; JSON has all of these, and all
    transactions that were ever signed for it.
    """
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    columns = [
        *map(Column, ("id", "state")),
        Column("payers", lambda each: len(each["entries"])),
        Column("credits", _sum_of("credits")),
        Column("burn", _sum_of("burn")),
        Column("transaction", lambda each: _newest(each).get("hash")),
        Column("block", lambda each: _newest(each).get("block")),
        *map(Column, ("reason", "updated")),
    ]
    found = client.items(
        (*_CREDITS, "settlements"), {"state": state}, cursor="before", most=asked_for(form, limit)
    )
    show_list(form, found, columns, limit)


@credits.command("retry")
@asks_daemon
@click.argument(
    "ids",
    metavar="[ID]...",
    nargs=-1,
    type=click.IntRange(1, _LARGEST),
    shell_complete=complete_charge,
)
@click.option("--all", "everything", is_flag=True, help="All that are uncollected or in error.")
@format_option
def retry(client: Client, ids: tuple[int, ...], form: str | None, *, everything: bool) -> None:
    """Have charges burned that could not be: those of the IDs, or --all.

    Those that are neither uncollected nor in error stay as they are.

    \b
    Examples:
      gatekeeper credits retry 12 17
      gatekeeper credits retry --all
    """
    if bool(ids) == everything:
        raise click.UsageError("give either IDs, or --all")
    body = {"ids": None if everything else ids}
    made = client.call("POST", (*_CREDITS, "retry"), body=body)
    others = len(ids) - made["retried"]
    rest = f" {others:,d} are neither uncollected nor in error." if others > 0 else ""
    tell(form, made, f"{made['retried']:,d} will be tried again.{rest}")


@contextmanager
def _may_be_made(grant_id: str) -> Iterator[None]:
    """Say how to go on where nobody knows whether a grant was made."""
    from gatekeeper.management_client import Refused, TokenFileError, Unreachable

    advice = f"It is not known whether the grant was made: run it again with --id {grant_id}"
    try:
        yield
    except TokenFileError:  # nobody was asked
        raise
    except Unreachable as error:
        raise Unreachable(f"{error}. {advice}") from None
    except Refused as error:
        if error.status < 500:
            raise
        raise Refused(error.status, f"{error} {advice}") from None
    except KeyboardInterrupt:
        complain(advice)
        raise


def _show_charges(
    client: Client,
    states: Sequence[str],
    columns: Sequence[str],
    holder: str | None,
    limit: int | None,
    form: str | None,
) -> None:
    """Print charges, and below a table of all of them what they come to."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    query = {"state": states, "holder": holder}
    found = client.items(
        (*_CREDITS, "charges"), query, cursor="before", most=asked_for(form, limit)
    )
    show_list(form, found, map(Column, columns), limit)
    if in_json(form) or holder is not None:
        return
    for each in client.call("GET", (*_CREDITS, "owed"))["items"]:
        if each["state"] in states:
            click.echo(
                f"In all {each['credits']:,d} credits of {each['charges']:,d} charges are "
                f"{_IN_WORDS[each['state']]}."
            )


_IN_WORDS: Final = {
    "pending": "pending",
    "claimed": "claimed by settlements",
    "uncollected": "uncollected",
    "error": "in error",
}


def _sum_of(field: str) -> Callable[[Mapping[str, Any]], int]:
    return lambda settlement: sum(entry[field] for entry in settlement["entries"])


def _newest(settlement: Mapping[str, Any]) -> Mapping[str, Any]:
    """The transaction that is in a block, else the one that was signed last, if there is one."""
    transactions = settlement["transactions"]
    mined = [each for each in transactions if each["block"] is not None]
    newest: Mapping[str, Any] = (mined or transactions or [{}])[-1]
    return newest
