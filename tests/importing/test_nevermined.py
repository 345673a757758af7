from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.access_token_settings import AccessTokenSettings, read_settings
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from gatekeeper.importing import nevermined_variables as variables
from gatekeeper.importing.environment import read_environment_file
from gatekeeper.importing.nevermined import Nevermined, import_nevermined
from gatekeeper.importing.notes import Imported, Secrets
from gatekeeper.importing.sources import CertificateFiles, Source
from gatekeeper.store.postgres_url import parse_postgres_url
from tests.importing.conftest import DATA, Load

PHRASE = "31415926535897932384626433832795"
ENVIRONMENT = read_environment_file((DATA / "nevermined" / "environment").read_text(), "the.env")


@pytest.fixture
def old(pair: tuple[str, str]) -> Nevermined:
    return Nevermined(ENVIRONMENT, certificate=CertificateFiles(*pair))


@pytest.fixture
def nginx() -> Source:
    path = DATA / "nevermined" / "proxy.conf"
    return Source(path, path.read_text())


def take_over(old: Nevermined, **environment: str) -> Imported:
    if environment:
        old = replace(old, environment=environment)
    return import_nevermined(old, Secrets())


def left(imported: Imported) -> dict[str, str]:
    return dict(imported.notes.left)


def checker(settings: Settings) -> AccessTokenSettings:
    found = settings.checkers["nevermined"].settings
    assert isinstance(found, AccessTokenSettings)
    return found


def test_the_whole(old: Nevermined, loaded: Load) -> None:
    imported = take_over(old)
    settings = loaded(imported.text, ENVIRONMENT)
    assert [(each.name, each.role, each.bind) for each in settings.listeners] == [
        ("public", "gateway", "0.0.0.0:443"),
        ("proxy", "forward", "0.0.0.0:3128"),
        ("introspection", "introspection", "127.0.0.1:4001"),
    ]
    assert settings.listeners[1].credentials_from == ("proxy-authorization", "authorization")
    assert settings.store.url == "postgresql://burner@db.internal:5433/nvm_one"
    found = checker(settings)
    assert found.marketplace_url == "https://marketplace-api.example.com"
    assert found.backend_url == "https://one-backend.example.com"
    read_settings(found)  # the secrets are such as the daemon takes
    assert settings.credits.rpc_url == "https://arbitrum.example.com/v2/web3-s3cret"
    assert settings.credits.chain_id == 421614
    assert settings.credits.marketplace_url == "https://marketplace-api.example.com"
    (service,) = settings.services
    sold = [each.credits for each in settings.listeners] + [service.credits]
    assert [each and each.source for each in sold] == [None, "chain", None, "chain"]
    assert (service.to, service.checkers, service.cors) == ("grant", ("nevermined",), False)


def test_what_becomes_of_each_variable(old: Nevermined) -> None:
    notes = take_over(old).notes
    told = [note.setting for note in notes.carried + notes.needless + notes.left]
    named = {name for setting in told for name in setting.split(", ")}
    assert named == {name for name, value in ENVIRONMENT.items() if value}
    assert set(left(take_over(old))) == {
        "LOG_COLOR",
        "OTEL_EXPORTER_OTLP_METRICS_AUTHORIZATION",
    }


def test_no_secret_is_shown(old: Nevermined, nginx: Source) -> None:
    imported = take_over(replace(old, nginx=nginx))
    notes = imported.notes
    told = imported.text + repr(imported) + repr(notes.carried + notes.needless + notes.left)
    told += repr(old)
    for secret in ("s3cret", PHRASE, "p@ss", "p%40ss", "b3RlbC"):
        assert secret not in told


@pytest.mark.parametrize("name", sorted(variables.KNOWN))
def test_every_known_variable_is_told_of(old: Nevermined, name: str) -> None:
    notes = take_over(old, **{name: "5432"}).notes
    told = [note.setting for note in notes.carried + notes.needless + notes.left]
    assert name in {each for setting in told for each in setting.split(", ")}


def test_no_variable_has_two_fates() -> None:
    names = [setting.variable for setting in variables.SETTINGS]
    names += [*variables.INTROSPECTION, *variables.STORE]
    names += [*variables.NEEDLESS, *variables.LEFT]
    assert len(names) == len(set(names)) == len(variables.KNOWN)


