"""The documents tell the truth: what they show loads, runs, exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.scripts._twistd_unix import ServerOptions

from gatekeeper.auth.access import AccessRules
from gatekeeper.auth.api_key import ApiKeyChecker
from gatekeeper.auth.interfaces import Credentials, Grant
from gatekeeper.auth.keyfile import KeyFile, parse_keys
from gatekeeper.auth.registry import checker_types
from gatekeeper.cli.main import main
from gatekeeper.config.loading import load
from gatekeeper.config.values import parse_bind, parse_upstream
from gatekeeper.routing import Route
from gatekeeper.tap import Options
from tests.documents import BLOCK, BLOCKS, DOCS, LITERAL, ROOT, TEXTS, Block, named, table

# --- configurations -----------------------------------------------------------------------

LISTENERS = """
[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:443"
"""
CHECKERS = {"users": 'type = "basic"', "keys": 'type = "api-key"\nfile = "keys.properties"'}


def completed(fragment: str) -> str:
    """A fragment, with what it takes for granted."""
    shown = tomllib.loads(fragment)
    text = f'state_dir = "state"\n{fragment}'
    if "listeners" not in shown:
        text += LISTENERS
    for name, keys in CHECKERS.items():
        if name not in shown.get("checkers", {}):
            text += f"[checkers.{name}]\n{keys}\n"
    return text


TOML = [
    block
    for block in BLOCKS
    if block.language == "toml" and block.options.get("name") != "checker-configuration"
]


def test_there_are_configurations() -> None:
    assert len([block for block in TOML if "caption" in block.options]) >= 2
    assert len(TOML) >= 8


@pytest.mark.parametrize("block", TOML, ids=lambda block: block.page)
def test_a_configuration_loads(block: Block, tmp_path: Path) -> None:
    """Those with a file's name above are complete; the others are parts of one."""
    text = block.text if "caption" in block.options else completed(block.text)
    for name in re.findall(r'"([\w/-]+\.(?:pem|properties))"', text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in re.findall(r'services_dir = "([\w-]+)"', text):
        (tmp_path / name).mkdir()
    file = tmp_path / "gatekeeper.toml"
    file.write_text(text)
    environ = dict(re.findall(r"export (\w+)='([^']+)'", TEXTS[block.page]))
    load(file, checker_types(), environ=environ)


def test_the_access_rules_of_the_example(tmp_path: Path) -> None:
    (block,) = (block for block in TOML if 'name = "wallet"' in block.text)
    file = tmp_path / "gatekeeper.toml"
    file.write_text(completed(block.text))
    rules = AccessRules(load(file, checker_types()).services[0].access)
    spender, nobody = frozenset({"spender"}), frozenset[str]()
    assert rules.decide(b"POST", b"/wallet/spend/now", spender) is None
    assert rules.decide(b"POST", b"/wallet/spend/now", nobody) is not None
    assert rules.decide(b"GET", b"/wallet/btc/status", nobody) is None
    assert rules.decide(b"OPTIONS", b"/wallet/any/thing", nobody) is None
    assert rules.decide(b"GET", b"/wallet/any/thing", spender) is not None


def test_the_table_of_from_and_to() -> None:
    rows = [
        [cell.strip("`") for cell in row]
        for row in table("docs/services.rst", "Where a request goes")
    ]
    assert len(rows) == 7
    for prefix, to, request, upstream in rows:
        route = Route(
            "x",
            prefix=prefix.encode(),
            path=parse_upstream(to).path.encode(),
            host_field=b"",
            chain=None,
            access=None,
            max_body=None,
        )
        assert route.upstream_path(request.encode()) == upstream.encode()


def test_the_quick_start_listens_where_the_readme_says() -> None:
    settings = load(ROOT / "etc" / "quickstart.toml", checker_types())
    assert settings.demo is not None
    binds = [listener.bind for listener in settings.listeners]
    for bind in (*binds, settings.management.bind, settings.demo.origin):
        address = parse_bind(bind)
        assert address.loopback
        assert re.search(rf"\b{address.port}\b", TEXTS["README.rst"])


# --- commands -----------------------------------------------------------------------------


def shell_commands() -> Iterator[list[str]]:
    """What is typed at a ``$`` or stands in a line, word by word, cut at ``&&`` and ``|``."""
    lines = [
        line[2:]
        for block in BLOCKS
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]
    lines += [
        " ".join(literal.split()) for text in TEXTS.values() for literal in LITERAL.findall(text)
    ]
    for line in lines:
        if not re.search(r"\b(gatekeeper|twistd) ", line):
            continue
        words: list[str] = []
        for word in [*shlex.split(line), "&&"]:
            if word in ("&&", "|"):
                yield words
                words = []
            elif words or "=" not in word:  # NAME=value before a command
                words.append(word)


COMMANDS = [[Path(words[0]).name, *words[1:]] for words in shell_commands() if words]


@pytest.mark.parametrize(
    "words",
    [words for words in COMMANDS if words[0] == "gatekeeper" and len(words) > 1],
    ids=" ".join,
)
def test_a_command_is_one(words: list[str]) -> None:
    command = main.commands[words[1]]
    if words[2:] != ["--help"]:
        command.make_context(words[1], words[2:])  # raises UsageError


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "twistd"], ids=" ".join
)
def test_options_of_twistd(words: list[str]) -> None:
    ours = ("gatekeeper", "gatekeeper-burner")
    place = next((i for i, word in enumerate(words) if word in ours), len(words))
    of_ours = {name for parameter in Options.optParameters for name in parameter[:2]}
    for known, given in (
        (set(ServerOptions().synonyms), words[1:place]),
        (of_ours, words[place + 1 :]),
    ):
        options = [word.lstrip("-").partition("=")[0] for word in given if word.startswith("-")]
        assert set(options) <= known


