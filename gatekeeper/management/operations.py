"""One declaration for each operation of the API, of which its route and its documentation are made.

An operation is a function. Its signature says what it takes and gives::

    @table.get("/v1/services/{service}/users")
    async def list_users(call: Call, service: str, query: Listing) -> Page[User]:
        '''The users of a service.'''

``call`` comes first; then the parts of the path by their names; ``query`` is a model of the
parameters, ``body`` of the JSON that is sent. What is returned is sent as JSON.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    get_args,
    get_type_hints,
)

from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    from gatekeeper.management.gate import Caller
    from gatekeeper.management.managed import Managed

Dialect: TypeAlias = Literal["v1", "golem"]
Handler: TypeAlias = Callable[..., Awaitable[Any]]

_PART: Final = re.compile(r"\{([a-z]+)\}")


@dataclass(slots=True)
class Call:
    """One request to an operation, from an operator.

    ``accept`` is what the caller wants to read. ``fields`` are further fields of the answer, which
    the operation may add to.
    """

    managed: Managed
    caller: Caller
    accept: str = ""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)


class Text(NamedTuple):
    """An answer that is not JSON."""

    media_type: str
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """See the module. ``errors``: the statuses beside those that every operation may have."""

    method: str
    path: str
    tag: str
    dialect: Dialect
    handler: Handler
    status: int
    errors: tuple[int, ...]
    media_type: str
    body: type[BaseModel] | None
    documented: type[BaseModel] | None
    query: type[BaseModel] | None
    answer: TypeAdapter[Any] | None

    @property
    def id(self) -> str:
        """A name of its own."""
        return self.handler.__name__

    @property
    def parts(self) -> list[str]:
        """The names of the parts of the path that are the caller's to fill."""
        return _PART.findall(self.path)

    @property
    def route(self) -> str:
        """The path as klein has it."""
        return _PART.sub(r"<\1>", self.path)


class Table:
    """The operations of one kind."""

    def __init__(self, tag: str, dialect: Dialect = "v1") -> None:
        self.tag = tag
        self.dialect: Dialect = dialect
        self.operations: list[Operation] = []

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare what reads, and changes nothing."""
        return self.operation("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare what makes something."""
        return self.operation("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare what puts something in a place."""
        return self.operation("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare what changes something."""
        return self.operation("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare what removes something."""
        return self.operation("DELETE", path, **options)

    def operation(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        errors: Iterable[int] = (),
        media_type: str = "",
        documented: type[BaseModel] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Declare an operation.

        ``media_type`` is what it may answer with beside JSON. ``documented`` says what the body is
        where the operation reads it by itself.
        """

        def declare(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            answer = _without_text(hints.pop("return"))
            body = hints.get("body")
            operation = Operation(
                method,
                path,
                self.tag,
                self.dialect,
                handler,
                status,
                tuple(errors),
                media_type,
                body if isinstance(body, type) and issubclass(body, BaseModel) else None,
                documented,
                hints.get("query"),
                None if status == 204 else TypeAdapter(answer),
            )
            taken = set(inspect.signature(handler).parameters) - {"call", "body", "query"}
            assert taken == set(operation.parts), f"{operation.id} takes other parts than its path"
            self.operations.append(operation)
            return handler

        return declare


def _without_text(answer: Any) -> Any:
    """What of an answer is JSON."""
    kinds = [kind for kind in get_args(answer) if kind is not Text]
    return kinds[0] if Text in get_args(answer) else answer
