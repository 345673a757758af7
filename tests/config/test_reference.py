from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.fields import Section
from gatekeeper.config.reference import render
from tests.config.minimal import CHECKERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.rst"


class OddSettings(Section):
    """Types that are not
    in the model.

    A second paragraph.
    """

    password: SecretStr = Field(default=SecretStr("s3cret"), description="A `word`, 2 * 3.")
    either: int | list[str] | None = Field(default=None, description="One or several.")
    word: Literal["a", "b"] = Field(description="A word.")


class NoSettings(Section):
    """Nothing to set."""


class NoWords(Section):
    lonely: str = Field(description="A key.")


def row(text: str, key: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index(f"* - ``{key}``")
    return [line.removeprefix("- ") for line in lines[start + 1 : start + 4]]


def test_the_document_is_up_to_date() -> None:
    """To bring it up to date, write what ``render`` gives into it."""
    assert DOCUMENT.read_text() == render(checker_types().models)


def test_every_section_is_there() -> None:
    text = render(CHECKERS.models)
    for title in (
        "Top level",
        "``[store]``",
        "``[[listeners]]``",
        "``[listeners.tls]``",
        "``[[listeners.tls.sni]]``",
        "``[checkers.NAME]``",
        '``type = "basic"``',
        '``type = "api-key"``',
        "``[[services]]``",
        "``[[services.access]]``",
        "``[services.timeouts]``",
        "``[demo]``",
    ):
        assert text.count(f"\n{title}\n") == 1


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("state_dir", "path", "required"),
        ("flush_interval", "seconds", "``5.0``"),
        ("from", "path", '``"/"``'),
        ("to", "URL or list of URLs", "required"),
        ("hosts", "list of host names", "``[]``"),
        ("allow", "list of allow rules", '``["*:80", "*:443"]``'),
        ("role", '``"gateway"`` or ``"forward"`` or ``"introspection"``', "required"),
        ("tls", "table", "—"),
        ("ca_file", "path", "—"),
        ("self_signed", "``true`` or ``false``", "``false``"),
        ("keys_file", "path", '``"keys.properties"``'),
        ("password", "string", '``"…"``'),
        ("either", "whole number or list of strings", "—"),
        ("word", '``"a"`` or ``"b"``', "required"),
    ],
)
def test_a_row(key: str, kind: str, default: str) -> None:
    assert row(render({"odd": OddSettings}), key)[:2] == [kind, default]


def test_marks_become_those_of_restructured_text() -> None:
    text = render({"odd": OddSettings, "no": NoSettings, "words": NoWords})
    assert row(text, "password")[2] == "A ``word``, 2 \\* 3."
    assert "\nTypes that are not in the model.\n" in text
    assert "second paragraph" not in text
    assert "s3cret" not in text
    assert "\nNothing to set.\n\nNo other keys.\n" in text
    assert row(text, "lonely") == ["string", "required", "A key."]
