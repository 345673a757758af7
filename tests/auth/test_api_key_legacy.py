"""The old encoding of tokens, as clients in the field make it, and the old statuses."""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from gatekeeper.auth.api_key import ApiKeyChecker, ApiKeySettings
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.encodings import Legacy, Standard
from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Unavailable, Verdict
from gatekeeper.auth.keyfile import KeyFile
from gatekeeper.auth.secret import SecretChecker
from tests.auth.support import KEY, KEYS, NOW, OTHER_KEY, base64url, credentials, good_token, token

EXP = int(NOW) + 60
HEADER = b'{"alg":"HS256","typ":"JWT"}'
PAYLOAD = b'{"id":"001","exp":%d}' % EXP
GRANT = Grant(user="001", key_id="001", expires=float(EXP))
LONG_ID = "0123456789" * 6


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    path = tmp_path_factory.mktemp("keys") / "keys.properties"
    path.write_text(f"{KEYS}key{LONG_ID}={KEY}\n")
    return KeyFile(path)


@pytest.fixture(scope="module")
def checker(key_file: KeyFile) -> ApiKeyChecker:
    return ApiKeyChecker("keys", key_file, lambda: NOW, Legacy())


@pytest.fixture(scope="module")
def strict(key_file: KeyFile) -> ApiKeyChecker:
    return ApiKeyChecker("keys", key_file, lambda: NOW, Standard())


def ask(checker: ApiKeyChecker, presented: bytes) -> Verdict:
    return checker.check(credentials(presented))


def legacy(
    payload: bytes = PAYLOAD + b"\n",
    *,
    header: bytes = HEADER + b"\n",
    end: bytes = b"",
    key: str = KEY,
    algorithm: str = "sha256",
) -> bytes:
    signed = base64.b64encode(header) + b"." + base64.b64encode(payload)
    signature = hmac.new(key.encode(), signed + end, algorithm).hexdigest().encode()
    return b"Bearer " + signed + b"." + signature


# --- tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "presented",
    [
        legacy(),
        legacy(end=b"\n"),
        legacy(PAYLOAD, header=HEADER),  # `echo -n`
        legacy(PAYLOAD, header=HEADER, end=b"\n"),
        legacy(json.dumps({"exp": EXP, "id": "001"}, indent=1).encode()),
        good_token(),
    ],
)
def test_both_encodings(checker: ApiKeyChecker, presented: bytes) -> None:
    assert ask(checker, presented) == GRANT


def test_one_part_in_either_encoding(checker: ApiKeyChecker) -> None:
    """The published JavaScript client: a constant header in the old form, the rest base64url."""
    signed = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9Cg==." + base64url(PAYLOAD)
    digest = hmac.digest(KEY.encode(), signed, "sha256")
    for signature in (base64url(digest), digest.hex().encode()):
        assert ask(checker, b"Bearer " + signed + b"." + signature) == GRANT


def test_padding_plus_and_slash(checker: ApiKeyChecker) -> None:
    payload = b'{"id":"001","x":"~~~???>>>","exp":%d}\n' % EXP
    encoded = base64.b64encode(payload)
    assert {b"/", b"+"} & {encoded[i : i + 1] for i in range(len(encoded))}
    assert ask(checker, legacy(payload)) == GRANT


@pytest.mark.parametrize("separator", [b"", b" "])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_signature_over_wrapped_lines(
    checker: ApiKeyChecker, strict: ApiKeyChecker, separator: bytes, end: bytes
) -> None:
    payload = b'{"id":"%b","exp":%d}\n' % (LONG_ID.encode(), EXP)
    lines = base64.encodebytes(HEADER).strip() + b"." + base64.encodebytes(payload).strip()
    assert b"\n" in lines
    signature = hmac.new(KEY.encode(), lines + end, "sha256").hexdigest().encode()
    presented = b"Bearer " + lines.replace(b"\n", separator) + b"." + signature
    grant = ask(checker, presented)
    assert isinstance(grant, Grant)
    assert grant.user == LONG_ID
    assert not isinstance(ask(strict, presented), Grant)


