from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper.errors import ProtocolError
from gatekeeper.http.target import Authority, Target, canonical_path, parse_authority, parse_target

GOOD_PATHS = [
    (b"/", b"/"),
    (b"/a", b"/a"),
    (b"/a/", b"/a/"),
    (b"/a/b.c/d~e_f-g", b"/a/b.c/d~e_f-g"),
    (b"/A/a", b"/A/a"),  # case means something
    (b"/a...", b"/a..."),
    (b"/...", b"/..."),
    (b"/.a", b"/.a"),
    (b"/..a", b"/..a"),
    (b"/a..", b"/a.."),
    (b"/.well-known/x", b"/.well-known/x"),
    (b"/!$&'()*+,=:@", b"/!$&'()*+,=:@"),
    (b"/a;x=1/b", b"/a;x=1/b"),
    (b"/a;..", b"/a;.."),
    (b"/%41%62", b"/Ab"),
    (b"/%7euser", b"/~user"),
    (b"/a%2eb", b"/a.b"),
    (b"/%2e%2e%2e", b"/..."),
    (b"/a%2d%5F", b"/a-_"),
    (b"/a%20b", b"/a%20b"),
    (b"/a%3fb%23c", b"/a%3Fb%23c"),
    (b"/a%2cb", b"/a%2Cb"),  # "," is reserved: a and %2C may be two things (RFC 3986, 2.2)
    (b"/100%25", b"/100%25"),
    (b"/100%25/x", b"/100%25/x"),
    (b"/%25zz", b"/%25zz"),
    (b"/%c3%a9", b"/%C3%A9"),
    (b"/%e2%82%ac", b"/%E2%82%AC"),
    (b"/%F0%9f%98%80", b"/%F0%9F%98%80"),
]

BAD_PATHS = [
    # dot segments
    b"/..",
    b"/.",
    b"/../",
    b"/./",
    b"/../a",
    b"/./a",
    b"/a/..",
    b"/a/.",
    b"/a/../b",
    b"/a/./b",
    b"/a/b/../../c",
    b"/%2e",
    b"/%2E%2e",
    b"/.%2e",
    b"/%2e.",
    b"/a/%2e%2E/b",
    b"/a/%2e/b",
    # dot segments for those who cut parameters off first
    b"/..;",
    b"/..;/a",
    b"/a/..;x=1/b",
    b"/.;/a",
    b"/%2e%2e;/a",
    b"/..%3b/a",
    b"/..%3Bx/a",
    b"/%2e%3bx",
    b"/;/a",
    b"/a/;x",
    b"/a/%3bx/b",
    # empty segments
    b"//",
    b"//a",
    b"/a//b",
    b"/a//",
    b"///",
    # slashes, backslashes and control characters in disguise
    b"/a%2fb",
    b"/a%2Fb",
    b"/..%2f",
    b"/a%5cb",
    b"/a%5Cb",
    b"/a\\b",
    b"/..\\..",
    b"/a%00",
    b"/a%00.html",
    b"/a%0d%0ab",
    b"/a%09",
    b"/a%1f",
    b"/a%7f",
    b"/a%7F",
    # encoded twice
    b"/%252e%252e/a",
    b"/%252f",
    b"/a%2541",
    b"/%25%32%65",
    b"/%25%32e",
    b"/%252%65",
    b"/%2525",
    b"/%25252e",
    # not UTF-8
    b"/%c0%ae",
    b"/%c0%af",
    b"/%e0%80%ae",
    b"/%f0%80%80%ae",
    b"/%ff",
    b"/%c3",
    b"/%c3/%a9",
    b"/%ed%a0%80",
    b"/%f5%80%80%80",
    # not a path
    b"",
    b"*",
    b"a",
    b"a/b",
    b"./a",
    b"%2fa",
    b"/%",
    b"/%4",
    b"/%g1",
    b"/% 41",
    b"/%+1",
    b"/%0x",
    b"/a%4/b",
    b"/a b",
    b"/a\tb",
    b"/a\r\nb",
    b"/a\0",
    b"/a\x7f",
    b"/caf\xc3\xa9",
    b"/a#b",
    b"/a?b",
    b'/a"b',
    b"/<a>",
    b"/a[b]",
    b"/a^b",
    b"/a`b",
    b"/{a}",
    b"/a|b",
    b"/a\n",
]


@pytest.mark.parametrize(("raw", "canonical"), GOOD_PATHS)
def test_a_path_has_one_spelling(raw: bytes, canonical: bytes) -> None:
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize("raw", BAD_PATHS)
def test_an_ambiguous_path_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        canonical_path(raw)
    assert refused.value.status == 400
    assert refused.value.close


PIECES = [b"/", b".", b"..", b";", b"%", b"%2", b"%25", b"%2e", b"%2F", b"%5c", b"%00", b"%3B"]
PIECES += [b"%41", b"%32", b"%35", b"%65", b"%c3", b"%A9", b"%c0", b"%ae", b"a", b"B", b"2", b"5"]
PIECES += [b"e", b"F", b"~", b"\\", b"?", b"#", b" ", b"\xff", b"\n", b"=", b"%20", b"%7F"]
PATHS = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: b"/" + b"".join(pieces))


@settings(max_examples=800)
@given(PATHS | st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"/" + tail))
@example(b"/%25%32%65")
def test_what_a_canonical_path_is(raw: bytes) -> None:
    try:
        path = canonical_path(raw)
    except ProtocolError:
        return
    assert canonical_path(path) == path
    assert unquote_to_bytes(path) == unquote_to_bytes(raw)
    assert re.fullmatch(rb"/([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*", path)
    assert not re.search(rb"%(2F|5C|[01].|7F)|%25[0-9A-Fa-f]{2}", path)
    decoded = unquote_to_bytes(path)
    decoded.decode("utf-8")
    assert b"\\" not in decoded
    assert unquote_to_bytes(decoded).count(b"/") == path.count(b"/"), "decoding twice finds no more"
    *inner, last = decoded[1:].split(b"/")
    for segment in [*inner, last]:
        assert segment not in (b".", b"..")
        assert segment.partition(b";")[0] not in (b".", b"..")
    assert all(segment.partition(b";")[0] for segment in inner)


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"example.com", "example.com", None),
        (b"EXAMPLE.com", "example.com", None),
        (b"example.com.", "example.com", None),
        (b"example.com.:80", "example.com", 80),
        (b"example.com:8080", "example.com", 8080),
        (b"example.com:1", "example.com", 1),
        (b"example.com:65535", "example.com", 65535),
        (b"example.com:00080", "example.com", 80),
        (b"a_b-c.d", "a_b-c.d", None),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example", None),
        (b"192.0.2.1:80", "192.0.2.1", 80),
        (b"[::1]", "::1", None),
        (b"[::1]:80", "::1", 80),
        (b"[2001:DB8:0:0:0:0:0:1]", "2001:db8::1", None),
        (b"[::ffff:127.0.0.1]:1", "::ffff:7f00:1", 1),
        (b"a" * 63 + b".b", "a" * 63 + ".b", None),
    ],
)
def test_an_authority(raw: bytes, host: str, port: int | None) -> None:
    assert parse_authority(raw) == Authority(host, port)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b":80",
        b".:80",
        b"a..b",
        b".a",
        b"a..",
        b"a:",
        b"a:0",
        b"a:65536",
        b"a:99999",
        b"a:000080",
        b"a:-1",
        b"a:+1",
        b"a:0x50",
        b"a: 80",
        b"a:80 ",
        b"a:8_0",
        b"a:80:80",
        b"a:b",
        b"a:\xb2",
        b"a b",
        b" a",
        b"a,b",
        b"a/b",
        b"a\\b",
        b"a?b",
        b"a#b",
        b"a%41",
        b"user@a",
        b"user:secret@a",
        b"a@",
        b"caf\xe9",
        b"\xc3\xa9",
        b"a\0",
        b"a\r\nb",
        b"a\n",
        b"a" * 64,
        b".".join([b"a" * 50] * 6),
        b"::1",
        b"::1:80",
        b"[]",
        b"[::1",
        b"::1]",
        b"[::1]80",
        b"[::1]:",
        b"[::1]a",
        b"[::1]:a",
        b"[::1%25eth0]",
        b"[::1%eth0]",
        b"[fe80::1%1]:80",
        b"[127.0.0.1]",
        b"[v1.a]",
        b"[::g]",
        b"[[::1]]",
        b"[::1]]",
        b"[\xb2::1]",
    ],
)
def test_a_malformed_authority(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_authority(raw)
    assert refused.value.status == 400


@settings(max_examples=300)
@given(
    st.binary(max_size=20)
    | st.from_regex(rb"\[[0-9A-Fa-f:.%]{0,16}\](:[0-9]{0,6})?", fullmatch=True)
    | st.from_regex(rb"[A-Za-z0-9_.-]{1,20}(:[0-9]{0,6})?", fullmatch=True)
)
def test_what_an_authority_is(raw: bytes) -> None:
    try:
        authority = parse_authority(raw)
    except ProtocolError:
        return
    host, port = authority
    assert re.fullmatch(r"[a-z0-9_.:-]+", host)
    assert not host.endswith(".")
    assert port is None or 0 < port < 65536
    assert parse_authority(authority.encode()) == authority


@pytest.mark.parametrize(
    ("authority", "default_port", "field"),
    [
        (Authority("a", None), None, b"a"),
        (Authority("a", 80), None, b"a:80"),
        (Authority("a", 80), 80, b"a"),
        (Authority("a", 81), 80, b"a:81"),
        (Authority("::1", None), 80, b"[::1]"),
        (Authority("::1", 443), 80, b"[::1]:443"),
    ],
)
def test_an_authority_on_the_wire(
    authority: Authority, default_port: int | None, field: bytes
) -> None:
    assert authority.encode(default_port) == field


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"/", Target(b"", None, b"/", b"")),
        (b"/a?", Target(b"", None, b"/a", b"?")),
        (b"/a?b=c&d=%2e%2e/..//", Target(b"", None, b"/a", b"?b=c&d=%2e%2e/..//")),
        (b"/a?b?c", Target(b"", None, b"/a", b"?b?c")),
        (b"/%41?%41", Target(b"", None, b"/A", b"?%41")),
        (b"http://a", Target(b"http", Authority("a", None), b"/", b"")),
        (b"HTTP://A:80/B", Target(b"http", Authority("a", 80), b"/B", b"")),
        (b"http://a?b", Target(b"http", Authority("a", None), b"/", b"?b")),
        (b"https://[::1]:8/%7e?x", Target(b"https", Authority("::1", 8), b"/~", b"?x")),
        (b"http://a/?http://b@c/", Target(b"http", Authority("a", None), b"/", b"?http://b@c/")),
        (b"ftp://a/b", Target(b"ftp", Authority("a", None), b"/b", b"")),
    ],
)
def test_a_target(raw: bytes, target: Target) -> None:
    assert parse_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"*",
        b"?",
        b"a",
        b"a/b",
        b"a:80",
        b"//a/b",
        b"/#",
        b"/a#b",
        b"/a?b#c",
        b"/a?b c",
        b"/a?\xe9",
        b"/a?b\x7f",
        b"/a?b\0",
        b"/a?b\r\n",
        b"http:",
        b"http:/a",
        b"http:a",
        b"http://",
        b"http:///a",
        b"http://:80/",
        b"http://a:/",
        b"http://?a",
        b"http://user@a/",
        b"http://user:secret@a/",
        b"http://b@a",
        b"http://a\\@b/",
        b"http://a\\b",
        b"http://a#b",
        b"http://a#@b/",
        b"http://a/#",
        b"http://a/..",
        b"http://a//b",
        b"http://a/%2e%2e",
        b"http://a b/",
        b"http://a%2fb/",
        b"1http://a/",
        b"ht tp://a/",
        b"://a/",
        b"javascript:alert(1)",
        b"/a\n",
    ],
)
def test_what_is_no_target(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_target(raw)
    assert refused.value.status == 400


def test_user_information_is_called_by_its_name() -> None:
    with pytest.raises(ProtocolError, match="user information"):
        parse_target(b"http://user:secret@a/")


@settings(max_examples=300)
@given(
    st.binary(max_size=40)
    | st.lists(
        st.sampled_from([b"http", b":", b"//", b"a", b"@", b"#", b"?", b":80", *PIECES]),
        max_size=10,
    ).map(b"".join)
)
def test_a_target_never_holds_what_could_end_it(raw: bytes) -> None:
    try:
        target = parse_target(raw)
    except ProtocolError:
        return
    assert canonical_path(target.path) == target.path
    assert re.fullmatch(rb"(\?[!-~]*)?", target.query)
    assert b"#" not in target.query
    assert (target.authority is None) == raw.startswith(b"/")
