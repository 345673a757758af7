"""Credits, rates and quotas: what is wrong with them is told, in a file as over the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.fields import Section
from gatekeeper.config.model import Settings
from gatekeeper.store.state import StoredService
from gatekeeper.stored_services import Planner
from tests.config.minimal import Configure, Problems

CHAIN = """
[credits]
rpc_url = "http://127.0.0.1:8545"
marketplace_url = "http://127.0.0.1:3100"
"""
TO = 'to = "http://127.0.0.1:10000"\n'
PUBLIC = {f'{TO}checkers = ["users"]': f"{TO}checkers = []"}
PROXY = 'bind = "127.0.0.1:3128"\n'
GATEWAY = 'bind = "127.0.0.1:8443"\n'

NEEDS_CHECKERS = "needs `checkers`: nobody can be charged otherwise"
NEEDS_USAGE = "needs `usage.enabled = true`"
FIXED = 'has no meaning where charge = "fixed"'
BY_UNITS = 'has no meaning where charge = "units"'
CHAINED = 'has no meaning where source = "chain"'


# --- what is good ---------------------------------------------------------------------------


def test_left_out(configure: Configure) -> None:
    (service,) = configure().services
    assert (service.credits, service.rates, service.quotas) == (None, (), ())


@pytest.mark.parametrize(
    "keys",
    [
        'credits = { source = "prepaid" }',
        'credits = { source = "prepaid", amount = 0, minimum = 0, required = 0 }',
        'credits = { source = "prepaid", charge = "dynamic", minimum = 5, maximum = 5 }',
        'credits = { source = "prepaid", charge = "units", assumed = 5 }',
        "rates = [{ requests = 1 }]",
        'rates = [{ requests = 1 }, { requests = 1, by = "key" }, { requests = 1, per = "hour" }]',
        'quotas = [{ units = 1, per = "day" }, { units = 1, per = "day", by = "key" }]',
        'quotas = [{ units = 5, assumed = 5, per = "month" }]',
        'credits = { source = "chain" }' + CHAIN,
        'credits = { source = "chain", assumed = 3 }' + CHAIN,
    ],
)
def test_what_can_be_sold(configure: Configure, keys: str) -> None:
    configure(keys)


def test_defaults(configure: Configure) -> None:
    (service,) = configure(
        'credits = { source = "prepaid" }\nrates = [{ requests = 5 }]\n'
        'quotas = [{ units = 9, per = "hour" }]'
    ).services
    assert service.credits is not None
    assert (service.credits.pool, service.credits.charge) == ("default", "fixed")
    assert (service.credits.amount, service.credits.required) == (1, 1)
    (rate,), (quota,) = service.rates, service.quotas
    assert (rate.per, rate.burst, rate.by) == ("second", None, "user")
    assert (quota.by, quota.assumed) == ("user", 1)


def test_rates_of_a_public_service(configure: Configure) -> None:
    configure('rates = [{ requests = 5, by = "client" }]', edit=PUBLIC)


def test_rates_without_usage(configure: Configure) -> None:
    configure("rates = [{ requests = 5 }]\n[usage]\nenabled = false")


def test_a_forward_proxy_sells_too(configure: Configure) -> None:
    keys = (
        'credits = { source = "prepaid", pool = "proxy" }\nrates = [{ requests = 5 }]\n'
        'quotas = [{ units = 9, per = "hour" }]\n'
    )
    listener = configure(edit={PROXY: PROXY + keys}).listeners[1]
    assert listener.credits is not None
    assert (listener.credits.pool, listener.rates[0].requests) == ("proxy", 5)


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credits", "found"),
    [
        (
            'source = "prepaid", minimum = 2, maximum = 1',
            [("minimum", "must not be more than"), ("maximum", FIXED)],
        ),
        (
            'source = "prepaid", charge = "dynamic", minimum = 2, maximum = 1',
            [("minimum", "must not be more than `maximum`")],
        ),
        (
            'source = "prepaid", charge = "units", minimum = 2, maximum = 1',
            [("minimum", "must not be more than `maximum`")],
        ),
        ('source = "prepaid", maximum = 1, assumed = 1', [("maximum", FIXED), ("assumed", FIXED)]),
        ('source = "prepaid", charge = "fixed", assumed = 2', [("assumed", FIXED)]),
        ('source = "prepaid", charge = "units", amount = 1', [("amount", BY_UNITS)]),
    ],
)
def test_prices_that_contradict_each_other(
    problems: Problems, credits: str, found: list[tuple[str, str]]
) -> None:
    reported = problems(f"credits = {{ {credits} }}")
    assert [path for path, _ in reported] == [f"services[0].credits.{key}" for key, _ in found]
    for (_, message), (_, start) in zip(reported, found, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize(
    "key",
    [
        'pool = "default"',
        'charge = "fixed"',
        "amount = 1",
        "minimum = 0",
        "maximum = 9",
        "required = 1",
    ],
)
def test_documents_say_the_prices(problems: Problems, key: str) -> None:
    """Even where it is the default that is said."""
    name = key.partition(" ")[0]
    reported = problems(f'credits = {{ source = "chain", {key} }}{CHAIN}')
    assert reported == [(f"services[0].credits.{name}", CHAINED)]


def test_there_is_nowhere_to_ask(problems: Problems) -> None:
    assert problems('credits = { source = "chain" }') == [
        ("services[0].credits.source", "`chain` needs `credits.rpc_url`"),
        ("services[0].credits.source", "`chain` needs `credits.marketplace_url`"),
    ]
    assert problems(
        'credits = { source = "chain" }\n[credits]\nrpc_url = "http://127.0.0.1:8545"'
    ) == [("services[0].credits.source", "`chain` needs `credits.marketplace_url`")]


def test_where_to_ask_cannot_be_read(problems: Problems) -> None:
    """Then it is not said that something is missing there."""
    reported = problems('credits = { source = "chain" }\n[credits]\ntimeout = -1')
    assert [path for path, _ in reported] == ["credits.timeout"]


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ('credits = { source = "prepaid" }', "credits"),
        ('quotas = [{ units = 1, per = "day" }]', "quotas"),
    ],
)
def test_nobody_to_charge(problems: Problems, keys: str, path: str) -> None:
    assert problems(keys, edit=PUBLIC) == [(f"services[0].{path}", NEEDS_CHECKERS)]
    unmetered = f"{keys}\n[usage]\nenabled = false"
    assert problems(unmetered) == [(f"services[0].{path}", NEEDS_USAGE)]
    assert problems(unmetered, edit=PUBLIC) == [
        (f"services[0].{path}", NEEDS_CHECKERS),
        (f"services[0].{path}", NEEDS_USAGE),
    ]


def test_whether_usage_is_enabled_cannot_be_read(problems: Problems) -> None:
    reported = problems('credits = { source = "prepaid" }\n[usage]\nenabled = "no"')
    assert [path for path, _ in reported] == ["usage.enabled"]


def test_more_is_assumed_than_there_is(problems: Problems) -> None:
    assert problems(
        'quotas = [{ units = 5, per = "day" }, { units = 4, per = "hour", assumed = 5 }]'
    ) == [("services[0].quotas[1].assumed", "must not be more than `units`")]


def test_two_of_a_kind(problems: Problems) -> None:
    assert problems(
        "rates = [{ requests = 1 }, { requests = 2, burst = 9 }]\n"
        'quotas = [{ units = 5, per = "day" }, { units = 5, per = "hour", by = "key" }, '
        '{ units = 9, per = "hour", by = "key" }]'
    ) == [
        ("services[0].rates[1]", "there is one per second by user already"),
        ("services[0].quotas[2]", "there is one per hour by key already"),
    ]


@pytest.mark.parametrize(
    ("keys", "path", "message"),
    [
        ("rates = [{ requests = 0 }]", "rates[0].requests", "must be more than 0"),
        ("rates = [{ requests = 1, burst = 0 }]", "rates[0].burst", "must be more than 0"),
        ("rates = [{}]", "rates[0].requests", "is required"),
        ('rates = [{ requests = 1, per = "day" }]', "rates[0].per", "must be `second`"),
        ("quotas = [{ units = 1 }]", "quotas[0].per", "is required"),
        ('quotas = [{ units = 1, per = "day", by = "client" }]', "quotas[0].by", "must be `user`"),
        ('quotas = [{ units = 1.5, per = "day" }]', "quotas[0].units", "must be a whole"),
        ("credits = {}", "credits.source", "is required"),
        ('credits = { source = "prepaid", amount = -1 }', "credits.amount", "must be at least 0"),
        ('credits = { source = "prepaid", pool = "a/b" }', "credits.pool", "must be 1 to 64"),
    ],
)  # fmt: skip
def test_values(problems: Problems, keys: str, path: str, message: str) -> None:
    ((where, what),) = problems(keys)
    assert where == f"services[0].{path}"
    assert what.startswith(message)


def test_a_table_that_cannot_be_read_is_not_judged(problems: Problems) -> None:
    """The rest of the service is."""
    reported = problems('rates = 1\nquotas = [{ units = 1, per = "day", assumed = 2 }]')
    assert [path for path, _ in reported] == ["services[0].rates"]


@pytest.mark.parametrize("key", ["credits", "rates", "quotas"])
def test_a_gateway_sells_nothing_itself(problems: Problems, key: str) -> None:
    value = {
        "credits": '{ source = "prepaid" }',
        "rates": "[{ requests = 1 }]",
        "quotas": '[{ units = 1, per = "day" }]',
    }[key]
    reported = problems(edit={GATEWAY: f"{GATEWAY}{key} = {value}\n"})
    assert (f"listeners[0].{key}", 'belongs to a listener with role = "forward"') in reported


def test_what_is_wrong_with_a_forward_proxy(problems: Problems) -> None:
    keys = (
        'credits = { source = "chain", amount = 1 }\n'
        'quotas = [{ units = 1, assumed = 2, per = "day" }]\n'
    )
    assert problems(edit={PROXY: PROXY + keys}) == [
        ("listeners[1].credits.amount", CHAINED),
        ("listeners[1].credits.source", "`chain` needs `credits.rpc_url`"),
        ("listeners[1].credits.source", "`chain` needs `credits.marketplace_url`"),
        ("listeners[1].quotas[0].assumed", "must not be more than `units`"),
    ]


# --- stored services ------------------------------------------------------------------------

STORED = {"name": "new", "from": "/new", "to": "http://origin.example", "checkers": ["users"]}


def planned(usage: bool = True, chain: bool = False, **keys: Any) -> list[tuple[str, str]]:
    """What is wrong with a service that the store has."""
    urls = {"rpc_url": "http://127.0.0.1:8545", "marketplace_url": "http://127.0.0.1:3100"}
    settings = Settings.model_validate(
        {
            "state_dir": Path("/nowhere"),
            "listeners": [{"name": "public", "role": "gateway", "bind": "127.0.0.1:8443"}],
            "checkers": {"users": CheckerTable("basic", Section())},
            "usage": {"enabled": usage},
            "credits": urls if chain else {},
        }
    )
    definition = json.dumps({**STORED, **keys})
    plan = Planner(settings, checker_types()).plan([StoredService("new", "v1", definition, 1.0)])
    assert (plan.problems == {}) is ("new" in plan.services)
    return [(path, message) for path, message in plan.problems.get("new", [])]


def test_stored_services_that_sell() -> None:
    assert planned(credits={"source": "prepaid", "charge": "units", "maximum": 5}) == []
    assert planned(chain=True, credits={"source": "chain"}) == []
    assert planned(rates=[{"requests": 5}], quotas=[{"units": 5, "per": "day"}]) == []


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (
            {"credits": {"source": "prepaid", "charge": "units", "minimum": 2, "maximum": 1}},
            [("credits.minimum", "must not be more than `maximum`")],
        ),
        ({"credits": {"source": "prepaid", "assumed": 2}}, [("credits.assumed", FIXED)]),
        (
            {"credits": {"source": "chain", "pool": "a"}},
            [
                ("credits.pool", CHAINED),
                ("credits.source", "`chain` needs `credits.rpc_url`"),
                ("credits.source", "`chain` needs `credits.marketplace_url`"),
            ],
        ),
        (
            {"credits": {"source": "prepaid"}, "checkers": []},
            [("credits", NEEDS_CHECKERS)],
        ),
        (
            {"quotas": [{"units": 1, "per": "day"}], "usage": False},
            [("quotas", NEEDS_USAGE)],
        ),
        (
            {"quotas": [{"units": 1, "per": "day", "assumed": 2}]},
            [("quotas[0].assumed", "must not be more than `units`")],
        ),
        (
            {"rates": [{"requests": 1, "by": "key"}, {"requests": 2, "by": "key"}]},
            [("rates[1]", "there is one per second by key already")],
        ),
    ],
)  # fmt: skip
def test_stored_services_get_the_same(keys: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert planned(**keys) == found


def test_what_is_malformed_in_a_stored_service() -> None:
    ((path, message),) = planned(rates=[{"requests": 0}])
    assert (path, message) == ("rates[0].requests", "must be more than 0")
