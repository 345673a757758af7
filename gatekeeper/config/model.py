"""The configuration as a model. Field descriptions become ``docs/configuration.rst``.

Durations are in seconds, sizes in bytes. Relative paths have been made absolute by the loader:
``state_dir`` and files named in the configuration against the configuration file's directory,
the store's file and the access log against ``state_dir``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class Section(BaseModel):
    """What all tables have in common: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Store(Section):
    url: str = Field(
        "sqlite:///gatekeeper.sqlite",
        description="Where usage is kept: `sqlite:///FILE` (relative to `state_dir`) or "
        "`postgresql://user:password@host:port/database`.",
    )
    statement_timeout: Seconds = Field(30.0, description="PostgreSQL gives up on a statement.")


class Cache(Section):
    url: Literal["memory://"] = Field("memory://", description="Where verdicts are kept.")
    ttl: Seconds = Field(300.0, description="A Grant is believed for so long, at the most.")
    negative_ttl: Seconds = Field(5.0, description="A Deny is believed for so long.")
    size: Count = Field(100_000, description="Verdicts kept, of each sort; the oldest go first.")


class Management(Section):
    bind: str = Field(
        "127.0.0.1:6668", description="Where `/healthz` and `/readyz` answer; `none` for nowhere."
    )


class Usage(Section):
    enabled: bool = Field(True, description="Count and keep usage.")
    flush_interval: Seconds = Field(5.0, description="Usage goes into the store this often.")
    max_paths: Count = Field(1000, description="Distinct paths per user; the rest counts as `*`.")
    max_pending: Count = Field(
        1_000_000, description="Counters held while the store is away; then requests get a 503."
    )


class Log(Section):
    access: str = Field(
        "access.log",
        description="One JSON line per exchange: a file (relative to `state_dir`), `-` for "
        "standard output, or `none`.",
    )


class Limits(Section):
    """Bounds on what one client may send or hold."""

    target: Bytes = Field(8192, description="Longest request target; above it 414.")
    head: Bytes = Field(32768, description="Largest head, request or response; 431 or 502.")
    fields: Count = Field(100, description="Most header fields in a head; 431 or 502.")
    body: Bytes | None = Field(None, description="Largest request body; above it 413.")
    drain: Bytes = Field(262144, description="Bytes of an unwanted body read before hanging up.")
    connections: Count = Field(10_000, description="Client connections, all listeners together.")
    connections_per_peer: Count = Field(2_000, description="Client connections of one address.")


class Timeouts(Section):
    """How long each step may take."""

    head: Seconds = Field(15.0, description="The whole request head, from its first byte; 408.")
    body: Seconds = Field(30.0, description="Between two pieces of a body, either direction.")
    idle: Seconds = Field(75.0, description="A client's connection between two requests.")
    connect: Seconds = Field(5.0, description="Reaching the upstream, TLS included; 504.")
    response: Seconds = Field(60.0, description="The upstream's response head; 504.")
    tunnel: Seconds = Field(300.0, description="A tunnel in which nothing moves.")
    drain: Seconds = Field(30.0, description="Running exchanges, after a stop was asked for.")


class Pool(Section):
    """Upstream connections, for each origin."""

    connections: Count = Field(256, description="Most connections to one origin.")
    idle: Count = Field(64, description="Most idle connections kept to one origin.")
    idle_timeout: Seconds = Field(30.0, description="An idle connection is kept for so long.")
    queue: Count = Field(1024, description="Requests that may wait for a connection; then 503.")


class Certificate(Section):
    certificate: Path = Field(description="PEM file: the certificate and its chain.")
    key: Path = Field(description="PEM file: the private key.")


class TLS(Section):
    certificate: Path | None = Field(None, description="PEM file: the certificate and its chain.")
    key: Path | None = Field(None, description="PEM file: the private key.")
    self_signed: bool = Field(
        False, description="Make a certificate in `state_dir` on first start; for trying out."
    )
    sni: tuple[Certificate, ...] = Field(
        (), description="More certificates, chosen by the names in them (server name indication)."
    )


