"""The numbered schema files: ``sqlite/0001_usage.sql``, ``postgres/0001_usage.sql``, and so on.

File *n* takes a store from version *n - 1* to *n*. A released file is never changed.
"""

from __future__ import annotations

from importlib import resources

from gatekeeper.errors import ConfigurationError, Problem


def upgrades(dialect: str, version: int) -> list[tuple[int, str]]:
    """Return what is to run on a store of ``version`` (0: empty): numbers and SQL, in order.

    :raises ConfigurationError: the store is newer than this program.
    """
    files = sorted(
        (int(file.name[:4]), file.read_text("utf-8"))
        for file in (resources.files(__name__) / dialect).iterdir()
        if file.name.endswith(".sql")
    )
    newest = files[-1][0]
    if version > newest:
        raise ConfigurationError(
            [
                Problem(
                    "store.url",
                    f"the store has schema version {version}, this gatekeeper knows {newest} at "
                    "the most; install the newer gatekeeper that has written it, or restore a "
                    "backup from before that",
                )
            ]
        )
    return [(number, sql) for number, sql in files if number > version]
