"""What an explanation says of rates, quotas and prices."""

from __future__ import annotations

import pytest

from tests.asker import BASE, Asker, a_config, an_asker, good_token, lines
from tests.store.support import in_reactor

config = pytest.fixture(a_config)
asker = pytest.fixture(an_asker)

ACME = 'to = "http://127.0.0.1:10000/base"\n'
OPEN = 'to = "http://10.0.0.1"\n'
PROXY = 'bind = "127.0.0.1:3128"\n'
CHAIN = """
[credits]
rpc_url = "http://127.0.0.1:8545"
marketplace_url = "http://127.0.0.1:3100"
"""
ALL = """
rates = [{ requests = 10, per = "minute", by = "key" }, { requests = 5, burst = 9 }]
quotas = [{ units = 100, per = "day" }]
credits = { source = "prepaid", pool = "maps", amount = 2 }
"""
URL = "https://api.example.com/acme/x"


def words(found: str) -> dict[str, str]:
    """The lines of an explanation, by how they begin."""
    pairs = (line.split(None, 1) for line in found.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@in_reactor
async def test_all_of_them(asker: Asker) -> None:
    asker.configure(BASE.replace(ACME, ACME + ALL))
    report = await asker.ask("GET", URL, ("Authorization", good_token()))
    assert report["limits"] == [
        {"limit": "rate", "requests": 10, "per": "minute", "burst": 10, "by": "key"},
        {"limit": "rate", "requests": 5, "per": "second", "burst": 9, "by": "user"},
        {"limit": "quota", "units": 100, "per": "day", "by": "user", "assumed": 1},
        {
            "limit": "credits",
            "source": "prepaid",
            "pool": "maps",
            "charge": "fixed",
            "amount": 2,
            "required": 1,
        },
    ]
    shown = lines(report)
    assert "rate       10 requests a minute, 10 of them at once, by key\n" in shown
    assert "rate       5 requests a second, 9 of them at once, by user\n" in shown
    assert words(shown)["quota"] == "100 units a day, by user"
    assert words(shown)["credits"] == "2 a request, of pool maps"


@pytest.mark.parametrize(
    ("credits", "shown"),
    [
        ('source = "prepaid", minimum = 3', "1 a request, at least 3, of pool default"),
        (
            'source = "prepaid", charge = "dynamic", amount = 4, maximum = 9',
            "what the upstream says, else 4, at most 9, of pool default",
        ),
        (
            'source = "prepaid", charge = "units", minimum = 0, maximum = 9',
            "one for each unit, at least 0, at most 9, of pool default",
        ),
        (
            'source = "chain"',
            "what the documents of the caller's subscription say, on the chain",
        ),
    ],
)
@in_reactor
async def test_prices(asker: Asker, credits: str, shown: str) -> None:
    asker.configure(BASE.replace(ACME, f"{ACME}credits = {{ {credits} }}\n") + CHAIN)
    report = await asker.ask("GET", URL, ("Authorization", good_token()))
    assert words(lines(report))["credits"] == shown


@in_reactor
async def test_nobody_is_not_charged(asker: Asker) -> None:
    rates = 'rates = [{ requests = 3, by = "client" }]\n'
    asker.configure(BASE.replace(OPEN, OPEN + rates))
    report = await asker.ask("GET", "https://api.example.com/open")
    assert [each["limit"] for each in report["limits"]] == ["rate"]
    asker.configure(BASE.replace(ACME, ACME + ALL + 'open_methods = ["GET"]\n'))
    report = await asker.ask("GET", URL)
    assert [each["limit"] for each in report["limits"]] == ["rate", "rate"]


@in_reactor
async def test_a_forward_proxy(asker: Asker) -> None:
    credits = 'credits = { source = "prepaid", pool = "proxy" }\n'
    asker.configure(BASE.replace(PROXY, PROXY + credits))
    report = await asker.ask(
        "CONNECT", "somewhere.example:443", ("Proxy-Authorization", "Bearer s3cret-of-ops")
    )
    assert words(lines(report))["credits"] == "1 a request, of pool proxy"


@in_reactor
async def test_what_is_refused_runs_into_nothing(asker: Asker) -> None:
    asker.configure(BASE.replace(ACME, ACME + ALL))
    assert (await asker.ask("GET", URL))["limits"] == []