def test_there_are_commands() -> None:
    names = [words[0] for words in COMMANDS]
    assert names.count("gatekeeper") >= 5
    assert names.count("twistd") >= 4


@pytest.mark.parametrize(
    ("page", "variables"),
    [
        ("README.rst", 'DEMO_KEY_ID=001 DEMO_KEY="$KEY"; key=unset; id=unset'),
        ("docs/checkers.rst", ""),
    ],
)
def test_the_token_that_is_made_in_a_shell(page: str, variables: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.properties"
    keys.write_text(named("keys").text)
    lines = [
        line[2:] for line in TEXTS[page].replace("\n    $", "\n$").splitlines() if "$ " in line
    ]
    wanted = ("id=", "b64url()", "header=", "claims=", "signature=")
    script = "\n".join(line for line in lines if line.startswith(wanted))
    assert script.count("\n") >= 3
    key = re.findall(r"key001=(\w+)", named("keys").text)[0]
    token = subprocess.run(
        ["bash", "-euc", f'{variables}\n{script}\nprintf %s "$header.$claims.$signature"'],
        env={"KEY": key, "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        check=True,
    ).stdout
    presented = Credentials(b"Bearer " + token, (), b"GET", b"/", "acme", "::1", "::1", False)
    verdict = ApiKeyChecker("keys", KeyFile(keys)).check(presented)
    assert isinstance(verdict, Grant), verdict
    assert verdict.user == ("001" if page == "README.rst" else "003")


def test_the_file_of_keys() -> None:
    keys = parse_keys(named("keys").text, "keys")
    assert {key.id: set(key.groups) for key in keys.values()} == {
        "001": set(),
        "003": {"stats", "spender"},
    }


# --- the checker of CONTRIBUTING.rst ------------------------------------------------------


def test_the_checker_that_is_added(tmp_path: Path) -> None:
    """As a package of its own: found, configured, asked; and its own test passes."""
    module = tmp_path / "gatekeeper" / "plugins" / "acme_network.py"
    module.parent.mkdir(parents=True)
    module.write_text(named("checker").text)
    (tmp_path / "gatekeeper.toml").write_text(completed(named("checker-configuration").text))
    (tmp_path / "keys.properties").touch()
    asked = """
        from gatekeeper.auth.cache import VerdictCache
        from gatekeeper.auth.registry import checker_types, make_chain, make_checkers
        from gatekeeper.config.loading import load

        settings = load("gatekeeper.toml", checker_types())
        checkers = make_checkers(settings)
        service = settings.services[0]
        chain = make_chain("acme", service.checkers, checkers, VerdictCache(9, 300, 5))
        verdicts = [
            chain.check(replace(OFFICE, client=client)) for client in ("192.0.2.9", "203.0.113.1")
        ]
        print(verdicts[0].user, *verdicts[0].groups, verdicts[1].reason)
        test_machines_in_the_networks_are_known()
    """
    program = named("checker-test").text + textwrap.dedent(asked)
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "office staff no_credentials\n"


# --- links, paths --------------------------------------------------------------------------


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    text = BLOCK.sub("", TEXTS[page])
    folder = (ROOT / page).parent
    titles = re.findall(r"^(\S.*)\n[=~-]{3,}$", text, re.MULTILINE)
    for target in re.findall(r"`[^`<]*<([^>`]+)>`_", text):
        assert "://" in target or (folder / target).exists(), target
    for title in re.findall(r"(?<![:`])`([^`<>]+)`_\b", text):
        assert " ".join(title.split()) in titles
    for name in re.findall(r":doc:`([^`]+)`", text):
        assert (folder / f"{name}.rst").exists(), name


def test_the_programs_that_tests_use() -> None:
    """The packages of the README are those that continuous integration installs."""
    installed = set(re.findall(r"^need \S+ (\S+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    told = re.search(r"programs of the system.*?``apt install ([^`]+)``", TEXTS["README.rst"], re.S)
    assert told is not None
    assert len(installed) > 10
    assert set(told[1].split()) == installed


def test_every_page_is_in_the_table_of_contents() -> None:
    entries = re.findall(r"^   ([a-z0-9-]+)$", TEXTS["docs/index.rst"], re.MULTILINE)
    assert sorted([*entries, "index"]) == sorted(page.stem for page in DOCS.glob("*.rst"))


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_are_named_exist(page: str) -> None:
    ours = re.compile(
        r"(gatekeeper|docs|etc|tests|newsfragments|twisted)/[\w./-]*|[A-Z]+(\.rst)?(?=$)"
    )
    for literal in LITERAL.findall(TEXTS[page]):
        path = ROOT / literal
        if ours.fullmatch(literal) and ("/" in literal or literal.endswith(".rst")):
            assert path.exists() or path.name == "acme_network.py", literal
