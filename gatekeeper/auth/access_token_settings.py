"""The settings of an ``access-token`` checker, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, SecretStr

from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.secret_keys import Encoding, secret_key
from gatekeeper.auth.token_claims import Lifetime
from gatekeeper.auth.url_patterns import Backend, OriginUrl
from gatekeeper.config.fields import Flag, Seconds, Section, Words
from gatekeeper.config.values import check_upstream, parse_upstream
from gatekeeper.errors import ConfigurationError, Problem

Url = Annotated[str, AfterValidator(check_upstream), Words("URL")]


class AccessTokenSettings(Section):
    """Nevermined's access tokens: encrypted, and saying which URLs they open."""

    secret: SecretStr = Field(description="The key that tokens are encrypted with: 32 bytes.")
    secret_encoding: Encoding = Field(
        default="nevermined-digits",
        description="How `secret` is written. `nevermined-digits` is what Nevermined's nodes make "
        "of their `JWT_SECRET_PHRASE`: of 32 characters each digit counts as its value, anything "
        "else as 0. That is a weak key; use another encoding where you mint the tokens yourself.",
    )
    require_exp: Flag = Field(default=True, description="Refuse tokens that never end.")
    max_lifetime: Seconds | None = Field(
        default=None,
        description="Refuse tokens that are good for longer, from their `iat` (or now) to `exp`.",
    )
    backend_url: Url | None = Field(
        default=None,
        description="An upstream, `https://host:port`, that gets `backend_token` whatever "
        "credential the access token has for it.",
    )
    backend_token: SecretStr | None = Field(
        default=None, description="The bearer token for `backend_url`."
    )
    marketplace_url: Url | None = Field(
        default=None,
        description="Where the documents of services are looked up. Requests to a host whose first "
        "label is a service's DID in base 36 pass without a token where the service's "
        "`openEndpoints` say so.",
    )
    metadata_ttl: Seconds = Field(
        default=300.0, description="A service's document is believed for so long."
    )
    timeout: Seconds = Field(
        default=5.0, description="`marketplace_url` must have answered by then."
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that an https `marketplace_url` is verified "
        "with; the system's if left out.",
    )


class Parts(NamedTuple):
    """What tokens are read with."""

    cipher: TokenCipher
    lifetime: Lifetime
    backend: Backend | None


def read_settings(settings: AccessTokenSettings) -> Parts:
    """What the settings stand for.

    :raises ConfigurationError: with *all* that is wrong with them.
    """
    problems: list[Problem] = []
    cipher = None
    try:
        cipher = TokenCipher(
            secret_key(settings.secret.get_secret_value(), settings.secret_encoding)
        )
    except ValueError as error:
        problems.append(Problem("secret", str(error)))
    problems += _backend_problems(settings)
    if cipher is None or problems:
        raise ConfigurationError(problems)
    return Parts(cipher, Lifetime(settings.require_exp, settings.max_lifetime), _backend(settings))


def _backend_problems(settings: AccessTokenSettings) -> list[Problem]:
    url, token = settings.backend_url, settings.backend_token
    problems = []
    if url is None and token is not None:
        problems.append(Problem("backend_url", "is required beside `backend_token`"))
    if url is not None and token is None:
        problems.append(Problem("backend_token", "is required beside `backend_url`"))
    if url is not None and parse_upstream(url).path not in ("", "/"):
        problems.append(Problem("backend_url", "must have no path: it is an origin"))
    secret = token.get_secret_value() if token is not None else "-"
    if not (secret.isascii() and secret.isprintable() and secret and " " not in secret):
        problems.append(Problem("backend_token", "must be ASCII without blanks"))
    return problems


def _backend(settings: AccessTokenSettings) -> Backend | None:
    if settings.backend_url is None or settings.backend_token is None:
        return None
    origin = OriginUrl(*parse_upstream(settings.backend_url)[:3])
    return Backend(origin, f"Bearer {settings.backend_token.get_secret_value()}".encode("ascii"))
