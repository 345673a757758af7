"""The configuration as a model. Field descriptions become ``docs/configuration.rst``.

Durations are in seconds, sizes in bytes. Relative paths have been made absolute by the loader:
``state_dir`` and files named in the configuration against the configuration file's directory,
the store's file and the access log against ``state_dir``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    InstanceOf,
    SecretStr,
    Tag,
    WithJsonSchema,
)

from gatekeeper.config import values
from gatekeeper.config.cache_url import check_cache_url
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.destinations import check_allow_rule


@dataclass(frozen=True, slots=True)
class Words:
    """What the reference calls a type."""

    text: str


YEAR = 366 * 24 * 3600.0

Seconds = Annotated[float, Field(strict=True, gt=0, le=YEAR, allow_inf_nan=False), Words("seconds")]

#: How long something is kept that is not needed any more.
Years = Annotated[
    float, Field(strict=True, gt=0, le=100 * YEAR, allow_inf_nan=False), Words("seconds")
]
Bytes = Annotated[int, Field(strict=True, gt=0, lt=2**63), Words("bytes")]
Count = Annotated[int, Field(strict=True, gt=0, lt=2**63), Words("number")]
Units = Annotated[int, Field(strict=True, ge=0, lt=2**63), Words("number")]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, AfterValidator(values.check_name), Words("name")]
Bind = Annotated[str, AfterValidator(values.check_bind), Words("address:port")]
HttpUrl = Annotated[str, AfterValidator(values.check_http_url), Words("URL")]
Host = Annotated[str, AfterValidator(values.parse_host_pattern), Words("host name")]
Network = Annotated[str, AfterValidator(values.check_network), Words("network")]
Method = Annotated[str, AfterValidator(values.check_method), Words("method")]
Checker = Annotated[str, Words("checker")]
Destination = Annotated[
    Annotated[str, AfterValidator(values.check_destination), Tag("one")]
    | Annotated[
        tuple[Annotated[str, AfterValidator(values.check_upstream), Words("URL")], ...],
        AfterValidator(values.some),
        Tag("several"),
    ],
    Discriminator(lambda value: "several" if isinstance(value, list | tuple) else "one"),
    Words("URL or list of URLs"),
]
Status = Annotated[int, Field(strict=True, ge=200, le=599), Words("status")]
AllowRule = Annotated[str, AfterValidator(check_allow_rule), Words("allow rule")]
JsonPaths = Annotated[
    tuple[str, ...],
    BeforeValidator(values.one_or_more),
    AfterValidator(values.check_json_paths),
    Words("path or list of paths"),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        mode="validation",
    ),
]
Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(values.check_workers),
    Words("number or auto"),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"const": "auto"}]}, mode="validation"),
]
Amount = Annotated[Decimal, BeforeValidator(values.exact_amount), Words("number")]
Multiplier = Annotated[
    Decimal, BeforeValidator(values.exact_amount), Field(ge=1, le=100), Words("number")
]
Gwei = Annotated[Decimal, BeforeValidator(values.exact_amount), Field(gt=0), Words("number")]
ModelName = Annotated[str, AfterValidator(values.check_model_name)]


class Section(BaseModel):
    """What all tables have in common: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


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


class Certificate(Section):
    """A further certificate of a listener."""

    certificate: Path = Field(description="PEM file: the certificate and its chain.")
    key: Path = Field(description="PEM file: the private key.")


class TLS(Section):
    """TLS on a listener: either `certificate` and `key`, or `self_signed`."""

    certificate: Path | None = Field(
        default=None, description="PEM file: the certificate and its chain."
    )
    key: Path | None = Field(default=None, description="PEM file: the private key.")
    self_signed: Flag = Field(
        default=False,
        description="Make a certificate in `state_dir` on first start; for trying out.",
    )
    sni: tuple[Certificate, ...] = Field(
        default=(),
        description="More certificates, chosen by the names in them (server name indication).",
    )
    client_ca: Path | None = Field(
        default=None,
        description="PEM file of the authorities that clients' certificates are verified with; "
        "clients are asked for none if left out.",
    )
    client_certificates: Literal["optional", "required"] = Field(
        default="required",
        description="With `client_ca`: `required`, who has none is refused; `optional`, the "
        "checkers decide.",
    )


