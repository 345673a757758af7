from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.credits.pricing import (
    FREE,
    MAX_CREDITS,
    ChargeType,
    DocumentError,
    Need,
    Pricing,
    SubscriptionType,
    Token,
    read_address,
    read_requested,
    read_token_id,
)
from tests.credits.ddos import CONTRACT, OWNER, TOKEN_ID, USER, service_ddo, subscription_ddo

FIXED, DYNAMIC = ChargeType.FIXED, ChargeType.DYNAMIC


def read(charge: Any = None, kind: Any = None, **attributes: Any) -> Pricing:
    return Pricing.from_ddo(service_ddo(charge, **attributes), subscription_ddo(kind))


# --- documents ----------------------------------------------------------------------------


def test_everything_is_read() -> None:
    pricing = read(
        "dynamic",
        "both",
        amount="2",
        minCreditsToCharge="1",
        maxCreditsToCharge="10",
        minCreditsRequired="5",
    )
    assert pricing == Pricing(
        SubscriptionType.BOTH,
        DYNAMIC,
        amount=2,
        minimum=1,
        maximum=10,
        required=5,
        owner=OWNER.lower(),
        token=Token(CONTRACT.lower(), int(TOKEN_ID, 16)),
    )


def test_what_is_missing_has_a_default() -> None:
    assert read() == Pricing(owner=OWNER.lower(), token=Token(CONTRACT.lower(), int(TOKEN_ID, 16)))
    assert read(minCreditsToCharge=None).minimum is None
    defaults = Pricing()
    assert (defaults.subscription, defaults.charge) == (SubscriptionType.CREDITS, FIXED)
    assert (defaults.amount, defaults.required) == (1, 1)


def test_a_subscription_for_a_time_needs_no_prices() -> None:
    pricing = Pricing.from_ddo({}, subscription_ddo("time"))
    assert pricing.is_exempt(USER)
    assert pricing.token is None


@pytest.mark.parametrize(
    ("proof", "keys", "owner"),
    [
        ({"creator": OWNER}, [{"owner": USER}], OWNER.lower()),
        ({}, [{"owner": USER}], USER.lower()),
        (None, [{"owner": USER}, {"owner": OWNER}], USER.lower()),
        ({"creator": "somebody"}, [{"owner": USER}], USER.lower()),
        (None, [], ""),
        (None, None, ""),
        (None, ["x"], ""),
        (None, [{"owner": 5}], ""),
    ],
)
def test_the_owner(proof: Any, keys: Any, owner: str) -> None:
    document = service_ddo() | {"proof": proof, "publicKey": keys}
    assert Pricing.from_ddo(document, {}).owner == owner


@pytest.mark.parametrize(
    "value",
    [1, 1.0, True, "", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1", "١", "9" * 31, [], {}],  # noqa: RUF001
)
@pytest.mark.parametrize(
    "name", ["amount", "minCreditsToCharge", "maxCreditsToCharge", "minCreditsRequired"]
)
def test_a_number_of_credits_is_a_decimal_string(name: str, value: Any) -> None:
    with pytest.raises(DocumentError) as caught:
        read(**{name: value})
    assert f"service[nft-access].attributes.main.nftAttributes.{name}" in str(caught.value)


def test_a_number_of_credits_fits_into_a_store() -> None:
    assert read(amount=str(MAX_CREDITS)).amount == MAX_CREDITS
    with pytest.raises(DocumentError, match="more than"):
        read(amount=str(MAX_CREDITS + 1))
    assert read(amount="007").amount == 7


def broken(*path: Any, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(service_ddo())
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


_CONDITIONS = ("service", 2, "attributes", "serviceAgreementTemplate", "conditions")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"service": {}}, "`service` must be a list"),
        ({}, "conditions[nftHolder].parameters[_contractAddress].value` must be an address"),
        (broken("service", 1, "attributes", value=[]), "`service[metadata].attributes` must be an"),
        (
            broken("service", 1, "attributes", "main", "webService", "chargeType", value="Fixed"),
            "`service[metadata].attributes.main.webService.chargeType` must be one of `fixed`, `dy",
        ),
        (
            broken("service", 1, "attributes", "main", "webService", "chargeType", value=[]),
            "chargeType` must be one of",
        ),
        (broken("service", 2, "attributes", "main", value="x"), "attributes.main` must be an obj"),
        (broken(*_CONDITIONS, value={}), "conditions` must be a list"),
        (broken(*_CONDITIONS, value=["x"]), "conditions[nftHolder].parameters[_contractAddress]"),
        (broken(*_CONDITIONS, 1, "parameters", value="x"), "parameters` must be a list"),
        (broken(*_CONDITIONS, 1, "parameters", 0, "value", value=7), "[_tokenId].value` must be a"),
        (broken(*_CONDITIONS, 1, "parameters", 1, "value", value="0x12"), "must be an address"),
    ],
)
def test_what_is_malformed_is_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Pricing.from_ddo(document, {})
    assert message in str(caught.value)