def test_what_else_is_in_the_process_environment_is_nobodys_business(old: Nevermined) -> None:
    environment = {"JWT_SECRET_PHRASE": PHRASE, "EDITOR": "vi", "OTEL_SERVICE_NAME": "x"}
    imported = import_nevermined(replace(old, environment=environment, whole=False), Secrets())
    assert list(left(imported)) == ["OTEL_SERVICE_NAME"]


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_in_files(old: Nevermined, loaded: Load, tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    imported = import_nevermined(old, Secrets(directory))
    assert {file.path.name for file in imported.secrets} == {
        "jwt-secret-phrase",
        "backend-auth-token",
        "store-url",
        "web3-provider-url",
    }
    assert "s3cret" not in repr(imported)
    directory.mkdir()
    for file in imported.secrets:
        file.path.write_text(file.content)
    settings = loaded(imported.text)
    found = checker(settings)
    assert found.secret.get_secret_value() == PHRASE
    assert found.backend_token is not None
    assert found.backend_token.get_secret_value() == "backend-s3cret"
    target = parse_postgres_url(settings.store.url)
    assert target.parameters["password"] == "p@ss/w?rd#$HOME"
    assert (target.host, target.port) == ("db.internal", 5433)


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("short", "must be 32 characters, and is 5"),
        ("my-32-character-super-secret-key", "characters that are not digits"),
        (variables.PUBLISHED_PHRASE, "publishes"),
    ],
)
def test_a_phrase_that_will_not_do_is_told(old: Nevermined, phrase: str, reason: str) -> None:
    imported = take_over(old, JWT_SECRET_PHRASE=phrase)
    assert reason in left(imported)["JWT_SECRET_PHRASE"]
    assert phrase not in repr(imported.notes.left)
    assert 'secret = { env = "JWT_SECRET_PHRASE" }' in imported.text


def test_a_missing_phrase_is_told(old: Nevermined, loaded: Load) -> None:
    imported = take_over(old, SERVER_PORT="4000")
    assert "there is no default" in left(imported)["JWT_SECRET_PHRASE"]
    with pytest.raises(ConfigurationError, match="`JWT_SECRET_PHRASE` is not set"):
        loaded(imported.text)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=12))
def test_no_value_of_a_secret_gets_out(value: str) -> None:
    names = [setting.variable for setting in variables.SETTINGS if setting.secret]
    names += ["PG_PASSWORD", "KEYFILE_PASSWORD", "SEED_WORDS", "WEB3_PROVIDER_URL", "UNKNOWN"]
    marked = f"<s3cret {value}>"
    old = Nevermined({**dict.fromkeys(names, marked), "BACKEND_API_URI": "https://b"})
    imported = import_nevermined(old, Secrets(Path("/secrets")))
    notes = imported.notes
    told = imported.text + repr(imported) + repr(notes.carried + notes.needless + notes.left)
    assert "s3cret" not in told
    assert all("s3cret" in file.content for file in imported.secrets)


# --- single settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"PG_HOST": "db"}, "postgresql://postgres@db:5432/nvm_one"),
        ({"PG_DB": "a b/c", "PG_USER": "me@x"}, "postgresql://me%40x@localhost:5432/a%20b%2Fc"),
        ({"PG_HOST": "::1", "PG_PORT": "1"}, "postgresql://postgres@[::1]:1/nvm_one"),
        (
            {"PG_HOST": "/run/postgresql"},
            "postgresql://postgres@:5432/nvm_one?host=%2Frun%2Fpostgresql",
        ),
    ],
)
def test_the_store(old: Nevermined, loaded: Load, given: dict[str, str], url: str) -> None:
    environment = {**given, "JWT_SECRET_PHRASE": PHRASE}
    settings = loaded(take_over(old, **environment).text, environment)
    assert settings.store.url == url
    target = parse_postgres_url(url)
    assert target.parameters["dbname"] == given.get("PG_DB", "nvm_one")
    assert target.parameters["user"] == given.get("PG_USER", "postgres")
    assert target.host == given.get("PG_HOST", "localhost")


