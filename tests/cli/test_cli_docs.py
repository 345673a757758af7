"""What the help texts and the documentation say to type can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gatekeeper.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "cli.rst").read_text()


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from commands(inner, f"{name} {part}".strip())
    if name:
        yield name, command


COMMANDS = dict(commands(main))


def typed() -> Iterator[str]:
    """Lines that call the program, up to where the shell does something with the output."""
    yield from re.findall(r"^    \$ .*?\b(gatekeeper [^|>;)\n]*)", TEXT, re.MULTILINE)
    for command in (main, *COMMANDS.values()):
        yield from re.findall(
            r"^ +(?:.*\| )?(gatekeeper [^|><;\n]*)", command.help or "", re.MULTILINE
        )


@pytest.mark.parametrize("line", sorted(set(typed())))
def test_an_example_is_understood(line: str, tmp_path: Path) -> None:
    command: click.Command = main
    words = shlex.split(line.partition("<")[0])[1:]
    context = click.Context(main, **main.context_settings)
    while isinstance(command, click.Group):
        word = words[0] if words and words[0] in command.commands else "list"
        words = words[1:] if words and words[0] == word else words
        command = command.commands[word]
    command.make_context(command.name, words, parent=context)  # raises UsageError


def test_there_are_examples() -> None:
    assert len(set(typed())) > 25


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_documentation(name: str) -> None:
    group, _, part = name.partition(" ")
    rows = re.findall(rf"^   \* - ``{group}``\n((?:     .*\n)+)", TEXT, re.MULTILINE)
    assert rows
    if part and group not in ("import", "store"):  # these have pages that say more
        assert f"``{part}``" in " ".join(rows)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].get_short_help_str(200).endswith((".", ":"))