class ServiceCredits(Section):
    """What a request costs. Only those are charged that the upstream answers with 2xx."""

    source: Literal["chain", "prepaid"] = Field(
        description="`chain`: the caller's access token names a subscription, whose documents say "
        "what is paid, out of which NFT balance; `[credits]` says where to ask. `prepaid`: credits "
        "that `gatekeeper credits grant` gives to users, at the prices below.",
    )
    pool: Name = Field(
        default="default", description="`prepaid`: which credits; services may share a pool."
    )
    charge: Literal["fixed", "dynamic", "units"] = Field(
        default="fixed",
        description="`prepaid`: `fixed`, every request costs `amount`, but for those that the "
        "upstream answers with `NVMCreditsConsumed: 0`; `dynamic`, what the upstream says in that "
        "field, else `amount`; `units`, what `meter` says.",
    )
    amount: Units = Field(
        default=1, description="`prepaid`: the price of a request; not with `units`."
    )
    minimum: Units | None = Field(
        default=None, description="`prepaid`: the least that is charged, unless it is free."
    )
    maximum: Units | None = Field(
        default=None,
        description="`prepaid`: the most that is charged. So much is set aside while a request "
        "runs whose price is not known before.",
    )
    required: Units = Field(
        default=1, description="`prepaid`: so much must be there for a request that may cost."
    )
    assumed: Count = Field(
        default=1,
        description="Set aside while a request runs whose price is not known before, and has no "
        "maximum.",
    )


class Rate(Section):
    """How many requests a caller may make in a time; above it 429."""

    requests: Count = Field(description="So many in each period, spread evenly.")
    per: Literal["second", "minute", "hour"] = Field(default="second", description="The period.")
    burst: Count | None = Field(
        default=None, description="So many at once, after a pause; as `requests` if left out."
    )
    by: Literal["user", "key", "client"] = Field(
        default="user",
        description="Whose requests are counted together: a user's, an API key's, or those of one "
        "address. Callers without user, or key, count by their address; an IPv6 address counts as "
        "the /64 network that it is in.",
    )


class Quota(Section):
    """How many units (see `meter`) a caller may use in a period (UTC); above it 429."""

    units: Count = Field(description="So many in each period.")
    per: Literal["hour", "day", "month"] = Field(description="The period, of the calendar in UTC.")
    by: Literal["user", "key"] = Field(
        default="user",
        description="Whose units are counted together: a user's, or an API key's. Callers without "
        "user are not counted, and those without key count as users.",
    )
    assumed: Count = Field(
        default=1, description="Set aside while a request runs whose units are not known yet."
    )


