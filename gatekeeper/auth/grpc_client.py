"""The calls of ``grpc://``. Only what is configured imports this: it needs ``gatekeeper[grpc]``."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from twisted.internet.defer import Deferred

from gatekeeper.auth.grpc_checker import CallFailedError, Headers, Question
from gatekeeper.auth.protos.authentication_pb2 import AuthRequest, AuthResponse, Header

M = TypeVar("M", bound=Message)

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_DEADLINE: Final = 5.0  # seconds
_HEALTH_DEADLINE: Final = 1.5  # shorter than the patience of who asks whether we are ready

_AUTHENTICATE: Final = "/sf.authentication.v1.Authentication/Authenticate"
_CHECK_HEALTH: Final = "/grpc.health.v1.Health/Check"

_OPTIONS: Final = (
    # The environment's proxy is for others: credentials go straight to their service.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A service that comes back is used at once, and not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Notices a service whose machine has gone. Go's servers hang up on who asks more often.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 1024 * 1024),
)


class GrpcClient:
    """The authentication service at ``target`` (``host:port``), without TLS.

    The connection is made by the first call, on the asyncio loop that runs then: the one that the
    reactor runs on. See :class:`gatekeeper.auth.grpc_checker.Client`.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel: grpc.aio.Channel | None = None
        self._closing: asyncio.Future[None] | None = None

    def authenticate(self, question: Question) -> Deferred[Headers]:
        """Ask who it is."""
        return Deferred.fromFuture(asyncio.ensure_future(self._authenticate(question)))

    def health(self) -> Deferred[str]:
        """Ask whether it serves."""
        return Deferred.fromFuture(asyncio.ensure_future(self._health()))

    def close(self) -> None:
        """Hang up; calls that run fail with ``CANCELLED``."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._closing = asyncio.ensure_future(channel.close())

    async def _authenticate(self, question: Question) -> Headers:
        request = AuthRequest(
            url=question.url,
            headers=[Header(key=key, value=value) for key, value in question.headers],
            ip=question.ip,
            auth_count=question.count,
        )
        metadata = (("x-trace-id", question.trace_id),) if question.trace_id else None
        answer = await self._call(_AUTHENTICATE, request, AuthResponse, _DEADLINE, metadata)
        return [(header.key, header.value) for header in answer.authenticated_headers]

    async def _health(self) -> str:
        request = health_pb2.HealthCheckRequest()
        answer = await self._call(
            _CHECK_HEALTH, request, health_pb2.HealthCheckResponse, _HEALTH_DEADLINE
        )
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def _call(
        self,
        method: str,
        request: Message,
        response: type[M],
        deadline: float,
        metadata: Metadata | None = None,
    ) -> M:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        call = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            answer: M = await call(request, timeout=deadline, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise CallFailedError(error.code().name) from None
        except asyncio.CancelledError:
            raise CallFailedError("CANCELLED") from None
        return answer
