from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from gatekeeper.auth.http_client import Answer, HttpClient
from gatekeeper.credits.rpc import (
    Call,
    ChainError,
    MalformedError,
    RefusedError,
    RevertedError,
    Rpc,
    UnreachableError,
    read_data,
    read_quantity,
)
from tests.auth.http_peers import Asked, FakeHttp, RealServer, Script, in_reactor, response
from tests.auth.support import Logged

URL = "https://node.example/v3/secret-key"
REVERT = (
    "0x08c379a0"
    "0000000000000000000000000000000000000000000000000000000000000020"
    "0000000000000000000000000000000000000000000000000000000000000005"
    "73686f7274000000000000000000000000000000000000000000000000000000"
)


def result_of(coroutine: Any) -> Any:
    """What comes out at once: a value, or an error."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    (result,) = found
    return result.value if isinstance(result, Failure) else result


def node(say: Callable[[Any], Any], status: int = 200) -> tuple[Rpc, FakeHttp]:
    """A node that says this to a request (given as JSON); bytes as they are."""

    def answer(asked: Asked) -> Answer:
        assert asked.body is not None
        said = say(json.loads(asked.body))
        return Answer(status, said if isinstance(said, bytes) else json.dumps(said).encode())

    http = FakeHttp(answer)
    return Rpc(URL, http), http


def ok(question: Any, result: Any = "0x1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": question["id"], "result": result}


def wrong(question: Any, **error: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": question["id"], "error": error}


def test_a_call() -> None:
    rpc, http = node(lambda question: ok(question, [1, {"a": None}]))
    assert result_of(rpc.call("eth_call", {"to": "0x1"}, "latest")) == [1, {"a": None}]
    (asked,) = http.asked
    assert (asked.method, asked.url) == ("POST", URL)
    assert asked.fields[b"content-type"] == b"application/json"
    assert json.loads(asked.body or b"") == {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "eth_call",
        "params": [{"to": "0x1"}, "latest"],
    }


def test_a_batch_may_be_answered_in_any_order() -> None:
    rpc, http = node(lambda questions: [ok(each, each["method"]) for each in reversed(questions)])
    assert result_of(rpc.ask([Call("a"), Call("b"), Call("c")])) == ["a", "b", "c"]
    assert len(http.asked) == 1


def test_a_large_batch_goes_in_parts() -> None:
    def say(asked: Any) -> Any:
        many = asked if isinstance(asked, list) else [asked]
        answers = [ok(each, each["method"]) for each in many]
        return answers if isinstance(asked, list) else answers[0]

    rpc, http = node(say)
    names = [str(number) for number in range(201)]
    assert result_of(rpc.ask([Call(name) for name in names])) == names
    sizes = [json.loads(asked.body or b"") for asked in http.asked]
    assert [len(each) if isinstance(each, list) else 1 for each in sizes] == [100, 100, 1]


def test_no_calls_are_no_request() -> None:
    rpc, http = node(lambda question: None)
    assert result_of(rpc.ask([])) == []
    assert http.asked == []


def test_one_call_of_a_batch_may_fail() -> None:
    rpc, _ = node(lambda asked: [ok(asked[0]), wrong(asked[1], code=-32000, message="no")])
    first, second = result_of(rpc.settle([Call("a"), Call("b")]))
    assert first == "0x1"
    assert isinstance(second, RefusedError)
    rpc, _ = node(lambda asked: [ok(asked[0]), wrong(asked[1], code=-32000, message="no")])
    assert isinstance(result_of(rpc.ask([Call("a"), Call("b")])), RefusedError)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 500, 502, 503])
def test_a_status_that_is_not_200_is_no_answer(status: int) -> None:
    rpc, _ = node(ok, status)
    error = result_of(rpc.call("a"))
    assert isinstance(error, UnreachableError)
    assert str(status) in str(error)


def test_a_node_that_cannot_be_reached() -> None:
    http = FakeHttp()
    found: list[Any] = []
    Deferred.fromCoroutine(Rpc(URL, http).call("a")).addErrback(found.append)
    http.fail()
    assert found[0].check(UnreachableError)


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted: short", "data": REVERT},  # geth, anvil
        {"code": -32000, "message": "execution reverted: short"},  # older geths
        {"code": -32015, "message": "VM execution error.", "data": "Reverted " + REVERT},  # Parity
        {"code": -32603, "message": "Error: reverted", "data": {"data": REVERT}},  # Hardhat
        {"code": 3, "message": "short"},
    ],
)
def test_a_revert_in_any_dialect(error: dict[str, Any]) -> None:
    rpc, _ = node(lambda question: wrong(question, **error))
    reverted = result_of(rpc.call("eth_call"))
    assert isinstance(reverted, RevertedError)
    assert reverted.text == "short"
    assert str(reverted) == "reverted: short"


def test_a_revert_without_a_reason() -> None:
    rpc, _ = node(lambda q: wrong(q, code=3, message="execution reverted", data="0x"))
    assert str(result_of(rpc.call("eth_call"))) == "reverted: without a reason"


@pytest.mark.parametrize("code", [-32000, -32005, -32601, -32603])
def test_any_other_error_is_the_node_s_own(code: int) -> None:
    rpc, _ = node(lambda question: wrong(question, code=code, message="nonce too low\n"))
    refused = result_of(rpc.call("a"))
    assert isinstance(refused, RefusedError)
    assert (refused.code, refused.text) == (code, "nonce too low?")


def test_a_node_may_refuse_a_batch_as_a_whole() -> None:
    rpc, _ = node(lambda _: {"id": None, "error": {"code": -32600, "message": "no batches"}})
    for calls in ([Call("a")], [Call("a"), Call("b")]):
        assert "no batches" in str(result_of(rpc.ask(calls)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b'{"id": 0}',
        b'{"id": 1, "result": 5}',
        b'{"id": "0", "result": 5}',
        b'{"id": true, "result": 5}',
        b'{"result": 5}',
        b'{"id": 0, "error": "x"}',
        b'[{"id": 0, "result": 5}, {"id": 0, "result": 5}]',
        b'[{"id": 0, "result": 5}, 7]',
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_no_answer(body: bytes, count: int) -> None:
    rpc, _ = node(lambda _: body)
    assert isinstance(result_of(rpc.ask([Call("a")] * count)), MalformedError)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "result", "error", "code", "message", "data"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_a_node_says_is_understood_or_malformed(document: Any) -> None:
    rpc, _ = node(lambda _: document)
    result = result_of(rpc.ask([Call("a"), Call("b")]))
    assert isinstance(result, list | ChainError)


@pytest.mark.parametrize(
    ("value", "number"), [("0x0", 0), ("0x1f", 31), ("0x00F", 15), ("0x" + "f" * 64, 2**256 - 1)]
)
def test_numbers(value: str, number: int) -> None:
    assert read_quantity(value) == number


@pytest.mark.parametrize(
    "value", ["", "0x", "1f", "0xg", "0x1\n", "-0x1", "0x" + "f" * 65, 5, None]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(MalformedError):
        read_quantity(value)


def test_data() -> None:
    assert read_data("0x") == b""
    assert read_data("0x00fF") == b"\x00\xff"
    for wrong_data in ("", "0x0", "00", "0xgg", None, 5):
        with pytest.raises(MalformedError):
            read_data(wrong_data)


@in_reactor
async def test_the_url_is_a_secret() -> None:
    server = RealServer(Script(always=response(b"", 401)))
    client = HttpClient("the chain", secret_path=True)
    logged = Logged()
    globalLogPublisher.addObserver(logged)
    rpc = Rpc(f"http://127.0.0.1:{server.port}/v3/secret-key?key=secret-too", client)
    with pytest.raises(UnreachableError) as caught:
        await rpc.call("eth_chainId")
    assert f"http://127.0.0.1:{server.port}: the answer is 401" in logged.text
    for told in (logged.text, str(caught.value), repr(rpc)):
        assert "secret-" not in told
    globalLogPublisher.removeObserver(logged)
    client.close()
    await server.stop()
