from __future__ import annotations

import argon2
import pytest

from gatekeeper.auth.passwords import (
    SAMPLE_HASH,
    check_hash,
    hash_password,
    imitate,
    verify_password,
)
from gatekeeper.auth.users import Decoys
from tests.auth.support import ALICE, CHEAP

SALT = "AAAAAAAAAAAAAAAAAAAAAA"
TAG = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def phc(
    cost: str = "m=19456,t=2,p=1", kind: str = "argon2id", salt: str = SALT, tag: str = TAG
) -> str:
    return f"${kind}$v=19${cost}${salt}${tag}"


def test_what_is_hashed_fits_and_nothing_else() -> None:
    hashed = hash_password("correct horse")
    assert check_hash(hashed) == hashed
    assert verify_password("correct horse", hashed)
    assert not verify_password("correct horse ", hashed)
    assert hash_password("correct horse") != hashed


def test_composed_and_decomposed_letters_are_one_password() -> None:
    assert verify_password("cafe\N{COMBINING ACUTE ACCENT}", CHEAP.hash("café"))


@pytest.mark.parametrize("password", ["a\nb", "a\x00", "a\x7f", "a\x85", "a\ud800"])
def test_a_password_that_no_client_can_send(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        hash_password(password)


@pytest.mark.parametrize("cost", ["m=65536,t=3,p=4", "m=2097152,t=1,p=4", "m=8,t=1,p=1"])
def test_reasonable_costs(cost: str) -> None:
    assert check_hash(phc(cost)) == phc(cost)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wonderland",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$apr1$x$y",
        phc(kind="argon2i"),
        phc(kind="argon2d"),
        phc().replace("v=19", "v=16"),
        phc() + "\n",
        phc("m=2097153,t=1,p=1"),
        phc("m=19456,t=200,p=1"),
        phc("m=8,t=300000,p=1"),
        phc("m=99999999999999999999,t=1,p=1"),
        phc("m=19456,t=2,p=17"),
        phc("m=15,t=2,p=2"),
        phc("m=0,t=2,p=1"),
        phc("m=19456,t=0,p=1"),
        phc("m=19456,t=2,p=0"),
        phc("t=2,m=19456,p=1"),
        phc("m=19456,t=2"),
        phc(salt="AAAA"),
        phc(salt="AAAAAAAAAAAAAAAAAAAAAB"),  # bits set that nothing reads
        phc(salt="AAAAA"),
        phc(tag="AAAAAAAA"),
        phc(tag=TAG + "="),
        phc(tag="A" * 128),
    ],
)
def test_what_is_no_hash_for_us(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|costs|is damaged|memory") as caught:
        check_hash(text)
    assert not text or text not in str(caught.value)


def test_the_library_agrees_with_what_passes() -> None:
    parameters = argon2.extract_parameters(SAMPLE_HASH)
    assert parameters == argon2.extract_parameters(hash_password("x"))
    assert not verify_password("x", check_hash(SAMPLE_HASH))


def test_an_imitation_costs_the_same_and_fits_nothing() -> None:
    imitation = imitate(ALICE)
    assert check_hash(imitation) == imitation != ALICE
    assert argon2.extract_parameters(imitation) == argon2.extract_parameters(ALICE)
    assert not verify_password("wonderland", imitation)
    assert imitate(ALICE) != imitation


def test_decoys_cost_what_the_users_hashes_cost() -> None:
    other = argon2.PasswordHasher(1, 16, 1).hash("x")
    decoys = Decoys([ALICE, other])

    def cost(name: str) -> argon2.Parameters:
        return argon2.extract_parameters(decoys.hash_for(name))

    costs = [cost(f"user{number}") for number in range(100)]
    for hashed in (ALICE, other):
        # Each cost comes up for some name: 100 draws of one half miss it once in 10**30 runs.
        assert argon2.extract_parameters(hashed) in costs
    assert all(cost(f"user{number}") == costs[number] for number in range(100))


def test_without_users_a_decoy_costs_what_a_new_hash_does() -> None:
    decoy = Decoys([]).hash_for("nobody")
    assert argon2.extract_parameters(decoy) == argon2.extract_parameters(SAMPLE_HASH)
