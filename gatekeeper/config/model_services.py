"""The model of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gatekeeper.config import values
from gatekeeper.config.fields import (
    AllowRule,
    Bytes,
    Checker,
    Count,
    Destination,
    Host,
    Method,
    Name,
    Seconds,
    Section,
    Status,
    Words,
)
from gatekeeper.config.model_selling import Meter, Quota, Rate, ServiceCredits


class AccessRule(Section):
    """Who may do what in a service."""

    path: Annotated[str, AfterValidator(values.check_path_pattern), Words("pattern")] = Field(
        description="Pattern: `*` is one segment, `**` at the end all the rest."
    )
    methods: tuple[Method, ...] | None = Field(
        default=None, description="Methods; all if left out."
    )
    groups: tuple[str, ...] | None = Field(
        default=None, description="The caller is in one of them; anybody granted if left out."
    )


class ServiceTimeouts(Section):
    """What a service may set differently from `[timeouts]`."""

    connect: Seconds | None = Field(default=None, description="See `timeouts.connect`.")
    response: Seconds | None = Field(default=None, description="See `timeouts.response`.")
    body: Seconds | None = Field(default=None, description="See `timeouts.body`.")
    tunnel: Seconds | None = Field(default=None, description="See `timeouts.tunnel`.")


class ServiceLimits(Section):
    """What a service may set differently from `[limits]`."""

    body: Bytes | None = Field(default=None, description="See `limits.body`.")


class Ejection(Section):
    """How an upstream of a list in `to` is left alone that fails."""

    failures: Count = Field(
        default=3,
        description="Requests in a row that the upstream did not begin to answer: it could not be "
        "reached, broke off or was silent for too long.",
    )
    duration: Seconds = Field(
        default=10.0,
        description="It gets no requests for so long; then one, which decides. Each time that this "
        "fails, too, it is twice as long.",
    )
    longest: Seconds = Field(default=300.0, description="But no longer than this.")


class HealthChecks(Section):
    """Questions that each upstream of a list in `to` is asked now and then."""

    path: Annotated[str, AfterValidator(values.check_health_path), Words("path")] = Field(
        description="What is asked for, with `GET`: a path, perhaps with a query. It is the whole "
        "path; that of `to` is not put before it."
    )
    interval: Seconds = Field(default=5.0, description="How often, give or take a tenth.")
    timeout: Seconds = Field(default=2.0, description="The answer must begin within this.")
    status: Annotated[tuple[Status, ...], AfterValidator(values.some)] = Field(
        default=(200,), description="What the answer must be to be good."
    )
    healthy: Count = Field(
        default=2, description="Good answers in a row that make an upstream up again."
    )
    unhealthy: Count = Field(default=3, description="Others in a row that make it down.")


class Service(Section):
    """Something behind the gateway: where it is found, where it goes, who may use it."""

    name: Name = Field(description="Unique; it stands in usage reports.")
    description: str = Field(default="", description="Free text.")
    hosts: tuple[Host, ...] = Field(
        default=(),
        description="Host names or addresses that it answers to; `*.suffix` is any depth below "
        "the suffix. None means any.",
    )
    from_: Annotated[str, AfterValidator(values.check_prefix), Words("path")] = Field(
        default="/", alias="from", description="Path prefix, whole segments."
    )
    to: Destination = Field(
        description="Where it goes: `http://host:port/path` or `https://…`; a list of these, with "
        "the same scheme and path, which share the requests; or `grant`: the upstream that the "
        "caller's token names."
    )
    allow: tuple[AllowRule, ...] = Field(
        default=("*:*",),
        description='With `to = "grant"`: where tokens may lead, as in a listener\'s `allow`.',
    )
    listeners: tuple[Name, ...] | None = Field(
        default=None, description="Gateway listeners it is found on; all if left out."
    )
    checkers: tuple[Checker, ...] = Field(
        repr=False,  # a URL may hold a secret
        description="Checker names or URLs, asked in this order; `[]` makes the service public.",
    )
    access: tuple[AccessRule, ...] = Field(
        default=(),
        description="Who may do what; the first rule that fits path and method decides, none "
        "is 403. Without rules every granted request passes.",
    )
    actions_file: Path | None = Field(
        default=None,
        description="In place of `access`: a file of lines `action_NAME=GROUP`. `/v0/NAME` and all "
        "below it is for that group, `/s/GROUP` and all below it for the group in the path; "
        "anything else is 403. The upstream does not see the `/v0`. Read again when it changes. "
        "The timeouts `response` and `body` are 180 seconds at least, unless set in the service.",
    )
    open_methods: tuple[Method, ...] = Field(
        default=(), description="Methods that pass without credentials, such as `OPTIONS`."
    )
    cors: bool = Field(
        default=False,
        description="Let web pages of any origin read the responses, with `Authorization` and "
        "`NVMCreditsConsumed` among their fields.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that an https upstream is verified with; "
        "the system's if left out.",
    )
    http2: Literal["never", "always"] = Field(
        default="never",
        description="Whether the upstream is spoken to in HTTP/2, which gRPC needs: `always` (with "
        "`https` by ALPN, with `http` by prior knowledge), or `never`.",
    )
    on_journal_full: Literal["refuse", "admit"] = Field(
        default="refuse",
        description="What becomes of requests while usage cannot be written down, because "
        "`usage.journal_size` is reached or the disk is full: `refuse` them with 503, or `admit` "
        "them without counting them.",
    )
    meter: Meter = Field(default=Meter(), description="What is charged for a request.")
    credits: ServiceCredits | None = Field(
        default=None, description="What a request costs; nothing if left out."
    )
    rates: tuple[Rate, ...] = Field(default=(), description="How fast callers may ask.")
    quotas: tuple[Quota, ...] = Field(default=(), description="How much callers may use.")
    timeouts: ServiceTimeouts = Field(default=ServiceTimeouts(), description="Overrides.")
    limits: ServiceLimits = Field(default=ServiceLimits(), description="Overrides.")
    ejection: Ejection = Field(
        default=Ejection(), description="With a list in `to`: when an upstream is left alone."
    )
    health: HealthChecks | None = Field(
        default=None, description="With a list in `to`: check the upstreams actively."
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """The upstreams; none with `to = "grant"`."""
        if isinstance(self.to, tuple):
            return self.to
        return () if self.to == "grant" else (self.to,)
