"""The numbered schema files: ``sqlite/0001_usage.sql``, ``postgres/0001_usage.sql``, and so on.

File *n* takes a store from version *n - 1* to *n*. A released file is never changed.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from gatekeeper.errors import ConfigurationError, Problem

Dialect = Literal["sqlite", "postgres"]


def newest(dialect: Dialect) -> int:
    """Return the version that this program needs."""
    return max(_files(dialect))


def upgrades(dialect: Dialect, version: int) -> list[tuple[int, str]]:
    """Return what is to run on a store of ``version`` (0: empty): numbers and SQL, in order.

    :raises ConfigurationError: the store is newer than this program.
    """
    if version > newest(dialect):
        raise _problem(
            f"the store has schema version {version}, this gatekeeper knows {newest(dialect)} at "
            "the most; install the newer gatekeeper that has written it, or restore a backup "
            "from before that"
        )
    return [(number, sql) for number, sql in _files(dialect).items() if number > version]


def check(dialect: Dialect, version: int) -> None:
    """Refuse a store that this program cannot use; ``version`` is not 0.

    :raises ConfigurationError: it is older or newer; the message says what to do.
    """
    if upgrades(dialect, version):
        raise _problem(
            f"the store has schema version {version}, this gatekeeper needs {newest(dialect)}; "
            "stop all that use it and run: gatekeeper store upgrade --config FILE"
        )


@cache
def _files(dialect: Dialect) -> dict[int, str]:
    files = (resources.files(__name__) / dialect).iterdir()
    scripts = sorted((file for file in files if file.name.endswith(".sql")), key=lambda f: f.name)
    return {int(file.name[:4]): file.read_text("utf-8") for file in scripts}


def _problem(message: str) -> ConfigurationError:
    return ConfigurationError([Problem("store.url", message)])
