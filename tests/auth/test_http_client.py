from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import Answer, HttpClient, HttpError
from gatekeeper.config.values import check_http_url
from gatekeeper.errors import ConfigurationError
from tests.auth.http_peers import (
    HANG_UP,
    SILENCE,
    RealServer,
    Script,
    fixture_in_reactor,
    in_reactor,
    response,
)
from tests.auth.support import Logged, outcome
from tests.authority import Authority

Serve: TypeAlias = Callable[..., RealServer]


@fixture_in_reactor
async def serve() -> AsyncIterator[Serve]:
    servers: list[RealServer] = []

    def serve(*answers: bytes, always: bytes | None = None, **tls: Any) -> RealServer:
        servers.append(RealServer(Script(*answers, always=always), **tls))
        return servers[-1]

    yield serve
    for server in servers:
        await server.stop()


@pytest.fixture
def client() -> Any:
    client = HttpClient("test", timeout=30.0, max_body=100)
    yield client
    client.close()


def whole(answer: Answer) -> Answer:
    return answer


async def failure_of(asked: Awaitable[Any]) -> str:
    with pytest.raises(HttpError) as caught:
        await asked
    return str(caught.value)


@in_reactor
async def test_a_question(serve: Serve, client: HttpClient) -> None:
    server = serve(response(b"hello", 201))
    answer = await client.ask(
        "POST", server.url + "?a=b", whole, fields={b"X-A": b"\xc3\xa4"}, body=b"form"
    )
    assert answer == Answer(201, b"hello")
    (request,) = server.script.requests
    assert request.line == b"POST /auth?a=b HTTP/1.1"
    assert request.body == b"form"
    assert request.values(b"X-A") == [b"\xc3\xa4"]
    assert b"Accept-Encoding" not in request.names()


@in_reactor
async def test_the_answer_is_read(serve: Serve, client: HttpClient) -> None:
    server = serve(response(b"7"))
    assert await client.ask("GET", server.url, lambda answer: int(answer.body)) == 7


@in_reactor
async def test_connections_are_kept(serve: Serve, client: HttpClient) -> None:
    server = serve(always=response(b"x"))
    for _ in range(3):
        await client.ask("GET", server.url, whole)
    assert server.script.connections == 1


@in_reactor
async def test_a_kept_connection_that_went_stale(serve: Serve, client: HttpClient) -> None:
    server = serve(response(b"a"), HANG_UP, response(b"b"))
    await client.ask("GET", server.url, whole)
    answer = await client.ask("POST", server.url, whole, body=b"form")
    assert answer.body == b"b"
    assert [request.body for request in server.script.requests] == [b"", b"form", b"form"]


@in_reactor
async def test_a_server_that_always_hangs_up(serve: Serve, client: HttpClient) -> None:
    server = serve(HANG_UP, HANG_UP)
    problem = await failure_of(client.ask("POST", server.url, whole, body=b"form"))
    assert problem == "the connection failed (ConnectionDone)"


@in_reactor
async def test_nobody_listens(serve: Serve, client: HttpClient) -> None:
    server = serve()
    await server.stop()
    problem = await failure_of(client.ask("GET", server.url, whole))
    assert "refused" in problem


@in_reactor
async def test_redirects_are_not_followed(serve: Serve, client: HttpClient) -> None:
    other = serve()
    server = serve(response(b"", 302, {"location": other.url}))
    answer = await client.ask("GET", server.url, whole, fields={b"Authorization": b"secret"})
    assert answer.status == 302
    assert other.script.requests == []


@in_reactor
async def test_cookies_are_not_kept(serve: Serve, client: HttpClient) -> None:
    server = serve(always=response(b"", 200, {"set-cookie": "session=alice; Path=/"}))
    for _ in range(2):
        await client.ask("GET", server.url, whole)
    assert b"Cookie" not in server.script.requests[1].names()


