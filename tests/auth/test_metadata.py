from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import Answer, HttpClient, HttpError
from gatekeeper.auth.interfaces import Opened
from gatekeeper.auth.metadata import Ddo, MetadataClient, decode_did, read_answer, service_of
from gatekeeper.auth.url_patterns import MAX_PATTERNS, PublicUrls
from tests.auth.http_peers import FakeHttp, RealServer, Script, in_reactor, json_response
from tests.auth.support import outcome

DID = "did:nv:" + "c5" * 32
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def encode(number: int) -> str:
    """``BigInt(number).toString(36)``."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def document(**changed: Any) -> dict[str, Any]:
    return {
        "@context": "https://w3id.org/did/v1",
        "id": DID,
        "publicKey": [{"owner": "0x" + "11" * 20, "type": "EthereumECDSAKey"}],
        "proof": {"creator": "0x" + "22" * 20, "type": "DDOIntegritySignature"},
        "service": [
            {"type": "nft-access", "attributes": {"main": {}}},
            {
                "type": "metadata",
                "attributes": {
                    "main": {
                        "type": "service",
                        "webService": {
                            "endpoints": [{"post": "https://up.example/v1/closed"}],
                            "openEndpoints": ["https://up.example/open/(.*)"],
                        },
                    }
                },
            },
            {"type": "metadata", "attributes": {"main": {"webService": {"openEndpoints": ["x"]}}}},
        ],
    } | changed


def answer(*, status: int = 200, **changed: Any) -> Answer:
    return Answer(status, json.dumps(document(**changed)).encode())


# --- DIDs in host names ------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 2, 3, 10])
def test_ids_with_zeros_at_the_beginning(zeros: int) -> None:
    number = int("f" * (64 - zeros), 16)
    assert decode_did(encode(number)) == "did:nv:" + "0" * zeros + "f" * (64 - zeros)


@pytest.mark.parametrize(
    "label",
    [
        *("", "www", "api", "localhost", "0" * 50, "1" + "_" * 40, "+" + "1" * 40, "z" * 50),
        *("0" + encode(int("c5" * 32, 16)), encode(1 << 256), "a" * 31, "a" * 51, " " + "a" * 40),
        *("a" * 20 + "-" + "a" * 20, "\u0661" * 40, "A" * 40),
    ],
)
def test_what_is_no_did(label: str) -> None:
    assert decode_did(label) is None


def test_the_largest() -> None:
    assert decode_did(encode((1 << 256) - 1)) == "did:nv:" + "f" * 64


# --- documents ---------------------------------------------------------------------------------


def test_a_document() -> None:
    found = read_answer(answer(), DID)
    assert found is not None
    assert (found.did, found.owner) == (DID, "0x" + "22" * 20)
    urls = PublicUrls(found.open_urls)
    assert urls.find("gate", None, b"/open/x") == Opened("https", "up.example", 443, None)
    assert urls.find("gate", None, b"/v1/closed") is None


def test_the_owner_without_a_proof() -> None:
    for proof in (None, {}, "x", {"creator": 7}, {"creator": "a\r\nb"}):
        found = read_answer(answer(proof=proof), DID)
        assert found is not None
        assert found.owner == "0x" + "11" * 20


@pytest.mark.parametrize(
    "changed",
    [
        {"service": None, "publicKey": None, "proof": None},
        {"service": [], "publicKey": [], "proof": None},
        {"service": {}, "publicKey": {}, "proof": []},
        {"service": [7, {"type": "metadata"}], "publicKey": [7], "proof": None},
        {
            "service": [{"type": "metadata", "attributes": {"main": {"webService": []}}}],
            "publicKey": [{}],
            "proof": None,
        },
        {
            "service": [
                {
                    "type": "metadata",
                    "attributes": {"main": {"webService": {"openEndpoints": "https://h/"}}},
                }
            ],
            "publicKey": [{"owner": None}],
            "proof": None,
        },
    ],
)
def test_nothing_is_open_where_the_document_does_not_say_so(changed: dict[str, Any]) -> None:
    assert read_answer(answer(**changed), DID) == Ddo(DID, "", ())


def test_open_urls_are_bounded_and_checked() -> None:
    urls: list[object] = [7, None, "nonsense", "https://h/("]
    urls += [f"https://h/{number}" for number in range(1000)]
    metadata = {"main": {"webService": {"openEndpoints": urls}}}
    found = read_answer(answer(service=[{"type": "metadata", "attributes": metadata}]), DID)
    assert found is not None
    assert len(found.open_urls) == MAX_PATTERNS - 4


def test_the_first_service_of_a_type() -> None:
    assert service_of(document(), "nft-access") == document()["service"][0]
    assert service_of(document(), "metadata") == document()["service"][1]
    assert service_of(document(), "other") == {}


@pytest.mark.parametrize("status", [404, 410])
def test_no_document(status: int) -> None:
    assert read_answer(answer(status=status), DID) is None


@pytest.mark.parametrize(
    "wrong",
    [
        *(answer(status=status) for status in (201, 204, 301, 302, 400, 401, 403, 429, 500, 503)),
        *(Answer(200, body) for body in (b"", b"[]", b"<html>", b"null", b'{"id":1,"id":2}')),
        answer(id="did:nv:" + "00" * 32),
        Answer(200, b'{"x":' + b"[" * 100_000),
    ],
)
def test_what_is_no_answer(wrong: Answer) -> None:
    with pytest.raises(HttpError):
        read_answer(wrong, DID)


def test_an_id_in_capitals_or_none() -> None:
    assert read_answer(answer(id=DID.upper()), DID)
    assert read_answer(Answer(200, b"{}"), DID) == Ddo(DID, "", ())


# --- asking ------------------------------------------------------------------------------------


class Asking:
    def __init__(self, size: int = 1000) -> None:
        self.marketplace = FakeHttp()
        self.clock = Clock()
        self.client = MetadataClient(
            "https://market.example/", self.marketplace, 300.0, size, self.clock.seconds
        )

    def find(self, did: str = DID) -> list[Any]:
        return outcome(self.client.find(did, "192.0.2.1"))


def test_it_asks_and_remembers() -> None:
    asking = Asking()
    found = asking.find()
    (asked,) = asking.marketplace.asked
    assert asked.method == "GET"
    assert asked.url == f"https://market.example/api/v1/metadata/assets/ddo/{DID}"
    assert asked.client == "192.0.2.1"
    assert found == []
    asking.marketplace.answer(200, document())
    assert found[0].did == DID
    asking.clock.advance(299.9)
    assert asking.find() == found
    assert len(asking.marketplace.asked) == 1
    asking.clock.advance(0.2)
    assert asking.find() == []
    assert len(asking.marketplace.asked) == 2


def test_equal_questions_are_asked_once() -> None:
    asking = Asking()
    answers = [asking.find() for _ in range(5)]
    assert len(asking.marketplace.asked) == 1
    asking.marketplace.answer(200, document())
    assert all(found[0].did == DID for found in answers)


def test_what_is_not_there_is_asked_for_again_soon() -> None:
    asking = Asking()
    found = asking.find()
    asking.marketplace.answer(404)
    assert found == [None]
    asking.clock.advance(29)
    assert asking.find() == [None]
    asking.clock.advance(2)
    assert asking.find() == []


def test_an_outage_is_not_remembered() -> None:
    asking = Asking()
    found = [asking.find(), asking.find()]
    asking.marketplace.answer(502)
    for each in found:
        assert each[0].check(HttpError)
    found = [asking.find()]
    asking.marketplace.answer(200, document())
    assert found[0][0].did == DID


def test_the_memory_is_bounded() -> None:
    asking = Asking(size=2)
    dids = [f"did:nv:{number:064x}" for number in range(3)]
    for did in (dids[0], dids[1], dids[0], dids[2]):  # the second is not asked for the longest
        if not asking.find(did):
            asking.marketplace.answer(404)
    assert asking.find(dids[0]) == [None]
    assert asking.find(dids[2]) == [None]
    assert len(asking.marketplace.asked) == 3
    assert asking.find(dids[1]) == []
    assert repr(asking.client).endswith(": 2 known>")


def test_closing() -> None:
    asking = Asking()
    asking.client.close()
    assert asking.marketplace.closed


@in_reactor
async def test_a_real_server() -> None:
    server = RealServer(Script(json_response(document()), json_response({}, 404)))
    url = f"http://127.0.0.1:{server.port}/market"
    client = MetadataClient(url, HttpClient("the test", timeout=30.0))
    try:
        found = await client.find(DID)
        assert found is not None
        assert found.owner == "0x" + "22" * 20
        assert await client.find("did:nv:" + "00" * 32) is None
    finally:
        client.close()
        await server.stop()
    first = server.script.requests[0]
    assert first.line == f"GET /market/api/v1/metadata/assets/ddo/{DID} HTTP/1.1".encode()
    assert first.values(b"Accept") == [b"application/json"]
    away = MetadataClient(url, HttpClient("the test", timeout=30.0))
    with pytest.raises(HttpError):
        await away.find(DID)
    away.close()
