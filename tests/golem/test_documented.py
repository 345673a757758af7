"""What the documents say of Golem."""

from __future__ import annotations

import json
import re

from gatekeeper.golem.commands import parse_command
from gatekeeper.golem.definitions import definition_json, read_definition
from tests.documents import BLOCKS, TEXTS, table

PAGE = "docs/golem.rst"


def test_the_definition() -> None:
    (block,) = (
        block
        for block in BLOCKS
        if block.page == PAGE and block.options.get("caption") == "services/acme-service.json"
    )
    definition = read_definition(json.loads(block.text), server_names=())
    assert definition.name == "acme-service"


def test_every_field_is_described() -> None:
    rows = [row[0] for row in table(PAGE, "A definition")]
    described = {name for cell in rows for name in re.findall(r"``(\w+)``", cell)}
    full = {
        "name": "x",
        "description": "x",
        "serverName": "x",
        "bindHttps": "1.2.3.4:443",
        "bindHttp": "1.2.3.4:80",
        "cert": {"path": "/c", "keyPath": "/k"},
        "from": "/",
        "to": "http://127.0.0.1",
        "requestTimeout": 1,
        "responseTimeout": 1,
        "cpuThreads": 1,
        "offerProperties": {"x": 1},
    }
    assert described == definition_json(read_definition(full)).keys()


def test_the_commands() -> None:
    rows = re.findall(r"``((?:user|service|svc) [^`]+)``", TEXTS[PAGE])
    assert len(set(rows)) >= 5
    for row in rows:
        words = row.split()
        parse_command(words[0], words)
