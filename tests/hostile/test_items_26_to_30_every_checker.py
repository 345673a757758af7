"""Tokens that must not be accepted, at every kind of checker and both doors."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.auth.signing import EC, OTHER_RSA, RSA, key_set, public, sign
from tests.auth.support import OTHER_KEY
from tests.authority import Authority
from tests.daemon import wait_until
from tests.hostile.checkers import BY_FIELD, Checkpoint, Door, checkpoint
from tests.hostile.house import HASH
from tests.hostile.issuers import jwt_claims
from tests.hostile.raw import BrokenTransferError
from tests.hostile.tokens import access_tokens, api_key_tokens, good_tokens, jwt_tokens
from tests.operators import keyvals, shut_out


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    with checkpoint(tmp_path_factory.mktemp("tokens")) as house:
        yield house


def make_tokens(port: int, trap: str) -> dict[str, dict[str, str]]:
    """By the checker that they are made for."""
    return {
        "keys": api_key_tokens(trap),
        "jwt": jwt_tokens(trap),
        "nevermined": access_tokens(port, trap),
    }


#: Who else reads tokens of the kind.
READERS = {"keys": ("keys", "legacy"), "jwt": ("jwt", "jwks"), "nevermined": ("nevermined",)}

ROWS = [(kind, name) for kind, rows in make_tokens(1, "http://trap").items() for name in rows]


@pytest.fixture(scope="module")
def tokens(house: Checkpoint) -> dict[str, dict[str, str]]:
    return make_tokens(house.origin.port, house.trap.url)


# --- 26 to 29 -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", READERS)
def test_good_tokens_made_in_the_same_way(house: Checkpoint, kind: str) -> None:
    for value in good_tokens(house.origin.port)[kind]:
        for name in READERS[kind]:
            house.door(name).passed(value=value)
            house.door(name, "proxy").passed(value=value)


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_26_to_29(
    house: Checkpoint, tokens: dict[str, dict[str, str]], kind: str, name: str
) -> None:
    """Refused by all, and at once: a client waits for seconds, not for minutes."""
    value = tokens[kind][name]
    for checker in BY_FIELD:
        for door in ("gateway", "proxy") if checker in READERS[kind] else ("gateway",):
            entrance = house.door(checker, door)
            answer = entrance.ask("/hostile", value=value)
            expected = entrance.entrance.refusal
            if checker == kind and name.startswith("claims: urls"):
                expected = (403,)  # it is a good one, for something else
            if len(value) > 30_000:
                expected = (431,)
            assert answer.status in expected, (checker, door, answer)
    assert house.hostile() == []
    assert house.trap.connections == 0


def test_27_tokens_do_not_make_us_fetch_keys(house: Checkpoint) -> None:
    """An unknown key's name is worth one look at the configured URL in half a minute."""
    door = house.door("jwks")
    for number in range(30):
        value = sign(RSA, "RS256", jwt_claims(), kid=f"new-{number}").decode()
        assert door.ask("/hostile", value=value).status == 401
    assert house.auth.paths.count("/jwks") <= 3  # at the start, perhaps, and since then


@pytest.mark.parametrize("kind", READERS)
def test_28_a_megabyte(house: Checkpoint, kind: str) -> None:
    """Signed or encrypted as it should be; it is not even read."""
    value = good_tokens(house.origin.port)[kind][0]
    parts = value.split(".")
    for place in range(len(parts)):
        grown = ".".join([*parts[:place], parts[place] + "A" * 1_000_000, *parts[place + 1 :]])
        for name in BY_FIELD:
            door = house.door(name)
            with door.connect() as client:
                client.try_to_send(door.request("/hostile", value=grown))
                assert client.final_answer().status == 431
    assert house.hostile() == []


# --- 30 -----------------------------------------------------------------------------------

#: Whose credentials can be taken back while the daemon runs, and who else can only be taken out of
#: the configuration. The keys at a URL are looked at again every few minutes.
LIVE = ("keys", "legacy", "jwt", "oauth", "tokens", "fields", "grpc", "certificate")
CONFIGURED = ("basic", "secret", "nevermined", "jwks")


