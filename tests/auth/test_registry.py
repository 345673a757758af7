from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.auth.basic import BasicChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import Deny, Grant, IChecker
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.plugin import TablePlugin, UrlPlugin
from gatekeeper.auth.registry import (
    checker_types,
    close_checkers,
    find_plugins,
    make_chain,
    make_checkers,
    reload_checkers,
)
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.config.fields import Section
from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from gatekeeper.plugins import checkers as builtin
from tests.auth.support import ALICE, KEYS, NOW, credentials, token

HEAD = """
state_dir = "state"
[[listeners]]
name = "public"
role = "gateway"
bind = "127.0.0.1:8443"
[[listeners]]
name = "proxy"
role = "forward"
bind = "127.0.0.1:3128"
checkers = ["keys", "secret://other"]
[[services]]
name = "acme"
to = "http://127.0.0.1:10000"
checkers = ["users", "keys", "secret://s3cret?user_id=ops", "secret://other"]
"""

Configure = Callable[[str], Settings]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def configure(tables: str) -> Settings:
        file = tmp_path / "gatekeeper.toml"
        file.write_text(HEAD + tables)
        return load(file, checker_types())

    return configure


def test_what_comes_with_us() -> None:
    found = find_plugins()
    assert set(found.types) >= {"basic", "api-key"}
    assert set(found.schemes) >= {"null", "trust", "secret"}


def test_from_a_file_to_a_verdict(configure: Configure, tmp_path: Path) -> None:
    keys = tmp_path / "keys.properties"
    keys.write_text(KEYS)
    settings = configure(
        f"""
        [checkers.users]
        type = "basic"
        users = {{ alice = "{ALICE}" }}
        [checkers.keys]
        type = "api-key"
        file = "keys.properties"
        """
    )
    checkers = make_checkers(settings)
    assert list(checkers) == ["users", "keys", "secret://s3cret?user_id=ops", "secret://other"]
    chain = make_chain("acme", settings.services[0].checkers, checkers, VerdictCache(9, 300, 5))
    assert chain.challenges == (
        b'Basic realm="Service access", charset="UTF-8"',
        b'Bearer realm="gatekeeper"',
    )
    far = token({"id": "001", "exp": int(NOW) * 10})
    assert chain.check(credentials(far)) == chain.lookup(far)
    assert isinstance(chain.lookup(far), Grant)
    ops = chain.check(credentials(b"Bearer s3cret"))
    assert isinstance(ops, Grant)
    assert ops.user == "ops"
    nobody = chain.check(credentials(b"Bearer a.b.c"))
    assert isinstance(nobody, Deny)
    assert nobody.error == "invalid_token"
    assert "s3cret" not in repr(chain)

    assert not reload_checkers(checkers)
    keys.write_text("")
    assert reload_checkers(checkers)
    assert not reload_checkers(checkers)
    close_checkers(checkers)


def test_the_configuration_names_what_is_wrong(configure: Configure) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(
            """
            [checkers.users]
            type = "basic"
            users = { alice = "hunter2" }
            relm = "x"
            [checkers.keys]
            type = "api-key"
            file = "keys.properties"
            legacy = "yes"
            """
        )
    paths = {problem.path for problem in caught.value.problems}
    assert paths >= {"checkers.users.users.alice", "checkers.users.relm", "checkers.keys.legacy"}
    assert "hunter2" not in str(caught.value)


def test_all_problems_of_all_checkers(configure: Configure, tmp_path: Path) -> None:
    """What only shows when the checkers are made."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("wrong\n")
    settings = configure(
        """
        [checkers.users]
        type = "basic"
        [checkers.keys]
        type = "api-key"
        file = "one"
        [checkers.more]
        type = "api-key"
        file = "two"
        """
    )
    with pytest.raises(ConfigurationError) as caught:
        make_checkers(settings)
    assert [problem.path for problem in caught.value.problems] == [
        "checkers.keys.file",
        "checkers.more.file",
    ]


def test_what_was_made_is_closed_if_something_else_fails(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text("wrong\n")
    settings = configure(
        '[checkers.users]\ntype = "basic"\n[checkers.keys]\ntype = "api-key"\nfile = "one"\n'
    )
    closed: list[object] = []
    monkeypatch.setattr(BasicChecker, "close", lambda checker: closed.append(checker))
    with pytest.raises(ConfigurationError):
        make_checkers(settings)
    assert len(closed) == 1


def test_a_wrong_url_is_found_where_it_stands(configure: Configure) -> None:
    tables = '[checkers.users]\ntype = "basic"\n[checkers.keys]\ntype = "basic"\n'
    settings = configure(tables)
    bad = settings.services[0].model_copy(update={"checkers": ("users", "secret://a/b")})
    settings = settings.model_copy(update={"services": (bad,)})
    with pytest.raises(ConfigurationError) as caught:
        make_checkers(settings)
    assert caught.value.problems[0].path == "services[0].checkers[1]"


def test_two_plugins_of_one_name() -> None:
    def make(name: str, settings: Section) -> IChecker:
        raise AssertionError

    intruders: list[Any] = [
        TablePlugin("basic", Section, make),
        UrlPlugin("secret", SecretChecker.from_url),
    ]
    with pytest.raises(ConfigurationError) as caught:
        find_plugins([builtin.basic, builtin.secret, builtin.null, *intruders])
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "two plug-ins are named `basic`: gatekeeper.auth.plugin and gatekeeper.plugins.checkers",
        "two plug-ins are named `secret`: gatekeeper.auth.plugin and gatekeeper.plugins.checkers",
    ]


def test_a_plugin_found_twice_is_no_conflict() -> None:
    assert find_plugins([builtin.basic, builtin.basic]).types == {"basic": builtin.basic}


def test_a_table_is_no_url_and_a_url_no_table() -> None:
    with pytest.raises(ConfigurationError, match="needs a table"):
        builtin.basic.from_url("basic://")
    with pytest.raises(ConfigurationError, match="null://"):
        builtin.null.make("x", Section())
    assert isinstance(builtin.null.from_url("null://"), NullChecker)


def _python(code: str, path: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{path}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_an_installed_package_adds_a_checker(tmp_path: Path) -> None:
    module = tmp_path / "gatekeeper" / "plugins" / "acme_checker.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        textwrap.dedent(
            """
            from gatekeeper.auth.null import NullChecker
            from gatekeeper.auth.plugin import UrlPlugin
            acme = UrlPlugin("acme", lambda url: NullChecker())
            """
        )
    )
    found = "from gatekeeper.auth.registry import checker_types; print(*checker_types().schemes)"
    assert "acme" in _python(found, tmp_path).split()
    module.write_text(module.read_text().replace('"acme"', '"secret"'))
    conflict = """
        from gatekeeper.auth.registry import checker_types
        from gatekeeper.errors import ConfigurationError
        try:
            checker_types()
        except ConfigurationError as error:
            print(error)
    """
    told = _python(conflict, tmp_path)
    assert "gatekeeper.plugins.acme_checker and gatekeeper.plugins.checkers" in told


def test_finding_checkers_installs_no_reactor(tmp_path: Path) -> None:
    code = """
        import sys
        from gatekeeper.auth.registry import checker_types
        checker_types()
        print("twisted.internet.reactor" in sys.modules)
    """
    assert _python(code, tmp_path) == "False\n"
