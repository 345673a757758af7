"""The model of a listener."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gatekeeper.config.fields import AllowRule, Bind, Checker, Flag, Name, Network, Section
from gatekeeper.config.model_selling import Quota, Rate, ServiceCredits


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
