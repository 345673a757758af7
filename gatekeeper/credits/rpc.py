"""Asking a node: JSON-RPC 2.0 over HTTP, one question or many at a time, bounded in every way."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gatekeeper.auth.http_client import Answer, Asks, HttpError
from gatekeeper.credits.abi import clean, decode_revert
from gatekeeper.errors import GatekeeperError

#: Questions in one request; many nodes take no more than 100.
MAX_BATCH: Final = 100

_FIELDS: Final = {b"content-type": b"application/json", b"accept": b"application/json"}
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_REVERTED: Final = "execution reverted"
_REVERT_CODE: Final = 3  # geth's, which most follow


class ChainError(GatekeeperError):
    """The chain did not do what was asked. The messages are for the log."""


class UnreachableError(ChainError):
    """The node gave no answer. It is unknown whether it has done what was asked."""


class MalformedError(ChainError):
    """The node's answer is no answer to what was asked."""


class RefusedError(ChainError):
    """The node said no; ``code`` and ``text`` are its own."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(code, text)

    def __str__(self) -> str:
        return f"the node refused: {self.text} ({self.code})"


class ContractError(ChainError):
    """It is the contract, and not the node, for which it cannot be done."""


class StrangeContractError(ContractError):
    """What is at a contract's address is no contract, or of another kind."""


class RevertedError(ContractError):
    """The contract said no; ``text`` says why, as far as it told."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f"reverted: {self.text or 'without a reason'}"


class Call(NamedTuple):
    """A method of the node, and its parameters."""

    method: str
    parameters: tuple[Any, ...] = ()


class Rpc:
    """One node.

    :param url: the node's; it may hold a secret, and ``client`` must not log it.
    """

    def __init__(self, url: str, client: Asks) -> None:
        self._url = url
        self._client = client

    def __repr__(self) -> str:
        return "<Rpc>"

    async def call(self, method: str, *parameters: Any) -> Any:
        """The ``result`` of one call.

        :raises ChainError: one of its kinds.
        """
        (result,) = await self.ask([Call(method, parameters)])
        return result

    async def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls, in their order.

        :raises ChainError: one of its kinds; for the first call that failed.
        """
        results = await self.settle(calls)
        for result in results:
            if isinstance(result, ChainError):
                raise result
        return results

    async def settle(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls, in their order; of one that failed, its error.

        :raises UnreachableError: there was no answer at all.
        :raises MalformedError: the answer is none to these calls.
        """
        found: list[Any] = []
        for at in range(0, len(calls), MAX_BATCH):
            found += await self._post(calls[at : at + MAX_BATCH])
        return found

    def close(self) -> None:
        """Keep no connection."""
        self._client.close()

    async def _post(self, calls: Sequence[Call]) -> list[Any]:
        questions = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.parameters}
            for number, call in enumerate(calls)
        ]
        body = json.dumps(questions if len(calls) > 1 else questions[0]).encode()
        try:
            raw = await self._client.ask("POST", self._url, _whole, fields=_FIELDS, body=body)
        except HttpError as error:
            raise UnreachableError(str(error)) from None
        return _sort(_load(raw), len(calls))


def _whole(answer: Answer) -> bytes:
    if answer.status != 200:
        raise HttpError(f"the answer is {answer.status}")
    return answer.body


def _load(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise MalformedError("the answer is no JSON") from None


def _sort(document: Any, count: int) -> list[Any]:
    """The outcomes by number; a node may answer the calls of a batch in any order."""
    if isinstance(document, dict) and (count == 1 or "error" in document):
        if count > 1 or document.get("id") is None:  # it says no to the request as a whole
            outcome = _outcome(document)
            if isinstance(outcome, ChainError):
                raise outcome
        document = [document]
    if not isinstance(document, list) or len(document) != count:
        raise MalformedError(f"the answer is not one to {count} calls")
    found: dict[int, Any] = {}
    for each in document:
        number = each.get("id") if isinstance(each, dict) else None
        if type(number) is not int or not 0 <= number < count or number in found:
            raise MalformedError("an answer belongs to no call")
        found[number] = _outcome(each)
    return [found[number] for number in range(count)]


def _outcome(document: dict[str, Any]) -> Any:
    error = document.get("error")
    if error is None:
        if "result" not in document:
            return MalformedError("an answer has neither a result nor an error")
        return document["result"]
    if not isinstance(error, dict):
        return MalformedError("an error is no object")
    code, text = error.get("code"), error.get("message")
    code = code if type(code) is int else 0
    text = clean(text) if isinstance(text, str) else ""
    reason = _revert_reason(error.get("data"))
    if reason is None and code != _REVERT_CODE and "revert" not in text.lower():
        return RefusedError(code, text)
    if reason is None:
        reason = text.removeprefix(_REVERTED).removeprefix(":").strip()
    return RevertedError(reason)


def _revert_reason(data: Any) -> str | None:
    """What a contract said, wherever this kind of node puts that."""
    if isinstance(data, dict):
        data = data.get("data")
    if not isinstance(data, str):
        return None
    data = data.removeprefix("Reverted ")
    return decode_revert(bytes.fromhex(data[2:])) if _HEX.fullmatch(data) else None


def read_quantity(value: Any) -> int:
    """A number as JSON-RPC writes it: ``0x`` and hex digits.

    :raises MalformedError: it is none.
    """
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise MalformedError("a number is none")
    return int(value, 16)


def read_data(value: Any) -> bytes:
    """Bytes as JSON-RPC writes them: ``0x`` and two hex digits for each.

    :raises MalformedError: it is none.
    """
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise MalformedError("data are none")
    return bytes.fromhex(value[2:])
