from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper.auth.api_key import ApiKeySettings
from gatekeeper.errors import ConfigurationError
from gatekeeper.importing.cyphernode import Cyphernode, import_cyphernode
from gatekeeper.importing.notes import Imported, Note
from gatekeeper.importing.sources import CertificateFiles, Source
from tests.importing.conftest import Load


def source(path: Path) -> Source:
    return Source(path, path.read_text())


@pytest.fixture
def old(data: Path, pair: tuple[str, str]) -> Cyphernode:
    directory = data / "cyphernode"
    return Cyphernode(
        source(directory / "keys.properties"),
        source(directory / "api.properties"),
        (source(directory / "default.conf"), source(directory / "ip-whitelist.conf")),
        certificate=CertificateFiles(*pair),
    )


def settings_left(imported: Imported) -> list[str]:
    return [note.setting for note in imported.notes.left]


def test_the_whole(old: Cyphernode, loaded: Load, pair: tuple[str, str]) -> None:
    imported = import_cyphernode(old)
    settings = loaded(imported.text)
    (listener,) = settings.listeners
    assert (listener.role, listener.bind) == ("gateway", "0.0.0.0:2009")
    assert listener.tls is not None
    assert (str(listener.tls.certificate), str(listener.tls.key)) == pair
    (checker,) = settings.checkers.values()
    assert checker.settings == ApiKeySettings(
        file=old.keys.path, legacy=True, compat_status="cyphernode"
    )
    (service,) = settings.services
    assert service.to == "http://proxy:8888"
    assert service.actions_file == old.actions.path
    assert service.timeouts.connect == 10.0
    assert service.timeouts.response == service.timeouts.body == 300.0
    assert imported.secrets == ()


def test_what_becomes_of_each_old_setting(old: Cyphernode) -> None:
    notes = import_cyphernode(old).notes
    assert [note.setting for note in notes.carried] == [
        "default.conf: listen",
        "proxy_pass in location /v0/",
        "proxy_connect_timeout",
        "proxy_read_timeout",
        "keys.properties",
        "api.properties",
        "proxy_pass",
    ]
    assert [note.setting for note in notes.needless] == [
        "default.conf: server_name",
        "default.conf: auth_request",
        "default.conf: proxy_set_header Authorization",
        "default.conf: proxy_send_timeout",
        "default.conf: send_timeout",
        "default.conf: location /auth",
        "default.conf: error_page",
        "default.conf: location = /50x.html",
    ]
    assert [note.setting for note in notes.left] == [
        "default.conf:12: root, in location /s/",
        "ip-whitelist.conf:2: allow",
        "ip-whitelist.conf:3: deny",
    ]
    assert "3 keys" in notes.carried[4].text
    assert "5 actions" in notes.carried[5].text


def test_the_keys_are_neither_copied_nor_told(old: Cyphernode) -> None:
    imported = import_cyphernode(old)
    told = imported.text + repr(imported) + repr(imported.notes.carried + imported.notes.left)
    assert "2df1eeea370eacdc" not in told
    assert "b9b8d527a1a27af2" not in told
    assert "2df1eeea370eacdc" not in repr(old)


def test_without_nginx_it_is_as_the_installer_makes_it(old: Cyphernode, loaded: Load) -> None:
    imported = import_cyphernode(replace(old, nginx=()))
    assert imported.notes.left == []
    settings = loaded(imported.text)
    assert settings.listeners[0].bind == "0.0.0.0:443"
    assert settings.services[0].to == "http://proxy:8888"
    assert settings.services[0].timeouts.response is None  # the action file's 180 seconds


def test_options_win_over_nginx(old: Cyphernode, loaded: Load) -> None:
    given = replace(old, to="https://node.internal:8889", listen="127.0.0.1:4443")
    imported = import_cyphernode(given)
    settings = loaded(imported.text)
    assert [listener.bind for listener in settings.listeners] == ["127.0.0.1:4443"]
    assert settings.services[0].to == "https://node.internal:8889"
    assert "Docker" not in repr(imported.notes.carried)


def test_the_certificate_of_nginx(old: Cyphernode, data: Path, loaded: Load) -> None:
    text = old.nginx[0].text.replace("/etc/ssl/certs/cert.pem", str(data / "golem/services"))
    certificate, key = (data / "golem" / "services" / f"server.{end}" for end in ("cert", "key"))
    text = old.nginx[0].text.replace("/etc/ssl/certs/cert.pem", str(certificate))
    text = text.replace("/etc/ssl/private/key.pem", str(key))
    nginx = (Source(old.nginx[0].path, text),)
    imported = import_cyphernode(replace(old, nginx=nginx, certificate=None))
    tls = loaded(imported.text).listeners[0].tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (certificate, key)


