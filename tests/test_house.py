"""Who may import whom: the rules that keep the house in order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gatekeeper"

#: Modules (with all below them), and what they must not import when the program runs.
FORBIDDEN = {
    "gatekeeper.http": ("twisted", "zope", "gatekeeper.net", "gatekeeper.auth", "gatekeeper.usage"),
    "gatekeeper.config": ("twisted", "zope", "gatekeeper.net", "gatekeeper.auth"),
    "gatekeeper.golem": ("twisted", "zope", "pydantic", "gatekeeper.net", "gatekeeper.auth"),
    "gatekeeper.usage.records": ("twisted", "zope"),
    "gatekeeper.usage.counters": ("twisted", "zope"),
    "gatekeeper.usage.units": ("twisted", "zope"),
    "gatekeeper.errors": ("twisted", "zope", "gatekeeper"),
    "gatekeeper.auth": ("gatekeeper.net", "gatekeeper.exchange", "gatekeeper.doors"),
    "gatekeeper.usage": ("gatekeeper.net", "gatekeeper.exchange", "gatekeeper.auth"),
    "gatekeeper.store": ("gatekeeper.net", "gatekeeper.exchange", "gatekeeper.auth"),
    "gatekeeper.credits": (
        "gatekeeper.net",
        "gatekeeper.exchange",
        "gatekeeper.doors",
        "eth_account",
        "eth_keyfile",
        "web3",
    ),
    "gatekeeper.credits.pricing": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.credits.reservations": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.credits.ledger": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.credits.grouping": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.credits.fees": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.credits.abi": ("twisted", "zope", "gatekeeper.auth"),
    "gatekeeper.exchange": ("gatekeeper.net", "gatekeeper.doors", "gatekeeper.routing"),
    "gatekeeper.routing": ("gatekeeper.net",),
    "gatekeeper.stats": ("twisted", "zope", "gatekeeper", "prometheus_client"),
    "gatekeeper.metrics": ("gatekeeper.net", "gatekeeper.exchange", "gatekeeper.management"),
    "gatekeeper.management": ("gatekeeper.exchange", "gatekeeper.doors", "gatekeeper.net.server"),
    "gatekeeper.process": (
        "gatekeeper.http",
        "gatekeeper.exchange",
        "gatekeeper.doors",
        "gatekeeper.routing",
        "gatekeeper.net.server",
    ),
    "gatekeeper.cli": ("gatekeeper.exchange", "gatekeeper.net", "gatekeeper.daemon"),
}

#: They see everything, and only what starts the program sees them.
ROOTS = {"gatekeeper.tap": (), "gatekeeper.daemon": ("gatekeeper.tap",)}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """What a module imports when it is imported: not for types only, not inside functions."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_who_imports_whom(package: str) -> None:
    inside = {name: path for name, path in MODULES.items() if is_below(name, package)}
    assert inside, "the rule is about nothing"
    broken = [
        f"{name} imports {imported}"
        for name, path in inside.items()
        for imported in imports(path)
        if any(is_below(imported, forbidden) for forbidden in FORBIDDEN[package])
    ]
    assert broken == []


@pytest.mark.parametrize("root", ROOTS)
def test_nobody_imports_the_roots(root: str) -> None:
    found = {
        name
        for name, path in MODULES.items()
        if name != root
        and root in path.read_text()
        and any(is_below(i, root) for i in imports(path))
    }
    assert found <= set(ROOTS[root])


def test_nobody_who_serves_requests_knows_of_processes() -> None:
    """How many there are, and how they follow one another, is the daemon's affair."""
    found = {
        name
        for name, path in MODULES.items()
        if not is_below(name, "gatekeeper.process")
        and any(is_below(i, "gatekeeper.process") for i in imports(path))
    }
    assert found == {"gatekeeper.daemon", "gatekeeper.burner_daemon", "gatekeeper.tap"}


def test_only_metrics_import_the_library_of_metrics() -> None:
    """Its counters cost more than all that a request does elsewhere; see ``gatekeeper.stats``."""
    library = "prometheus_client"
    found = {
        name for name, path in MODULES.items() if any(is_below(i, library) for i in imports(path))
    }
    assert "gatekeeper.metrics.families" in found
    assert all(
        is_below(name, "gatekeeper.metrics") or name == "gatekeeper.management.metrics"
        for name in found
    )


def test_the_chains_libraries_are_only_loaded_to_sign() -> None:
    """They take most of a second and 30 MB, and one of them lets calls nest until the stack ends.

    So they are imported inside functions of the one module that has the key.
    """

    def is_one(name: str) -> bool:
        return name.startswith(("eth_", "web3", "py_ecc", "hexbytes"))

    found = {
        module: [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if (isinstance(node, ast.Import) and any(is_one(each.name) for each in node.names))
            or (isinstance(node, ast.ImportFrom) and is_one(node.module or ""))
        ]
        for module, path in MODULES.items()
    }
    assert {module for module, nodes in found.items() if nodes} == {"gatekeeper.credits.signing"}
    assert all(node.col_offset for node in found["gatekeeper.credits.signing"])


def test_what_draws_tables_is_loaded_to_draw_them() -> None:
    """It takes a sixth of the daemon's start, which draws none."""
    found = {
        name for name, path in MODULES.items() if any(is_below(i, "rich") for i in imports(path))
    }
    assert found == {"gatekeeper.auth.token_report", "gatekeeper.explain_report"}
    assert not {
        name
        for name, path in MODULES.items()
        if any(is_below(i, each) for i in imports(path) for each in found)
    }


def test_nobody_imports_the_reactor() -> None:
    """It is installed by ``gatekeeper.tap``; only what is imported later may ask for it."""
    found = [name for name, path in MODULES.items() if "twisted.internet.reactor" in imports(path)]
    assert set(found) <= {"gatekeeper.management.api"}
