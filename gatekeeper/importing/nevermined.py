"""From Nevermined's proxy and burner: their environment, and the proxy's nginx."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatekeeper.config.values import parse_bind
from gatekeeper.importing import nevermined_variables as variables
from gatekeeper.importing.listening import STATE_DIR, STATE_DIR_COMMENT, numbered, tls
from gatekeeper.importing.nevermined_credits import selling
from gatekeeper.importing.nevermined_store import store_url
from gatekeeper.importing.nginx import Directive
from gatekeeper.importing.nginx_server import Listen, Server, ServerReader
from gatekeeper.importing.notes import Imported, Notes, Secrets
from gatekeeper.importing.sources import CertificateFiles, Source
from gatekeeper.importing.toml import Table, Value, render

_HEAD: Final = (
    "Made by `gatekeeper import nevermined`. Durations are in seconds. etc/gatekeeper.toml shows "
    "every key that there is, docs/configuration.rst describes them."
)

#: Where the proxy's image listens.
_GATEWAY: Final = Listen("0.0.0.0:443", True)
_FORWARD: Final = Listen("0.0.0.0:3128", False)

_TLS: Final = "upstreams are always verified, by `ca_file` of the service or the system's"
_READ: Final = "the checker `nevermined` reads the tokens"
_ASKED: Final = "gatekeeper knows what is asked for"
_NEEDLESS: Final = {
    **dict.fromkeys(
        (
            "proxy_ssl_certificate", "proxy_ssl_certificate_key", "proxy_ssl_protocols",
            "proxy_ssl_ciphers", "proxy_ssl_verify", "proxy_ssl_server_name",
            "proxy_ssl_trusted_certificate",
        ),
        _TLS,
    ),
    **dict.fromkeys(
        (
            "auth_request /_oauth2_token_introspection", "auth_request_set",
            "location = /_oauth2_token_introspection",
            "location = /_oauth2_send_introspection_request", "js_import",
            "subrequest_output_buffer_size", "proxy_cache_path", "map $http_nvm_authorization",
            "map $http_authorization", "set $oauth_client_id", "set $oauth_client_secret",
            "proxy_set_header NVM-User-id", "proxy_set_header NVM-User-Id",
            "proxy_set_header NVM-Scope", "proxy_set_header NVM-Owner",
            "proxy_set_header NVM-Authorization",
        ),
        _READ,
    ),
    **dict.fromkeys(
        (
            "set $_protocol", "if ($http_x_forwarded_proto", "if ($_protocol",
            "set $requested_url", "if ($env_introspection_url", "perl_set $env_introspection_url",
            "add_header X-uri", "add_header X-p",
        ),
        _ASKED,
    ),
    "proxy_pass": "requests go to the upstream that the token names",
    "proxy_intercept_errors": "responses are passed on as they are",
    "resolver": "names are looked up as the system does",
    "ssl_verify_client off": "clients are asked for no certificate",
    "user": "it is the daemon's, not the configuration's",
    "worker_processes": "it is the daemon's, not the configuration's",
    "pid": "it is the daemon's, not the configuration's",
    "load_module": "it is nginx's own",
    "env": "it is nginx's own",
    "events": "it is nginx's own",
    "sendfile": "it is nginx's own",
    "default_type": "it is nginx's own",
    "include /etc/nginx/mime.types": "it is nginx's own",
    "log_format": "the access log holds one JSON object per exchange",
    "keepalive_timeout": "`timeouts.idle`",
}  # fmt: skip
_LEFT: Final = {"include": "the file is not read; --nginx names the one with the `server` in it"}


@dataclass(frozen=True)
class Nevermined:
    """The old environment and nginx, and what was given on the command line in their place.

    ``whole``: everything in the environment is meant for the proxy, as in a file of its own, so
    that what is not known is told.
    """

    environment: Mapping[str, str] = field(repr=False)
    whole: bool = True
    nginx: Source | None = None
    listen: str | None = None
    forward: str | None = None
    certificate: CertificateFiles | None = None


class _Nginx:
    """What Nevermined's nginx says beside what every server does."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.cors = False

    def take(self, directive: Directive, location: str) -> bool:
        """See :class:`ServerReader`."""
        match directive.name, directive.arguments:
            case "add_header", (name, *_) if name.lower().startswith("access-control-"):
                self.cors = True
                self._notes.carry("add_header Access-Control-…", "`cors` of the service")
                return True
        return False


