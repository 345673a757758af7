"""What a request runs into that has passed: rates, quotas, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.config.model_services import Service


def limits_of(seller: Service | Listener, user: str) -> list[dict[str, Any]]:
    """The limits of a service, or a forward proxy, in the order in which they are asked.

    Those without a ``user`` are not charged, and use up no quota.
    """
    found = [
        {"limit": "rate", **rate.model_dump(), "burst": rate.burst or rate.requests}
        for rate in seller.rates
    ]
    if user:
        found += [{"limit": "quota", **quota.model_dump()} for quota in seller.quotas]
        if seller.credits is not None:
            found.append({"limit": "credits", **_dumped(seller.credits)})
    return found


def in_words(limits: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What kind of limit, and what it says."""
    for each in limits:
        match each["limit"]:
            case "rate":
                most = f"{each['requests']} requests a {each['per']}"
                yield "rate", f"{most}, {each['burst']} of them at once, by {each['by']}"
            case "quota":
                yield "quota", f"{each['units']} units a {each['per']}, by {each['by']}"
            case _:
                yield "credits", _price(each)


def _dumped(sold: ServiceCredits) -> dict[str, Any]:
    """What has a meaning of the keys: where documents say the prices, it is little."""
    if sold.source == "chain":
        return sold.model_dump(include={"source", "assumed"})
    left_out = {"fixed": {"maximum", "assumed"}, "dynamic": set[str](), "units": {"amount"}}
    return sold.model_dump(exclude=left_out[sold.charge], exclude_none=True)


def _price(sold: Mapping[str, Any]) -> str:
    if sold["source"] == "chain":
        return "what the documents of the caller's subscription say, on the chain"
    charge = {
        "fixed": f"{sold.get('amount')} a request",
        "dynamic": f"what the upstream says, else {sold.get('amount')}",
        "units": "one for each unit",
    }[sold["charge"]]
    bounds = [
        f"{words} {sold[key]}"
        for key, words in (("minimum", "at least"), ("maximum", "at most"))
        if key in sold
    ]
    return ", ".join([charge, *bounds, f"of pool {sold['pool']}"])
