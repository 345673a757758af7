"""What is sold: services with their documents, the marketplace that has these, and the origin."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.secret_keys import secret_key
from gatekeeper.usage.records import Account
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS, Contract
from tests.credits.ddos import service_ddo, subscription_ddo
from tests.origin import Conversation, Origin

PHRASE: Final = "31415926535897932384626433832795"
SUBSCRIPTION: Final = "5b" * 32
TOKEN_ID: Final = 13


class Sold(NamedTuple):
    """A service: its DID, which contract it is paid in, who says the price, and its numbers."""

    did: str
    contract: str
    charge: str
    numbers: Mapping[str, str]


FIXED: Final = Sold("did:nv:" + "f1" * 32, UPGRADEABLE, "fixed", {"amount": "3"})
DYNAMIC: Final = Sold(
    "did:nv:" + "d1" * 32,
    WITHOUT_BLOCKS,
    "dynamic",
    {"amount": "1", "minCreditsToCharge": "2", "maxCreditsToCharge": "9"},
)
FREE: Final = Sold("did:nv:" + "f0" * 32, UPGRADEABLE, "fixed", {"amount": "0"})


class Kind(NamedTuple):
    """A request, the status that the origin answers with, and what is right to charge for it."""

    sold: Sold
    path: str
    status: int
    cost: int


KINDS: Final = (
    Kind(FIXED, "/plain", 200, 3),
    Kind(FIXED, "/asks/0", 200, 0),  # "NVMCreditsConsumed: 0" is free at any price
    Kind(FIXED, "/asks/7", 200, 3),  # a fixed price is not the upstream's to change
    Kind(FIXED, "/missing", 404, 0),
    Kind(FIXED, "/broken", 500, 0),
    Kind(DYNAMIC, "/plain", 200, 2),
    Kind(DYNAMIC, "/asks/1", 200, 2),
    Kind(DYNAMIC, "/asks/5", 200, 5),
    Kind(DYNAMIC, "/asks/70", 200, 9),
    Kind(DYNAMIC, "/broken", 500, 0),
    Kind(FREE, "/asks/7", 200, 0),
)

#: What one request of each kind comes to, by contract.
COST_OF_ALL: Final = {
    contract: sum(kind.cost for kind in KINDS if kind.sold.contract == contract)
    for contract in (UPGRADEABLE, WITHOUT_BLOCKS)
}


def furnish(origin: Origin, contracts: Mapping[str, Contract]) -> None:
    """Let an origin answer the requests, and for the marketplace."""
    for sold in (FIXED, DYNAMIC, FREE):
        document = service_ddo(sold.charge, **sold.numbers)
        *_, access, _ = document["service"]
        agreement = access["attributes"]["serviceAgreementTemplate"]
        agreement["conditions"][1]["parameters"] = [
            {"name": "_contractAddress", "value": contracts[sold.contract].address},
            {"name": "_tokenId", "value": f"{TOKEN_ID:064x}"},
        ]
        _publish(origin, sold.did, document)
    _publish(origin, "did:nv:" + SUBSCRIPTION, subscription_ddo())
    for kind in KINDS:
        origin.on[kind.path] = _serve


def _publish(origin: Origin, did: str, document: Any) -> None:
    path = f"/api/v1/metadata/assets/ddo/{did}"
    origin.on[path] = lambda conversation: conversation.answer(document)


def _serve(conversation: Conversation) -> None:
    path = conversation.request.path
    if path == "/missing":
        conversation.answer({}, "404 Not Found", "NVMCreditsConsumed: 7")
    elif path == "/broken":
        conversation.answer({}, "500 Internal Server Error", "NVMCreditsConsumed: 7")
    elif path == "/plain":
        conversation.answer({})
    else:
        conversation.answer({}, "200 OK", f"NVMCreditsConsumed: {path.rpartition('/')[2]}")


def mint_token(sold: Sold, holder: str, origin: Origin) -> str:
    """An access token of a holder, as Nevermined's node makes them."""
    now = int(time.time())
    claims = {
        "userId": holder,
        "did": sold.did,
        "subscriptionDid": SUBSCRIPTION,
        "owner": "0x" + "ee" * 20,
        "ercType": 1155,
        "endpoints": [f"{origin.url}/(.*)"],
        "headers": {"authentication": {"type": "none"}},
        "iat": now,
        "exp": now + 3600,
    }
    cipher = TokenCipher(secret_key(PHRASE, "nevermined-digits"))
    return cipher.encrypt(json.dumps(claims).encode())


def account(contract: Contract, holder: str) -> Account:
    """What a holder pays out of, in one of the contracts."""
    return Account(contract.address.lower(), str(TOKEN_ID), holder.lower())
