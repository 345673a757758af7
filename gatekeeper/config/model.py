"""The configuration as a model. Field descriptions become ``docs/configuration.rst``.

Listeners, services, and what they sell, have modules of their own: ``model_*.py``.

Durations are in seconds, sizes in bytes. Relative paths have been made absolute by the loader:
``state_dir`` and files named in the configuration against the configuration file's directory,
the store's file and the access log against ``state_dir``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, InstanceOf

from gatekeeper.config import values
from gatekeeper.config.cache_url import check_cache_url
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.fields import (
    Bind,
    Bytes,
    Count,
    Flag,
    Name,
    Seconds,
    Section,
    Words,
    Workers,
    Years,
)
from gatekeeper.config.model_credits import Burner, Credits
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service


class Store(Section):
    """Where users and usage are kept."""

    url: Annotated[str, AfterValidator(values.check_store_url), Words("URL")] = Field(
        default="sqlite:///gatekeeper.sqlite",
        repr=False,  # it may hold a password
        description="Where usage is kept: `sqlite:///FILE` (relative to `state_dir`) or "
        "`postgresql://user:password@host:port/database`.",
    )
    statement_timeout: Seconds = Field(
        default=30.0, description="PostgreSQL gives up on a statement after so long."
    )


class Cache(Section):
    """What the checkers said, remembered."""

    url: Annotated[str, AfterValidator(check_cache_url), Words("URL")] = Field(
        default="memory://",
        repr=False,  # it may hold a password
        description="Where `exchange` checkers keep tokens, and who has been shut out: "
        "`memory://`, each node for itself, or `redis://user:password@host:port/database`, which "
        "nodes share; `rediss://` with TLS. Verdicts are always kept in memory.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="`rediss://`: PEM file of the authorities that Redis is verified with; the "
        "system's if left out.",
    )
    on_outage: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="While Redis is away, or this node is cut off from it: `refuse`, requests that "
        "need a token get a 503, for it is not known any more who has been shut out; `serve`, they "
        "are answered from what is known here, and new callers are asked about.",
    )
    ttl: Seconds = Field(default=300.0, description="A grant is believed for so long, at the most.")
    negative_ttl: Seconds = Field(default=5.0, description="A denial is believed for so long.")
    size: Count = Field(
        default=100_000, description="Verdicts kept, of each sort; the oldest go first."
    )


class Management(Section):
    """The operator's own listener: health, and the management API."""

    bind: Annotated[str, AfterValidator(values.check_management_bind), Words("address:port")] = (
        Field(
            default="127.0.0.1:6668",
            description="Where the management API, `/healthz`, `/readyz` and `/metrics` answer: an "
            "address, `unix:/run/gatekeeper/management.sock` for a unix socket, or `none` for "
            "nowhere.",
        )
    )
    socket_mode: Annotated[str, AfterValidator(values.check_mode), Words("permissions")] = Field(
        default="0600",
        description="Permissions of the unix socket: who may open it is an operator, and needs no "
        "token. `0660` lets its group in.",
    )
    auth: Literal["token", "none"] = Field(
        default="token",
        description="Who may call the management API: `token`, who presents the token that is "
        "made in `state_dir`; `none`, everybody, which only a loopback address may be. Not for a "
        "unix socket.",
    )
    metrics: Literal["token", "open"] = Field(
        default="token",
        description="Who may read `/metrics`: `token`, whoever may call the management API; "
        "`open`, everybody who can connect.",
    )
    keep_audit: Years = Field(
        default=400 * 86400.0,
        ge=86400.0,
        description="What the audit log says of changes is deleted after so long, at least a day.",
    )


class Usage(Section):
    """What is counted, and how often it goes into the store."""

    enabled: Flag = Field(default=True, description="Count and keep usage.")
    flush_interval: Seconds = Field(
        default=5.0, description="Usage goes into the store this often."
    )
    max_paths: Count = Field(
        default=1000, description="Distinct paths per user; the rest counts as `*`."
    )
    fsync: Literal["none", "interval", "always"] = Field(
        default="interval",
        description="When the journal of usage is forced to the disk: `none`, when the system "
        "likes (nothing is lost when the process dies, seconds of it when the machine does); "
        "`interval`, every `fsync_interval`; `always`, before each response's end.",
    )
    fsync_interval: Seconds = Field(default=1.0, description='With `fsync = "interval"`.')
    journal_size: Bytes = Field(
        default=1_073_741_824,
        description="Usage on disk that waits for the store; then requests get a 503, unless the "
        "service says otherwise in `on_journal_full`.",
    )
    records: Flag = Field(
        default=False, description="Keep each single request in the store, beside the sums."
    )
    keep_records: Years = Field(
        default=30 * 86400.0, description="Single requests are deleted after so long."
    )
    keep_hours: Years = Field(
        default=90 * 86400.0, description="Sums by hour become sums by day after so long."
    )
    keep_days: Years | None = Field(
        default=None, description="Sums by day are deleted after so long; never if left out."
    )


