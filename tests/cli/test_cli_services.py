from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.operating import Operator

SERVICES = "/v1/services"
ACME = {
    "name": "acme",
    "description": "",
    "hosts": ["a.example", "b.example"],
    "from": "/acme",
    "to": "http://10.0.0.5:8080",
    "listeners": None,
    "checkers": ["users"],
    "meter": {"units": "requests", "header": None},
    "timeouts": {"body": None},
    "cors": False,
    "origin": "api",
    "created": "2026-11-22T10:00:00.123Z",
}


def test_list_as_a_table(operator: Operator) -> None:
    operator.api.page(SERVICES, [ACME])
    shown = operator.table("service", "list")
    for text in ("acme", "api", "a.example, b.example", "/acme", "10.0.0.5:8080", "users"):
        assert text in shown


def test_show(operator: Operator) -> None:
    operator.api.answer("GET", SERVICES + "/acme", ACME)
    assert operator.json("service", "show", "acme") == ACME
    shown = operator.table("service", "show", "acme")
    assert '{"units": "requests"}' in shown
    assert "2026-11-22T10:00:00Z" in shown
    for nothing in ("listeners", "timeouts", "cors"):
        assert nothing not in shown


def test_add_from_options(operator: Operator) -> None:
    operator.api.answer("POST", SERVICES, ACME, 201)
    added = operator.json(
        *("service", "add", "acme", "--to", "http://10.0.0.5:8080", "--from", "/acme"),
        *("--host", "a.example", "--host", "b.example", "--checker", "users", "--checker", "keys"),
        *("--listener", "public", "--description", "Text"),
    )
    assert added == ACME
    assert operator.api.only.body == {
        "name": "acme",
        "to": "http://10.0.0.5:8080",
        "from": "/acme",
        "hosts": ["a.example", "b.example"],
        "checkers": ["users", "keys"],
        "listeners": ["public"],
        "description": "Text",
    }


def test_what_is_left_out_is_the_daemons_to_complain_of(operator: Operator) -> None:
    operator.api.refuse("POST", SERVICES, 400, "", to="is required", checkers="is required")
    result = operator.run("service", "add", "acme", status=1)
    assert operator.api.only.body == {"name": "acme"}
    assert result.stderr == "gatekeeper: to: is required; checkers: is required\n"


def test_nobody_is_let_in_without_credentials_by_mistake(operator: Operator) -> None:
    operator.api.answer("POST", SERVICES, ACME, 201)
    operator.run("service", "add", "acme", "--public")
    assert operator.api.only.body == {"name": "acme", "checkers": []}
    result = operator.run("service", "add", "acme", "--public", "--checker", "users", status=2)
    assert "either --public or --checker" in result.stderr