def test_the_kind_of_subscription_is_one_of_three() -> None:
    for kind in SubscriptionType:
        assert read(kind=kind.value).subscription is kind
    with pytest.raises(DocumentError, match=r"subscription\.subscriptionType` must be one of"):
        read(kind="free")


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["service", "type", "attributes", "main", "name", "proof", "creator"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["service", "proof", "publicKey"]), _json), _json)
def test_any_document_is_read_or_refused(service: dict[str, Any], kind: Any) -> None:
    with suppress(DocumentError):  # nothing else is raised
        assert Pricing.from_ddo(service, subscription_ddo(kind)).price(None) >= 0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0d" * 32, int("0d" * 32, 16)),
        ("0x" + "0D" * 32, int("0d" * 32, 16)),
        ("did:nv:" + "0d" * 32, int("0d" * 32, 16)),
        ("0d" * 31, None),
        ("0x0x" + "0d" * 32, None),
        ("g" * 64, None),
        ("0d" * 32 + "\n", None),
        (7, None),
    ],
)
def test_token_ids(value: Any, number: int | None) -> None:
    assert read_token_id(value) == number


def test_addresses() -> None:
    assert read_address(USER) == USER.lower()
    for wrong in (USER[2:], USER + "a", USER + "\n", "0X" + USER[2:], None, 5):
        assert read_address(wrong) is None


# --- what the upstream says ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "requested"),
    [
        ([], None),
        ([b"0"], 0),
        ([b"7"], 7),
        ([b" 7\t"], 7),
        ([b"007"], 7),
        ([b"7", b"7"], None),
        ([b"7, 7"], None),
        ([b""], None),
        ([b"-1"], None),
        ([b"+1"], None),
        ([b"1.5"], None),
        ([b"0x10"], None),
        ([b"1_000"], None),
        (["٣".encode()], None),
        ([b"\xb2"], None),
        ([str(MAX_CREDITS).encode()], MAX_CREDITS),
        ([str(MAX_CREDITS + 1).encode()], MAX_CREDITS),
        ([b"9" * 60_000], MAX_CREDITS),
        ([b"0" * 60_000 + b"5"], 5),
    ],
)
def test_the_requested_price(values: list[bytes], requested: int | None) -> None:
    assert read_requested(values) == requested


# --- prices -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pricing", "requested", "price"),
    [
        # Dynamic and requested: what is requested, raised to the minimum, cut at the maximum.
        (Pricing(charge=DYNAMIC, amount=5), 3, 3),
        (Pricing(charge=DYNAMIC, amount=5), 0, 0),
        (Pricing(charge=DYNAMIC, amount=5, minimum=2), 1, 2),
        (Pricing(charge=DYNAMIC, amount=5, minimum=2), 0, 2),
        (Pricing(charge=DYNAMIC, amount=5, minimum=2, maximum=4), 9, 4),
        (Pricing(charge=DYNAMIC, amount=0, maximum=4), 9, 4),
        (Pricing(charge=DYNAMIC, amount=5, maximum=0), 9, 0),
        # As numbers: "10" is more than "9".
        (Pricing(charge=DYNAMIC, amount=5, minimum=9), 10, 10),
        (Pricing(charge=DYNAMIC, amount=5, maximum=10), 9, 9),
        # Dynamic, and the upstream does not say: as if it were fixed.
        (Pricing(charge=DYNAMIC, amount=5), None, 5),
        (Pricing(charge=DYNAMIC, amount=5, minimum=7), None, 7),
        (Pricing(charge=DYNAMIC, amount=0, minimum=7), None, 0),
        (Pricing(charge=DYNAMIC, amount=5, maximum=3), None, 5),
        # Fixed: the amount, not less than the minimum, whatever is requested...
        (Pricing(amount=5), None, 5),
        (Pricing(amount=5), 3, 5),
        (Pricing(amount=5, minimum=7), None, 7),
        (Pricing(amount=9, minimum=10), 1, 10),
        (Pricing(amount=5, maximum=1), 3, 5),
        # ... but free where nothing is requested, or the amount is 0.
        (Pricing(amount=5, minimum=7), 0, 0),
        (Pricing(amount=0, minimum=7), None, 0),
        (Pricing(amount=0, minimum=7), 3, 0),
    ],
)
def test_the_price(pricing: Pricing, requested: int | None, price: int) -> None:
    assert pricing.price(requested) == price
    assert pricing.cost(USER, 200, requested) == price


@pytest.mark.parametrize("status", [0, 100, 101, 199, 300, 302, 400, 404, 429, 500, 503])
def test_only_a_2xx_of_the_upstream_is_charged(status: int) -> None:
    assert Pricing(amount=5).cost(USER, status, 7) == 0


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
def test_every_2xx_is_charged(status: int) -> None:
    assert Pricing(amount=5).cost(USER, status, None) == 5


