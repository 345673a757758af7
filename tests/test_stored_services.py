"""From stored services to what is served: what fits beside the configuration, and what does not."""

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
from gatekeeper.stored_services import Plan, Planner
from tests.world import GATEWAY, PROXY, SERVICE

OWN_GATEWAY = {"name": "golem-127.0.0.1-7000", "role": "gateway", "bind": "127.0.0.1:7000"}
CONFIGURED = {**SERVICE, "from": "/shop"}
V1 = {"name": "new", "from": "/new", "to": "http://origin.example", "checkers": ["users"]}
GOLEM = {
    "name": "golem",
    "from": "/golem",
    "to": "http://origin.example",
    "bindHttp": "127.0.0.1:9000",
}


def stored(raw: dict[str, Any], dialect: str = "v1", created: float = 1.0) -> StoredService:
    return StoredService(raw.get("name", "new"), dialect, json.dumps(raw), created)


def golem(**fields: Any) -> StoredService:
    return stored({**GOLEM, **fields}, "golem")


@pytest.fixture
def planner() -> Planner:
    configured = [CONFIGURED, {**SERVICE, "name": "own", "listeners": [OWN_GATEWAY["name"]]}]
    settings = Settings.model_validate(
        {
            "state_dir": Path("/nowhere"),
            "listeners": [GATEWAY, PROXY, OWN_GATEWAY],
            "services": [*configured, {**SERVICE, "name": "deep", "from": "/deep"}],
            "checkers": {"users": CheckerTable("basic", Section())},
        }
    )
    return Planner(settings, checker_types())


def problems(plan: Plan) -> dict[str, list[str]]:
    return {name: list(map(str, found)) for name, found in plan.problems.items()}


def test_as_in_the_configuration(planner: Planner) -> None:
    plan = planner.plan([stored(V1)])
    assert plan.problems == {}
    assert plan.services["new"].service.checkers == ("users",)
    assert plan.listeners == {}


def test_a_definition_has_gateways_of_its_own(planner: Planner) -> None:
    plan = planner.plan([golem(), golem(name="beside", **{"from": "/other"})])
    assert plan.problems == {}
    assert list(plan.services) == ["golem", "beside"]
    ((listener, first),) = plan.listeners.values()
    assert (listener.name, listener.bind) == ("golem-127.0.0.1-9000", "127.0.0.1:9000")
    assert first.service.listeners == (listener.name,)
    assert first.service.checkers == ("golem",)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"to": 1}, "to: must be a string"),
        (
            {"to": ["http://a", "https://b"]},
            "to[1]: must have the same scheme as `to[0]`, which is `http`",
        ),
        ({"health": {"path": "/"}}, "health: needs a list of URLs in `to`"),
        ({"form": "/x"}, "form: unknown key; did you mean `from`?"),
        ({"checkers": ["nobody"]}, "checkers[0]: there is no table `checkers.nobody`"),
        ({"checkers": ["what://x"]}, "checkers[0]: no checker has a URL of this scheme"),
        ({"checkers": ["trust://"]}, "checkers[0]: `trust://` needs `trusted_peers`"),
        ({"listeners": ["nowhere"]}, "listeners[0]: no listener is called `nowhere`"),
        ({"listeners": ["proxy"]}, "listeners[0]: `proxy` is not a gateway"),
        ({"ca_file": "ca.pem"}, "ca_file: must be an absolute path"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file: `/nowhere/ca.pem` cannot be read"),
        ({"meter": {"units": "header"}}, 'meter.header: is required where units = "header"'),
        ({"from": "/shop"}, "from: service shop has the same `from`"),
    ],
)
def test_what_is_wrong_with_one(planner: Planner, raw: dict[str, Any], expected: str) -> None:
    plan = planner.plan([stored({**V1, **raw})])
    assert plan.services == {}
    assert problems(plan)["new"][0].startswith(expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"to": "nowhere"}, "to: "),
        ({"bindHttp": "127.0.0.1:8000"}, "bindHttp: `127.0.0.1:8000` is the address of listener"),
        ({"bindHttp": "127.0.0.1:6668"}, "bindHttp: `127.0.0.1:6668` is the address of the man"),
        (
            {"bindHttps": "127.0.0.1:7000", "cert": {"path": "/c", "keyPath": "/k"}},
            "bindHttps: `127.0.0.1:7000` is for HTTP already",
        ),
        ({"bindHttp": "127.0.0.1:7000"}, "from: overlaps with `/` of `own`"),
        ({"from": "/deep"}, "from: service deep has the same `from`"),
    ],
)
def test_what_is_wrong_with_a_definition(
    planner: Planner, fields: dict[str, Any], expected: str
) -> None:
    plan = planner.plan([golem(**fields)])
    assert plan.services == {}
    assert problems(plan)["golem"][0].startswith(expected)


def test_the_earlier_one_stays(planner: Planner) -> None:
    first, second = golem(), golem(name="second", **{"from": "/golem/deeper"})
    assert problems(planner.plan([first, second])) == {
        "second": ["from: overlaps with `/golem` of `golem`"]
    }
    assert list(problems(planner.plan([second, first]))) == ["golem"]
    same = stored({**V1, "name": "same"})
    assert list(planner.plan([stored(V1), same]).services) == ["new"]


def test_two_certificates_do_not_fit_on_one_address(planner: Planner) -> None:
    one, other = ({"path": f"/{name}.pem", "keyPath": "/k"} for name in "ab")
    first = golem(bindHttp=None, bindHttps="127.0.0.1:9443", cert=one)
    second = golem(
        name="second", bindHttp=None, bindHttps="127.0.0.1:9443", cert=other, **{"from": "/x"}
    )
    assert problems(planner.plan([first, second])) == {
        "second": ["cert: another one is used on `127.0.0.1:9443`"]
    }


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (StoredService("shop", "v1", json.dumps({**V1, "name": "shop"}), 1.0), "name: is the name"),
        (StoredService("other", "v1", json.dumps(V1), 1.0), "name: must be `other`"),
        (StoredService("new", "v1", "{", 1.0), "is not JSON"),
        (StoredService("new", "v1", "[]", 1.0), "must be a table"),
        (StoredService("new", "v2", "{}", 1.0), "is in a dialect `v2`: unknown"),
    ],
)
def test_what_cannot_be_understood(planner: Planner, service: StoredService, expected: str) -> None:
    plan = planner.plan([service])
    assert problems(plan)[service.name][0].startswith(expected)
