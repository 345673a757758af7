from __future__ import annotations

import os
import shutil
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gatekeeper.cli.main import main

DATA = Path(__file__).parent / "importing" / "data"
PHRASE = "31415926535897932384626433832795"


def invoke(*arguments: str | Path, env: Mapping[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)], env=env)


def check_config(path: Path, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["check-config", str(path)], env=env)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def cyphernode(tmp_path: Path) -> Path:
    """As cyphernode's installer leaves it on the host, without the nginx of the image."""
    directory = tmp_path / "gatekeeper"
    directory.mkdir()
    for name in ("keys.properties", "api.properties"):
        shutil.copy(DATA / "cyphernode" / name, directory)
    for name in ("certs/cert.pem", "private/key.pem"):
        (directory / name).parent.mkdir()
        (directory / name).touch()
    return directory


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "gatekeeper.toml"


# --- the three systems ----------------------------------------------------------------------------


def test_cyphernode(cyphernode: Path, output: Path) -> None:
    result = invoke(
        "cyphernode", "--directory", cyphernode, "--to", "http://10.0.0.1:8888", "-o", output
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "Carried over:\n  keys.properties: `file` of the checker `keys`: 3 keys" in result.stderr
    assert "NOT carried over" not in result.stderr
    assert mode(output) == 0o600
    assert check_config(output).stdout == f"{output}: ok\n"
    listener = tomllib.loads(output.read_text())["listeners"][0]
    assert listener["tls"]["key"] == str(cyphernode / "private" / "key.pem")


def test_cyphernode_with_what_cannot_be_carried_over(cyphernode: Path, output: Path) -> None:
    for name in ("default.conf", "ip-whitelist.conf"):
        shutil.copy(DATA / "cyphernode" / name, cyphernode)
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output)
    assert result.exit_code == 3
    assert "NOT carried over:\n  default.conf:12: root, in location /s/: " in result.stderr
    assert "\n  ip-whitelist.conf:2: allow: " in result.stderr
    assert check_config(output).exit_code == 0


