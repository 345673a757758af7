"""``gatekeeper import``: makes a configuration out of what another gateway was run with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from gatekeeper.cli.importing_files import Reading, finish, refuse_to_overwrite

if TYPE_CHECKING:
    from gatekeeper.importing.sources import CertificateFiles

Command = TypeVar("Command", bound=Callable[..., Any])
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def _address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from gatekeeper.config.values import check_bind

    try:
        return None if value is None else check_bind(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from gatekeeper.config.values import check_upstream

    try:
        return None if value is None else check_upstream(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _output_options(command: Command) -> Command:
    """Add where the result goes."""
    command = click.option("--force", is_flag=True, help="Overwrite files that are there.")(command)
    return click.option(
        "--output",
        "-o",
        metavar="FILE",
        type=_FILE,
        help="Write the configuration here, for you alone to read (0600).  [default: standard "
        "output]",
    )(command)


def _secrets_option(command: Command) -> Command:
    return click.option(
        "--secrets-dir",
        metavar="DIRECTORY",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write the secrets into files here (0600), which the configuration names. Without it "
        "they are taken from the daemon's environment.",
    )(command)


def _listen_option(text: str) -> Callable[[Command], Command]:
    return click.option("--listen", metavar="ADDRESS:PORT", callback=_address, help=text)


def _certificate_options(command: Command) -> Command:
    command = click.option("--key", metavar="FILE", type=_FILE, help="Its private key (PEM).")(
        command
    )
    return click.option(
        "--certificate", metavar="FILE", type=_FILE, help="The certificate and its chain (PEM)."
    )(command)


@click.group("import")
def import_() -> None:
    """Make a configuration out of another gateway's files and environment.

    The configuration goes to standard output or to a file; what was carried over, and what could
    not be, to standard error. Secrets are neither printed nor written into the configuration.

    \b
    Exit status:
      0  everything is carried over
      1  a file cannot be read or written, or lines of it cannot be used; nothing was written
      2  the command line is wrong, or a file is there already
      3  the configuration is made, and something is missing: see standard error
    """


@import_.command("cyphernode")
@click.option(
    "--directory",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/nginx/conf.d",
    show_default=True,
    help="Where the files are that are not named.",
)
@click.option("--keys", metavar="FILE", type=_FILE, help="[default: keys.properties]")
@click.option("--actions", metavar="FILE", type=_FILE, help="[default: api.properties]")
@click.option(
    "--nginx",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Repeat it for more.  [default: default.conf and ip-whitelist.conf, if they are there]",
)
@click.option("--to", metavar="URL", callback=_url, help="The node.  [default: as in nginx]")
@_listen_option("Where clients connect, with TLS.  [default: as in nginx]")
@_certificate_options
@_output_options
def cyphernode(
    directory: Path,
    keys: Path | None,
    actions: Path | None,
    nginx: tuple[Path, ...],
    to: str | None,
    listen: str | None,
    certificate: Path | None,
    key: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    """Take over from cyphernode's gatekeeper.

    Its key file and its action file stay where they are. DIRECTORY is where they are in the
    container, or the directory on the host that cyphernode's installer has put them into.
    """
    from gatekeeper.importing.cyphernode import Cyphernode, import_cyphernode

    refuse_to_overwrite([output] if output else [], force)
    usual = [directory / name for name in ("default.conf", "ip-whitelist.conf")]
    confs = nginx or [path for path in usual if path.is_file()]
    pair = _certificate(certificate, key) or _installed_certificate(directory)
    reading = Reading()
    keys_source = reading.read(keys or directory / "keys.properties")
    actions_source = reading.read(actions or directory / "api.properties")
    sources = [reading.read(path) for path in confs]
    old = Cyphernode(keys_source, actions_source, tuple(sources), to, listen, pair)
    finish(reading, lambda: import_cyphernode(old), os.environ, output, force)


@import_.command("nevermined")
@click.option(
    "--env",
    metavar="FILE",
    type=_FILE,
    help="The environment of proxy and burner, as NAME=value.  [default: the process's own]",
)
@click.option("--nginx", metavar="FILE", type=_FILE, help="The proxy's: proxy.conf.")
@_listen_option("The gateway, with TLS.  [default: as in nginx, or 0.0.0.0:443]")
@click.option(
    "--forward",
    metavar="ADDRESS:PORT",
    callback=_address,
    help="The forward proxy.  [default: as in nginx, or 0.0.0.0:3128]",
)
@_certificate_options
@_secrets_option
@_output_options
def nevermined(
    env: Path | None,
    nginx: Path | None,
    listen: str | None,
    forward: str | None,
    certificate: Path | None,
    key: Path | None,
    secrets_dir: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    """Take over from Nevermined's proxy.

    What its burner is told is read, too.
    """
    from gatekeeper.importing.environment import read_environment_file
    from gatekeeper.importing.nevermined import Nevermined, import_nevermined
    from gatekeeper.importing.notes import Secrets

    refuse_to_overwrite([output] if output else [], force)
    pair = _certificate(certificate, key)
    reading = Reading()
    env_source = None if env is None else reading.read(env)
    nginx_source = None if nginx is None else reading.read(nginx)
    variables: Mapping[str, str] = os.environ
    if env_source is not None:
        text = env_source.text
        variables = reading.check(lambda: read_environment_file(text, str(env)), {})
    old = Nevermined(
        environment=variables,
        whole=env is not None,
        nginx=nginx_source,
        listen=listen,
        forward=forward,
        certificate=pair,
    )
    secrets = Secrets(None if secrets_dir is None else secrets_dir.absolute())
    environ = {**os.environ, **variables}
    finish(reading, lambda: import_nevermined(old, secrets), environ, output, force)


@import_.command("golem")
@click.option(
    "--services",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="The definitions.  [default: ya-runtime-http-auth/services in the user's data directory]",
)
@click.option("--inline", is_flag=True, help="Write the services into the configuration.")
@click.option(
    "--proxy-config", metavar="FILE", type=_FILE, help="ya-http-proxy's (its own --config)."
)
@click.option(
    "--management",
    metavar="ADDRESS:PORT",
    callback=_address,
    default="127.0.0.1:6668",
    show_default=True,
    help="The management API (ya-http-proxy's --management-addr).",
)
@_output_options
def golem(
    services: Path | None,
    inline: bool,
    proxy_config: Path | None,
    management: str,
    output: Path | None,
    force: bool,
) -> None:
    """Take over from Golem's ya-http-proxy.

    The definitions stay where they are, and `services_dir` names them; with --inline they become
    services of the configuration.
    """
    from gatekeeper.golem.expansion import expand, read_directory
    from gatekeeper.golem.files import read_file
    from gatekeeper.importing.golem import Golem, import_golem, server_names

    refuse_to_overwrite([output] if output else [], force)
    directory = (services or _data_directory() / "ya-runtime-http-auth" / "services").absolute()
    reading = Reading()
    proxy: Any = {}
    if proxy_config is not None:
        path = proxy_config
        proxy = reading.check(lambda: read_file(path), {}, str(path))
    if not isinstance(proxy, dict):
        reading.blame(str(proxy_config), "does not hold tables")
        proxy = {}
    found, problems = read_directory(directory, server_names(proxy))
    reading.problems += problems
    raw = {"services_dir": str(directory), "server_names": server_names(proxy)}
    tree = expand(raw).tree if inline else None
    old = Golem(directory, found, tree, management, proxy)
    finish(reading, lambda: import_golem(old), os.environ, output, force)


def _data_directory() -> Path:
    """Where programs keep a user's data (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _certificate(certificate: Path | None, key: Path | None) -> CertificateFiles | None:
    from gatekeeper.importing.sources import CertificateFiles

    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    if certificate is None or key is None:
        return None
    return CertificateFiles(str(certificate.absolute()), str(key.absolute()))


def _installed_certificate(directory: Path) -> CertificateFiles | None:
    """Where cyphernode's installer puts it."""
    certificate, key = directory / "certs" / "cert.pem", directory / "private" / "key.pem"
    return _certificate(certificate, key) if certificate.is_file() else None
