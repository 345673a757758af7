"""The environment of Nevermined's burner fills what the file leaves out."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from gatekeeper.importing import nevermined_burner, nevermined_variables
from gatekeeper.importing.nevermined_burner import complete
from gatekeeper.tap_burner import load_settings
from tests.documents import LITERAL, table

STATE = 'state_dir = "state"\n'
ENVIRONMENT = {
    "PG_HOST": "db.internal",
    "PG_PORT": "5433",
    "PG_USER": "burner",
    "PG_PASSWORD": "p@ss/w?rd",
    "PG_DB": "nvm_one",
    "WEB3_PROVIDER_URL": "https://polygon.example.com/v2/s3cret",
    "NETWORK_ID": "137",
    "MARKETPLACE_API_URL": "https://marketplace.example.com",
    "SEED_WORDS": "test test test junk",
    "MAX_RETRIES": "7",
    "SLEEP_DURATION": "2500",
    "GAS_MULTIPLIER": "1.5",
    "GAS_PRICE_MULTIPLIER": "0",
    "VERBOSE": "true",
    "HOME": "/root",
}


def loaded(directory: Path, text: str, environ: dict[str, str]) -> tuple[Settings, tuple[str, ...]]:
    file = directory / "burner.toml"
    file.write_text(text)
    return load_settings(str(file), environ)


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings, taken = loaded(tmp_path, STATE, ENVIRONMENT)
    assert settings.store.url == ("postgresql://burner:p%40ss%2Fw%3Frd@db.internal:5433/nvm_one")
    assert settings.credits.rpc_url == "https://polygon.example.com/v2/s3cret"
    assert settings.credits.chain_id == 137
    assert settings.credits.marketplace_url == "https://marketplace.example.com"
    burner = settings.burner
    assert burner.enabled
    assert burner.mnemonic is not None
    assert burner.mnemonic.get_secret_value() == "test test test junk"
    assert (burner.retries, burner.poll) == (7, 2.5)
    assert burner.gas_multiplier == Decimal("1.5")
    assert burner.gas_price_multiplier == 1
    assert settings.listeners == ()
    assert set(taken) == ENVIRONMENT.keys() - {"HOME", "VERBOSE", "GAS_PRICE_MULTIPLIER"}


def test_the_file_comes_first(tmp_path: Path) -> None:
    text = STATE + (
        '[store]\nurl = "sqlite:///here.sqlite"\n'
        '[credits]\nchain_id = 5\nrpc_url = "http://127.0.0.1:8545"\n'
        '[burner]\nretries = 1\nmnemonic = "other words"\nenabled = false\n'
    )
    settings, taken = loaded(tmp_path, text, {**ENVIRONMENT, "KEYFILE_PATH": "/nowhere"})
    assert settings.store.url.endswith("/state/here.sqlite")
    assert settings.credits.chain_id == 5
    assert settings.burner.retries == 1
    assert settings.burner.mnemonic is not None
    assert settings.burner.mnemonic.get_secret_value() == "other words"
    assert settings.burner.keyfile is None
    assert settings.burner.enabled
    assert taken == ("MARKETPLACE_API_URL", "SLEEP_DURATION", "GAS_MULTIPLIER")


def test_a_keyfile_is_taken_from_where_the_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "elsewhere" / "key.json"
    key.parent.mkdir()
    key.write_text("{}")
    monkeypatch.chdir(key.parent)
    environ = {name: ENVIRONMENT[name] for name in ("WEB3_PROVIDER_URL", "NETWORK_ID")}
    environ |= {"KEYFILE_PATH": "key.json", "KEYFILE_PASSWORD": "s3cret"}
    settings, taken = loaded(tmp_path, STATE, environ)
    assert settings.burner.keyfile == key
    assert settings.burner.keyfile_password is not None
    assert settings.burner.keyfile_password.get_secret_value() == "s3cret"
    assert settings.store.url.startswith("sqlite:///")
    assert taken == ("WEB3_PROVIDER_URL", "NETWORK_ID", "KEYFILE_PATH", "KEYFILE_PASSWORD")


def test_the_first_spelling_counts_and_empty_ones_do_not() -> None:
    words = {"SEED_WORDS": "", "SEED_PHRASE": "some words"}
    assert complete({}, words).taken == ("SEED_PHRASE",)
    both = complete({}, {"SEED_WORDS": "some", "SEED_PHRASE": "others"})
    assert both.taken == ("SEED_WORDS",)
    assert both.tree["burner"] == {"mnemonic": {"env": "SEED_WORDS"}}


def test_all_that_cannot_be_used_is_told_without_the_values() -> None:
    environ = {
        "NETWORK_ID": "s3cret",
        "SLEEP_DURATION": "-1",
        "GAS_MULTIPLIER": "s3cret",
        "MARKETPLACE_API_URL": "s3cret",
        "PG_PORT": "s3cret",
    }
    with pytest.raises(ConfigurationError) as caught:
        complete({}, environ)
    assert [problem.path.split()[-1] for problem in caught.value.problems] == [
        "NETWORK_ID",
        "MARKETPLACE_API_URL",
        "SLEEP_DURATION",
        "GAS_MULTIPLIER",
        "PG_PORT",
    ]
    assert "s3cret" not in str(caught.value)


def test_no_secret_is_in_a_message(tmp_path: Path) -> None:
    environ = {**ENVIRONMENT, "WEB3_PROVIDER_URL": "ftp://s3cret", "PG_DB": "x" * 5000}
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, STATE + "[burner]\nbatch = 0\n", environ)
    message = str(caught.value)
    assert "credits.rpc_url" in message
    assert "burner.batch" in message
    assert "s3cret" not in message
    assert "p%40ss" not in message


@pytest.mark.parametrize("broken", [[], "text", 5])
def test_tables_that_are_none_are_left_as_they_are(broken: Any) -> None:
    tree = {"burner": broken, "credits": broken, "store": broken}
    assert complete(tree, ENVIRONMENT).tree == tree


def test_the_file_is_not_changed() -> None:
    tree: dict[str, Any] = {"burner": {"batch": 3}}
    complete(tree, ENVIRONMENT)
    assert tree == {"burner": {"batch": 3}}


def test_every_variable_is_one_of_the_original() -> None:
    names = {variable.name for variable in nevermined_burner.VARIABLES}
    assert names <= nevermined_variables.KNOWN


def test_the_page_names_every_variable() -> None:
    rows = table("docs/credits.rst", "In place of Nevermined's burner")
    named = {
        name: "".join(LITERAL.findall(key)[:1])
        for names, key in rows
        for name in LITERAL.findall(names)
    }
    wanted = {each.name: f"{each.table}.{each.key}" for each in nevermined_burner.VARIABLES}
    wanted |= dict.fromkeys(nevermined_variables.STORE, "store.url")
    assert named == {**wanted, "VERBOSE": ""}