def test_cyphernode_with_files_by_name(cyphernode: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.touch()
    key.touch()
    arguments: list[str | Path] = [
        "--keys",
        cyphernode / "keys.properties",
        "--actions",
        cyphernode / "api.properties",
    ]
    arguments += ["--nginx", DATA / "cyphernode" / "default.conf", "--listen", "[::1]:8443"]
    arguments += ["--certificate", certificate, "--key", key]
    result = invoke("cyphernode", "--directory", tmp_path / "nowhere", *arguments)
    assert result.exit_code == 3  # the static files, and the addresses
    tree = tomllib.loads(result.stdout)
    assert tree["listeners"] == [
        {
            "name": "public",
            "role": "gateway",
            "bind": "[::1]:8443",
            "tls": {"certificate": str(certificate), "key": str(key)},
        }
    ]
    assert tree["checkers"]["keys"]["file"] == str(cyphernode / "keys.properties")


def test_nevermined_with_the_secrets_in_the_environment(output: Path, tmp_path: Path) -> None:
    source = tmp_path / "the.env"
    source.write_text(f"JWT_SECRET_PHRASE={PHRASE}\nPG_PASSWORD=db-s3cret\nOTEL_SERVICE_NAME=x\n")
    result = invoke("nevermined", "--env", source, "--output", output)
    assert result.exit_code == 3
    assert "\n  OTEL_SERVICE_NAME: gatekeeper pushes no metrics" in result.stderr
    assert "PGPASSWORD" in result.stderr
    assert "check-config" not in result.stderr
    for told in (result.stderr, result.stdout, output.read_text()):
        assert PHRASE not in told
        assert "s3cret" not in told
    assert check_config(output, {"JWT_SECRET_PHRASE": PHRASE}).exit_code == 0
    assert check_config(output).exit_code == 1


def test_nevermined_with_the_secrets_in_files(output: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    pair = tmp_path / "c.pem"
    pair.touch()
    result = invoke(
        "nevermined", "--secrets-dir", secrets, "-o", output, "--certificate", pair, "--key", pair,
        env={"JWT_SECRET_PHRASE": PHRASE, "PG_HOST": "db", "PG_PASSWORD": "db-s3cret"},
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "s3cret" not in result.output
    assert mode(secrets) == 0o700
    assert {path.name: mode(path) for path in secrets.iterdir()} == {
        "jwt-secret-phrase": 0o600,
        "store-url": 0o600,
    }
    assert check_config(output).exit_code == 0


@pytest.mark.parametrize("inline", [(), ("--inline",)])
def test_golem(tmp_path: Path, output: Path, inline: tuple[str, ...]) -> None:
    data = tmp_path / "share"
    services = data / "ya-runtime-http-auth" / "services"
    services.mkdir(parents=True)
    (services / "one.json").write_text(
        '{"name": "one", "serverName": "a.example", "bindHttp": "0.0.0.0:8080",'
        ' "from": "/one", "to": "http://127.0.0.1:1000"}'
    )
    result = invoke("golem", *inline, "-o", output, env={"XDG_DATA_HOME": str(data)})
    assert result.exit_code == 0, result.stderr
    assert "\n  one.json: `one`: " in result.stderr
    assert check_config(output).exit_code == 0
    assert ("services_dir" in tomllib.loads(output.read_text())) == (not inline)


def test_golem_with_the_settings_of_its_proxy(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    arguments: list[str | Path] = [
        "--services",
        tmp_path / "services",
        "--proxy-config",
        DATA / "golem" / "proxy.toml",
    ]
    result = invoke("golem", *arguments, "--management", "[::1]:7000")
    assert result.exit_code == 3
    tree = tomllib.loads(result.stdout)
    assert tree["management"] == {"bind": "[::1]:7000", "auth": "none"}
    assert tree["timeouts"] == {"head": 2.5}
    assert "\n  server.tcp_nodelay: " in result.stderr


# --- what is wrong with the input -----------------------------------------------------------------


def test_all_that_is_wrong_is_told_and_nothing_is_written(cyphernode: Path, output: Path) -> None:
    (cyphernode / "keys.properties").write_text("key001=abc\nkey002=\n")
    (cyphernode / "api.properties").unlink()
    (cyphernode / "default.conf").write_bytes(b"\xff")
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{cyphernode}/api.properties",
        f"{cyphernode}/default.conf",
        f"{cyphernode}/keys.properties:1",
        f"{cyphernode}/keys.properties:2",
    ]
    assert not output.exists()


def test_an_environment_file_that_is_none(tmp_path: Path) -> None:
    source = tmp_path / "the.env"
    source.write_text("A='s3cret\n")
    result = invoke("nevermined", "--env", source, "--nginx", tmp_path / "missing.conf")
    assert result.exit_code == 1
    assert result.stderr == (
        f"{tmp_path}/missing.conf: cannot be read: No such file or directory\n"
        f"{source}:1: not of the form `NAME=value`\n"
    )


def test_definitions_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"name": "one"}')
    (tmp_path / "proxy.toml").write_text("x = [")
    result = invoke("golem", "--services", tmp_path, "--proxy-config", tmp_path / "proxy.toml")
    assert result.exit_code == 1
    assert f"{tmp_path}/one.json: to: is required\n" in result.stderr
    assert f"{tmp_path}/proxy.toml: is not valid TOML" in result.stderr


def test_a_proxy_configuration_without_tables(tmp_path: Path) -> None:
    (tmp_path / "proxy.json").write_text("[]")
    (tmp_path / "services").mkdir()
    arguments: list[str | Path] = [
        "--services",
        tmp_path / "services",
        "--proxy-config",
        tmp_path / "proxy.json",
    ]
    result = invoke("golem", *arguments)
    assert (result.exit_code, result.stderr) == (
        1,
        f"{tmp_path}/proxy.json: does not hold tables\n",
    )


def test_what_the_daemon_would_refuse_is_told(cyphernode: Path, output: Path) -> None:
    shutil.rmtree(cyphernode / "private")
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output)
    assert result.exit_code == 3
    assert (
        "What `gatekeeper check-config` finds:\n"
        f"  listeners[0].tls.key: `{cyphernode}/private/key.pem` cannot be read: "
        "No such file or directory\n"
    ) in result.stderr
    assert output.exists()


def test_nothing_from_a_file_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "the.env"
    source.write_text(f"JWT_SECRET_PHRASE={PHRASE}\nA\x1b[2J=x\n")
    result = invoke("nevermined", "--env", source)
    assert "\x1b" not in result.output
    assert "A\\x1b[2J: is not known" in result.stderr


def test_a_file_that_is_far_too_large(cyphernode: Path) -> None:
    with (cyphernode / "keys.properties").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    result = invoke("cyphernode", "--directory", cyphernode)
    assert result.exit_code == 1
    assert result.stderr == f"{cyphernode}/keys.properties: is larger than 16777216 bytes\n"


def test_a_name_that_cannot_stand_in_a_configuration(cyphernode: Path, output: Path) -> None:
    odd = cyphernode / os.fsdecode(b"keys-\xff")
    (cyphernode / "keys.properties").rename(odd)
    result = invoke("cyphernode", "--directory", cyphernode, "--keys", odd, "-o", output)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "a file's name is not UTF-8, and so cannot stand in a configuration\n"


# --- files that are there already -----------------------------------------------------------------


def test_a_file_is_overwritten_by_force_only(cyphernode: Path, output: Path) -> None:
    output.write_text("precious")
    output.chmod(0o644)
    arguments = ("cyphernode", "--directory", cyphernode, "-o", output)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert f"{output} is there already; --force overwrites it" in result.stderr
    assert output.read_text() == "precious"
    assert invoke(*arguments, "--force").exit_code == 0
    assert "actions_file" in output.read_text()
    assert mode(output) == 0o600


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_not_followed(
    cyphernode: Path, output: Path, tmp_path: Path, force: tuple[str, ...], there: bool
) -> None:
    target = tmp_path / "target"
    if there:
        target.write_text("precious")
    output.symlink_to(target)
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output, *force)
    assert result.exit_code == 2
    assert f"{output} is a symbolic link" in result.stderr
    assert target.exists() == there
    assert output.is_symlink()


