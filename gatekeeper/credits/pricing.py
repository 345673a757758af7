"""What a request needs and what it costs, as the documents (DDOs) of a Nevermined service say.

Nothing here asks anybody: documents and numbers go in, numbers come out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from gatekeeper.errors import GatekeeperError

#: No number of credits is larger: what a signed integer of 64 bits holds, as stores have them.
MAX_CREDITS: Final = 2**63 - 1

E = TypeVar("E", bound=Enum)

_DECIMAL: Final = re.compile(r"[0-9]{1,30}", re.ASCII)
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_TOKEN_ID: Final = re.compile(r"(?:did:nv:|0x)?([0-9a-fA-F]{64})", re.ASCII)


class DocumentError(GatekeeperError):
    """A DDO says something that cannot be understood; the message names the place in it."""


class SubscriptionType(Enum):
    """What a subscription sells: access for a time, credits, or both of them."""

    TIME = "time"
    CREDITS = "credits"
    BOTH = "both"


class ChargeType(Enum):
    """Who says what a request costs: the document alone, or the upstream, request by request."""

    FIXED = "fixed"
    DYNAMIC = "dynamic"


class Token(NamedTuple):
    """What is paid with: the NFT contract's address (in lower case), and the id in it."""

    contract: str
    id: int


class Need(NamedTuple):
    """What a request asks of who makes it: so many credits are there, so many are set aside."""

    required: int
    reserved: int


#: Asks nothing.
FREE: Final = Need(0, 0)


@dataclass(frozen=True, slots=True)
class Pricing:
    """The prices of one service under one subscription; numbers are credits.

    ``owner`` is the service owner's address in lower case, empty where there is none. ``maximum``
    bounds what the upstream states, and nothing else. ``required`` is what must be there for a
    request that may cost something. ``token`` may be missing only where nobody pays.
    """

    subscription: SubscriptionType = SubscriptionType.CREDITS
    charge: ChargeType = ChargeType.FIXED
    amount: int = 1
    minimum: int | None = None
    maximum: int | None = None
    required: int = 1
    owner: str = ""
    token: Token | None = None

    @classmethod
    def from_ddo(
        cls, service_ddo: Mapping[str, Any], subscription_ddo: Mapping[str, Any]
    ) -> Pricing:
        """Read the two documents: the service's, and that of the subscription which opens it.

        :raises DocumentError: one of them is malformed.
        """
        subscription = _one_of(
            SubscriptionType,
            _main(subscription_ddo),
            "subscription",
            "subscriptionType",
            default=SubscriptionType.CREDITS,
        )
        charge = _one_of(
            ChargeType, _main(service_ddo), "webService", "chargeType", default=ChargeType.FIXED
        )
        owner = _owner(service_ddo)
        if subscription is SubscriptionType.TIME:
            return cls(subscription, charge, owner=owner)
        main = _inside(_service(service_ddo, "nft-access"), "attributes", "main")
        numbers = _inside(main, "nftAttributes")
        amount = _credits(numbers, "amount")
        required = _credits(numbers, "minCreditsRequired")
        return cls(
            subscription,
            charge,
            1 if amount is None else amount,
            _credits(numbers, "minCreditsToCharge"),
            _credits(numbers, "maxCreditsToCharge"),
            1 if required is None else required,
            owner,
            _token(service_ddo),
        )

    @property
    def ceiling(self) -> int | None:
        """The most that a request can cost; ``None``: the upstream may ask for any price."""
        if self.charge is ChargeType.FIXED:
            return self.price(None)
        if self.maximum is None:
            return None
        return max(self.maximum, self.price(None))

    def is_exempt(self, user: str) -> bool:
        """Whether this user (an address) pays nothing, whatever the request: time, or the owner."""
        if self.subscription is SubscriptionType.TIME:
            return True
        return bool(self.owner) and user.lower() == self.owner

    def need(self, user: str, assumed: int = 1) -> Need:
        """What must be there before a request of ``user`` is forwarded.

        ``assumed`` is set aside at the least where the upstream may ask for any price.
        """
        ceiling = self.ceiling
        if self.is_exempt(user) or ceiling == 0:
            return FREE
        if ceiling is None:
            ceiling = max(assumed, self.minimum or 0, self.price(None))
        return Need(max(self.required, ceiling), ceiling)

    def price(self, requested: int | None) -> int:
        """What a request costs whose upstream ``requested`` so much (``None``: it did not say)."""
        if self.charge is ChargeType.DYNAMIC and requested is not None:
            price = max(requested, self.minimum or 0)
            return price if self.maximum is None else min(price, self.maximum)
        if requested == 0 or self.amount == 0:
            return 0
        return max(self.amount, self.minimum or 0)

    def cost(self, user: str, status: int, requested: int | None) -> int:
        """What ``user`` is charged for a request that its upstream answered with ``status``."""
        if not 200 <= status < 300 or self.is_exempt(user):
            return 0
        return self.price(requested)