@pytest.mark.parametrize(
    "presented",
    [
        legacy(),
        legacy(end=b"\n"),
        legacy(PAYLOAD),
        legacy(PAYLOAD, header=HEADER),
        legacy(b'{"id":"001", "exp":%d}' % EXP, header=HEADER),  # no padding anywhere, but hex
    ],
)
def test_only_where_the_checker_says_so(strict: ApiKeyChecker, presented: bytes) -> None:
    verdict = ask(strict, presented)
    assert verdict is ABSTAIN or (isinstance(verdict, Deny) and verdict.status == 401)


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (legacy(end=b"\n\n"), "bad_signature"),
        (legacy(end=b" "), "bad_signature"),
        (legacy(end=b"\r\n"), "bad_signature"),
        (legacy(key=OTHER_KEY), "bad_signature"),
        (legacy()[:-1], "malformed_token"),
        (legacy() + b"0", "malformed_token"),
        (legacy()[:-64] + legacy()[-64:].upper(), "bad_signature"),
        (legacy(algorithm="sha1"), "bad_signature"),
        (legacy(algorithm="sha512"), "bad_signature"),
        (legacy(b'{"id":"002","exp":%d}\n' % EXP), "unknown_key"),
        (legacy(b'{"id":"001"}\n'), "malformed_token"),
        (legacy(b'{"id":"001","exp":"%d"}\n' % EXP), "malformed_token"),
        (legacy(b'{"id":"001","exp":%d.0}\n' % EXP), "malformed_token"),
        (legacy(b'{"id":"001","exp":%d}\n' % NOW), "expired_token"),
        (legacy(header=b'{"alg":"HS256","kid":"x"}\n'), "malformed_token"),
        (legacy().replace(b"==.", b"=."), None),
        (legacy().replace(b"==.", b"===."), None),
        (legacy().replace(b"Bearer ", b"Bearer e "), None),
        (legacy(header=b'{"alg":"none"}\n'), None),
        (legacy(header=b'{"typ":"JWT"}\n'), None),
        (legacy(header=b'{"alg":"HS512"}\n', algorithm="sha512"), None),
        (legacy(header=b'{"alg":"RS256"}\n'), None),
    ],
)
def test_what_is_still_refused(
    checker: ApiKeyChecker, presented: bytes, reason: str | None
) -> None:
    verdict = ask(checker, presented)
    if reason is None:
        assert verdict is ABSTAIN
    else:
        assert isinstance(verdict, Deny)
        assert (verdict.reason, verdict.status) == (reason, 401)


def test_the_key_is_the_text_of_its_digits(checker: ApiKeyChecker) -> None:
    signed = legacy().removeprefix(b"Bearer ").rpartition(b".")[0]
    forged = hmac.new(bytes.fromhex(KEY), signed, "sha256").hexdigest().encode()
    verdict = ask(checker, b"Bearer " + signed + b"." + forged)
    assert isinstance(verdict, Deny)
    assert verdict.reason == "bad_signature"


# --- the published clients, with the real tools --------------------------------------------

#: As published; `@echo@` and `@sign@` are `echo` or `echo -n`.
ONE_LINER = r"""id="@id@";h64=$(@echo@ "{\"alg\":\"HS256\",\"typ\":\"JWT\"}" | base64);p64=$(@echo@ "{\"id\":\"$id\",\"exp\":$((`date +"%s"`+10))}" | base64);k="@key@";s=$(@sign@ "$h64.$p64" | openssl dgst -hmac "$k" -sha256 -r | cut -sd ' ' -f1);token="$h64.$p64.$s";"""  # noqa: E501
#: The shell client that came with it: base64url, and a signature in hex.
SHELL_CLIENT = r"""
id="@id@"
key="@key@"
h64=$(echo -n '{"alg":"HS256","typ":"JWT"}' | basenc --base64url | tr -d '=')
p64=$(echo -n '{"id":"'${id}'","exp":'$((`date +"%s"`+10))'}' | basenc --base64url | tr -d '=')
s=$(echo -n "$h64.$p64" | openssl dgst -hmac "$key" -sha256 -r | cut -sd ' ' -f1)
token="$h64.$p64.$s"
"""
#: The standard form, as docs/cyphernode.rst has it.
STANDARD_CLIENT = r"""
b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
h=$(printf '{"alg":"HS256","typ":"JWT"}' | b64url)
p=$(printf '{"id":"%s","exp":%d}' "@id@" $(($(date +%s) + 10)) | b64url)
s=$(printf '%s' "$h.$p" | openssl dgst -sha256 -hmac "@key@" -binary | b64url)
token="$h.$p.$s"
"""


def one_liner(echo: str, sign: str) -> str:
    return ONE_LINER.replace("@echo@", echo).replace("@sign@", sign)


def run(script: str, show: str = 'printf "%s" "$token"', key_id: str = "001") -> bytes:
    """The token that a script makes, run as it stands."""
    script = script.replace("@id@", key_id).replace("@key@", KEY)
    return subprocess.run(["sh", "-c", script + show], capture_output=True, check=True).stdout


