"""The model of the chain: where credits are asked for, and who burns them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gatekeeper.config import values
from gatekeeper.config.fields import (
    Bind,
    Count,
    Flag,
    Gwei,
    HttpUrl,
    Multiplier,
    Seconds,
    Section,
    Units,
    Words,
    Years,
)


class Credits(Section):
    """Where balances and prices are asked for; see `services.credits`."""

    rpc_url: HttpUrl | None = Field(
        default=None,
        repr=False,  # it may hold a key
        description='`source = "chain"`: a node of the chain (JSON-RPC over HTTP).',
    )
    chain_id: Count | None = Field(
        default=None,
        description="The chain's number (EIP-155). The node must say the same.",
    )
    marketplace_url: Annotated[str, AfterValidator(values.check_http_url), Words("URL")] | None = (
        Field(
            default=None,
            description='`source = "chain"`: where the documents of services are asked for.',
        )
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that both are verified with; the system's if "
        "left out.",
    )
    timeout: Seconds = Field(default=10.0, description="Both must answer within this time.")
    balance_ttl: Seconds = Field(
        default=30.0, description="A balance is believed for so long, less what is used meanwhile."
    )
    lease_ttl: Seconds = Field(
        default=3600.0,
        description="What a process has set aside of accounts is free again for others when it has "
        "not been heard of for so long.",
    )
    price_ttl: Seconds = Field(default=300.0, description="Prices are believed for so long.")
    keep_ledger: Years = Field(
        default=400 * 86400.0,
        ge=86400.0,
        description="What is settled, and the log of it, is deleted after so long: charges that "
        "are burned, their settlements, and grants, whose ids may be used again then. At least a "
        "day. What is owed stays.",
    )
    on_chain_outage: Literal["refuse", "admit"] = Field(
        default="refuse",
        description="While balances cannot be read: `refuse` with 503, or `admit` and charge.",
    )


class Burner(Section):
    """What is metered and owed on the chain is burned there, with a key that may do so.

    `twistd gatekeeper-burner` does it in a process of its own, or the daemon does it itself.
    """

    enabled: Flag = Field(
        default=False, description="Burn in the daemon itself, which then has the key."
    )
    interval: Seconds = Field(
        default=3600.0, description="Burn a payer's credits when the oldest has waited for so long."
    )
    amount: Count | None = Field(
        default=None, description="Or when they come to so many; only by time if left out."
    )
    batch: Annotated[Count, Field(le=500)] = Field(
        default=20, description="Payers whose credits are burned with one transaction."
    )
    poll: Seconds = Field(default=5.0, description="The chain and the store are asked this often.")
    confirmations: Annotated[Units, Field(le=100_000)] = Field(
        default=5, description="Blocks that must stand on a burn's own before it is final."
    )
    retries: Annotated[Units, Field(le=1_000)] = Field(
        default=3,
        description="What the contract refuses is tried again so often; then its charges are in "
        "error, until an operator wants them to be tried again.",
    )
    keyfile: Path | None = Field(
        default=None,
        description="The key of the account that burns, as a wallet's file (Web3 Secret Storage). "
        "The account needs the contract's operator role, and gas.",
    )
    keyfile_password: SecretStr | None = Field(default=None, description="Opens `keyfile`.")
    mnemonic: SecretStr | None = Field(
        default=None, description="In place of `keyfile`: the wallet's words (BIP-39)."
    )
    derivation_path: Annotated[
        str, Field(pattern=r"^m(/[0-9]{1,10}'?){1,10}$"), Words("string")
    ] = Field(
        default="m/44'/60'/0'/0/0",
        description="With `mnemonic`: which of the wallet's accounts (BIP-44).",
    )
    max_fee_gwei: Gwei = Field(
        default=Decimal(200),
        description="The most that is offered for a unit of gas; while gas costs more, nothing is "
        "burned. What is paid is what it costs.",
    )
    max_priority_gwei: Gwei = Field(
        default=Decimal(50), description="The most of it that is offered to who makes the block."
    )
    gas_multiplier: Multiplier = Field(
        default=Decimal("1.25"),
        description="The gas that the node estimates is raised by this, for a burn may need more "
        "when it comes to it.",
    )
    gas_price_multiplier: Multiplier = Field(
        default=Decimal(1), description="The fees that the node suggests are raised by this."
    )
    max_gas: Count = Field(
        default=10_000_000,
        description="The most gas that a transaction may use. Batches that need more are halved.",
    )
    stuck: Seconds = Field(
        default=120.0,
        description="A transaction that is in no block after so long is offered again for more.",
    )
    resend: Seconds = Field(
        default=15.0, description="A transaction that is in no block is sent again this often."
    )
    metrics: Bind | None = Field(
        default=None,
        description="Where `twistd gatekeeper-burner` answers `/healthz`, `/readyz` and "
        "`/metrics`, to everybody who can connect; nowhere if left out.",
    )
