from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OctKey
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import HttpError
from gatekeeper.auth.jwks import MAX_SIZE, FileKeys, UrlKeys, parse_key_set
from gatekeeper.errors import ConfigurationError
from tests.auth.http_peers import FakeHttp
from tests.auth.signing import EC, EC_384, EC_521, ED, OTHER_RSA, RSA, SMALL_RSA, X, key_set, public
from tests.auth.support import Logged, outcome

ALL = ("RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "HS256", "none", "ES256K")


def usable(*members: object) -> list[str]:
    """The algorithms that a set has a key for."""
    keys = parse_key_set(key_set(public(OTHER_RSA, "other", alg="PS384"), *members))
    return [algorithm for algorithm in ALL if keys.find("1", algorithm)]


@pytest.mark.parametrize(
    ("member", "algorithms"),
    [
        (public(RSA, "1"), ["RS256", "PS512"]),
        (public(EC, "1"), ["ES256"]),
        (public(EC_384, "1"), ["ES384"]),
        (public(EC_521, "1"), ["ES512"]),
        (public(ED, "1"), ["EdDSA", "Ed25519"]),
        (public(RSA, "1", alg="RS256", use="sig", key_ops=["verify"]), ["RS256"]),
        (public(RSA, "1", x5c=["x"], x5u="http://evil/", unknown=1), ["RS256", "PS512"]),
    ],
)
def test_what_a_key_is_for(member: object, algorithms: list[str]) -> None:
    assert usable(member) == algorithms


@pytest.mark.parametrize(
    "member",
    [
        public(RSA, "2"),
        public(RSA, "1", use="enc"),
        public(RSA, "1", use=None),
        public(RSA, "1", key_ops=["encrypt"]),
        public(RSA, "1", key_ops="verify"),
        public(RSA, "1", alg="HS256"),
        public(RSA, "1", alg="ES256"),
        public(RSA, "1", alg=["RS256"]),
        public(EC, "1", alg="ES384"),
        {**public(EC, "1"), "crv": "P-384"},
        {**public(EC, "1"), "crv": "secp256k1"},
        {**public(EC, "1"), "crv": ["P-256"]},
        {**public(EC, "1"), "x": public(EC_521)["x"]},
        {**public(EC, "1"), "y": 7},
        {**public(RSA, "1"), "kty": "oct"},
        {**public(RSA, "1"), "kty": ["RSA"]},
        {**public(RSA, "1"), "kid": 1},
        {**public(RSA, "1"), "n": "AQAB"},
        {**public(RSA, "1"), "e": "!"},
        {"kty": "RSA", "kid": "1"},
        {**public(ED, "1"), "x": "AA"},
        public(SMALL_RSA, "1"),
        public(X, "1"),
        {"kid": "1", **OctKey.generate_key(256).as_dict()},
        7,
        None,
        [],
    ],
)
def test_a_key_that_is_left_out(member: object) -> None:
    assert usable(member) == []


def test_a_private_key_is_taken_for_the_public_one() -> None:
    keys = parse_key_set(key_set({**RSA.as_dict(private=True), "kid": "1"}))
    (key,) = keys.find("1", "RS256")
    assert not key.is_private


def test_a_token_that_names_no_key() -> None:
    keys = parse_key_set(key_set(public(RSA, "1"), public(EC, "2"), public(OTHER_RSA, "3")))
    assert len(keys.find(None, "ES256")) == 1
    assert len(keys.find(None, "RS256")) == 2
    many = parse_key_set(key_set(*(public(RSA, str(number)) for number in range(5))))
    assert many.find(None, "RS256") == ()
    assert len(many.find("3", "RS256")) == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b"{}", "has no list `keys`"),
        (b'{"keys": {}}', "has no list `keys`"),
        (b'{"keys": []}', "holds no key"),
        (b'{"keys": [], "keys": []}', "is no JSON object"),
        (key_set(public(SMALL_RSA)), "holds no key"),
        (key_set(*[7] * 101), "has more than 100 keys"),
        (key_set(public(RSA)) + b" " * MAX_SIZE, "is larger than"),
        (b'{"keys":' + b"[" * 100_000, "is no JSON object"),
    ],
)
def test_what_is_no_key_set(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_key_set(data)


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(public(RSA, "1")))
        return path

    def test_it_is_read(self, path: Path) -> None:
        assert len(FileKeys(path).find("1", "RS256")) == 1

    def test_a_change(self, path: Path) -> None:
        keys = FileKeys(path)
        assert keys.reload() is False
        path.write_bytes(key_set(public(RSA, "22")))
        assert keys.reload() is True
        assert keys.reload() is False
        assert keys.find("1", "RS256") == ()
        assert len(keys.find("22", "RS256")) == 1

    def test_another_file_with_the_same_keys(self, path: Path) -> None:
        keys = FileKeys(path)
        path.with_suffix(".new").write_bytes(path.read_bytes())
        os.replace(path.with_suffix(".new"), path)
        assert keys.reload() is False

    @pytest.mark.parametrize("content", [b"", b'{"keys": []}', None])
    def test_a_broken_file_changes_nothing(
        self, path: Path, content: bytes | None, logged: Logged
    ) -> None:
        keys = FileKeys(path)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        assert keys.reload() is False
        assert keys.reload() is False
        assert len(logged) == 1
        assert len(keys.find("1", "RS256")) == 1
        path.write_bytes(key_set(public(RSA, "22")))
        assert keys.reload() is True

    @pytest.mark.parametrize("content", [b"", None])
    def test_at_the_start_it_must_be_good(self, path: Path, content: bytes | None) -> None:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            FileKeys(path)
        (problem,) = caught.value.problems
        assert problem.path == "jwks"
        assert str(path) in problem.message


