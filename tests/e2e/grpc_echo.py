"""A real gRPC server and client (grpcio), for calls of bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from tests.authority import Issued

PATH = "/test.Echo"


class Echo(grpc.GenericRpcHandler):
    """``Unary`` gives back what it gets; ``Count`` counts; ``Chat`` answers each message;
    ``Watch`` says one thing and then nothing; ``Fail`` has an error of its own.
    """

    def __init__(self, issued: Issued | None = None) -> None:
        self.metadata: list[dict[str, str]] = []
        self.ended = threading.Event()
        self._issued = issued
        self.port = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        self.metadata.append({k: str(v) for k, v in handler_call_details.invocation_metadata})
        match handler_call_details.method.rpartition("/")[2]:
            case "Unary":
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case "Count":
                return grpc.unary_stream_rpc_method_handler(self._count)
            case "Chat":
                return grpc.stream_stream_rpc_method_handler(self._chat)
            case "Watch":
                return grpc.unary_stream_rpc_method_handler(self._watch)
            case "Fail":
                return grpc.unary_unary_rpc_method_handler(self._fail)
        return None

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-size", str(len(request))),))
        return request

    def _count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def _chat(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield b"you said " + request

    def _watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.ended.set)
        yield b"here"
        self.ended.wait(60)

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %")
        raise AssertionError

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        if self._issued is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            credentials = grpc.ssl_server_credentials(
                [(self._issued.key.read_bytes(), self._issued.certificate.read_bytes())]
            )
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.stop(0).wait()


class Calls:
    """The client: calls through a channel, with an Authorization if there is one."""

    def __init__(self, channel: grpc.Channel, authorization: str = "", prefix: str = PATH) -> None:
        self._channel = channel
        self._metadata = (("authorization", authorization),) if authorization else ()
        self._prefix = prefix

    def unary(self, request: bytes, method: str = "Unary") -> tuple[bytes, dict[str, str]]:
        call: Any = self._channel.unary_unary(f"{self._prefix}/{method}")
        response, state = call.with_call(request, metadata=self._metadata, timeout=20)
        return response, {k: str(v) for k, v in state.trailing_metadata()}

    def stream(self, request: bytes, method: str = "Count") -> Any:
        call: Any = self._channel.unary_stream(f"{self._prefix}/{method}")
        return call(request, metadata=self._metadata, timeout=60)

    def chat(self, requests: Iterator[bytes]) -> Any:
        call: Any = self._channel.stream_stream(f"{self._prefix}/Chat")
        return call(requests, metadata=self._metadata, timeout=60)
