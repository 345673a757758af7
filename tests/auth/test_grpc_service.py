"""``grpc://`` with a real gRPC server, on a loop like the daemon's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import grpc
import pytest
import uvloop
from twisted.internet.defer import Deferred

from gatekeeper.auth import grpc_client
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.grpc_checker import GrpcChecker
from gatekeeper.auth.interfaces import Deny, Grant, Unavailable, Verdict
from tests.auth.authentication_service import AuthenticationService, answer_of
from tests.auth.support import Logged, credentials

PATIENCE = 30.0


@pytest.fixture
def service() -> Iterator[AuthenticationService]:
    with AuthenticationService() as service:
        yield service


def run(work: Callable[[GrpcChecker], Awaitable[None]], service: AuthenticationService) -> None:
    """Do this with a checker that asks the service."""

    async def main() -> None:
        checker = GrpcChecker.from_url(f"grpc://{service.address}?continuous=true")
        try:
            await work(checker)
        finally:
            checker.close()
            await asyncio.sleep(0)  # as the daemon's loop goes on after it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE))


async def ask(checker: GrpcChecker, presented: bytes = b"Bearer t") -> Verdict:
    asked = credentials(presented, ((b"authorization", presented),), client="198.51.100.7")
    return await checker.check(asked).asFuture(asyncio.get_running_loop())


async def ready(checker: GrpcChecker) -> str | None:
    return await checker.ready().asFuture(asyncio.get_running_loop())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - it is another thread that makes it true
        await asyncio.sleep(0.02)


def test_it_is_asked_and_it_answers(service: AuthenticationService) -> None:
    service.answer = answer_of(("X-SF-User-ID", "alice"), ("connection", "x"), ("x-sf-meta", "m"))

    async def work(checker: GrpcChecker) -> None:
        assert await ask(checker) == Grant(
            user="alice",
            headers=((b"x-sf-user-id", b"alice"), (b"x-sf-meta", b"m")),
            recheck=60.0,
        )

    run(work, service)
    (request,) = service.requests
    assert (request.url, request.ip, request.auth_count) == ("/", "198.51.100.7", 1)
    assert [(each.key, each.value) for each in request.headers] == [("authorization", "Bearer t")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 503),
        (grpc.StatusCode.INVALID_ARGUMENT, 503),
        (grpc.StatusCode.CANCELLED, 503),
    ],
)
def test_statuses(
    service: AuthenticationService, logged: Logged, code: grpc.StatusCode, status: int
) -> None:
    service.code, service.details = code, "secret words"

    async def work(checker: GrpcChecker) -> None:
        said = await ask(checker)
        assert (said.status if isinstance(said, Deny) else 503) == status
        assert isinstance(said, Deny | Unavailable)
        assert "secret words" not in f"{said!r}"

    run(work, service)
    assert "secret words" not in logged.text


def test_going_away_and_coming_back(service: AuthenticationService, logged: Logged) -> None:
    async def work(checker: GrpcChecker) -> None:
        assert isinstance(await ask(checker), Grant)
        for _ in range(2):
            await asyncio.to_thread(service.stop)
            assert isinstance(await ask(checker), Unavailable)
            assert isinstance(await ask(checker), Unavailable)
            assert (await ready(checker) or "").endswith("does not answer: UNAVAILABLE")
            await asyncio.to_thread(service.start)

            async def is_back() -> bool:
                return isinstance(await ask(checker), Grant)

            await eventually(is_back)
            assert await ready(checker) is None

    run(work, service)
    assert [event["log_level"].name for event in logged] == ["error", "info"] * 2


def test_it_need_not_be_there_at_first(service: AuthenticationService) -> None:
    service.stop()

    async def work(checker: GrpcChecker) -> None:
        assert isinstance(await ask(checker), Unavailable)
        await asyncio.to_thread(service.start)

        async def is_there() -> bool:
            return isinstance(await ask(checker), Grant)

        await eventually(is_there)

    run(work, service)


def test_silence(service: AuthenticationService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_client, "_DEADLINE", 0.2)
    service.gate = threading.Event()

    async def work(checker: GrpcChecker) -> None:
        assert isinstance(await ask(checker), Unavailable)

    run(work, service)


def test_nonsense(service: AuthenticationService) -> None:
    service.answer = b"\xff\xff\xff"

    async def work(checker: GrpcChecker) -> None:
        chain = Chain("acme", [checker], VerdictCache(9, 300, 5))
        asked = chain.check(credentials(b"Bearer t"))
        assert isinstance(asked, Deferred)
        said = await asked.asFuture(asyncio.get_running_loop())
        assert isinstance(said, Unavailable)

    run(work, service)


def test_many_at_once(service: AuthenticationService) -> None:
    async def work(checker: GrpcChecker) -> None:
        said = await asyncio.gather(*(ask(checker, b"Bearer %d" % n) for n in range(50)))
        assert all(isinstance(each, Grant) for each in said)

    run(work, service)
    assert len(service.requests) == 50


def test_nobody_waits_any_more(service: AuthenticationService, logged: Logged) -> None:
    service.gate = threading.Event()

    async def work(checker: GrpcChecker) -> None:
        said: list[Verdict] = []
        asked = checker.check(credentials(b"Bearer t")).addCallback(said.append)

        async def has_come() -> bool:
            return bool(service.requests)

        await eventually(has_come)
        asked.cancel()

        async def has_left() -> bool:
            return service.left.is_set()

        await eventually(has_left)
        assert isinstance(said[0], Unavailable)

    run(work, service)
    assert not logged


def test_closing_ends_what_runs(service: AuthenticationService, logged: Logged) -> None:
    service.gate = threading.Event()

    async def work(checker: GrpcChecker) -> None:
        asked = asyncio.ensure_future(ask(checker))

        async def has_come() -> bool:
            return bool(service.requests)

        await eventually(has_come)
        checker.close()
        checker.close()
        assert isinstance(await asked, Unavailable)

    run(work, service)
    assert not logged


def test_the_environment_is_no_way_around(
    service: AuthenticationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def work(checker: GrpcChecker) -> None:
        assert isinstance(await ask(checker), Grant)

    run(work, service)


def test_the_trace_is_told(service: AuthenticationService) -> None:
    async def work(checker: GrpcChecker) -> None:
        asked = credentials(b"", trace_id="0af7651916cd43dd8448eb211c80319c")
        await checker.check(asked).asFuture(asyncio.get_running_loop())

    run(work, service)
    (request,), (metadata,) = service.requests, service.metadata
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert [(each.key, each.value) for each in request.headers] == [("x-trace-id", trace)]
    assert metadata["x-trace-id"] == trace


# --- readiness ---------------------------------------------------------------------------


def test_its_health(service: AuthenticationService) -> None:
    async def work(checker: GrpcChecker) -> None:
        assert await ready(checker) is None
        service.serving(False)
        assert (await ready(checker) or "").endswith("says that it is NOT_SERVING")
        service.serving(True)
        assert await ready(checker) is None

    run(work, service)
    assert service.requests == []


def test_a_service_without_health() -> None:
    async def work(checker: GrpcChecker) -> None:
        assert await ready(checker) is None

    with AuthenticationService(with_health=False) as service:
        run(work, service)