def test_secrets_are_not_overwritten_either(output: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "jwt-secret-phrase").write_text("precious")
    (secrets / "store-url").symlink_to(tmp_path / "target")
    env = {"JWT_SECRET_PHRASE": PHRASE, "PG_PASSWORD": "x"}
    result = invoke("nevermined", "--secrets-dir", secrets, "-o", output, env=env)
    assert result.exit_code == 2
    assert "store-url is a symbolic link" in result.stderr
    assert "jwt-secret-phrase is there already" in result.stderr
    assert (secrets / "jwt-secret-phrase").read_text() == "precious"
    assert not output.exists()


def test_a_file_that_cannot_be_written(cyphernode: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "gatekeeper.toml"
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output)
    assert result.exit_code == 1
    assert f"{output}: cannot be written: " in result.stderr


def test_half_a_file_is_not_left(
    cyphernode: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", fail)
    result = invoke("cyphernode", "--directory", cyphernode, "-o", output)
    assert result.exit_code == 1
    assert result.stderr == f"{output}: cannot be written: No space left on device\n"
    assert not output.exists()


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cyphernode", "--listen", "443"), "the port is missing"),
        (("cyphernode", "--to", "node:8888"), "must be a URL"),
        (("cyphernode", "--certificate", "c.pem"), "go together"),
        (("nevermined", "--key", "k.pem"), "go together"),
        (("nevermined", "--forward", "x"), "--forward"),
        (("golem", "--management", "x"), "--management"),
        (("squid",), "No such command"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_help_tells_the_exit_statuses() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for status in ("0  everything", "1  a file", "2  the command line", "3  the configuration"):
        assert status in result.stdout
