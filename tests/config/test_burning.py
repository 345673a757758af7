"""[burner]: what a burner needs, and what its tables must not say."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.config.minimal import Configure, Problems

CHAIN = "[credits]\nrpc_url = 'http://127.0.0.1:8545'\nchain_id = 5\n"
WORDS = "mnemonic = 'one two three'\n"


def burner(*lines: str) -> str:
    return CHAIN + "[burner]\nenabled = true\n" + "\n".join(lines)


def test_nobody_burns_unless_it_is_said(configure: Configure) -> None:
    settings = configure().burner
    assert not settings.enabled
    assert (settings.interval, settings.batch, settings.confirmations) == (3600, 20, 5)


def test_words(configure: Configure) -> None:
    settings = configure(burner(WORDS, "max_fee_gwei = 0.5", "max_priority_gwei = '0.25'")).burner
    assert settings.mnemonic is not None
    assert settings.mnemonic.get_secret_value() == "one two three"
    assert settings.max_fee_gwei == Decimal("0.5")
    assert settings.max_priority_gwei == Decimal("0.25")


def test_a_keyfile(configure: Configure, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("{}")
    settings = configure(
        burner(f"keyfile = '{key}'", "keyfile_password = { env = 'PASSWORD' }"),
        environ={"PASSWORD": "s3cret"},
    ).burner
    assert settings.keyfile == key
    assert settings.keyfile_password is not None
    assert settings.keyfile_password.get_secret_value() == "s3cret"


def test_no_secret_is_in_a_repr(configure: Configure) -> None:
    settings = configure(burner("mnemonic = 'abandon ability'"))
    assert "abandon" not in repr(settings)
    assert "abandon" not in str(settings.burner)


@pytest.mark.parametrize(
    ("lines", "path", "problem"),
    [
        ((), "burner", "needs a key to burn with: `keyfile` or `mnemonic`"),
        (
            ("keyfile = '/nowhere'", "keyfile_password = 'x'"),
            "burner.keyfile",
            "`/nowhere` cannot be read: No such file or directory",
        ),
        (("keyfile = '/dev/null'",), "burner.keyfile_password", "is required beside `keyfile`"),
        (
            (WORDS, "keyfile = '/dev/null'"),
            "burner.mnemonic",
            "takes the place of `keyfile`; keep one of them",
        ),
        ((WORDS, "keyfile_password = 'x'"), "burner.keyfile_password", "belongs beside `keyfile`"),
        (
            (WORDS, "max_fee_gwei = 10", "max_priority_gwei = 11"),
            "burner.max_priority_gwei",
            "must not be more than `max_fee_gwei`",
        ),
        ((WORDS, "gas_multiplier = 0.9"), "burner.gas_multiplier", "must be at least 1"),
        ((WORDS, "max_fee_gwei = 0"), "burner.max_fee_gwei", "must be more than 0"),
        ((WORDS, "batch = 501"), "burner.batch", "must be at most 500"),
    ],
)
def test_what_is_wrong(problems: Problems, lines: tuple[str, ...], path: str, problem: str) -> None:
    assert problems(burner(*lines)) == [(path, problem)]


def test_a_chain_is_needed(problems: Problems) -> None:
    assert problems("[burner]\nenabled = true\n" + WORDS) == [
        ("credits.rpc_url", "is required to burn credits"),
        ("credits.chain_id", "is required to burn credits"),
    ]


def test_who_does_not_burn_need_not_have_the_key(configure: Configure) -> None:
    """The daemon and the burner may share a file, and only the burner may read the key."""
    settings = configure("[burner]\nkeyfile = '/nowhere'\n")
    assert settings.burner.keyfile == Path("/nowhere")


def test_a_path_that_is_none(problems: Problems) -> None:
    ((path, _),) = problems(burner(WORDS, "derivation_path = '44/60'"))
    assert path == "burner.derivation_path"
