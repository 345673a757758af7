"""``/metrics``: what the daemon counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest

from gatekeeper.management.answers import write
from gatekeeper.management.token import OperatorToken


class Collecting(Protocol):
    """What there is to show: a registry, or what is spread over several processes."""

    def collect(self) -> Iterable[Metric] | Deferred[Iterable[Metric]]:
        """The numbers now."""


class MetricsPage:
    """Shows a registry, or the like.

    :param readers: tells who may read it; None: everybody who can reach the listener.
    :param in_thread: calls a function in a thread, as ``deferToThread`` does.
    """

    def __init__(
        self,
        registry: Collecting,
        readers: OperatorToken | None,
        in_thread: Callable[..., Deferred[bytes]] = deferToThread,
    ) -> None:
        self._registry = registry
        self._readers = readers
        self._in_thread = in_thread
        self._one_at_a_time = DeferredLock()

    def show(self, request: IRequest) -> Deferred[bytes]:
        """The answer's body; its head is set in ``request`` then.

        It is in OpenMetrics where the reader asks for that, else in Prometheus' text format.

        :raises Refusal: 401, this is not for the caller.
        """
        fields = request.requestHeaders
        if self._readers is not None:
            self._readers.check(fields.getRawHeaders(b"authorization", []))
        accept = b",".join(fields.getRawHeaders(b"accept", [])).decode("ascii", "ignore")
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        head = (
            (b"content-type", content_type.encode("ascii")),
            (b"cache-control", b"no-store"),
            (b"vary", b"accept"),
        )
        encoded: Deferred[bytes] = self._one_at_a_time.run(self._encode, encode)
        return encoded.addCallback(lambda body: write(request, HTTPStatus.OK, head, body))

    def _encode(self, encode: Callable[[Any], bytes]) -> Deferred[bytes]:
        # The numbers are read here, where nothing changes them meanwhile. To make text of them
        # takes several times as long: a hundred services are tens of milliseconds.
        collect: Callable[[], Any] = self._registry.collect
        collected: Deferred[Iterable[Metric]] = maybeDeferred(collect)
        return collected.addCallback(lambda found: self._in_thread(encode, _Collected(found)))


class _Collected:
    """What a registry holds at one moment."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics
