from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.minimal import Configure, Problems

PUBLIC = 'name = "public"'


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()


def with_tls(tls: str) -> dict[str, str]:
    return {PUBLIC: f"{PUBLIC}\ntls = {tls}"}


@pytest.mark.parametrize(
    "tls",
    [
        '{ certificate = "cert.pem", key = "key.pem" }',
        "{ self_signed = true }",
        '{ certificate = "cert.pem", key = "key.pem", self_signed = false }',
        '{ self_signed = true, sni = [{ certificate = "cert.pem", key = "key.pem" }] }',
    ],
)
def test_right(configure: Configure, tls: str) -> None:
    assert configure(edit=with_tls(tls)).listeners[0].tls is not None


NEITHER = ("listeners[0].tls", "needs `certificate` and `key`, or `self_signed = true`")
BOTH = ("listeners[0].tls", "has both `self_signed` and `certificate` or `key`; keep one")
HALF = "is required beside the other half of the pair"


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("{}", [NEITHER]),
        ("{ self_signed = false }", [NEITHER]),
        ('{ sni = [{ certificate = "cert.pem", key = "key.pem" }] }', [NEITHER]),
        ('{ self_signed = true, certificate = "cert.pem", key = "key.pem" }', [BOTH]),
        ('{ self_signed = true, key = "key.pem" }', [BOTH]),
        ('{ certificate = "cert.pem" }', [("listeners[0].tls.key", HALF)]),
        ('{ key = "key.pem" }', [("listeners[0].tls.certificate", HALF)]),
    ],
)
def test_wrong(problems: Problems, tls: str, expected: list[tuple[str, str]]) -> None:
    assert problems(edit=with_tls(tls)) == expected


def test_files_that_cannot_be_read(problems: Problems, tmp_path: Path) -> None:
    found = problems(
        'ca_file = "no-ca.pem"',
        edit=with_tls(
            '{ certificate = "no.pem", key = ".", '
            'sni = [{ certificate = "no-sni.pem", key = "key.pem" }] }'
        ),
    )
    assert found == [
        (
            "listeners[0].tls.certificate",
            f"`{tmp_path}/no.pem` cannot be read: No such file or directory",
        ),
        ("listeners[0].tls.key", f"`{tmp_path}` cannot be read: Is a directory"),
        (
            "listeners[0].tls.sni[0].certificate",
            f"`{tmp_path}/no-sni.pem` cannot be read: No such file or directory",
        ),
        (
            "services[0].ca_file",
            f"`{tmp_path}/no-ca.pem` cannot be read: No such file or directory",
        ),
    ]


def test_a_broken_key_does_not_hide_the_other(problems: Problems) -> None:
    assert [path for path, _ in problems(edit=with_tls('{ certificate = 1, key = "no" }'))] == [
        "listeners[0].tls.certificate",
        "listeners[0].tls.key",
    ]


def test_the_state_directory_is_no_file(problems: Problems, tmp_path: Path) -> None:
    assert problems(edit={'"state"': '"cert.pem"'}) == [
        ("state_dir", f"`{tmp_path}/cert.pem` is not a directory")
    ]
    assert problems(edit={'"state"': '"cert.pem/state"'}) == [
        ("state_dir", f"`{tmp_path}/cert.pem/state` cannot be used: Not a directory")
    ]


def test_no_file_has_such_a_name(problems: Problems) -> None:
    assert problems(r'ca_file = "\u0000"', edit={'"state"': r'"\u0000"'}) == [
        ("state_dir", "is not a path"),
        ("services[0].ca_file", "is not a path"),
    ]