@in_reactor
@pytest.mark.parametrize("size", [100, 101])
async def test_the_bound_of_a_body(serve: Serve, client: HttpClient, size: int) -> None:
    server = serve(response(b"x" * size))
    asked = client.ask("GET", server.url, whole)
    if size == 100:
        assert len((await asked).body) == size
    else:
        assert await failure_of(asked) == "the answer is larger than 100 bytes"


@in_reactor
async def test_a_body_that_is_too_large_is_not_waited_for(serve: Serve, client: HttpClient) -> None:
    announced = b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 101
    server = serve(announced)
    assert "larger" in await failure_of(client.ask("GET", server.url, whole))


@in_reactor
async def test_compression_is_refused(serve: Serve, client: HttpClient) -> None:
    bomb = response(gzip.compress(b"0" * 1_000_000), 200, {"content-encoding": "gzip"})
    server = serve(bomb)
    problem = await failure_of(client.ask("GET", server.url, whole))
    assert problem == "the answer is compressed, which was not asked for"


@in_reactor
async def test_a_body_that_breaks_off(serve: Serve, client: HttpClient) -> None:
    server = serve(b"HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: 9\r\n\r\nhalf")
    assert "connection failed" in await failure_of(client.ask("GET", server.url, whole))


@in_reactor
async def test_a_body_without_a_length(serve: Serve, client: HttpClient) -> None:
    server = serve(b"HTTP/1.0 200 X\r\n\r\nall of it")
    assert (await client.ask("GET", server.url, whole)).body == b"all of it"


@in_reactor
async def test_no_http_at_all(serve: Serve, client: HttpClient) -> None:
    server = serve(b"220 mail.example.com ESMTP secret\r\n\r\n")
    problem = await failure_of(client.ask("GET", server.url, whole))
    assert "connection failed" in problem
    assert "secret" not in problem


@in_reactor
async def test_silence(serve: Serve) -> None:
    client = HttpClient("test", timeout=0.05)
    server = serve(SILENCE)
    problem = await failure_of(client.ask("POST", server.url, whole, body=b"x"))
    assert problem == "no answer within 0.05 s"
    assert len(server.script.requests) == 1  # it is not asked again behind the caller's back
    client.close()


@in_reactor
async def test_half_a_head(serve: Serve) -> None:
    client = HttpClient("test", timeout=0.05)
    server = serve(b"HTTP/1.1 200 X\r\ncontent-length: 1\r\nx-a: ")
    assert await failure_of(client.ask("GET", server.url, whole)) == "no answer within 0.05 s"
    client.close()


@in_reactor
async def test_what_waits_too_long_for_its_turn(serve: Serve) -> None:
    client = HttpClient("test", timeout=0.05, at_once=1)
    server = serve(always=SILENCE)
    asked = [client.ask("GET", server.url, whole) for _ in range(3)]
    results = await gatherResults([Deferred.fromCoroutine(failure_of(each)) for each in asked])
    assert results == ["no answer within 0.05 s"] * 3
    client.close()


@in_reactor
async def test_too_many_questions(serve: Serve, logged: Logged) -> None:
    client = HttpClient("test", timeout=30.0, at_once=1, waiting=1)
    server = serve(always=response(b"x"))
    asked = [client.ask("GET", server.url, whole, client="192.0.2.1") for _ in range(3)]
    assert await failure_of(asked[2]) == "too many requests wait for an answer"
    assert [(await each).body for each in asked[:2]] == [b"x", b"x"]
    client.close()