@pytest.mark.parametrize("given", [{"PG_PORT": "x"}, {"PG_HOST": "db:5432"}, {"PG_HOST": "a b"}])
def test_a_store_that_cannot_be_is_left(
    old: Nevermined, loaded: Load, given: dict[str, str]
) -> None:
    imported = take_over(old, JWT_SECRET_PHRASE=PHRASE, **given)
    assert "`store.url`" in left(imported)[next(iter(given))]
    assert loaded(imported.text, {"JWT_SECRET_PHRASE": PHRASE}).store.url.startswith("sqlite:")


@pytest.mark.parametrize(
    ("given", "bind", "in_left"),
    [
        ({}, "127.0.0.1:4000", None),
        ({"SERVER_PORT": "5000"}, "127.0.0.1:5000", None),
        ({"SERVER_HOST": "localhost"}, "localhost:4000", None),
        ({"SERVER_HOST": "::1"}, "[::1]:4000", None),
        ({"SERVER_HOST": "0.0.0.0"}, "0.0.0.0:4000", "trusted_peers"),
        ({"SERVER_HOST": "oauth"}, "127.0.0.1:4000", "`bind`"),
        ({"SERVER_PORT": "http"}, "127.0.0.1:4000", "`bind`"),
    ],
)
def test_introspection(
    old: Nevermined, loaded: Load, given: dict[str, str], bind: str, in_left: str | None
) -> None:
    environment = {**given, "JWT_SECRET_PHRASE": PHRASE}
    imported = take_over(old, **environment)
    assert loaded(imported.text, environment).listeners[-1].bind == bind
    reasons = [text for name, text in imported.notes.left if name.startswith("SERVER_")]
    assert len(reasons) == (in_left is not None)
    assert all(in_left is not None and in_left in text for text in reasons)


@pytest.mark.parametrize(
    ("given", "url", "in_left"),
    [
        ({"MARKETPLACE_API_URL": "https://a"}, "https://a", None),
        (
            {"MARKETPLACE_API_URI": "https://a", "MARKETPLACE_API_URL": "https://a"},
            "https://a",
            None,
        ),
        (
            {"MARKETPLACE_API_URI": "https://a", "MARKETPLACE_API_URL": "https://b"},
            "https://a",
            "MARKETPLACE_API_URL",
        ),
        ({"MARKETPLACE_API_URI": "https://u:s3cret@a"}, None, "MARKETPLACE_API_URI"),
        ({"MARKETPLACE_API_URI": ""}, None, None),
    ],
)
def test_the_marketplace(
    old: Nevermined, loaded: Load, given: dict[str, str], url: str | None, in_left: str | None
) -> None:
    environment = {**given, "JWT_SECRET_PHRASE": PHRASE}
    imported = take_over(old, **environment)
    assert checker(loaded(imported.text, environment)).marketplace_url == url
    assert list(left(imported)) == ([in_left] if in_left else [])
    assert "s3cret" not in repr(imported.notes.left)


@pytest.mark.parametrize(
    ("given", "in_left"),
    [
        ({"WEB3_PROVIDER_URL": "https://n", "MARKETPLACE_API_URI": "https://a"}, []),
        ({"WEB3_PROVIDER_URL": "https://n"}, ["MARKETPLACE_API_URL"]),
        ({"NETWORK_ID": "137", "MARKETPLACE_API_URL": "https://a"}, []),
        ({"NETWORK_ID": "0"}, ["NETWORK_ID"]),
        ({"NETWORK_ID": "polygon"}, ["NETWORK_ID"]),
    ],
)
def test_requests_are_sold_where_it_is_known_whom_to_ask(
    old: Nevermined, loaded: Load, given: dict[str, str], in_left: list[str]
) -> None:
    environment = {**given, "JWT_SECRET_PHRASE": PHRASE}
    imported = take_over(old, **environment)
    settings = loaded(imported.text, environment)
    assert list(left(imported)) == in_left
    assert settings.credits.rpc_url == given.get("WEB3_PROVIDER_URL")
    assert settings.credits.chain_id == (137 if given.get("NETWORK_ID") == "137" else None)
    both = {"WEB3_PROVIDER_URL", "MARKETPLACE_API_URI"} <= given.keys()
    sellers = (settings.listeners[1], settings.services[0])
    assert [each.credits is not None for each in sellers] == [both, both]


