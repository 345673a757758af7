"""From the configuration to a burner that runs, and its end."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gatekeeper.config.model_credits import Burner, Credits
from gatekeeper.credits.burner_service import BurnerService, key_of, schedule_of, terms_of
from gatekeeper.credits.fees import FeeBounds
from gatekeeper.credits.ledger import Policy
from gatekeeper.credits.signing import Keyfile, KeyUnusableError, Mnemonic
from gatekeeper.errors import ConfigurationError
from gatekeeper.store.ledger import ILedger
from tests.anvil import BURNER, BURNER_PATH, MNEMONIC
from tests.auth.http_peers import in_reactor
from tests.auth.support import ManualThreads, outcome
from tests.credits.burning import Ledger
from tests.ethereum import create_keyfile_json

PRIVATE = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
CHAIN = Credits(rpc_url="http://127.0.0.1:1/s3cret-project", chain_id=5)
WORDS = Burner(mnemonic=SecretStr(MNEMONIC), derivation_path=BURNER_PATH)


class House:
    def __init__(self, settings: Burner = WORDS) -> None:
        self.ledger = Ledger()
        self.threads = ManualThreads()
        self.fatal: list[Failure] = []
        self.service = BurnerService(
            settings,
            CHAIN,
            cast(ILedger, self.ledger),
            Clock(),
            self.fatal.append,
            threads=self.threads,
        )


def keyfile(directory: Path, password: str = "s3cret") -> Burner:
    file = directory / "key.json"
    document = create_keyfile_json(PRIVATE, password.encode(), kdf="pbkdf2", iterations=1)
    file.write_text(json.dumps(document))
    return Burner(keyfile=file, keyfile_password=SecretStr("s3cret"))


def test_the_settings_arrive() -> None:
    settings = Burner.model_validate(
        {
            "interval": 60.0,
            "amount": 10,
            "batch": 7,
            "poll": 1.0,
            "confirmations": 9,
            "retries": 4,
            "max_fee_gwei": 1.5,
            "max_priority_gwei": "0.1",
            "gas_multiplier": 1.1,
            "gas_price_multiplier": 1.2,
            "max_gas": 500_000,
            "stuck": 99.0,
            "resend": 8.0,
        }
    )
    terms = terms_of(settings, 5)
    assert terms.policy == Policy(
        FeeBounds(1_500_000_000, 100_000_000, multiplier=Fraction(6, 5)),
        confirmations=9,
        resend=8.0,
        stuck=99.0,
        retries=4,
    )
    assert (terms.chain_id, terms.gas_multiplier, terms.max_gas) == (5, Fraction(11, 10), 500_000)
    schedule = schedule_of(settings)
    assert (schedule.interval, schedule.amount, schedule.batch, schedule.poll) == (60, 10, 7, 1)


def test_the_key(tmp_path: Path) -> None:
    assert key_of(WORDS) == Mnemonic(MNEMONIC, path=BURNER_PATH)
    key = key_of(keyfile(tmp_path))
    assert isinstance(key, Keyfile)
    assert key.password == "s3cret"
    assert json.loads(key.content)["version"] == 3


def test_a_keyfile_that_went_away(tmp_path: Path) -> None:
    settings = keyfile(tmp_path)
    assert settings.keyfile is not None
    settings.keyfile.unlink()
    with pytest.raises(KeyUnusableError, match="cannot be read: No such file"):
        key_of(settings)
    settings.keyfile.write_bytes(b"\xff")
    with pytest.raises(KeyUnusableError, match="is no text"):
        key_of(settings)


def test_the_key_is_opened_in_a_thread_and_then_it_burns() -> None:
    house = House()
    house.service.startService()
    assert house.ledger.asked == 0
    house.threads.finish()
    assert house.ledger.owner is not None
    assert house.ledger.owner.account == BURNER
    assert house.service.report.owner
    assert house.threads.closed
    assert house.fatal == []


@in_reactor
async def test_a_stop() -> None:
    house = House()
    house.service.startService()
    house.threads.finish()
    assert house.ledger.owner is not None
    await house.service.stopService()  # nobody listens where the chain is said to be
    assert house.ledger.owner is None
    assert not house.service.running


def test_a_stop_while_the_key_is_opened() -> None:
    house = House()
    house.service.startService()
    stopped = outcome(house.service.stopService())
    assert stopped == []
    house.threads.finish()
    assert stopped == [None]
    assert house.ledger.asked == 0


def test_a_wrong_password_is_fatal(tmp_path: Path) -> None:
    settings = keyfile(tmp_path, "another one")
    house = House(settings)
    house.service.startService()
    house.threads.finish()
    (failure,) = house.fatal
    assert failure.check(ConfigurationError)
    assert str(failure.value) == "burner: the password does not open the key's file"
    assert house.ledger.asked == 0
    assert outcome(house.service.stopService()) == [None]


def test_authorities_that_cannot_be_used(tmp_path: Path) -> None:
    chain = CHAIN.model_copy(update={"ca_file": tmp_path / "ca.pem"})
    with pytest.raises(ConfigurationError) as caught:
        BurnerService(WORDS, chain, cast(ILedger, Ledger()), Clock(), lambda _: None)
    (problem,) = caught.value.problems
    assert problem.path == "credits.ca_file"


def test_nothing_secret_is_shown(logged: Any) -> None:
    house = House()
    house.service.startService()
    house.threads.finish()
    for text in (repr(house.service), repr(WORDS), repr(vars(house.service)), logged.text):
        assert "junk" not in text
        assert "s3cret-project" not in text
