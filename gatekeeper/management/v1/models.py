"""What the API's documents have in common. Times are in RFC 3339, in UTC."""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

S = TypeVar("S")
T = TypeVar("T")

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_LATEST: Final = 253_370_764_799  # the last second of the year 9998: a date in every time zone


class Document(BaseModel):
    """A JSON object of the API: unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


def _check_time(text: str) -> str:
    parse_time(text)
    return text


def parse_time(text: str) -> float:
    """A time in RFC 3339 as seconds since the epoch.

    :raises ValueError: it is none, or not from 1970 to 9998.
    """
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError
        seconds = datetime.fromisoformat(text.upper()).timestamp()
        if not 0 <= seconds <= _LATEST:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as `2031-05-01T10:00:00Z`, from 1970 on") from None
    return seconds


def write_time(seconds: float) -> str:
    """Seconds since the epoch as a time in RFC 3339."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def maybe_time(seconds: float | None) -> str | None:
    """As :func:`write_time`; None stays None."""
    return None if seconds is None else write_time(seconds)


def _decimal(value: Any) -> Any:
    """A number in a query, in plain digits."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise PydanticCustomError("int_parsing", "must be a whole number")
    return int(value)


def check_user_name(text: str) -> str:
    """A user's name in normal form C (RFC 8265); as ``curl -u`` can send it, and a URL hold it.

    :raises ValueError: it is none.
    """
    if text in (".", ".."):
        raise ValueError("must not be `.` or `..`, which clients remove from URLs")
    return unicodedata.normalize("NFC", text)


_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"

Time = Annotated[
    str,
    AfterValidator(_check_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

#: Makes a number of a parameter of a query.
DECIMAL: Final = BeforeValidator(_decimal)
Number = Annotated[int, Field(ge=1, le=2**53), DECIMAL]
UserName = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=r"^[^:\x00-\x1f\x7f-\x9f]+$"),
    AfterValidator(check_user_name),
]
Password = Annotated[str, Field(min_length=1, max_length=1024, pattern=_NO_CONTROLS)]
Label = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Groups = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=128, pattern=_NO_CONTROLS)], ...],
    Field(max_length=100, description="What access rules ask for."),
]
Expires = Annotated[
    Time | None, Field(description="From then on nothing is granted; `null`: it does not expire.")
]
Origin = Literal["configuration", "api"]


class Listing(Document):
    """Which part of a list."""

    limit: Annotated[
        int, Field(ge=1, le=1000, description="So many items at the most."), DECIMAL
    ] = 100
    after: Annotated[
        str, Field(max_length=512, description="Only what comes after this: `next` of an answer.")
    ] = ""


class Page(Document, Generic[T]):
    """A part of a list. ``next`` is what to ask for the following one with; `null`: none."""

    items: list[T]
    next: str | None = Field(description="Give it as `after` to get what follows; `null`: nothing.")


class Newest(Document):
    """Which part of a list that begins with the newest."""

    limit: Annotated[
        int, Field(ge=1, le=1000, description="So many items at the most."), DECIMAL
    ] = 100
    before: Number | None = Field(
        default=None, description="Only what came before this: `next` of an answer."
    )


class History(Document, Generic[T]):
    """A part of a list, the newest first."""

    items: list[T]
    next: int | None = Field(description="Give it as `before` to get what is older; `null`: none.")


def page(
    things: Iterable[S], key: Callable[[S], str], show: Callable[[S], T], query: Listing
) -> Page[T]:
    """The part of a list that ``query`` asks for, in the order of the keys, as ``show`` has it."""
    following = (thing for thing in things if key(thing) > query.after)
    found = heapq.nsmallest(query.limit + 1, following, key)
    items = found[: query.limit]
    more = len(found) > len(items)
    return Page(items=[show(item) for item in items], next=key(items[-1]) if more else None)