class TestTLS:
    @in_reactor
    async def test_a_certificate_of_the_authority(self, serve: Serve, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        server = serve(response(b"x"), issued=authority.issue("127.0.0.1"))
        client = HttpClient("test", timeout=30.0, ca_file=authority.file)
        assert (await client.ask("GET", server.url, whole)).body == b"x"
        client.close()

    @in_reactor
    async def test_somebody_elses(self, serve: Serve, tmp_path: Path) -> None:
        authority, other = Authority(tmp_path), Authority(tmp_path, "Other CA")
        server = serve(issued=authority.issue("127.0.0.1"))
        for ca_file in (other.file, None):
            client = HttpClient("test", timeout=30.0, ca_file=ca_file)
            problem = await failure_of(client.ask("GET", server.url, whole))
            assert problem == "TLS: certificate verify failed"
            client.close()
        assert server.script.requests == []

    @in_reactor
    async def test_another_name(self, serve: Serve, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        server = serve(issued=authority.issue("other.example"))
        client = HttpClient("test", timeout=30.0, ca_file=authority.file)
        assert await failure_of(client.ask("GET", server.url, whole))
        assert server.script.requests == []
        client.close()

    def test_several_authorities_in_one_file(self, tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        authorities = [Authority(tmp_path), Authority(tmp_path, "Other CA")]
        both.write_bytes(b"# ours\n" + b"\n".join(each.file.read_bytes() for each in authorities))
        HttpClient("test", ca_file=both)

    @pytest.mark.parametrize(
        "content",
        [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None],
    )
    def test_authorities_that_cannot_be_used(self, tmp_path: Path, content: bytes | None) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            HttpClient("test", ca_file=file)
        (problem,) = caught.value.problems
        assert problem.path == "ca_file"


class TestLog:
    def test_a_failure_is_logged_once_in_a_while(self, logged: Logged) -> None:
        clock = Clock()
        client = HttpClient("test", timeout=5.0, at_once=0, waiting=0, reactor=clock)

        def ask() -> None:
            (failure,) = outcome(client.ask("GET", "http://h/p?key=s3cret", whole))
            assert failure.check(HttpError)

        ask()
        ask()
        assert len(logged) == 1
        clock.advance(10)
        ask()
        assert len(logged) == 2
        assert "test: http://h/p: too many requests wait for an answer" in logged.text
        assert "s3cret" not in logged.text

    def test_one_that_is_silent(self, logged: Logged) -> None:
        client = HttpClient("test", at_once=0, waiting=0, silent=True, reactor=Clock())
        (failure,) = outcome(client.ask("GET", "http://h/p", whole))
        assert failure.check(HttpError)
        assert logged == []

    @in_reactor
    async def test_an_answer_that_cannot_be_used(
        self, serve: Serve, client: HttpClient, logged: Logged
    ) -> None:
        def read(answer: Answer) -> None:
            raise HttpError("this is no answer")

        server = serve(response(b"s3cret"))
        assert await failure_of(client.ask("GET", server.url, read)) == "this is no answer"
        assert "this is no answer" in logged.text
        assert "s3cret" not in logged.text

    @in_reactor
    async def test_an_error_of_ours_is_not_the_servers(
        self, serve: Serve, client: HttpClient
    ) -> None:
        def read(answer: Answer) -> None:
            raise KeyError

        server = serve(response(b""))
        with pytest.raises(KeyError):
            await client.ask("GET", server.url, read)


@pytest.mark.parametrize(
    "url",
    [
        "http://auth",
        "https://auth.example.com:8443/a/b?c=d&e=%20",
        "http://[::1]:80/",
        "http://127.0.0.1:8000/v1",
    ],
)
def test_urls(url: str) -> None:
    assert check_http_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "auth",
        "ftp://auth/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user:s3cret@auth/",
        "http://auth/#s3cret",
        "http://auth:0/",
        "http://auth:x/",
        "http://au th/",
        "http://auth/\n",
        "http://auth/a b",
        "http://auth/\u00e4",
        "http://[::1/",
        "http://127.1/",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"^.") as caught:
        check_http_url(url)
    assert "s3cret" not in str(caught.value)


def test_importing_it_leaves_the_choice_of_a_reactor() -> None:
    script = (
        "import sys, gatekeeper.auth.http_client, gatekeeper.plugins.checkers;"
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
