"""What was used, as ``gatekeeper usage`` reports it: sums, and single requests where kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from io import StringIO
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from urllib.parse import urlencode

from pydantic import Field

from gatekeeper.errors import Problem
from gatekeeper.http.fields import list_members
from gatekeeper.management.operations import Call, Table, Text
from gatekeeper.management.reading import unusable
from gatekeeper.management.v1.models import DECIMAL, Document
from gatekeeper.store.interface import RecordQuery, UsageQuery
from gatekeeper.usage.formats import CsvFormat
from gatekeeper.usage.report import (
    View,
    full_hour,
    parse_time,
    parse_zone,
    records_view,
    usage_view,
)

table = Table("usage")

T = TypeVar("T")

_CSV: Final = "text/csv"
_WHEN: Final = "`2031-05-01`, `2031-05-01T10:00Z`, or so long ago: `24h`, `7d`."

Name = Annotated[str, Field(max_length=512)]
When = Annotated[str, Field(max_length=64)]


class _Filter(Document):
    """Which usage."""

    service: Name | None = Field(default=None, description="Of this service only.")
    user: Name | None = Field(default=None, description="Of this user only.")
    path: Name | None = Field(default=None, description="Of this path only.")
    model: Name | None = Field(default=None, description="Of this model only.")
    since: When | None = Field(default=None, description=f"From this time on: {_WHEN}")
    until: When | None = Field(default=None, description=f"Before this time: {_WHEN}")
    timezone: When | None = Field(
        default=None, description="Days and times of this zone, such as `Europe/Berlin`; else UTC."
    )
    limit: Annotated[
        int, Field(ge=1, le=10_000, description="So many rows at the most."), DECIMAL
    ] = 1000
    offset: Annotated[
        int, Field(ge=0, le=10_000_000, description="So many are left out."), DECIMAL
    ] = 0


class UsageFilter(_Filter):
    """Which usage, and what it is summed up by."""

    by: list[Literal["service", "user", "path", "model", "hour", "day"]] = Field(
        default=["service", "user", "path"],
        max_length=6,
        description="What to group by; repeat it for more.",
    )


class RecordFilter(_Filter):
    """Which single requests."""


class Usage(Document):
    """A sum. What is not grouped by is empty, or `null`."""

    service: str
    user: str
    path: str
    model: str | None = None
    hour: str | None = None
    day: str | None = None
    requests: int
    bytes_in: int
    bytes_out: int
    units: int
    duration: float = Field(description="Seconds.")
    status_1xx: int
    status_2xx: int
    status_3xx: int
    status_4xx: int
    status_5xx: int


class Drawn(Document):
    """What a request took from an account."""

    source: str
    name: str
    holder: str
    amount: int


class Record(Document):
    """A single request."""

    id: str
    start: str
    duration: float = Field(description="Seconds.")
    service: str
    user: str
    key_id: str
    method: str
    path: str
    status: int
    upstream_status: int
    bytes_in: int
    bytes_out: int
    units: int
    reason: str
    model: str
    did: str
    owner: str
    spent: list[Drawn]


class Rows(Document, Generic[T]):
    """Some rows. ``next`` is what to ask for the following ones with."""

    items: list[T]
    next: int | None = Field(
        description="Give it as `offset` to get what follows; `null`: nothing."
    )


@table.get("/v1/usage", errors=(422,), media_type=_CSV)
async def show_usage(call: Call, query: UsageFilter) -> Rows[Usage] | Text:
    """What was used until now, summed up; as CSV with `Accept: text/csv`."""
    since, until, zone = _times(call, query)
    first, last = (None if each is None else full_hour(each) for each in (since, until))
    wanted = UsageQuery(
        *_which(query), first, last, tuple(query.by), zone, query.offset + query.limit + 1
    )
    rows = _Window(query)
    await call.managed.flushed()
    await call.managed.store.stream_usage(wanted, rows.take)
    return _answer(call, "/v1/usage", query, rows, usage_view(wanted), Usage)


@table.get("/v1/records", errors=(422,), media_type=_CSV)
async def list_records(call: Call, query: RecordFilter) -> Rows[Record] | Text:
    """Single requests, the newest first, where they are kept (`usage.records`); also as CSV."""
    since, until, zone = _times(call, query)
    wanted = RecordQuery(*_which(query), since, until, query.offset + query.limit + 1)
    rows = _Window(query)
    await call.managed.flushed()
    await call.managed.store.stream_records(wanted, rows.take)
    return _answer(call, "/v1/records", query, rows, records_view(zone), Record)


class _Window:
    """Takes rows, and keeps those that were asked for; one more only tells that there are more."""

    def __init__(self, query: _Filter) -> None:
        self._skip = query.offset
        self._limit = query.limit
        self._kept: list[Any] = []

    def take(self, rows: Sequence[Any]) -> None:
        skipped = min(self._skip, len(rows))
        self._skip -= skipped
        self._kept += rows[skipped:]

    @property
    def rows(self) -> list[Any]:
        return self._kept[: self._limit]

    @property
    def has_more(self) -> bool:
        return len(self._kept) > self._limit


def _answer(
    call: Call,
    path: str,
    query: _Filter,
    window: _Window,
    view: View,
    make: Callable[..., T],
) -> Rows[T] | Text:
    following = query.offset + query.limit if window.has_more else None
    call.fields.append((b"vary", b"accept"))
    if not _wants_csv(call.accept):
        return Rows(items=[make(**view.flat(row)) for row in window.rows], next=following)
    if following is not None:
        parameters = query.model_dump(exclude_unset=True) | {"offset": following}
        link = f'<{path}?{urlencode(parameters, doseq=True)}>; rel="next"'  # RFC 8288
        call.fields.append((b"link", link.encode("ascii")))
    out = StringIO(newline="")
    written = CsvFormat(view, out)
    written.take(window.rows)
    written.end()
    return Text(_CSV, out.getvalue())


def _wants_csv(accept: str) -> bool:
    for member in list_members([accept.encode("ascii", "replace")]):
        media_type = member.partition(b";")[0].strip().lower()
        if media_type in (b"text/csv", b"application/json", b"*/*", b"application/*"):
            return media_type == b"text/csv"
    return False


def _which(query: _Filter) -> tuple[str | None, str | None, str | None, str | None]:
    return query.service, query.user, query.path, query.model


def _times(call: Call, query: _Filter) -> tuple[float | None, float | None, tzinfo | None]:
    """The times that are meant.

    :raises Refusal: 422, naming the parameters that are none.
    """
    problems: list[Problem] = []

    def read(name: str, parse: Callable[[str], Any]) -> Any:
        text = getattr(query, name)
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            problems.append(Problem(name, str(error)))
            return None

    zone = read("timezone", parse_zone)
    now = call.managed.wall_clock()
    since = read("since", lambda text: _time(text, now, zone))
    until = read("until", lambda text: _time(text, now, zone))
    if problems:
        raise unusable(tuple(problems))
    return since, until, zone


def _time(text: str, now: float, zone: tzinfo | None) -> float:
    time = parse_time(text, now, zone)
    if not 0 <= time < 2**40:
        raise ValueError("must be a time from 1970 on")
    return time