class Log(Section):
    """The access log."""

    access: str = Field(
        default="access.log",
        description="One JSON line per exchange: a file (relative to `state_dir`), `-` for "
        "standard output, or `none`.",
    )


class Limits(Section):
    """Bounds on what one client may send or hold."""

    target: Bytes = Field(default=8192, description="Longest request target; above it 414.")
    head: Bytes = Field(default=32768, description="Largest head, request or response; 431 or 502.")
    fields: Count = Field(default=100, description="Most header fields in a head; 431 or 502.")
    body: Bytes | None = Field(
        default=None, description="Largest request body; above it 413. No bound if left out."
    )
    drain: Bytes = Field(
        default=262144, description="Bytes of an unwanted body read before hanging up."
    )
    connections: Count = Field(
        default=10_000, description="Client connections, all listeners together."
    )
    connections_per_peer: Count = Field(
        default=2_000, description="Client connections of one address."
    )


class Timeouts(Section):
    """How long each step may take."""

    head: Seconds = Field(
        default=15.0, description="The whole request head, from its first byte; 408."
    )
    body: Seconds = Field(
        default=30.0, description="Between two pieces of a body, either direction."
    )
    idle: Seconds = Field(default=75.0, description="A client's connection between two requests.")
    connect: Seconds = Field(default=5.0, description="Reaching the upstream, TLS included; 504.")
    response: Seconds = Field(default=60.0, description="The upstream's response head; 504.")
    tunnel: Seconds = Field(default=300.0, description="A tunnel in which nothing moves.")
    drain: Seconds = Field(
        default=30.0, description="Running exchanges, after a stop was asked for."
    )
    upgrade: Seconds = Field(
        default=3600.0,
        description="Running exchanges of a process that another one has followed (SIGUSR2).",
    )


class Pool(Section):
    """Upstream connections, for each origin."""

    connections: Count = Field(default=256, description="Most connections to one origin.")
    idle: Count = Field(default=64, description="Most idle connections kept to one origin.")
    idle_timeout: Seconds = Field(
        default=30.0, description="An idle connection is kept for so long."
    )
    queue: Count = Field(
        default=1024, description="Requests that may wait for a connection; then 503."
    )


class Demo(Section):
    """For trying out: makes a user and a key on first start, and runs an origin to proxy to."""

    origin: Bind = Field(default="127.0.0.1:8080", description="Where the demo origin listens.")
    users: Name = Field(default="users", description="The `basic` checker that gets the demo user.")
    keys_file: Path = Field(
        default=Path("keys.properties"), description="The key file that is made."
    )


class Settings(Section):
    """The whole configuration file."""

    state_dir: Path = Field(description="Embedded store, generated certificate, access log.")
    workers: Workers = Field(
        default=1,
        description="Processes that serve requests. `auto`: as many as there are CPUs for us. With "
        "more than one, another process looks after them.",
    )
    services_dir: Path | None = Field(
        default=None,
        description="Directory of Golem's service definitions (`*.json`, `*.toml`, `*.yaml`). Each "
        "becomes a service, and a gateway listener for each of its addresses.",
    )
    server_names: tuple[str, ...] = Field(
        default=(),
        description="Domain names and public addresses that a definition in `services_dir` "
        "advertises where it has no `serverName`.",
    )
    store: Store = Field(default=Store())
    cache: Cache = Field(default=Cache())
    management: Management = Field(default=Management())
    usage: Usage = Field(default=Usage())
    credits: Credits = Field(default=Credits())
    burner: Burner = Field(default=Burner())
    log: Log = Field(default=Log())
    limits: Limits = Field(default=Limits())
    timeouts: Timeouts = Field(default=Timeouts())
    pool: Pool = Field(default=Pool())
    listeners: tuple[Listener, ...] = Field(
        description="Required, unless there is a `services_dir`."
    )
    checkers: dict[Name, InstanceOf[CheckerTable]] = Field(
        default_factory=dict, description="Tables by name; `type` says which plug-in they are for."
    )
    services: tuple[Service, ...] = Field(default=())
    demo: Demo | None = Field(default=None)
