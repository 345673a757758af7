"""The documents of Golem's dialect, in camel case. Of an answer, what is not set is left out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from gatekeeper.management.v1.models import Document, Password, Time, UserName

_ADDRESS = r"^(localhost|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"

Address = Annotated[str, Field(pattern=_ADDRESS)]
Addresses = Address | Annotated[list[Address], Field(min_length=1)] | None
Milliseconds = Annotated[int | None, Field(ge=1, le=366 * 24 * 3_600_000)]


class GolemCertificate(Document):
    """PEM files. `hash` is `sha3:` and the SHA3-256 of the certificate's file."""

    path: str
    keyPath: str
    hash: str | None = None


class GolemAuth(Document):
    """How users are known."""

    method: Annotated[str, Field(pattern="^basic$")]


class _Fields(Document):
    description: str | None = None
    cert: GolemCertificate | None = None
    from_: str = Field(alias="from", description="Path prefix, such as `/acme`.")
    to: str = Field(description="Where it goes: a URL.")
    auth: GolemAuth | None = None
    requestTimeout: Milliseconds = None
    responseTimeout: Milliseconds = None
    cpuThreads: Annotated[int | None, Field(ge=1, le=65_536)] = None
    offerProperties: dict[str, Any] | None = None


class GolemDefinition(_Fields):
    """A service as Golem's providers define it. `null` is as good as a field that is left out."""

    name: Annotated[str | None, Field(description="Made up, `service-N`, if left out.")] = None
    serverName: str | Annotated[list[str], Field(min_length=1)] | None = None
    bind: Addresses = Field(default=None, description="Another name of `bindHttps`.")
    bindHttps: Addresses = None
    bindHttp: Addresses = None
    user: None = None
    createdAt: str | None = None


class GolemService(_Fields):
    """A service."""

    name: str
    serverName: list[str] = []
    bindHttps: list[str] = []
    bindHttp: list[str] = []
    createdAt: Time


class NewGolemUser(Document):
    """A user to be added."""

    username: UserName
    password: Password = Field(repr=False)


class GolemUser(Document):
    """A user."""

    username: str
    createdAt: Time


class GolemStats(Document):
    """Requests that were let through, whatever the upstream has answered then."""

    requests: int


class GolemTotals(Document):
    """How much there is of everything."""

    users: int
    services: int
    requests: GolemStats
