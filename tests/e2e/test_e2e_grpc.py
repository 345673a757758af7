"""gRPC through the gateway: grpcio at both ends, credentials in the metadata, usage counted."""

from __future__ import annotations

import base64
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.auth.authentication_service import AuthenticationService
from tests.authority import Authority
from tests.daemon import Daemon, wait_until
from tests.e2e.grpc_echo import PATH, Calls, Echo
from tests.e2e.plain import PLAIN, USER

pytestmark = pytest.mark.usefixtures("unmeasured")

BASIC = "Basic " + base64.b64encode(USER.encode()).decode()


def service(name: str, prefix: str, to: str, *more: str) -> str:
    lines = [f'name = "{name}"', f'from = "{prefix}"', f'to = "{to}"', 'http2 = "always"', *more]
    return "\n[[services]]\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Echo]]:
    """A gateway without TLS before a gRPC server without TLS."""
    with Echo() as echo:
        configuration = PLAIN + service(
            "grpc", PATH, f"http://127.0.0.1:{echo.port}{PATH}", 'checkers = ["users"]'
        )
        configuration += service("away", "/test.Away", "http://@away@", 'checkers = ["users"]')
        with Daemon(tmp_path_factory.mktemp("grpc"), configuration) as daemon:
            yield daemon, echo


@pytest.fixture
def calls(plain: tuple[Daemon, Echo]) -> Iterator[Calls]:
    daemon, _ = plain
    with grpc.insecure_channel(f"127.0.0.1:{daemon.port('gateway')}") as channel:
        yield Calls(channel, BASIC)


def test_unary(plain: tuple[Daemon, Echo], calls: Calls) -> None:
    response, trailers = calls.unary(b"hello" * 100_000)
    assert response == b"hello" * 100_000
    assert trailers["x-size"] == "500000"
    metadata = plain[1].metadata[-1]
    assert metadata["x-forwarded-for"] == "127.0.0.1"
    assert "authorization" not in metadata
    assert "x-request-id" in metadata


def test_server_streaming(calls: Calls) -> None:
    assert list(calls.stream(b"1000")) == [b"%d" % number for number in range(1000)]


def test_both_sides_talk(calls: Calls) -> None:
    """Each message waits for the answer to the one before."""
    said: queue.Queue[bytes | None] = queue.Queue()
    said.put(b"0")
    answers = calls.chat(iter(said.get, None))
    for number in range(50):
        assert next(answers) == b"you said %d" % number
        said.put(b"%d" % (number + 1) if number < 49 else None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_the_status_of_the_upstream(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        calls.unary(b"", "Fail")
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "not today: 100 %"
    with pytest.raises(grpc.RpcError) as failed:
        calls.unary(b"", "Nothing")
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_our_refusals(plain: tuple[Daemon, Echo]) -> None:
    daemon, _ = plain
    with grpc.insecure_channel(f"127.0.0.1:{daemon.port('gateway')}") as channel:
        for calls, code in (
            (Calls(channel), grpc.StatusCode.UNAUTHENTICATED),
            (Calls(channel, "Basic bm86bm8="), grpc.StatusCode.UNAUTHENTICATED),
            (Calls(channel, BASIC, "/test.Unknown"), grpc.StatusCode.UNIMPLEMENTED),
            (Calls(channel, BASIC, "/test.Away"), grpc.StatusCode.UNAVAILABLE),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                calls.unary(b"x")
            assert refused.value.code() is code
            assert refused.value.details()


def test_usage(plain: tuple[Daemon, Echo], calls: Calls) -> None:
    daemon, _ = plain
    calls.unary(b"for the usage")
    calls.stream(b"3")

    def counted() -> bool:
        rows = {row["path"]: row for row in daemon.usage() if row["service"] == "grpc"}
        return rows.get(f"{PATH}/Unary", {}).get("user") == "alice" and f"{PATH}/Count" in rows

    wait_until(counted, "the usage of gRPC calls")


def test_a_cancelled_call_is_cancelled_upstream(plain: tuple[Daemon, Echo], calls: Calls) -> None:
    _, echo = plain
    echo.ended.clear()
    watching = calls.stream(b"", "Watch")
    assert next(watching) == b"here"
    watching.cancel()
    assert echo.ended.wait(20)


def test_tls_at_both_ends(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue("127.0.0.1", "localhost", stem="grpc")
    with Echo(issued) as echo:
        tls = f'''
[[listeners]]
name = "secure"
role = "gateway"
bind = "@secure@"
tls = {{ certificate = "{issued.certificate}", key = "{issued.key}" }}
'''
        configuration = (
            PLAIN
            + tls
            + service(
                "grpc",
                PATH,
                f"https://127.0.0.1:{echo.port}{PATH}",
                'checkers = ["users"]',
                f'ca_file = "{authority.file}"',
            )
        )
        with (
            Daemon(tmp_path, configuration) as daemon,
            grpc.secure_channel(
                f"127.0.0.1:{daemon.port('secure')}",
                grpc.ssl_channel_credentials(authority.file.read_bytes()),
            ) as channel,
        ):
            calls = Calls(channel, BASIC)
            assert calls.unary(b"hello")[0] == b"hello"
            assert list(calls.stream(b"10")) == [b"%d" % number for number in range(10)]
            assert list(calls.chat(iter([b"a", b"b"]))) == [b"you said a", b"you said b"]


def test_a_call_ends_when_it_is_not_granted_any_more(tmp_path: Path) -> None:
    """Continuous authentication: UNAUTHENTICATED, within the interval and a second."""
    with AuthenticationService() as authentication, Echo() as echo:
        url = f"grpc://{authentication.address}?continuous=true&interval=1s"
        configuration = PLAIN + service(
            "grpc", PATH, f"http://127.0.0.1:{echo.port}{PATH}", f'checkers = ["{url}"]'
        )
        with (
            Daemon(tmp_path, configuration) as daemon,
            grpc.insecure_channel(f"127.0.0.1:{daemon.port('gateway')}") as channel,
        ):
            watching = Calls(channel, "Bearer x").stream(b"", "Watch")
            assert next(watching) == b"here"
            wait_until(lambda: len(authentication.requests) > 1, "the second question")
            authentication.code = grpc.StatusCode.UNAUTHENTICATED
            begun = time.monotonic()
            with pytest.raises(grpc.RpcError) as cut:
                next(watching)
            assert time.monotonic() - begun < 10
            assert cut.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert echo.ended.wait(20)
            wait_until(lambda: daemon.access_log(), "the access log")
            (line,) = daemon.access_log()
            assert line["reason"] == "grant_withdrawn"
            authentication.code = None
