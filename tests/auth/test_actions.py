from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.auth.access import AccessRules
from gatekeeper.auth.actions import ActionRules, make_access
from gatekeeper.auth.keyfile import parse_keys
from gatekeeper.config.model_services import Service
from gatekeeper.errors import ConfigurationError
from tests.auth.support import KEY, Logged

ACTIONS = """
# Stats can:
action_getblockhash=stats
action_ln_pay=spender   # a remark
  action_with-dash=a-b

# Should be called from inside only:
action_conf=internal
action_v0=stats
action_spend=spender\r
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "api.properties"
    file.write_text(ACTIONS)
    return file


@pytest.fixture
def rules(file: Path) -> ActionRules:
    return ActionRules(file)


def passes(rules: ActionRules, path: bytes, *groups: str, method: bytes = b"GET") -> bool:
    deny = rules.decide(method, path, frozenset(groups))
    if deny is not None:
        expected = (403, "insufficient_scope", "insufficient_scope")
        assert (deny.status, deny.reason, deny.error) == expected
    return deny is None


@pytest.mark.parametrize(
    ("path", "group"),
    [
        (b"/v0/getblockhash", "stats"),
        (b"/v0/getblockhash/", "stats"),
        (b"/v0/getblockhash/123/x", "stats"),
        (b"/v0/ln_pay", "spender"),
        (b"/v0/with-dash", "a-b"),
        (b"/v0/spend", "spender"),
        (b"/v0/conf", "internal"),
        (b"/v0/v0/spend", "stats"),
        (b"/s/stats", "stats"),
        (b"/s/stats/", "stats"),
        (b"/s/stats/a/b", "stats"),
        (b"/s/spend", "spend"),
        (b"/s/internal/x", "internal"),
        (b"/s/not-in-the-file", "not-in-the-file"),
    ],
)
def test_the_group_that_may(rules: ActionRules, path: bytes, group: str) -> None:
    assert passes(rules, path, group)
    assert passes(rules, path, "x", group, "y", method=b"POST")
    for others in ([], ["x"], [group[:-1]], [group + "s"], [group.upper()], [f"x,{group}"], [""]):
        assert not passes(rules, path, *others)


def test_membership_is_exact(file: Path) -> None:
    """The original looked for a part of the text: `spender` opened what is for `spend`."""
    file.write_text("action_a=spend\naction_b=e\n")
    rules = ActionRules(file)
    assert not passes(rules, b"/v0/a", "spender")
    assert not passes(rules, b"/v0/b", "spender", "stats,e", "watcher")
    assert not passes(rules, b"/s/spend", "spender")
    assert passes(rules, b"/v0/a", "spend")


@pytest.mark.parametrize(
    "path",
    [
        b"/v0/unknown",
        b"/v0/getblockhas",
        b"/v0/getblockhash2",
        b"/v0/GETBLOCKHASH",
        b"/v0/getblockhash;x=1",
        b"/v0/getblockhash%20",
        b"/v0/getblockhash.json",
        b"/v0/action_getblockhash",
        b"/v0",
        b"/v0/",
        b"/v0//getblockhash",
        b"/V0/getblockhash",
        b"/v1/getblockhash",
        b"/v00/getblockhash",
        b"/getblockhash",
        b"/x/v0/getblockhash",
        b"/s",
        b"/s/",
        b"/S/stats",
        b"/s//stats",
        b"/stats",
        b"/",
        b"",
        b"*",
        b"v0/getblockhash",
        b"host:443",
    ],
)
def test_all_else_is_forbidden_for_everybody(rules: ActionRules, path: bytes) -> None:
    everything = ("stats", "spender", "a-b", "internal", "unknown", "getblockhash", "", "v0", "s")
    assert not passes(rules, path, *everything)


def test_below_a_prefix(file: Path) -> None:
    rules = ActionRules(file, b"/node")
    assert passes(rules, b"/node/v0/getblockhash", "stats")
    assert passes(rules, b"/node/s/stats/x", "stats")
    assert not passes(rules, b"/node", "stats")
    assert not passes(rules, b"/node/", "stats")
    assert not passes(rules, b"/node/x/v0/getblockhash", "stats")
    assert not passes(rules, b"*", "stats")


def test_internal_is_for_nobody_unless_a_key_lists_it(rules: ActionRules) -> None:
    keys = parse_keys(
        f'key1={KEY}\nkapi_id="2";kapi_key="{KEY}";kapi_groups="stats,watcher,spender,admin";\n'
        f'kapi_id="3";kapi_key="{KEY}";kapi_groups="stats,internal";\n',
        "keys",
    )
    decisions = [passes(rules, b"/v0/conf", *keys[number].groups) for number in "123"]
    assert decisions == [False, False, True]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.one_of(st.binary(max_size=30), st.binary(max_size=30).map(lambda path: b"/v0/" + path)),
    groups=st.frozensets(st.sampled_from(["", "stats", "spender", "internal"])),
)
def test_any_path_has_an_answer(rules: ActionRules, path: bytes, groups: frozenset[str]) -> None:
    passes(rules, path, *groups)


# --- the file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "getblockhash=stats",
        "action_=stats",
        "action_a=",
        "action_a",
        "action_a = stats",
        "action_a=stats,spender",
        'action_a="stats"',
        "action_a=$(id)",
        "action_a=stats;",
        "action_a.b=stats",
        "action_é=stats",
        "Action_a=stats",
        "export action_a=stats",
    ],
)
def test_wrong_lines_are_named(file: Path, line: str) -> None:
    file.write_text(f"# c\naction_z=stats\n{line}\n\naction_z=spender\n")
    with pytest.raises(ConfigurationError) as caught:
        ActionRules(file)
    first, second = caught.value.problems
    assert (first.path, second.path) == ("actions_file", "actions_file")
    assert first.message == f"{file}:3: not of the form `action_NAME=GROUP`"
    assert second.message == f"{file}:5: the action `z` stands in line 2 already"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"actions_file: .*cannot be read"):
        ActionRules(tmp_path / "missing")


def test_a_change_is_seen(file: Path, rules: ActionRules) -> None:
    assert not rules.reload()
    file.write_text("action_getblockhash=spender\n")
    assert rules.reload()
    assert not rules.reload()
    assert not passes(rules, b"/v0/getblockhash", "stats")
    assert passes(rules, b"/v0/getblockhash", "spender")
    assert not passes(rules, b"/v0/spend", "spender")


@pytest.mark.parametrize("broken", [b"action_a=x\nnonsense\n", b"\xff\xfe", None])
def test_a_broken_file_keeps_the_rules(
    file: Path, rules: ActionRules, logged: Logged, broken: bytes | None
) -> None:
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    assert [rules.reload() for _ in range(3)] == [False] * 3
    assert passes(rules, b"/v0/getblockhash", "stats")
    assert len(logged) == 1
    assert str(file) in logged.text
    file.write_text("action_a=x\n")
    assert rules.reload()
    assert passes(rules, b"/v0/a", "x")


def test_of_a_service(file: Path) -> None:
    table = {"name": "node", "to": "http://127.0.0.1:8888", "checkers": ["keys"]}
    assert make_access(Service.model_validate(table)) is None
    listed = make_access(Service.model_validate(table | {"access": [{"path": "/a"}]}))
    assert isinstance(listed, AccessRules)
    assert not listed.reload()
    service = Service.model_validate(table | {"from": "/node", "actions_file": file})
    actions = make_access(service)
    assert isinstance(actions, ActionRules)
    assert passes(actions, b"/node/v0/getblockhash", "stats")