class Listener(Section):
    """An address that clients connect to."""

    name: Name = Field(description="What the log calls it; services name it in `listeners`.")
    role: Literal["gateway", "forward", "introspection"] = Field(
        description="`gateway`, which serves the services; `forward`, a forward proxy; "
        "`introspection`, which tells other programs what tokens are worth."
    )
    bind: Bind = Field(
        default="127.0.0.1:4000",
        description="Where it listens: `0.0.0.0:443`, `[::]:443`. Only an `introspection` listener "
        "may leave it out.",
    )
    tls: TLS | None = Field(
        default=None,
        description="Terminate TLS here; plain HTTP if left out. Not for `introspection`.",
    )
    http2: Flag = Field(
        default=True,
        description="Speak HTTP/2 beside HTTP/1.1: with TLS where the client chooses it (ALPN), "
        "without where it begins with it (prior knowledge). `gateway` only.",
    )
    trusted_peers: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose `X-Forwarded-*` are believed. Nobody by default. With "
        "`introspection`: who may ask as Nevermined's nginx does, beside this machine.",
    )
    checkers: tuple[Checker, ...] | None = Field(
        default=None,
        repr=False,  # a URL may hold a secret
        description="Required with `forward`: the chain for requests of no service; and with "
        "`introspection`: the checkers that know the tokens. Not for `gateway`.",
    )
    callers: tuple[Checker, ...] | None = Field(
        default=None,
        repr=False,
        description="`introspection` only: the checkers that know who may ask by RFC 7662. Nobody "
        "may if left out.",
    )
    credentials_from: tuple[Literal["proxy-authorization", "authorization"], ...] = Field(
        default=("proxy-authorization",),
        description="`forward` only: the fields that credentials are read from.",
    )
    allow: tuple[AllowRule, ...] = Field(
        default=("*:80", "*:443"),
        description="`forward` only: destinations, `host:port`; the host a name, `*.suffix`, an "
        "address, a network or `*`, the port a number or `*`. Addresses that are not public are "
        "refused unless a rule other than `*` names them.",
    )
    credits: ServiceCredits | None = Field(
        default=None, description="`forward` only: what a request costs; see `services.credits`."
    )
    rates: tuple[Rate, ...] = Field(
        default=(), description="`forward` only: how fast callers may ask; see `services.rates`."
    )
    quotas: tuple[Quota, ...] = Field(
        default=(),
        description="`forward` only: how much callers may use; see `services.quotas`.",
    )


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


class Price(Section):
    """What the tokens of a model cost. A name that ends in `*` is for all that begin so."""

    prompt: Amount = Field(description='Units for `per` prompt tokens; also a string: `"0.15"`.')
    completion: Amount = Field(description="Units for `per` completion tokens.")
    per: Count = Field(default=1, description="Tokens that the two prices are for.")


class Meter(Section):
    """What is charged for a request, in units. One unit a request if left out."""

    units: Literal["requests", "bytes", "bytes_in", "bytes_out", "seconds", "header", "json"] = (
        Field(
            default="requests",
            description="`requests`: one each. `bytes`: of both bodies; `bytes_in`: of the "
            "request's, `bytes_out`: of the response's. `seconds`: how long it took, rounded up. "
            "`header`: what a field of the response says. `json`: what its body says.",
        )
    )
    header: Annotated[str, AfterValidator(values.check_field_name), Words("field name")] | None = (
        Field(default=None, description='With `units = "header"`: the field.')
    )
    path: JsonPaths | None = Field(
        default=None,
        description='With `units = "json"`: where the units are, such as `usage.total_tokens`. Of '
        "several paths the first that is there counts.",
    )
    model: JsonPaths | None = Field(
        default=None,
        description='With `units = "json"`: where the name of the model is, for reports and '
        "`prices`; with `prices` it is `model` if left out.",
    )
    prices: dict[ModelName, Price] | None = Field(
        default=None,
        description="In place of `path`: tables by the model's name, that make units of tokens.",
    )
    prompt: JsonPaths = Field(
        default=("usage.prompt_tokens",), description="With `prices`: where prompt tokens are."
    )
    completion: JsonPaths = Field(
        default=("usage.completion_tokens",),
        description="With `prices`: where completion tokens are.",
    )
    fallback: Units = Field(
        default=1,
        description="With `header` and `json`: the units where the answer does not say them.",
    )
    on_error: Literal["free", "charge"] = Field(
        default="free",
        description="With `header` and `json`: whether an answer that is not 2xx costs nothing, or "
        "is read, and charged, as any other.",
    )
    minimum: Units = Field(default=0, description="The least that is charged, unless it is free.")
    maximum: Units = Field(default=10**15, description="The most that is charged.")


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


