"""What tables of the configuration are made of: types with their bounds, and what all share.

Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from gatekeeper.config import values
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
