"""The model of what callers pay, and of how much they may use; a part of services and listeners."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gatekeeper.config import values
from gatekeeper.config.fields import (
    Amount,
    Count,
    JsonPaths,
    ModelName,
    Name,
    Section,
    Units,
    Words,
)


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