@pytest.fixture
def now(key_file: KeyFile) -> Callable[[bool], ApiKeyChecker]:
    return lambda old: ApiKeyChecker("keys", key_file, time.time, Legacy() if old else Standard())


@pytest.mark.parametrize(
    "script",
    [
        one_liner("echo", "echo -n"),
        one_liner("echo", "echo"),
        one_liner("echo -n", "echo -n"),
        one_liner("echo -n", "echo"),
        SHELL_CLIENT,
        STANDARD_CLIENT,
    ],
    ids=["echo", "echo-signed-with-newline", "echo-n", "echo-n-newline", "client", "standard"],
)
def test_published_one_liners(now: Callable[[bool], ApiKeyChecker], script: str) -> None:
    presented = b"Bearer " + run(script)
    grant = ask(now(True), presented)
    assert isinstance(grant, Grant)
    assert grant.user == "001"
    assert isinstance(ask(now(False), presented), Grant) == (script == STANDARD_CLIENT)


def test_long_ids_make_base64_break_the_line(now: Callable[[bool], ApiKeyChecker]) -> None:
    script = one_liner("echo", "echo -n")
    made = run(script, key_id=LONG_ID)
    assert b"\n" in made  # a field value cannot have it: the codec refuses that with 400
    for sent in (
        made.replace(b"\n", b" "),  # what Go's net/http makes of it
        run(script, 'printf "%s" "$(echo $token)"', LONG_ID),  # the shell, without quotes
        made.replace(b"\n", b""),  # `tr -d '\n'`
        run(script.replace("base64", "base64 -w0"), key_id=LONG_ID),
    ):
        assert b"\n" not in sent
        grant = ask(now(True), b"Bearer " + sent)
        assert isinstance(grant, Grant)
        assert grant.user == LONG_ID


# --- statuses ----------------------------------------------------------------------------


def decide(
    checker: ApiKeyChecker, presented: bytes, *others: SecretChecker
) -> Grant | Deny | Unavailable:
    chain = Chain("acme", [*others, checker], VerdictCache(9, 300, 5))
    decision = chain.check(credentials(presented))
    assert isinstance(decision, Grant | Deny | Unavailable)
    return decision


@pytest.mark.parametrize(
    ("presented", "status", "compatible"),
    [
        (b"", 401, 403),
        (b"Bearer", 401, 403),
        (b"Bearer ", 401, 403),
        (b"Bearer nonsense", 401, 401),
        (b"Bearer a.b.c", 401, 401),
        (token({"id": "001", "exp": "1"}), 401, 401),
        (token({"id": "001", "exp": EXP}, header={"alg": "none"}), 401, 401),
        (token({"id": "002", "exp": EXP}), 401, 401),
        (token({"id": "003", "exp": EXP}), 401, 401),
        (token({"id": "003", "exp": 1}), 401, 401),
        (good_token(0), 401, 403),
        (good_token(-1000), 401, 403),
        (b"Basic YTpi", 401, 401),
    ],
)
def test_statuses(key_file: KeyFile, presented: bytes, status: int, compatible: int) -> None:
    for forbids, expected in ((False, status), (True, compatible)):
        checker = ApiKeyChecker("keys", key_file, lambda: NOW, forbids=forbids)
        for others in ((), (SecretChecker.from_url("secret://other"),)):
            denied = decide(checker, presented, *others)
            assert isinstance(denied, Deny)
            assert denied.status == expected
            bearer = presented.startswith(b"Bearer ") and expected == 401
            assert denied.error == ("invalid_token" if bearer and presented[7:] else denied.error)
            if expected == 403:
                assert denied.error == ""
    assert isinstance(decide(checker, good_token()), Grant)


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS)
    settings = ApiKeySettings.model_validate({"file": path})
    assert (settings.legacy, settings.compat_status) == (False, None)
    plain = ApiKeyChecker.configured("keys", settings)
    assert plain.missing is None
    old = ApiKeyChecker.configured(
        "keys", ApiKeySettings(file=path, legacy=True, compat_status="cyphernode")
    )
    assert old.missing is not None
    far = legacy(b'{"id":"001","exp":%d}\n' % 2**40)
    assert isinstance(ask(old, far), Grant)
    assert ask(plain, far) is ABSTAIN
    for wrong in ({"compat_status": "other"}, {"legacy": 1}, {"legacy": "true"}):
        with pytest.raises(ValidationError):
            ApiKeySettings.model_validate({"file": path, **wrong})
