"""The question for single records: from a query to a SELECT, and to records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gatekeeper.store.dialects import Dialect, Parameter, limit, where
from gatekeeper.store.interface import RecordQuery
from gatekeeper.usage.records import UsageRecord

#: The fields of :class:`UsageRecord` as columns; "user" is a word of SQL.
RECORD_COLUMNS: Final = tuple(
    "user_name" if name == "user" else name for name in UsageRecord._fields
)


def records_select(query: RecordQuery, dialect: Dialect) -> tuple[str, list[Parameter]]:
    """Return the SELECT for a query, and its parameters; its columns are those of UsageRecord."""
    conditions, values = where(
        dialect,
        (
            ("service =", query.service),
            ("user_name =", query.user),
            ("path =", query.path),
            ("model =", query.model),
            ("start >=", query.since),
            ("start <", query.until),
        ),
    )
    at_most, number = limit(dialect, query.limit)
    # Nothing from outside gets into the text: names are ours, values are parameters.
    text = (
        f"SELECT {', '.join(RECORD_COLUMNS)} FROM usage_record{conditions} "  # noqa: S608
        f"ORDER BY start DESC, id DESC{at_most}"
    )
    return text, values + number


def usage_records(rows: Sequence[Sequence[Any]]) -> list[UsageRecord]:
    """Turn what the SELECT gave into records."""
    return [UsageRecord._make(row) for row in rows]