def test_on_a_terminal_it_says_what_was_done(operator: Operator) -> None:
    operator.api.answer("POST", SERVICES, ACME, 201)
    said = operator.table("service", "add", "acme")
    assert said == "Service acme: /acme goes to http://10.0.0.5:8080.\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("acme.json", '{"name": "acme", "to": "http://x:1", "checkers": ["users"]}'),
        ("acme.TOML", 'name = "acme"\nto = "http://x:1"\ncheckers = ["users"]\n'),
        ("acme.yaml", "name: acme\nto: http://x:1\ncheckers: [users]\n"),
        ("acme.yml", "name: acme\nto: http://x:1\ncheckers: [users]\n"),
    ],
)
def test_add_from_a_file(operator: Operator, tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    operator.api.answer("POST", SERVICES, ACME, 201)
    operator.run("service", "add", "--file", str(file))
    assert operator.api.only.body == {"name": "acme", "to": "http://x:1", "checkers": ["users"]}


def test_add_from_standard_input(operator: Operator) -> None:
    operator.api.answer("POST", SERVICES, ACME, 201)
    operator.run("service", "add", "--file", "-", stdin='{"name": "acme"}')
    operator.run("service", "add", "--file", "-", "--input", "toml", stdin='name = "acme"')
    assert [asked.body for asked in operator.api.asked] == [{"name": "acme"}] * 2


def test_options_are_put_over_the_file(operator: Operator) -> None:
    operator.api.answer("POST", SERVICES, ACME, 201)
    operator.run(
        *("service", "add", "other", "--to", "http://y:2", "--file", "-"),
        stdin='{"name": "acme", "to": "http://x:1", "cors": true}',
    )
    assert operator.api.only.body == {"name": "other", "to": "http://y:2", "cors": True}


def test_replace(operator: Operator) -> None:
    operator.api.answer("PUT", SERVICES + "/acme", ACME)
    operator.run("service", "add", "acme", "--to", "http://y:2", "--replace")
    assert operator.api.only.body == {"name": "acme", "to": "http://y:2"}


def test_golem(operator: Operator) -> None:
    """At Golem's path; the name may be left out, and is made up then."""
    definition: dict[str, Any] = {"from": "/x", "to": "http://x:1", "bindHttp": "127.0.0.1:8000"}
    made = {"name": "service-1", **definition}
    operator.api.answer("POST", "/services", made)
    said = operator.table("service", "add", "--golem", "--file", "-", stdin=json.dumps(definition))
    assert operator.api.only.body == definition
    assert said == "Service service-1: /x goes to http://x:1.\n"


def test_golems_errors(operator: Operator) -> None:
    operator.api.answer("POST", "/services", {"message": "bindHttps: is taken"}, 409)
    result = operator.run("service", "add", "--golem", "--file", "-", stdin="{}", status=1)
    assert result.stderr == "gatekeeper: bindHttps: is taken\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--golem"],
        ["--golem", "--file", "-", "--checker", "users"],
        ["--golem", "--file", "-", "--replace"],
        ["--golem", "--file", "-", "--public"],
    ],
)
def test_what_golem_does_not_know(operator: Operator, options: list[str]) -> None:
    result = operator.run("service", "add", *options, stdin="{}", status=2)
    assert "--golem takes" in result.stderr
    assert operator.api.asked == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "none.json cannot be read: No such file or directory"),
        ("acme.txt", "{}", "its ending is not .json, .toml or .yaml"),
        ("acme.json", "{", "acme.json is not valid JSON"),
        ("acme.toml", "a", "acme.toml is not valid TOML"),
        ("acme.yaml", "[", "acme.yaml is not valid YAML"),
        ("acme.json", "[]", "acme.json holds no table"),
        ("acme.json", '{"a": 1, "a": 2}', 'acme.json holds "a" twice'),
        ("acme.toml", "name = 2026-11-22", "such as a date"),
        ("acme.toml", 'name = "a"\ncors = nan', "what has no place in JSON"),
        ("big.json", " " * (1024 * 1024 + 1), "big.json is larger than 1048576 bytes"),
        ("acme.json", "{}", "the service has no name"),
        ("acme.json", '{"name": 1}', "the service has no name"),
    ],
)
def test_files_that_cannot_be_used(
    operator: Operator, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    result = operator.run("service", "add", "--file", str(tmp_path / name), status=2)
    assert message in " ".join(result.stderr.split())
    assert operator.api.asked == []


def test_remove(operator: Operator) -> None:
    operator.api.answer("DELETE", SERVICES + "/acme", None, 204)
    assert operator.run("service", "remove", "acme", "--yes").output == ""
    assert operator.table("service", "remove", "acme", "-y") == "Service acme is removed.\n"


def test_those_of_the_configuration_stay(operator: Operator) -> None:
    detail = "`acme` is a service of the configuration file, and can be changed there only."
    operator.api.refuse("DELETE", SERVICES + "/acme", 409, detail)
    result = operator.run("service", "remove", "acme", "--yes", status=1)
    assert result.stderr == f"gatekeeper: {detail}\n"