def import_nevermined(old: Nevermined, secrets: Secrets) -> Imported:
    """The configuration that does what Nevermined's proxy did.

    Secrets are referred to, as ``secrets`` says; those that become files are in the result.

    :raises ConfigurationError: nginx's file cannot be read, as ``file:line``.
    """
    notes = Notes()
    nginx, server = _Nginx(notes), Server()
    if old.nginx is not None:
        server = ServerReader(old.nginx.name, notes, _NEEDLESS, _LEFT, nginx.take).read(
            old.nginx.text
        )
    tables = list(_tables(old, server, nginx.cors, notes, secrets))
    _explain_rest(old, notes)
    return Imported(render(_HEAD, tables), notes, tuple(secrets.files))


def _tables(
    old: Nevermined, server: Server, cors: bool, notes: Notes, secrets: Secrets
) -> Iterator[Table]:
    settings = _settings(old.environment, notes, secrets)
    yield Table("", {"state_dir": STATE_DIR}, {"state_dir": STATE_DIR_COMMENT})
    url = store_url(old.environment, notes, secrets)
    if url is not None:
        yield Table("[store]", {"url": url}, {"": "Where usage is kept."})
    market = settings[variables.CHECKER].get("marketplace_url")
    credits, sold = selling(settings.pop(variables.CREDITS, {}), market, notes)
    if credits is not None:
        yield credits
    yield from _listeners(old, server, notes, sold)
    yield Table(
        f"[{variables.CHECKER}]",
        {"type": "access-token", **settings.pop(variables.CHECKER)},
        {
            "": "Nevermined's access tokens, which say which URLs they open.",
            "secret": "The phrase that the node has, too; `secret_encoding` is Nevermined's.",
            "marketplace_url": "Where services are looked up that have open URLs.",
            "backend_url": "This upstream gets `backend_token`, whatever the token has for it.",
        },
    )
    for name, values in settings.items():
        yield Table(f"[{name}]", values)
    service: dict[str, Value] = {
        "name": "nevermined",
        "to": "grant",
        "checkers": ["nevermined"],
    }
    comments = {
        "": "What a token opens, at its upstream. Addresses that are not public are refused unless "
        '`allow` names them: allow = ["*:*", "10.0.0.0/8:*"]',
    }
    if cors:
        service["cors"] = True
    service.update(sold)
    yield Table("[[services]]", service, comments)


def _settings(
    environment: Mapping[str, str], notes: Notes, secrets: Secrets
) -> dict[str, dict[str, Value]]:
    """The keys that variables have of their own, by table."""
    tables: defaultdict[str, dict[str, Value]] = defaultdict(dict)
    for setting, value in _without_halves(_usable(environment, notes), notes).values():
        place = f"`{setting.key}` of [{setting.table}]"
        if setting.secret:
            value = secrets.refer(setting.variable, environment[setting.variable])
            place = f"{place}, {secrets.whereabouts}"
        tables[setting.table][setting.key] = value
        notes.carry(setting.variable, place)
    if "secret" not in tables[variables.CHECKER]:
        tables[variables.CHECKER]["secret"] = secrets.refer("JWT_SECRET_PHRASE", None)
        notes.leave(
            "JWT_SECRET_PHRASE",
            "is not set, and there is no default: the daemon's environment must have it",
        )
    return dict(tables)