def test_without_a_certificate_one_is_made_and_that_is_told(old: Cyphernode, loaded: Load) -> None:
    imported = import_cyphernode(replace(old, nginx=(), certificate=None))
    tls = loaded(imported.text).listeners[0].tls
    assert tls is not None
    assert tls.self_signed
    assert settings_left(imported) == ["ssl_certificate, ssl_certificate_key"]


def test_an_included_file_that_is_not_read_is_told(old: Cyphernode) -> None:
    imported = import_cyphernode(replace(old, nginx=old.nginx[:1]))
    assert "default.conf:5: include" in settings_left(imported)


def test_several_addresses_and_plain_http(old: Cyphernode, loaded: Load) -> None:
    text = (
        "server { listen 80; listen 443 ssl; location /v0/ { proxy_pass http://10.0.0.1:8888; } }"
    )
    nginx = (Source(Path("/there/default.conf"), text),)
    settings = loaded(import_cyphernode(replace(old, nginx=nginx)).text)
    assert [(each.name, each.bind, each.tls is None) for each in settings.listeners] == [
        ("public", "0.0.0.0:80", True),
        ("public-2", "0.0.0.0:443", False),
    ]
    assert settings.services[0].to == "http://10.0.0.1:8888"


def test_a_gateway_of_before_the_actions_had_a_prefix(old: Cyphernode) -> None:
    text = "server { listen 443 ssl; location / { proxy_pass http://10.0.0.1:8888; } }"
    imported = import_cyphernode(replace(old, nginx=(Source(Path("/default.conf"), text),)))
    assert settings_left(imported) == ["location /"]
    assert "http://10.0.0.1:8888" in imported.text


@pytest.mark.parametrize("url", ["http://$upstream", "http://unix:/run/x.sock", "node"])
def test_an_upstream_that_is_no_url_is_left(old: Cyphernode, url: str) -> None:
    text = f"server {{ location /v0/ {{ proxy_pass {url}; }} }}"
    imported = import_cyphernode(replace(old, nginx=(Source(Path("/default.conf"), text),)))
    assert settings_left(imported) == ["default.conf:1: proxy_pass, in location /v0/"]
    assert 'to = "http://proxy:8888"' in imported.text


def test_who_was_in_a_group_by_its_name_being_part_of_another(old: Cyphernode) -> None:
    actions = Source(old.actions.path, "action_a=spend\naction_b=stats\naction_c=internal\n")
    imported = import_cyphernode(replace(old, nginx=(), actions=actions))
    assert imported.notes.left == [
        Note(
            "keys.properties: key 003",
            "could use the actions of `spend`, as part of another group's name. It must list "
            "`spend` to keep them",
        )
    ]


def test_all_lines_that_cannot_be_used_are_told_at_once(old: Cyphernode) -> None:
    broken = replace(
        old,
        keys=Source(Path("/k/keys.properties"), "key001=abc\nwatcher.001=" + "a" * 64 + "\n"),
        actions=Source(Path("/k/api.properties"), "action_a=x\naction_a=y\naction b=x\n"),
        nginx=(Source(Path("/k/default.conf"), "server {"),),
    )
    with pytest.raises(ConfigurationError) as caught:
        import_cyphernode(broken)
    places = [str(problem).partition(": ")[0] for problem in caught.value.problems]
    assert places == [
        "/k/keys.properties:1",
        "/k/keys.properties:2",
        "/k/api.properties:2",
        "/k/api.properties:3",
        "default.conf:the end",
    ]
    assert "a" * 64 not in str(caught.value)


@pytest.mark.parametrize("time", ["0", "1h", "$time"])
def test_a_timeout_that_will_not_do_is_left(old: Cyphernode, loaded: Load, time: str) -> None:
    text = f"server {{ location /v0/ {{ proxy_read_timeout {time}; other; }} }}"
    imported = import_cyphernode(replace(old, nginx=(Source(Path("/default.conf"), text),)))
    assert settings_left(imported) == [
        "default.conf:1: proxy_read_timeout, in location /v0/",
        "default.conf:1: other, in location /v0/",
    ]
    assert loaded(imported.text).services[0].timeouts.response is None


def test_the_actions_lead_to_the_node_and_what_else_there_is_does_not(old: Cyphernode) -> None:
    text = "location / { proxy_pass http://a; } location /v0/ { proxy_pass http://b; }"
    text = f"server {{ {text} location /v0/ {{ proxy_pass http://c; }} }}"
    imported = import_cyphernode(replace(old, nginx=(Source(Path("/default.conf"), text),)))
    assert 'to = "http://b"' in imported.text
    assert settings_left(imported) == [
        "location /",
        "default.conf:1: proxy_pass, in location /v0/",
    ]
