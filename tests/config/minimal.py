"""A small configuration that is valid, and checkers that accept little."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import Field, field_validator

from gatekeeper.config.checkers import CheckerTypes
from gatekeeper.config.fields import Section
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem


class BasicSettings(Section):
    """Names and passwords."""

    users: dict[str, str] = Field(default_factory=dict, description="Hashes by name.")
    realm: str = Field(default="here", description="The realm.")


class KeySettings(Section):
    """Keys in a file."""

    file: Path = Field(description="The keys.")
    fallback: Path = Field(default=Path("fallback.keys"), description="More keys.")
    more: list[Path] = Field(default_factory=list, description="Even more keys.")
    source: Path | str = Field(default="", description="A file or a URL.")
    secret: str = Field(default="", description="A secret.")
    shape: int | list[int] = Field(default=1, description="One or several.")

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: str) -> str:
        if value.startswith("bad"):
            raise ValueError(f"cannot use {value}")
        return value


class StrictSettings(Section):
    """Raises what plug-ins may raise."""

    word: str = Field(description="Not `no`.")

    @field_validator("word")
    @classmethod
    def _check_word(cls, value: str) -> str:
        if value == "no":
            raise ConfigurationError([Problem("word", "is no good"), Problem("", "is a pity")])
        return value


def check_secret_url(url: str) -> None:
    """Accept every ``secret://`` URL with a value; the message shows the URL on purpose."""
    if url in ("secret://", "secret://?bad"):
        raise ConfigurationError([Problem("", f"{url} has no value"), Problem("query", "bad")])


CHECKERS = CheckerTypes(
    models={"basic": BasicSettings, "api-key": KeySettings, "strict": StrictSettings},
    schemes={"secret": check_secret_url, "trust": lambda url: None, "null": lambda url: None},
)

MINIMAL = """
state_dir = "state"

[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:8443"

[[listeners]]
name = "proxy"
role = "forward"
bind = "127.0.0.1:3128"
checkers = ["users"]

[checkers.users]
type = "basic"

[[services]]
name = "acme"
from = "/acme"
to = "http://127.0.0.1:10000"
checkers = ["users"]
"""


class Configure(Protocol):
    """Loads a configuration: the minimal one, edited and with something added at its end."""

    def __call__(
        self,
        added: str = "",
        *,
        edit: Mapping[str, str] = ...,
        environ: Mapping[str, str] = ...,
    ) -> Settings: ...


class Problems(Protocol):
    """As :class:`Configure`, for a configuration that is wrong: what is wrong with it."""

    def __call__(
        self,
        added: str = "",
        *,
        edit: Mapping[str, str] = ...,
        environ: Mapping[str, str] = ...,
    ) -> list[tuple[str, str]]: ...
