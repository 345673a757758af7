"""docs/operations.rst lists every reason code in the code, and every field of the access log.

Who adds a reason adds a row there.
"""

from __future__ import annotations

import ast
import json
import re

from gatekeeper.usage.accesslog import AccessEntry
from tests.documents import BLOCKS, LITERAL, ROOT, table

CREDITS = ROOT / "gatekeeper" / "credits"
CODE = re.compile(r"^[a-z_]+$")


class Reasons(ast.NodeVisitor):
    """Collects the codes that are given to whatever takes a ``reason`` first."""

    def __init__(self, takers: set[str]) -> None:
        self.takers = takers
        self.codes: set[str] = set()

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = node.args[0] if node.args else None
        for keyword in node.keywords:
            value = keyword.value
            if (
                keyword.arg == "reason"
                and isinstance(value, ast.Constant)
                and isinstance(value.value, str)
            ):
                self.codes.update(CODE.findall(value.value))  # elsewhere it is a sentence
        if name not in self.takers:
            pass
        elif isinstance(given, ast.Constant) and isinstance(given.value, str):
            self.codes.add(given.value)
        elif name[0].isupper():  # handed on, or it would be missed here
            assert getattr(given, "attr", getattr(given, "id", "")) == "reason", ast.unparse(node)
        self.generic_visit(node)


def takers_of_reasons(trees: list[ast.Module]) -> set[str]:
    """Functions, and classes, whose first parameter or field is ``reason``; and subclasses."""
    takers: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args if argument.arg != "self"]
            if names[:1] == ["reason"] and node.name != "__init__":
                takers.add(node.name)
        elif isinstance(node, ast.ClassDef):
            fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            inits = [item for item in node.body if getattr(item, "name", "") == "__init__"]
            first = inits[0].args.args[1:2] if inits else []  # type: ignore[attr-defined]
            if (
                [getattr(field, "id", "") for field in fields[:1]] == ["reason"]
                or [argument.arg for argument in first] == ["reason"]
                or any(getattr(base, "id", "") in takers for base in node.bases)
            ):
                takers.add(node.name)
    return takers


def test_every_reason_code_is_listed() -> None:
    # What the burner gives as a reason is a sentence, and not about an exchange.
    others = {each for each in CREDITS.rglob("*.py") if "Refusal" not in each.read_text()}
    files = sorted(set((ROOT / "gatekeeper").rglob("*.py")) - others)
    trees = [ast.parse(file.read_text()) for file in files]
    takers = takers_of_reasons(trees)
    assert takers >= {"Refusal", "ProtocolError", "UpstreamError", "Deny", "Unavailable", "finish"}
    reasons = Reasons(takers)
    for tree in trees:
        reasons.visit(tree)
    rows = table("docs/operations.rst", "Reason codes")
    listed = [code for row in rows for code in LITERAL.findall(row[0])]
    assert len(listed) == len(set(listed))
    assert set(listed) == reasons.codes


def test_the_fields_of_the_access_log() -> None:
    listed = [
        name
        for row in table("docs/operations.rst", "The two logs")
        for name in LITERAL.findall(row[0])
    ]
    assert sorted(listed) == sorted(AccessEntry._fields)
    (line,) = (b.text for b in BLOCKS if b.language == "json" and "duration" in b.text)
    assert tuple(json.loads(line)) == AccessEntry._fields
