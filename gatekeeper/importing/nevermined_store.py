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
    values = {**_DEFAULTS, **given}
    try:
        port = parse_port(values["PG_PORT"])
        if not values["PG_HOST"].startswith("/"):  # the directory of a Unix socket
            parse_host(values["PG_HOST"])
    except ValueError as error:
        notes.leave(names, f"would be `store.url`, and {error}")
        return None
    url = _url(values, port, None)
    notes.carry(
        names,
        "`store.url`. gatekeeper makes tables of its own; what waits in serviceLogsQueue is the "
        "burner's to finish",
    )
    if "PG_PASSWORD" not in given:
        return url
    if secrets.in_files:
        return secrets.refer("STORE_URL", _url(values, port, given["PG_PASSWORD"]))
    notes.carry(
        "PG_PASSWORD", "not in the file: the daemon's environment must have it, as PGPASSWORD"
    )
    return url


def _url(values: Mapping[str, str], port: int, password: str | None) -> str:
    user = quote(values["PG_USER"], safe="")
    login = user if password is None else f"{user}:{quote(password, safe='')}"
    database = quote(values["PG_DB"], safe="")
    host = values["PG_HOST"]
    if host.startswith("/"):
        return f"postgresql://{login}@:{port}/{database}?host={quote(host, safe='')}"
    if ":" in host:
        host = f"[{host}]"
    return f"postgresql://{login}@{host}:{port}/{database}"
