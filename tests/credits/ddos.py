"""Documents of a marketplace, as far as prices are in them."""

from __future__ import annotations

from typing import Any

USER = "0x" + "Aa" * 20
OWNER = "0x" + "Bb" * 20
CONTRACT = "0x" + "Cc" * 20
TOKEN_ID = "0d" * 32


def service_ddo(charge: Any = None, owner: Any = OWNER, **attributes: Any) -> dict[str, Any]:
    """A service's; ``attributes`` are those of its NFT, such as ``amount``."""
    return {
        "proof": {"creator": owner},
        "publicKey": [{"owner": "0x" + "ee" * 20}],
        "service": [
            {"type": "access"},
            {"type": "metadata", "attributes": {"main": {"webService": {"chargeType": charge}}}},
            {
                "type": "nft-access",
                "attributes": {
                    "main": {"nftAttributes": attributes},
                    "serviceAgreementTemplate": {
                        "conditions": [
                            {"name": "access", "parameters": []},
                            {
                                "name": "nftHolder",
                                "parameters": [
                                    {"name": "_tokenId", "value": TOKEN_ID},
                                    {"name": "_contractAddress", "value": CONTRACT},
                                ],
                            },
                        ]
                    },
                },
            },
            {"type": "nft-access", "attributes": "only the first one counts"},
        ],
    }


def subscription_ddo(kind: Any = None) -> dict[str, Any]:
    """A subscription's."""
    main = {"subscription": {"subscriptionType": kind}}
    return {"service": [{"type": "metadata", "attributes": {"main": main}}]}