class Credits(Section):
    """Where balances and prices are asked for; see `services.credits`."""

    rpc_url: HttpUrl | None = Field(
        default=None,
        repr=False,  # it may hold a key
        description='`source = "chain"`: a node of the chain (JSON-RPC over HTTP).',
    )
    chain_id: Count | None = Field(
        default=None,
        description="The chain's number (EIP-155). The node must say the same.",
    )
    marketplace_url: Annotated[str, AfterValidator(values.check_http_url), Words("URL")] | None = (
        Field(
            default=None,
            description='`source = "chain"`: where the documents of services are asked for.',
        )
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that both are verified with; the system's if "
        "left out.",
    )
    timeout: Seconds = Field(default=10.0, description="Both must answer within this time.")
    balance_ttl: Seconds = Field(
        default=30.0, description="A balance is believed for so long, less what is used meanwhile."
    )
    lease_ttl: Seconds = Field(
        default=3600.0,
        description="What a process has set aside of accounts is free again for others when it has "
        "not been heard of for so long.",
    )
    price_ttl: Seconds = Field(default=300.0, description="Prices are believed for so long.")
    keep_ledger: Years = Field(
        default=400 * 86400.0,
        ge=86400.0,
        description="What is settled, and the log of it, is deleted after so long: charges that "
        "are burned, their settlements, and grants, whose ids may be used again then. At least a "
        "day. What is owed stays.",
    )
    on_chain_outage: Literal["refuse", "admit"] = Field(
        default="refuse",
        description="While balances cannot be read: `refuse` with 503, or `admit` and charge.",
    )


class Burner(Section):
    """What is metered and owed on the chain is burned there, with a key that may do so.

    `twistd gatekeeper-burner` does it in a process of its own, or the daemon does it itself.
    """

    enabled: Flag = Field(
        default=False, description="Burn in the daemon itself, which then has the key."
    )
    interval: Seconds = Field(
        default=3600.0, description="Burn a payer's credits when the oldest has waited for so long."
    )
    amount: Count | None = Field(
        default=None, description="Or when they come to so many; only by time if left out."
    )
    batch: Annotated[Count, Field(le=500)] = Field(
        default=20, description="Payers whose credits are burned with one transaction."
    )
    poll: Seconds = Field(default=5.0, description="The chain and the store are asked this often.")
    confirmations: Annotated[Units, Field(le=100_000)] = Field(
        default=5, description="Blocks that must stand on a burn's own before it is final."
    )
    retries: Annotated[Units, Field(le=1_000)] = Field(
        default=3,
        description="What the contract refuses is tried again so often; then its charges are in "
        "error, until an operator wants them to be tried again.",
    )
    keyfile: Path | None = Field(
        default=None,
        description="The key of the account that burns, as a wallet's file (Web3 Secret Storage). "
        "The account needs the contract's operator role, and gas.",
    )
    keyfile_password: SecretStr | None = Field(default=None, description="Opens `keyfile`.")
    mnemonic: SecretStr | None = Field(
        default=None, description="In place of `keyfile`: the wallet's words (BIP-39)."
    )
    derivation_path: Annotated[
        str, Field(pattern=r"^m(/[0-9]{1,10}'?){1,10}$"), Words("string")
    ] = Field(
        default="m/44'/60'/0'/0/0",
        description="With `mnemonic`: which of the wallet's accounts (BIP-44).",
    )
    max_fee_gwei: Gwei = Field(
        default=Decimal(200),
        description="The most that is offered for a unit of gas; while gas costs more, nothing is "
        "burned. What is paid is what it costs.",
    )
    max_priority_gwei: Gwei = Field(
        default=Decimal(50), description="The most of it that is offered to who makes the block."
    )
    gas_multiplier: Multiplier = Field(
        default=Decimal("1.25"),
        description="The gas that the node estimates is raised by this, for a burn may need more "
        "when it comes to it.",
    )
    gas_price_multiplier: Multiplier = Field(
        default=Decimal(1), description="The fees that the node suggests are raised by this."
    )
    max_gas: Count = Field(
        default=10_000_000,
        description="The most gas that a transaction may use. Batches that need more are halved.",
    )
    stuck: Seconds = Field(
        default=120.0,
        description="A transaction that is in no block after so long is offered again for more.",
    )
    resend: Seconds = Field(
        default=15.0, description="A transaction that is in no block is sent again this often."
    )
    metrics: Bind | None = Field(
        default=None,
        description="Where `twistd gatekeeper-burner` answers `/healthz`, `/readyz` and "
        "`/metrics`, to everybody who can connect; nowhere if left out.",
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
