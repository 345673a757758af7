"""From ``store.url`` to the parameters of a PostgreSQL connection."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from gatekeeper.errors import ConfigurationError, Problem

#: Parameters of libpq that may follow the ``?``. ``host`` is there for the directory of a Unix
#: socket, the rest is for TLS.
OPTIONS: Final = frozenset(
    {
        "host", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding",
        "gssencmode", "application_name",
    }
)  # fmt: skip


class PostgresTarget(NamedTuple):
    """Where the server is and who we are there. The password is in ``parameters`` only.

    ``host`` is empty where libpq's own default applies (``PGHOST``, a Unix socket).
    """

    host: str
    port: int
    parameters: dict[str, str]

    def __repr__(self) -> str:
        return f"<PostgreSQL {self}>"

    def __str__(self) -> str:
        database = self.parameters.get("dbname", "")
        return f"{self.host or 'local socket'}:{self.port}/{database}"


def parse_postgres_url(url: str) -> PostgresTarget:
    """Read ``postgresql://user:password@host:port/database?option=value``.

    User, password, database and values are percent-decoded. ``@`` and ``:`` may stand in the
    password as they are; ``/``, ``?``, ``#`` must be encoded.

    :raises ConfigurationError: it is not such a URL; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 5432
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise _problem(
            "not a PostgreSQL URL (postgresql://user:password@host:port/database); a /, ? or # "
            "in the password must be percent-encoded"
        ) from None
    if parts.fragment or parts.path.count("/") > 1:
        raise _problem("a /, ? or # in the password must be percent-encoded (%2F, %3F, %23)")
    if unknown := options.keys() - OPTIONS:
        raise _problem(
            f"unknown options: {', '.join(sorted(unknown))}; known: {', '.join(sorted(OPTIONS))}"
        )
    parameters = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path[1:]),
        "application_name": "gatekeeper",
        **options,
    }
    host = parameters.pop("host", host)
    return PostgresTarget(host, port, {key: value for key, value in parameters.items() if value})


def _problem(message: str) -> ConfigurationError:
    return ConfigurationError([Problem("store.url", message)])