class Listener(Section):
    name: Name = Field(description="What the log calls it; services name it in `listeners`.")
    role: Literal["gateway", "forward"] = Field(description="`gateway` or `forward` (a proxy).")
    bind: str = Field(description="`address:port`; `[::]:443` for IPv6.")
    tls: TLS | None = Field(None, description="Terminate TLS here.")
    trusted_peers: tuple[str, ...] = Field(
        (), description="Networks whose `X-Forwarded-*` are believed. Nobody by default."
    )
    checkers: tuple[str, ...] | None = Field(
        None,
        description="`forward` only, required there: the chain for requests of no service.",
    )
    credentials_from: tuple[Literal["proxy-authorization", "authorization"], ...] = Field(
        ("proxy-authorization",),
        description="`forward` only: the fields that credentials are read from.",
    )
    allow: tuple[str, ...] = Field(
        ("*:80", "*:443"),
        description="`forward` only: destinations, `host:port`; the host a name, `*.suffix`, an "
        "address, a network or `*`, the port a number or `*`. Addresses that are not public are "
        "refused unless a rule other than `*` names them.",
    )


class AccessRule(Section):
    path: str = Field(description="Pattern: `*` is one segment, `**` at the end all the rest.")
    methods: tuple[str, ...] | None = Field(None, description="Methods; all if left out.")
    groups: tuple[str, ...] | None = Field(
        None, description="The caller is in one of them; anybody granted if left out."
    )


class ServiceTimeouts(Section):
    """What a service may set differently from `[timeouts]`."""

    connect: Seconds | None = Field(None, description="See `timeouts.connect`.")
    response: Seconds | None = Field(None, description="See `timeouts.response`.")
    body: Seconds | None = Field(None, description="See `timeouts.body`.")
    tunnel: Seconds | None = Field(None, description="See `timeouts.tunnel`.")


class ServiceLimits(Section):
    """What a service may set differently from `[limits]`."""

    body: Bytes | None = Field(None, description="See `limits.body`.")


class Service(Section):
    name: Name = Field(description="Unique; it stands in usage reports.")
    description: str = Field("", description="Free text.")
    hosts: tuple[str, ...] = Field((), description="Host names it answers to; none means any.")
    from_: str = Field("/", alias="from", description="Path prefix, whole segments.")
    to: str = Field(description="Where it goes: `http://host:port/path` or `https://…`.")
    listeners: tuple[str, ...] | None = Field(
        None, description="Gateway listeners it is found on; all if left out."
    )
    checkers: tuple[str, ...] = Field(
        description="Checker names or URLs, asked in this order; `[]` makes the service public."
    )
    access: tuple[AccessRule, ...] = Field(
        (), description="Who may do what; the first rule that fits path and method decides, none "
        "is 403. Without rules every granted request passes."
    )
    open_methods: tuple[str, ...] = Field(
        (), description="Methods that pass without credentials, such as `OPTIONS`."
    )
    ca_file: Path | None = Field(
        None, description="PEM file of the authorities that an https upstream is verified with; "
        "the system's if left out."
    )
    timeouts: ServiceTimeouts = Field(ServiceTimeouts(), description="Overrides.")
    limits: ServiceLimits = Field(ServiceLimits(), description="Overrides.")


class Demo(Section):
    """For trying out: makes a user and a key on first start, and runs an origin to proxy to."""

    origin: str = Field("127.0.0.1:8080", description="Where the demo origin listens.")
    users: Name = Field("users", description="The `basic` checker that gets the demo user.")
    keys_file: Path = Field(Path("keys.properties"), description="The key file that is made.")


class Settings(Section):
    """The whole configuration file."""

    state_dir: Path = Field(description="Embedded store, generated certificate, access log.")
    workers: Literal[1] = Field(1, description="Processes. One, for now.")
    store: Store = Store()
    cache: Cache = Cache()
    management: Management = Management()
    usage: Usage = Usage()
    log: Log = Log()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    pool: Pool = Pool()
    listeners: tuple[Listener, ...] = Field(min_length=1)
    checkers: dict[Name, Any] = Field(
        default_factory=dict, description="Tables by name; `type` says which plug-in they are for."
    )
    services: tuple[Service, ...] = ()
    demo: Demo | None = None