def doors(house: Checkpoint, *names: str) -> list[Door]:
    found = [house.door(name) for name in names]
    return found + [house.door(name, "proxy") for name in names if name in BY_FIELD]


def replace_file(path: Path, data: str | bytes) -> None:
    """As deployment tools do it: another file under the same name."""
    new = path.with_suffix(".new")
    new.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(new, path)


def revoke(house: Checkpoint) -> None:
    """Take back everything that can be taken back without a look at the configuration."""
    directory = house.daemon.directory
    replace_file(directory / "keys.properties", f"key003={OTHER_KEY}\n")
    # Another key by the same name.
    house.auth.keys = key_set(public(OTHER_RSA, "rsa"), public(EC, "ec"))
    replace_file(directory / "keys.json", house.auth.keys)
    others = Authority(directory, "Others")
    replace_file(directory / "Test-CA.pem", others.file.read_bytes())
    house.auth.active.clear()
    house.auth.tokens.clear()
    house.auth.named.clear()
    house.service.knows = "somebody else"


def is_refused(door: Door, path: str) -> bool:
    """Whether the good credentials are good no more."""
    try:
        return door.ask(path).status in door.entrance.refusal
    except (ssl.SSLError, ConnectionError, BrokenTransferError):
        return door.entrance.name == "certificate"


def check_refused(house: Checkpoint, *names: str) -> None:
    for door in doors(house, *names):
        assert is_refused(door, "/hostile"), door.entrance
    assert house.hostile() == []


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[Checkpoint]:
    """One for a single test."""
    with checkpoint(tmp_path) as house:
        yield house


def test_30_revoked_and_cached(own_house: Checkpoint) -> None:
    """What is known is forgotten, and not known again after a restart."""
    house = own_house
    for door in doors(house, *LIVE):
        for _ in range(2):
            door.passed()
    entries = {zone: keyvals(house.daemon, "GET", zone)[1] for zone in ("tokens", "fields")}
    revoke(house)
    for zone, found in entries.items():
        (key,) = found
        shut_out(house.daemon, key, zone)
    check_refused(house, "tokens", "fields", "grpc")
    for door in doors(house, *LIVE):
        wait_until(partial(is_refused, door, "/while"), f"{door.entrance.name} is refused")
    check_refused(house, *LIVE)
    house.daemon.stop()
    house.daemon.start()
    check_refused(house, *LIVE)


def test_30_shut_out_by_the_operator_alone(own_house: Checkpoint) -> None:
    """The auth tier would still let them in, also after a restart."""
    house = own_house
    house.door("tokens").passed()
    ((key, _),) = keyvals(house.daemon, "GET", "tokens")[1].items()
    shut_out(house.daemon, key, "tokens")
    check_refused(house, "tokens")
    house.daemon.stop()
    house.daemon.start()
    check_refused(house, "tokens")


def test_30_revoked_while_away(own_house: Checkpoint) -> None:
    """The first request after the start is refused."""
    house = own_house
    for door in doors(house, *LIVE, *CONFIGURED):
        door.passed()
    house.daemon.stop()
    revoke(house)
    text = house.daemon.config_file.read_text()
    for old, new in (
        (HASH, "$argon2id$v=19$m=8,t=1,p=1$" + "A" * 22 + "$" + "A" * 43),
        ("secret://s3cret", "secret://0ther"),
        (bytes(range(32, 64)).hex(), bytes(range(64, 96)).hex()),
    ):
        assert old in text
        text = text.replace(old, new)
    house.daemon.config_file.write_text(text)
    house.daemon.start()
    check_refused(house, *LIVE, *CONFIGURED)


def test_30_a_token_that_was_good_a_moment_ago(own_house: Checkpoint) -> None:
    """A zone is emptied: the next request asks again, and an old answer counts no more."""
    house = own_house
    door = house.door("tokens")
    door.passed()
    house.auth.tokens.clear()
    door.passed()  # it is kept
    assert keyvals(house.daemon, "DELETE")[0] == 204
    assert is_refused(door, "/hostile")
