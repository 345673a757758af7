"""The Dockerfile, read with the parser of an editor, and what it says of the checkout."""

from __future__ import annotations

import json
import os
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from gatekeeper.config.model import Settings
from gatekeeper.config.values import parse_bind
from tests.cluster.example import NODES, SERVICES, mounts
from tests.daemon import ROOT
from tests.npm import installed, run_node

FILE = (ROOT / "Dockerfile").read_text()

Stages = dict[str, list[tuple[str, list[str]]]]

_PARSE = """
    const { validate } = require('dockerfile-utils');
    const { DockerfileParser } = require('dockerfile-ast');
    const instructions = DockerfileParser.parse(given).getInstructions();
    answer([
        validate(given).map(problem => problem.message),
        instructions.map(each => [
            each.getKeyword(),
            each.getFlags ? each.getFlags().map(flag => flag.toString()) : [],
            each.getArguments().map(argument => argument.getValue()),
        ]),
    ]);
"""


@pytest.fixture(scope="module")
def stages() -> Stages:
    """The stages in order, with their instructions: a word, and flags and arguments."""
    problems, parsed = run_node(installed("dockerfile-utils@0.16.3"), _PARSE, FILE)
    assert problems == []
    found: Stages = {}
    for word, flags, given in parsed:
        if word == "FROM":
            assert given[1] == "AS"
            found[given[2]] = []
        [*found.values()][-1].append((word, [*flags, *given]))
    return found


def given(stages: Stages, stage: str, word: str) -> list[list[str]]:
    """What stands behind this word, each time."""
    return [arguments for each, arguments in stages[stage] if each == word]


def in_json(word: str) -> list[str]:
    """What stands behind this word, without a shell."""
    (text,) = re.findall(rf"^{word} (.+)$", FILE, re.MULTILINE)
    arguments: list[str] = json.loads(text)
    return arguments


def test_the_stage_of_the_tests_does_what_ci_does(stages: Stages) -> None:
    assert given(stages, "test", "COPY") == [[".", "."]]
    assert given(stages, "test", "RUN") == [[".ci/run"]]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_what_is_copied_is_there_and_not_ignored(stages: Stages) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    sources = [each for copied in given(stages, "build", "COPY") for each in copied[:-1]]
    assert {"pyproject.toml", "setup.cfg", "gatekeeper", "twisted"} <= {*sources}
    for source in (*sources, ".ci", "tests", "docs"):
        assert (ROOT / source).exists()
        assert source not in ignored
    ((origin, source, place),) = given(stages, "runtime", "COPY")
    assert origin == "--from=build"
    assert source == place, "a virtual environment cannot be moved"


def test_the_image_has_all_that_runs_and_nothing_that_tests(stages: Stages) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", FILE)
    assert {*extras.split(",")} == setup["options.extras_require"].keys() - {"test", "docs"}
    bases = {stage: stages[stage][0][1][0] for stage in ("build", "runtime")}
    assert bases["build"] == bases["runtime"], "it is the same Python"


def test_twistd_is_process_1_and_nobody_is_root(stages: Stages, settings: Settings) -> None:
    assert [*stages][-1] == "runtime", "it is what is built if nothing else is said"
    assert SERVICES["gate1"]["build"]["target"] == "runtime"
    assert given(stages, "runtime", "USER") == [["gatekeeper"]]
    assert re.search(r"useradd .* gatekeeper ", FILE)
    # In JSON: a shell between would keep the signals for itself.
    assert in_json("ENTRYPOINT") == [
        "/opt/gatekeeper/bin/twistd", "--nodaemon", "--pidfile=", "gatekeeper",
    ]  # fmt: skip
    flag, file = in_json("CMD")
    assert flag == "--config"
    assert all(str(Path(file).parent) in mounts(SERVICES[name]) for name in NODES)
    assert all("command" not in SERVICES[name] for name in NODES)
    assert given(stages, "runtime", "VOLUME") == [[str(settings.state_dir)]]


def test_the_ports_are_those_of_the_configuration(stages: Stages, settings: Settings) -> None:
    binds = [settings.management.bind, *(listener.bind for listener in settings.listeners)]
    (ports,) = given(stages, "runtime", "EXPOSE")
    assert {*map(int, ports)} == {parse_bind(bind).port for bind in binds}