def read_requested(values: Iterable[bytes]) -> int | None:
    """What an upstream requests: the values of its ``NVMCreditsConsumed`` fields.

    ``None`` where there is none, more than one, or no non-negative integer. What no store could
    hold is :data:`MAX_CREDITS`: too much is not nothing.
    """
    found = list(values)
    if len(found) != 1:
        return None
    digits = found[0].strip(b" \t")
    if not digits.isdigit():  # of bytes: ASCII only
        return None
    digits = digits.lstrip(b"0") or b"0"
    return MAX_CREDITS if len(digits) > 19 else min(int(digits), MAX_CREDITS)


def read_address(value: object) -> str | None:
    """An account's or contract's address in lower case; ``None`` where it is none."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        return None
    return value.lower()


def read_token_id(value: object) -> int | None:
    """A token id: 64 hex digits, with or without ``0x`` or ``did:nv:``; ``None`` if it is none."""
    matched = _TOKEN_ID.fullmatch(value) if isinstance(value, str) else None
    return None if matched is None else int(matched[1], 16)


class _Place(NamedTuple):
    """A value in a document, and where that is."""

    path: str
    value: Any


def _service(document: Mapping[str, Any], kind: str) -> _Place:
    """The first entry under ``service`` of this type."""
    path = f"service[{kind}]"
    services = document.get("service")
    if services is not None and not isinstance(services, list):
        raise DocumentError("`service` must be a list")
    for service in services or ():
        if isinstance(service, Mapping) and service.get("type") == kind:
            return _Place(path, service)
    return _Place(path, None)


def _main(document: Mapping[str, Any]) -> _Place:
    return _inside(_service(document, "metadata"), "attributes", "main")


def _inside(place: _Place, *steps: str) -> _Place:
    """What is further in; nothing where a step is missing."""
    path, value = place
    for step in steps:
        if value is not None and not isinstance(value, Mapping):
            raise DocumentError(f"`{path}` must be an object")
        path = f"{path}.{step}"
        value = None if value is None else value.get(step)
    return _Place(path, value)


def _one_of(kind: type[E], place: _Place, *steps: str, default: E) -> E:
    path, value = _inside(place, *steps)
    if value is None:
        return default
    for member in kind:
        if value == member.value:
            return member
    names = ", ".join(f"`{member.value}`" for member in kind)
    raise DocumentError(f"`{path}` must be one of {names}")


def _credits(place: _Place, name: str) -> int | None:
    """A number of credits: a string of decimal digits."""
    path, value = _inside(place, name)
    if value is None:
        return None
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise DocumentError(f"`{path}` must be a string of decimal digits")
    number = int(value)
    if number > MAX_CREDITS:
        raise DocumentError(f"`{path}` must not be more than {MAX_CREDITS}")
    return number


def _token(document: Mapping[str, Any]) -> Token:
    template = _inside(_service(document, "nft-access"), "attributes", "serviceAgreementTemplate")
    holder = _named(_inside(template, "conditions"), "nftHolder")
    parameters = _inside(holder, "parameters")
    path, value = _inside(_named(parameters, "_contractAddress"), "value")
    contract = read_address(value)
    if contract is None:
        raise DocumentError(f"`{path}` must be an address: `0x` and 40 hex digits")
    path, value = _inside(_named(parameters, "_tokenId"), "value")
    token_id = read_token_id(value)
    if token_id is None:
        raise DocumentError(f"`{path}` must be a token id: 64 hex digits")
    return Token(contract, token_id)


def _named(place: _Place, name: str) -> _Place:
    """The first of a list's entries that has this name."""
    path, entries = place
    if entries is not None and not isinstance(entries, list):
        raise DocumentError(f"`{path}` must be a list")
    path = f"{path}[{name}]"
    for entry in entries or ():
        if isinstance(entry, Mapping) and entry.get("name") == name:
            return _Place(path, entry)
    return _Place(path, None)


def _owner(document: Mapping[str, Any]) -> str:
    """Who made the service's document, or else whose key is the first in it."""
    creator = _inside(_Place("proof", document.get("proof")), "creator").value
    keys = document.get("publicKey")
    first = keys[0] if isinstance(keys, list) and keys else None
    key_owner = first.get("owner") if isinstance(first, Mapping) else None
    return read_address(creator) or read_address(key_owner) or ""
