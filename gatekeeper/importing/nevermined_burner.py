"""The environment of Nevermined's burner, for a burner that is to take its place as it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from gatekeeper.config.values import check_http_url
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.importing.nevermined_store import postgres_url
from gatekeeper.importing.nevermined_variables import STORE
from gatekeeper.importing.toml import Value


class Variable(NamedTuple):
    """A variable that stands for a key, ``table.key``.

    ``read`` makes the key's value; it raises ``ValueError`` with a sentence that does not repeat
    the value. Of a secret it makes nothing: the key refers to the variable.
    """

    name: str
    table: str
    key: str
    read: Callable[[str], Value | None] | None


class Completed(NamedTuple):
    """A configuration's raw tree with what the environment adds to it.

    ``environ`` is where references in it are looked up, ``taken`` are the variables that were used.
    """

    tree: dict[str, Any]
    environ: Mapping[str, str]
    taken: tuple[str, ...]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError("must be a whole number")
    return int(text)


def _milliseconds(text: str) -> float:
    return _whole(text) / 1000


def _multiplier(text: str) -> str | None:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number") from None
    return text.strip() if number else None  # 0 is how the original says that there is none


#: Where two stand for the same key, the first that is set counts.
VARIABLES: Final = (
    Variable("WEB3_PROVIDER_URL", "credits", "rpc_url", None),
    Variable("NETWORK_ID", "credits", "chain_id", _whole),
    Variable("MARKETPLACE_API_URL", "credits", "marketplace_url", check_http_url),
    Variable("KEYFILE_PATH", "burner", "keyfile", os.path.abspath),
    Variable("KEYFILE_PASSWORD", "burner", "keyfile_password", None),
    Variable("SEED_WORDS", "burner", "mnemonic", None),
    Variable("SEED_PHRASE", "burner", "mnemonic", None),
    Variable("MAX_RETRIES", "burner", "retries", _whole),
    Variable("SLEEP_DURATION", "burner", "poll", _milliseconds),
    Variable("GAS_MULTIPLIER", "burner", "gas_multiplier", _multiplier),
    Variable("GAS_PRICE_MULTIPLIER", "burner", "gas_price_multiplier", _multiplier),
)

#: A key of one sort in the file leaves no room for one of another in the environment.
_KEYS: Final = frozenset({"keyfile", "keyfile_password", "mnemonic"})

#: What the database's URL is called, which is put together of several variables.
_STORE_URL: Final = "GATEKEEPER_BURNER_STORE_URL"


def complete(tree: Mapping[str, Any], environ: Mapping[str, str]) -> Completed:
    """Fill in what the file leaves out. Empty variables count as missing.

    :raises ConfigurationError: *all* variables that are used and cannot be; no value is shown.
    """
    filled = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    known, taken, problems = dict(environ), list[str](), list[Problem]()
    burner = tree.get("burner", {})
    has_key = isinstance(burner, dict) and not _KEYS.isdisjoint(burner)
    for name, table, key, read in VARIABLES:
        section = filled.setdefault(table, {})
        if not environ.get(name) or not isinstance(section, dict) or key in section:
            continue
        if has_key and key in _KEYS:
            continue
        try:
            value = {"env": name} if read is None else read(environ[name])
        except ValueError as error:
            problems.append(Problem(f"the environment variable {name}", str(error)))
            continue
        if value is not None:
            section[key] = value
            taken.append(name)
    store = filled.setdefault("store", {})
    given = [name for name in STORE if environ.get(name)]
    if given and isinstance(store, dict) and "url" not in store:
        try:
            known[_STORE_URL] = postgres_url(environ)
        except ValueError as error:
            names = ", ".join(given)
            problems.append(Problem(f"the environment variables {names}", str(error)))
        else:
            store["url"] = {"env": _STORE_URL}
            taken += given
    if problems:
        raise ConfigurationError(problems)
    return Completed(filled, known, tuple(taken))