def _usable(
    environment: Mapping[str, str], notes: Notes
) -> dict[str, tuple[variables.Setting, Value]]:
    """The settings that are set, by their keys, with their values."""
    found: dict[str, tuple[variables.Setting, Value]] = {}
    for setting in variables.SETTINGS:
        text = environment.get(setting.variable)
        if not text:
            continue
        place = f"`{setting.key}` of [{setting.table}]"
        if setting.key in found:
            earlier = found[setting.key][0].variable
            if environment[earlier] != text:
                notes.leave(setting.variable, f"{place} is what {earlier} says, which differs")
            continue
        value: Value = text
        try:
            value = setting.read(text)
        except ValueError as error:
            notes.leave(setting.variable, f"would be {place}, and {error}")
            if not setting.secret:
                continue
        found[setting.key] = setting, value
    return found


def _without_halves(
    found: dict[str, tuple[variables.Setting, Value]], notes: Notes
) -> dict[str, tuple[variables.Setting, Value]]:
    """Neither the backend nor its token is of use without the other."""
    pair = {"backend_url", "backend_token"}
    half = pair & found.keys()
    if len(half) != 1:
        return found
    notes.leave(found[half.pop()][0].variable, "is of no use without the other half of the backend")
    return {key: item for key, item in found.items() if key not in pair}


def _listeners(
    old: Nevermined, server: Server, notes: Notes, sold: Mapping[str, Value]
) -> Iterator[Table]:
    listens = list(server.listens) or [_GATEWAY, _FORWARD]
    gateways = [each for each in listens if not _is_forward(each)]
    forwards = [each for each in listens if _is_forward(each)]
    if old.listen is not None:
        gateways = [Listen(old.listen, True)]
    if old.forward is not None:
        forwards = [Listen(old.forward, False)]
    for number, listen in enumerate(gateways):
        values: dict[str, Value] = {
            "name": numbered("public", number),
            "role": "gateway",
            "bind": listen.bind,
        }
        if listen.tls:
            values["tls"] = tls(old.certificate, server, notes)
        yield Table("[[listeners]]", values, {"": "The gateway: curl https://…/ -H 'Host: …'"})
    for number, listen in enumerate(forwards):
        yield Table(
            "[[listeners]]",
            {
                "name": numbered("proxy", number),
                "role": "forward",
                "bind": listen.bind,
                "checkers": ["nevermined"],
                "credentials_from": ["proxy-authorization", "authorization"],
                "allow": ["*:*"],
                **sold,
            },
            {
                "": "The forward proxy: curl --proxy http://…:3128 http://…/",
                "credentials_from": "Nevermined's clients send the token in `Authorization`.",
                "allow": "Addresses that are not public are refused unless they are named here.",
            },
        )
    yield Table(
        "[[listeners]]",
        {
            "name": "introspection",
            "role": "introspection",
            "bind": _introspection(old.environment, notes),
            "checkers": ["nevermined"],
        },
        {"": "For an nginx that keeps its place: POST /introspect, for this machine only."},
    )


def _is_forward(listen: Listen) -> bool:
    return not listen.tls and listen.bind.endswith(":3128")


def _introspection(environment: Mapping[str, str], notes: Notes) -> str:
    """The address of the listener that stands for the OAuth server."""
    host = environment.get("SERVER_HOST") or "127.0.0.1"
    port = environment.get("SERVER_PORT") or "4000"
    names = ", ".join(name for name in variables.INTROSPECTION if environment.get(name))
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        address = parse_bind(bind)
    except ValueError as error:
        notes.leave(names, f"would be `bind` of the listener `introspection`, and {error}")
        return "127.0.0.1:4000"
    if names:
        notes.carry(names, "`bind` of the listener `introspection`")
    if not address.loopback:
        notes.leave(
            "SERVER_HOST",
            "lets other machines ask. The answers hold the upstreams' credentials: name those "
            "machines in `trusted_peers` of the listener `introspection`",
        )
    return bind


def _explain_rest(old: Nevermined, notes: Notes) -> None:
    for name, value in sorted(old.environment.items()):
        if not value:
            continue
        if name in variables.NEEDLESS:
            notes.need_no_more(name, variables.NEEDLESS[name])
        elif name in variables.LEFT:
            notes.leave(name, variables.LEFT[name])
        elif old.whole and name not in variables.KNOWN:
            notes.leave(name, "is not known as a setting of Nevermined's proxy or burner")
