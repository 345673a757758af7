"""The question for single records: from a query to a SELECT, and to records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, get_type_hints

from gatekeeper.store.dialects import Dialect, Parameter, limit, where
from gatekeeper.store.interface import RecordQuery
from gatekeeper.usage.records import Spent, UsageRecord

#: The fields of :class:`UsageRecord` as columns; "user" is a word of SQL.
RECORD_COLUMNS: Final = tuple(
    "user_name" if name == "user" else name for name in UsageRecord._fields
)

#: What is in these columns: what was spent is the last one, and JSON.
RECORD_TYPES: Final = (*tuple(get_type_hints(UsageRecord).values())[:-1], str)
assert RECORD_COLUMNS[-1] == "spent"


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
    return [UsageRecord._make((*row[:-1], _spent(row[-1]))) for row in rows]


def _spent(text: str) -> tuple[Spent, ...]:
    return () if text == "[]" else tuple(map(Spent._make, json.loads(text)))
