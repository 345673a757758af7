"""The errors of the project. Whatever reaches a client carries the status that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple


class GatekeeperError(Exception):
    """The root of all errors that this project raises on purpose."""


class Problem(NamedTuple):
    """One thing wrong in a configuration: where (``services[2].to``) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigurationError(GatekeeperError):
    """A configuration that cannot be used; holds *every* problem found, not the first."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(source, self.problems)

    def inside(self, path: str) -> ConfigurationError:
        """The same, where what it is about is a part of something else: at ``path``."""
        return ConfigurationError(
            [
                Problem(f"{path}.{each.path}" if each.path else path, each.message)
                for each in self.problems
            ],
            self.source,
        )

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        return "\n".join(f"{where}{problem}" for problem in self.problems)


class StoreError(GatekeeperError):
    """The store did not do what was asked; the data is still with the caller. Try again later."""


class BatchRejected(StoreError):  # noqa: N818 - it is an answer, not a failure
    """The store is there and will never take this batch: something in it does not fit."""


class AlreadyThereError(GatekeeperError):
    """Something of that name is there: ``kind`` says what (``user``), ``name`` which."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(kind, name)

    def __str__(self) -> str:
        return f"there is a {self.kind} `{self.name}` already"


class NotThereError(GatekeeperError):
    """Nothing of that name is there: ``kind`` says what (``user``), ``name`` which."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(kind, name)

    def __str__(self) -> str:
        return f"there is no {self.kind} `{self.name}`"


class JournalError(GatekeeperError):
    """Usage cannot be written to the journal, or read from it; the message says which and why."""


class Refusal(GatekeeperError):  # noqa: N818 - it is an answer, not a failure
    """A request that we answer ourselves.

    ``status`` is the HTTP status, ``reason`` a short code for the access log (``bad_request``),
    ``told`` what the client is told in its place, ``detail`` a sentence for the client without
    anything secret in it, ``fields`` further header fields of the answer, ``members`` further
    members of the problem document (RFC 9457, 3.2), ``close`` whether nothing more may be read from
    this connection.
    """

    status: int = 400
    close: ClassVar[bool] = False

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        status: int | None = None,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        told: str = "",
        members: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.told = told or reason
        self.detail = detail
        self.fields = fields
        self.members = members
        if status is not None:
            self.status = status


class ProtocolError(Refusal):
    """The peer broke the protocol: no byte after this one can be trusted to begin a message."""

    close = True


class UpstreamError(Refusal):
    """The upstream cannot be reached (502), is silent (504), or broke the protocol (502)."""

    status = 502
