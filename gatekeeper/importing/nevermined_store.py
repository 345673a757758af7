"""From the burner's ``PG_…`` variables to ``store.url``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from gatekeeper.config.values import parse_host, parse_port
from gatekeeper.importing.nevermined_variables import STORE
from gatekeeper.importing.notes import Notes, Secrets
from gatekeeper.importing.toml import Value

_DEFAULTS: Final = {
    "PG_HOST": "localhost",
    "PG_PORT": "5432",
    "PG_USER": "postgres",
    "PG_DB": "nvm_one",
}


def store_url(environment: Mapping[str, str], notes: Notes, secrets: Secrets) -> Value | None:
    """``store.url``, or None where no variable says anything about a database.

    A reference stands for a whole value, and so the password cannot be one inside a URL. Either
    the whole URL goes into a file, or the URL has no password: the PostgreSQL client then takes
    the one in ``PGPASSWORD``.
    """
    given = {name: environment[name] for name in STORE if environment.get(name)}
    if not given:
        return None
    names = ", ".join(given)
    try:
        url = postgres_url({**given, "PG_PASSWORD": ""})
    except ValueError as error:
        notes.leave(names, f"would be `store.url`, and {error}")
        return None
    notes.carry(
        names,
        "`store.url`. gatekeeper makes tables of its own; what waits in serviceLogsQueue is the "
        "burner's to finish",
    )
    if "PG_PASSWORD" not in given:
        return url
    if secrets.in_files:
        return secrets.refer("STORE_URL", postgres_url(given))
    notes.carry(
        "PG_PASSWORD", "not in the file: the daemon's environment must have it, as PGPASSWORD"
    )
    return url


def postgres_url(environment: Mapping[str, str]) -> str:
    """The URL of the database, its password in it.

    :raises ValueError: host or port are none.
    """
    values = {**_DEFAULTS, **{name: environment[name] for name in STORE if environment.get(name)}}
    port = parse_port(values["PG_PORT"])
    if not values["PG_HOST"].startswith("/"):  # the directory of a Unix socket
        parse_host(values["PG_HOST"])
    user, password = quote(values["PG_USER"], safe=""), values.get("PG_PASSWORD")
    login = user if password is None else f"{user}:{quote(password, safe='')}"
    database = quote(values["PG_DB"], safe="")
    host = values["PG_HOST"]
    if host.startswith("/"):
        return f"postgresql://{login}@:{port}/{database}?host={quote(host, safe='')}"
    if ":" in host:
        host = f"[{host}]"
    return f"postgresql://{login}@{host}:{port}/{database}"