def test_who_is_exempt_is_not_charged() -> None:
    assert Pricing(amount=5, owner=USER.lower()).cost(USER, 200, 7) == 0
    assert Pricing(SubscriptionType.TIME, amount=5).cost(USER, 200, 7) == 0
    assert Pricing(SubscriptionType.BOTH, amount=5).cost(USER, 200, 7) == 5


# --- admission ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pricing", "need"),
    [
        # The default of what is required is 1; more where the request may cost more.
        (Pricing(amount=1), Need(1, 1)),
        (Pricing(amount=5), Need(5, 5)),
        (Pricing(amount=5, minimum=7), Need(7, 7)),
        (Pricing(amount=5, required=3), Need(5, 5)),
        (Pricing(amount=5, required=100), Need(100, 5)),
        (Pricing(amount=5, required=0), Need(5, 5)),
        (Pricing(amount=5, maximum=9), Need(5, 5)),
        # A dynamic price may be the maximum, and what is not stated may be more than that.
        (Pricing(charge=DYNAMIC, amount=5, maximum=9), Need(9, 9)),
        (Pricing(charge=DYNAMIC, amount=5, maximum=3), Need(5, 5)),
        (Pricing(charge=DYNAMIC, amount=0, maximum=9), Need(9, 9)),
        (Pricing(charge=DYNAMIC, amount=5, maximum=9, required=20), Need(20, 9)),
        # Without a maximum nobody knows: at least what the operator assumes.
        (Pricing(charge=DYNAMIC, amount=5), Need(10, 10)),
        (Pricing(charge=DYNAMIC, amount=50), Need(50, 50)),
        (Pricing(charge=DYNAMIC, amount=0, minimum=20), Need(20, 20)),
        # What is free, the owner and a time ask nothing.
        (Pricing(amount=0), FREE),
        (Pricing(amount=0, required=5), FREE),
        (Pricing(charge=DYNAMIC, amount=0, maximum=0), FREE),
        (Pricing(SubscriptionType.TIME, amount=5), FREE),
        (Pricing(SubscriptionType.BOTH, amount=5), Need(5, 5)),
        (Pricing(amount=5, owner=USER.lower()), FREE),
        (Pricing(amount=5, owner=OWNER.lower()), Need(5, 5)),
        (Pricing(amount=5, owner=""), Need(5, 5)),
    ],
)
def test_what_is_needed(pricing: Pricing, need: Need) -> None:
    assert pricing.need(USER, assumed=10) == need


def test_an_unknown_user_is_not_an_unknown_owner() -> None:
    assert not Pricing(owner="").is_exempt("")


# --- properties ---------------------------------------------------------------------------

_numbers = st.integers(0, 30) | st.integers(0, MAX_CREDITS)
_pricings = st.builds(
    Pricing,
    st.sampled_from(SubscriptionType),
    st.sampled_from(ChargeType),
    _numbers,
    st.none() | _numbers,
    st.none() | _numbers,
    _numbers,
    st.sampled_from(["", USER.lower(), OWNER.lower()]),
)
_requested = st.none() | _numbers


@given(_pricings, st.integers(0, 999), _requested)
def test_a_charge_is_never_negative_and_never_too_large(
    pricing: Pricing, status: int, requested: int | None
) -> None:
    assert 0 <= pricing.cost(USER, status, requested) <= MAX_CREDITS


@given(_pricings, _numbers)
def test_a_stated_price_is_never_above_the_maximum(pricing: Pricing, requested: int) -> None:
    if pricing.charge is DYNAMIC and pricing.maximum is not None:
        assert pricing.price(requested) <= pricing.maximum


@given(_pricings, _requested)
def test_a_charge_is_never_below_the_minimum_unless_free(
    pricing: Pricing, requested: int | None
) -> None:
    price = pricing.price(requested)
    minimum = pricing.minimum or 0
    if pricing.charge is DYNAMIC and pricing.maximum is not None:
        minimum = min(minimum, pricing.maximum)
    free = price == 0 and (requested == 0 or pricing.amount == 0)
    assert price >= minimum or free


@given(_pricings, st.integers(0, 999), _requested)
def test_a_request_never_costs_more_than_it_reserves(
    pricing: Pricing, status: int, requested: int | None
) -> None:
    need = pricing.need(USER)
    assert need.required >= need.reserved >= 0
    if pricing.ceiling is not None:
        assert pricing.cost(USER, status, requested) <= need.reserved


@given(_pricings, st.integers(0, 999), _requested)
def test_what_asks_nothing_costs_nothing(
    pricing: Pricing, status: int, requested: int | None
) -> None:
    if pricing.need(USER, assumed=1) == FREE:
        assert pricing.cost(USER, status, requested) == 0