class TestUrl:
    class House:
        def __init__(self) -> None:
            self.clock = Clock()
            self.http = FakeHttp()
            self.keys = UrlKeys("http://h/jwks", self.http, 300, 3600, self.clock.seconds)

        @property
        def asked(self) -> int:
            return len(self.http.asked)

        def find(self, kid: str = "1") -> Any:
            """The keys found, an HttpError, or None as long as there is no answer."""
            try:
                results = outcome(self.keys.find(kid, "RS256"))
            except HttpError as error:
                return error
            return results[0] if results else None

        def answer(self, *kids: str) -> None:
            self.http.answer(200, {"keys": [public(RSA, kid) for kid in kids]})

    @pytest.fixture
    def house(self) -> TestUrl.House:
        return TestUrl.House()

    def test_the_first_request_waits_for_the_keys(self, house: TestUrl.House) -> None:
        first, second = (outcome(house.keys.find("1", "RS256")) for _ in range(2))
        assert house.asked == 1
        assert house.http.asked[0][:2] == ("GET", "http://h/jwks")
        house.answer("1")
        assert len(first[0]) == len(second[0]) == 1
        assert len(house.find()) == 1
        assert house.asked == 1

    def test_they_are_there_before_the_first_request(self, house: TestUrl.House) -> None:
        assert house.keys.reload() is False
        house.answer("1")
        assert house.keys.reload() is True
        assert len(house.find()) == 1

    def test_they_are_looked_at_again(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        house.keys.reload()
        house.clock.advance(299)
        assert house.keys.reload() is False
        assert house.asked == 1
        house.clock.advance(1)
        assert house.keys.reload() is False
        assert house.asked == 2
        assert len(house.find()) == 1  # nobody waits
        house.answer("2")
        assert house.keys.reload() is True
        assert house.keys.reload() is False
        assert house.find() == ()

    def test_the_same_keys_are_no_change(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        house.keys.reload()
        house.clock.advance(300)
        house.keys.reload()
        house.answer("1")
        assert house.keys.reload() is False

    def test_an_unknown_key(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        house.clock.advance(30)
        results = outcome(house.keys.find("2", "RS256"))
        assert (house.asked, results) == (2, [])
        house.answer("1", "2")
        assert len(results[0]) == 1

    def test_unknown_keys_are_asked_for_rarely(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        for second in range(1, 301):
            house.clock.advance(1)
            if house.find(f"unknown-{second}") is None:
                house.answer("1")
        assert house.asked == 1 + 10

    def test_many_unknown_keys_are_one_question(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        house.clock.advance(30)
        results = [outcome(house.keys.find(str(kid), "RS256")) for kid in range(100, 200)]
        assert house.asked == 2
        house.answer("1", "150")
        assert sum(map(bool, (result[0] for result in results))) == 1

    @pytest.mark.parametrize("status", [0, 200, 404])
    def test_the_url_is_away(self, house: TestUrl.House, status: int) -> None:
        house.find()
        house.answer("1")
        house.clock.advance(300)
        house.keys.reload()
        if status:
            house.http.answer(status, {"keys": []})
        else:
            house.http.fail()
        assert len(house.find()) == 1
        # Whether it is a new key cannot be told now.
        assert isinstance(house.find("2"), HttpError)
        assert house.asked == 2
        for _ in range(30):
            house.clock.advance(1)
            house.keys.reload()
        assert house.asked == 3
        house.answer("1", "2")
        assert len(house.find("2")) == 1
        assert house.find("3") == ()

    def test_the_old_keys_are_not_good_for_ever(self, house: TestUrl.House) -> None:
        house.find()
        house.answer("1")
        house.keys.reload()
        house.clock.advance(3599)
        assert len(house.find()) == 1
        house.clock.advance(1)
        results = outcome(house.keys.find("1", "RS256"))
        house.http.fail()
        assert results[0].check(HttpError)
        assert house.keys.reload() is True

    def test_never_fetched(self, house: TestUrl.House) -> None:
        results = outcome(house.keys.find("1", "RS256"))
        house.http.fail()
        assert results[0].check(HttpError)
        assert isinstance(house.find(), HttpError)
        assert house.asked == 1

    def test_the_first_keys_are_asked_for_with_more_patience_each_time(
        self, house: TestUrl.House
    ) -> None:
        moments: list[int] = []
        for second in range(100):
            house.keys.reload()
            if house.asked > len(moments):
                moments.append(second)
                house.http.fail()
            house.clock.advance(1)
        assert moments == [0, 1, 3, 7, 15, 31, 61, 91]

    def test_close(self, house: TestUrl.House) -> None:
        house.keys.close()
        assert house.http.closed