def test_a_chain_that_is_no_url_is_told(old: Nevermined) -> None:
    imported = take_over(old, WEB3_PROVIDER_URL="wss://s3cret.example", JWT_SECRET_PHRASE=PHRASE)
    assert "must be a URL that starts with" in left(imported)["WEB3_PROVIDER_URL"]
    assert "s3cret" not in imported.text + repr(imported.notes.left)


@pytest.mark.parametrize("name", ["BACKEND_API_URI", "BACKEND_AUTH_TOKEN"])
def test_half_a_backend_is_left(old: Nevermined, loaded: Load, name: str) -> None:
    environment = {name: "https://b", "JWT_SECRET_PHRASE": PHRASE}
    imported = take_over(old, **environment)
    assert list(left(imported)) == [name]
    assert name not in dict(imported.notes.carried)
    found = checker(loaded(imported.text, environment))
    assert (found.backend_url, found.backend_token) == (None, None)


# --- nginx ----------------------------------------------------------------------------------------


def test_nginx(old: Nevermined, nginx: Source, loaded: Load) -> None:
    imported = take_over(replace(old, nginx=nginx, environment={"JWT_SECRET_PHRASE": PHRASE}))
    settings = loaded(imported.text, {"JWT_SECRET_PHRASE": PHRASE})
    assert [(each.role, each.bind) for each in settings.listeners] == [
        ("gateway", "0.0.0.0:443"),
        ("forward", "0.0.0.0:3128"),
        ("introspection", "127.0.0.1:4000"),
    ]
    assert settings.services[0].cors
    assert list(left(imported)) == [
        "proxy.conf:27: proxy_set_header, in location /",
        "proxy.conf:30: limit_rate, in location /",
    ]


def test_its_certificate(old: Nevermined, nginx: Source) -> None:
    imported = take_over(replace(old, nginx=nginx, certificate=None))
    assert 'certificate = "/ssl/certs/tls.crt", key = "/ssl/certs/tls.key"' in imported.text


def test_options_win(old: Nevermined, nginx: Source, loaded: Load) -> None:
    given: dict[str, Any] = {"listen": "127.0.0.1:8443", "forward": "127.0.0.1:8128"}
    imported = take_over(replace(old, nginx=nginx, **given))
    settings = loaded(imported.text, ENVIRONMENT)
    assert [each.bind for each in settings.listeners][:2] == ["127.0.0.1:8443", "127.0.0.1:8128"]


def test_plain_http_for_the_gateway(old: Nevermined, loaded: Load) -> None:
    nginx = Source(Path("/proxy.conf"), "server { listen 80; listen 8443 ssl; }")
    settings = loaded(take_over(replace(old, nginx=nginx)).text, ENVIRONMENT)
    assert [(each.name, each.bind, each.tls is None) for each in settings.listeners][:2] == [
        ("public", "0.0.0.0:80", True),
        ("public-2", "0.0.0.0:8443", False),
    ]


def test_a_backend_that_is_no_url_takes_its_token_along(old: Nevermined, loaded: Load) -> None:
    environment = {
        "BACKEND_API_URI": "b:3001",
        "BACKEND_AUTH_TOKEN": "backend-s3cret",
        "JWT_SECRET_PHRASE": PHRASE,
    }
    imported = take_over(old, **environment)
    assert list(left(imported)) == ["BACKEND_API_URI", "BACKEND_AUTH_TOKEN"]
    found = checker(loaded(imported.text, environment))
    assert (found.backend_url, found.backend_token) == (None, None)


def test_a_further_setting_is_one_line(
    old: Nevermined, loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = variables.Setting("MAX_PATHS", "usage", "max_paths", int)
    monkeypatch.setattr(variables, "SETTINGS", (*variables.SETTINGS, further))
    environment = {"JWT_SECRET_PHRASE": PHRASE, "MAX_PATHS": "7"}
    assert loaded(take_over(old, **environment).text, environment).usage.max_paths == 7
