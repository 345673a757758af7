"""The documents, taken apart: pages, code blocks, tables."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.rst"), *DOCS.glob("*.rst")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}

BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\S+)\n(?P<options>(?:   :\w+: .*\n)*)\n"
    r"(?P<text>(?:   .*\n|\n)+)",
    re.MULTILINE,
)
LITERAL = re.compile(r"``([^`]+)``")


class Block(NamedTuple):
    """A code block of a page; ``options`` are those of the directive."""

    page: str
    language: str
    options: dict[str, str]
    text: str


BLOCKS = [
    Block(
        page,
        match["language"],
        dict(re.findall(r":(\w+): (.*)", match["options"])),
        textwrap.dedent(match["text"]).strip() + "\n",
    )
    for page, text in TEXTS.items()
    for match in BLOCK.finditer(text)
]


def named(name: str) -> Block:
    (block,) = (block for block in BLOCKS if block.options.get("name") == name)
    return block


def table(page: str, title: str) -> list[list[str]]:
    """The cells of the first table below a title, without its header."""
    section = TEXTS[page].partition(f"\n{title}\n")[2].partition(".. list-table::")[2]
    rows: list[list[str]] = []
    for line in section.splitlines():
        if line.startswith("   * - "):
            rows.append([line[7:]])
        elif re.match(r"     -( |$)", line):
            rows[-1].append(line[7:])
        elif line.startswith("       ") and rows:
            rows[-1][-1] += " " + line.strip()
        elif line and not line.startswith("   "):
            break
    return rows[1:]
