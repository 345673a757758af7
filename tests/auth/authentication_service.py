"""A real gRPC server with the authentication and the health service, in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gatekeeper.auth.protos.authentication_pb2 import AuthRequest, AuthResponse, Header

AUTHENTICATE = "/sf.authentication.v1.Authentication/Authenticate"


def answer_of(*headers: tuple[str, str]) -> AuthResponse:
    """An answer with these headers."""
    return AuthResponse(
        authenticated_headers=[Header(key=key, value=value) for key, value in headers]
    )


class AuthenticationService(grpc.GenericRpcHandler):
    """Set ``answer`` to say what is answered, to ``code`` to fail; ``requests`` are what came.

    It listens at ``address`` between :meth:`start` and :meth:`stop`, which may be repeated.
    """

    def __init__(self, *, with_health: bool = True) -> None:
        self.port = 0
        self.requests: list[AuthRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.reset()
        self._with_health = with_health
        self.health = health.HealthServicer()
        self._server: grpc.Server | None = None

    def reset(self) -> None:
        """Be as at the beginning."""
        self.answer: AuthResponse | bytes = answer_of(("x-sf-user-id", "alice"))
        self.code: grpc.StatusCode | None = None
        self.details = "words of the service"
        self.gate: threading.Event | None = None
        self.left = threading.Event()
        self.requests.clear()
        self.metadata.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, where it did before."""
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self,))
        if self._with_health:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
            self.serving(True)
        self.port = server.add_insecure_port(self.address)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Hang up at once."""
        if self.gate is not None:
            self.gate.set()
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait()

    def serving(self, serving: bool) -> None:
        """What the health service says."""
        response = health_pb2.HealthCheckResponse
        self.health.set("", response.SERVING if serving else response.NOT_SERVING)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method != AUTHENTICATE:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._authenticate,
            request_deserializer=AuthRequest.FromString,
            response_serializer=_serialize,
        )

    def _authenticate(
        self, request: AuthRequest, context: grpc.ServicerContext
    ) -> AuthResponse | bytes:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_callback(self.left.set)
        if self.gate is not None:
            self.gate.wait(30)
        if self.code is not None:
            context.abort(self.code, self.details)
        return self.answer


def _serialize(answer: AuthResponse | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
