from __future__ import annotations

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.importing.nginx import Directive
from gatekeeper.importing.nginx_server import Listen, Server, ServerReader, seconds
from gatekeeper.importing.notes import Note, Notes


def read(text: str) -> tuple[Server, Notes]:
    notes = Notes()

    def take(directive: Directive, location: str) -> bool:
        return directive.name == "taken" and location == "/there"

    needless = {"old": "gone", "location = /x": "gone", "header X-Known": "gone"}
    left = {"allow": "no addresses"}
    server = ServerReader("the.conf", notes, needless, left, take).read(text)
    return server, notes


@pytest.mark.parametrize(
    ("arguments", "listen"),
    [
        ("443 ssl", Listen("0.0.0.0:443", True)),
        ("443 ssl http2 default_server", Listen("0.0.0.0:443", True)),
        ("80", Listen("0.0.0.0:80", False)),
        ("*:8080", Listen("0.0.0.0:8080", False)),
        ("127.0.0.1:8443 ssl", Listen("127.0.0.1:8443", True)),
        ("192.0.2.1", Listen("192.0.2.1:80", False)),
        ("[::]:443 ssl", Listen("[::]:443", True)),
        ("[::1]", Listen("[::1]:80", False)),
        ("localhost:81", Listen("localhost:81", False)),
    ],
)
def test_listen(arguments: str, listen: Listen) -> None:
    server, notes = read(f"server {{ listen {arguments}; }}")
    assert server.listens == [listen]
    assert notes.left == []


@pytest.mark.parametrize("arguments", ["unix:/run/nginx.sock", "example.com:443", "99999", "x:y"])
def test_addresses_that_we_cannot_listen_on_are_left(arguments: str) -> None:
    server, notes = read(f"server {{\nlisten {arguments}; }}")
    assert server.listens == []
    assert [note.setting for note in notes.left] == ["the.conf:2: listen"]


def test_every_directive_is_carried_over_or_told_of() -> None:
    server, notes = read(
        """
        http {
          server {
            listen 443 ssl;
            ssl_certificate a.pem;
            ssl_certificate_key a.key;
            old;
            location = /x { anything; }
            location /there { taken; allow 192.0.2.1; header X-Known v; header X-Other s3cret; }
            taken;
            if ($x) { return 403; }
          }
        }
        """
    )
    assert (server.certificate, server.key) == ("a.pem", "a.key")
    assert notes.carried == [Note("the.conf: listen", "a listener at 0.0.0.0:443")]
    assert [note.setting for note in notes.needless] == [
        "the.conf: old",
        "the.conf: location = /x",
        "the.conf: header X-Known",
    ]
    assert [note.setting for note in notes.left] == [
        "the.conf:9: allow, in location /there",
        "the.conf:9: header, in location /there",
        "the.conf:10: taken",
        "the.conf:11: if",
    ]
    assert "s3cret" not in repr(notes.left)


def test_a_file_that_is_not_nginx_is_an_error_with_its_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("server {\nlisten 443\n}")
    assert [str(problem) for problem in caught.value.problems] == [
        "the.conf:3: a `}` too many, or a `;` is missing before it"
    ]


@pytest.mark.parametrize(
    ("text", "length"),
    [("180", 180), ("180s", 180), ("3m", 180), ("1m30s", 90), ("1m30", 90)]
    + [(text, None) for text in ("", "0", "0s", "5ms", "1h", "x", "-1", "1.5", "$time", "9999999")],
)
def test_times(text: str, length: float | None) -> None:
    assert seconds(text) == length
