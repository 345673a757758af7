"""The environment of Nevermined's proxy and burner: each variable, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gatekeeper.auth.secret_keys import secret_key
from gatekeeper.config.values import check_http_url, check_upstream, parse_upstream
from gatekeeper.importing.toml import Value

CHECKER: Final = "checkers.nevermined"
CREDITS: Final = "credits"

#: What the proxy takes where no phrase is set. It is published: who knows it can mint tokens.
PUBLISHED_PHRASE: Final = "12345678901234567890123456789012"


class Setting(NamedTuple):
    """A variable that has a key of its own in the configuration: ``table.key``.

    ``read`` makes the key's value; it raises ``ValueError`` with a sentence that does not repeat
    the value. A ``secret`` is checked by it, and referred to.
    """

    variable: str
    table: str
    key: str
    read: Callable[[str], Value]
    secret: bool = False


def _phrase(text: str) -> str:
    secret_key(text, "nevermined-digits")
    if text == PUBLISHED_PHRASE:
        raise ValueError("is the one that Nevermined publishes: anybody can mint tokens with it")
    return text


def _origin(text: str) -> str:
    parse_upstream(text)
    return "/".join(text.split("/", 3)[:3])


def _url(text: str) -> str:
    return check_upstream(text).rstrip("/")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < 2**63):
        raise ValueError("must be a number above 0")
    return int(text)


#: Where two lead to the same key, the first that is set counts.
SETTINGS: Final = (
    Setting("JWT_SECRET_PHRASE", CHECKER, "secret", _phrase, secret=True),
    Setting("MARKETPLACE_API_URI", CHECKER, "marketplace_url", _url),
    Setting("MARKETPLACE_API_URL", CHECKER, "marketplace_url", _url),
    Setting("BACKEND_API_URI", CHECKER, "backend_url", _origin),
    Setting("BACKEND_AUTH_TOKEN", CHECKER, "backend_token", str, secret=True),
    Setting("WEB3_PROVIDER_URL", CREDITS, "rpc_url", check_http_url, secret=True),
    Setting("NETWORK_ID", CREDITS, "chain_id", _number),
)

#: These are put together, by :mod:`gatekeeper.importing.nevermined`.
INTROSPECTION: Final = ("SERVER_HOST", "SERVER_PORT")
STORE: Final = ("PG_HOST", "PG_PORT", "PG_USER", "PG_PASSWORD", "PG_DB")

_BURNER: Final = "`twistd gatekeeper-burner` reads it from its own environment"

#: What is done in another way, or has no meaning any more.
NEEDLESS: Final = {
    **dict.fromkeys(
        (
            "KEYFILE_PATH", "KEYFILE_PASSWORD", "SEED_WORDS", "SEED_PHRASE", "MAX_RETRIES",
            "SLEEP_DURATION", "GAS_MULTIPLIER", "GAS_PRICE_MULTIPLIER",
        ),
        _BURNER,
    ),
    "NETWORK_NAME": "the chain is known by its number",
    "NODE_ADDRESS": "the account that burns is its key's",
    "INTROSPECTION_URL": "it is nginx's. One that keeps its place asks the listener "
    "`introspection`",
    "NODE_TLS_REJECT_UNAUTHORIZED": "certificates are always verified; `ca_file` of the service "
    "and of the checker adds authorities",
    "SYSLOG_SERVER_HOST": "usage does not take the way over a log",
    "SYSLOG_SERVER_PORT": "usage does not take the way over a log",
    "TX_DESTINATION": "usage is in the store",
    "VERBOSE": "the log says everything at one level",
    "NODE_ENV": "the log says everything at one level",
    "NVM_NODE_URL": "the node is not asked",
    "ARTIFACTS_PATH": "the contracts' calls are known",
    "CONTRACTS_VERSION": "the contracts' calls are known",
    "CONTRACTS_TAG": "the contracts' calls are known",
    "TOKEN_ADDRESS": "the contract is named in the service's document",
}  # fmt: skip

#: What gatekeeper does not do.
LEFT: Final = {
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "gatekeeper pushes no metrics",
    "OTEL_EXPORTER_OTLP_METRICS_AUTHORIZATION": "gatekeeper pushes no metrics",
    "OTEL_SERVICE_NAME": "gatekeeper pushes no metrics",
    "OTEL_SERVICE_NAMESPACE": "gatekeeper pushes no metrics",
    "OTEL_METRICS_DEBUG": "gatekeeper pushes no metrics",
}

KNOWN: Final = frozenset(
    {setting.variable for setting in SETTINGS}
    | {*INTROSPECTION, *STORE}
    | NEEDLESS.keys()
    | LEFT.keys()
)
