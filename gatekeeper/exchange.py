"""One request and its response, from the first byte in to the last byte out.

:meth:`Exchange.begin` is the line of the whole project, read downwards: the canonical URL, the
route, the credentials, the chain's verdict, authorization, admission, the upstream, and the one
:meth:`Exchange.finish`. The common way (verdict cached, connection pooled) runs straight through
it: no Deferred, no task, no timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.accounting import access_entry, usage_record
from gatekeeper.auth.chain import ANONYMOUS, Chain, Decision
from gatekeeper.auth.interfaces import Credentials, Deny, Grant, Opened, Opens, Unavailable
from gatekeeper.credits.admission import Caller
from gatekeeper.errors import Refusal, UpstreamError
from gatekeeper.forwarding import trace_id, upstream_head
from gatekeeper.http.fields import Fields, field_lines, normalize
from gatekeeper.http.heads import RequestHead, ResponseHead
from gatekeeper.replies import make_reply, unauthorized

if TYPE_CHECKING:
    from gatekeeper.clientside import ClientSide, Cuttable
    from gatekeeper.credits.admission import Admission, Admitted
    from gatekeeper.doors import Request
    from gatekeeper.net.pool import Origin
    from gatekeeper.net.transports import LoopTransport
    from gatekeeper.net.upstream import Lessor, Upstream, UpstreamConnection
    from gatekeeper.plane import Plane
    from gatekeeper.replies import Reply
    from gatekeeper.usage.units.interface import Reading

log = Logger()

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})

#: What a service's open methods run under: what is presented is for us, and stays here.
_UNCHECKED: Final = Grant()


class Exchange:
    """See the module.

    ``authorized``: the request was let through. ``metered``: it makes a usage record, and the end
    of its response waits for that. ``reading`` sees the response's body for what it says of units.
    ``responding``: the final response's head has gone out. ``body_sent``: some of the request's
    body has gone to the upstream. ``opened`` is where the grant says that the request goes.
    ``checking``: the chain is being asked again, and ``checks`` tells how often it was.
    ``admitted`` is what is set aside of the caller's credits and quotas while it runs. ``waiting``
    is what has to be found out before it can go on: what the caller may spend, where it goes.
    """

    # Slots, and all of them set: looking up what only the class has costs ten times as much.
    __slots__ = (
        "admitted",
        "authorized",
        "body_sent",
        "bytes_in",
        "bytes_out",
        "checked_at",
        "checking",
        "checks",
        "client",
        "finished",
        "grant",
        "head",
        "id",
        "metered",
        "opened",
        "plane",
        "reading",
        "request",
        "responding",
        "retried",
        "start",
        "status",
        "tunnel",
        "upstream",
        "upstream_status",
        "waiting",
        "waiting_at",
    )

    request: Request  # once the head is understood

    def __init__(self, plane: Plane, client: ClientSide, head: RequestHead) -> None:
        self.plane = plane
        self.client = client
        self.head = head
        self.id = plane.next_id()
        self.start = self.checked_at = plane.monotonic()
        self.request = None  # type: ignore[assignment]
        self.grant = ANONYMOUS
        self.upstream: Upstream | None = None
        self.tunnel: Cuttable | None = None
        self.waiting_at: Lessor | None = None
        self.waiting: Deferred[Any] | None = None
        self.admitted: Admitted | None = None
        self.opened: Opened | None = None
        self.reading: Reading | None = None
        self.status = self.upstream_status = self.bytes_in = self.bytes_out = 0
        self.finished = self.authorized = self.metered = self.responding = False
        self.body_sent = self.retried = self.checking = False
        self.checks = 1
        plane.live.add(self)

    def __repr__(self) -> str:
        method = self.head.method.decode("ascii")
        return f"<Exchange {self.id.decode('ascii')} {method} {self.status or 'open'}>"

    # --- the line -------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the request from its head to the upstream, or refuse it."""
        head, door = self.head, self.client.door
        try:
            request = self.request = door.understand(head)
            if head.unknown_expectation:
                raise Refusal("unknown_expectation", "the expectation is not known", status=417)
            route = request.route
            chain = route.chain
            if chain is None or head.method in route.open_methods:
                self._granted(ANONYMOUS if chain is None else _UNCHECKED)
                return
            verdict = self._known(chain, door.presented(head, request))
            if isinstance(verdict, Grant):
                self._granted(verdict)
                return
        except Refusal as refusal:
            self.refuse(refusal)
            return
        if verdict is not None:
            self._decided(verdict)
            return
        asked = chain.check(self._credentials())
        if isinstance(asked, Deferred):
            asked.addCallback(self._decided).addErrback(self._broken)
        else:
            self._decided(asked)

    def _known(self, chain: Chain, presented: bytes) -> Grant | Deny | None:
        """What the chain knows of these credentials; mostly they are the last request's."""
        client = self.client
        last_chain, last_presented, digest = client.digest
        if chain is not last_chain or presented != last_presented:
            if not chain.plain:
                return None
            digest = chain.digest(presented)
            client.digest = chain, presented, digest
        return chain.known(digest)

    def _credentials(self, count: int = 1) -> Credentials:
        """What a checker is told; ``count`` tells how often it was, this time included."""
        request, client = self.request, self.client
        authority = request.authority
        return Credentials(
            presented=client.door.presented(self.head, request),
            fields=tuple(self.head.fields),
            method=self.head.method,
            url=request.path + request.query,
            service=request.route.name,
            peer=client.peer,
            client=client.door.client_address(client.peer, self.head),
            peer_trusted=client.door.trusts(client.peer),
            host=authority.host if authority is not None else "",
            port=authority.port if authority is not None else None,
            certificate=client.certificate,
            count=count,
            trace_id=trace_id(self.head, self.id).decode("ascii"),
        )

    def _decided(self, verdict: Decision) -> None:
        if self.finished:
            return
        try:
            if isinstance(verdict, Grant):
                self._granted(verdict)
            elif isinstance(verdict, Unavailable):
                raise Refusal(verdict.reason, verdict.detail, status=503, fields=_RETRY)
            else:
                raise self._unauthorized(verdict)
        except Refusal as refusal:
            self.refuse(refusal)

    def _unauthorized(self, verdict: Deny) -> Refusal:
        chain = self.request.route.chain
        challenges = chain.challenges if chain is not None else ()
        return unauthorized(verdict, challenges, proxy=self.client.door.is_proxy)

    def _granted(self, grant: Grant) -> None:
        """Authorization and admission, then on to the upstream.

        :raises Refusal: 402, 403, 413, 429 or 503.
        """
        self.grant = grant
        request = self.request
        route = request.route
        if route.access is not None and grant is not _UNCHECKED:
            denied = route.access.decide(self.head.method, request.path, grant.groups)
            if denied is not None:
                raise self._unauthorized(denied)
        if grant.opens is not None:
            self.opened = self._open(grant.opens)
        length = self.head.length
        if route.max_body is not None and length is not None and length > route.max_body:
            raise Refusal("body_too_large", "the request's body is too large", status=413)
        meter = self.plane.meter
        if meter is not None and grant.user:
            self.metered = not meter.full
            if not self.metered and not route.admits_unmetered:
                raise Refusal(
                    "usage_full", "usage cannot be counted now", status=503, fields=_RETRY
                )
        if route.admission is not None:
            self._admit(route.admission)
            return
        self.authorized = True
        self.forward()

    def _admit(self, admission: Admission) -> None:
        """Set aside what the request may cost, and go on when that is done.

        :raises Refusal: 402, 403, 429 or 503; nothing was used then.
        """
        counted, self.metered = self.metered, False
        client = self.client
        address = client.door.client_address(client.peer, self.head)
        caller = Caller(self.request.route.name, self.grant, address, counted)
        admitted = admission.admit(caller)
        if isinstance(admitted, Deferred):
            self.waiting = admitted
            admitted.addCallback(self._admitted, counted).addErrback(self._broken)
        else:
            self._admitted(admitted, counted)

    def _admitted(self, admitted: Admitted, counted: bool) -> None:
        self.waiting = None
        if self.finished:
            admitted.release()
            return
        self.admitted = admitted
        self.metered = counted
        self.authorized = True
        self.forward()

    def _open(self, opens: Opens) -> Opened:
        """What of a grant's URLs this request is. A tunnel cannot be held to any."""
        authority = self.request.authority
        opened = None
        if authority is not None and self.head.method != b"CONNECT":
            opened = opens.find(authority.host, authority.port, self.request.path)
        if opened is None:
            raise Refusal("not_opened", "the token does not open this URL", status=403)
        return opened

    def forward(self) -> None:
        """Get a connection to where the request goes.

        :raises Refusal: 403 or 502 where there is none.
        """
        origin = self.request.route.origin
        if origin is not None:
            self._lease(origin)
            return
        dialing = self.waiting = self.request.route.dial(self)
        dialing.addCallback(self._dialed).addErrback(self._broken)

    def _dialed(self, origin: Origin | None) -> None:
        """The destination was found good; without an origin, it is a tunnel's."""
        self.waiting = None
        if origin is None or self.finished:
            return
        try:
            self._lease(origin)
        except Refusal as refusal:
            self.refuse(refusal)

    def _lease(self, origin: Lessor) -> None:
        upstream = origin.lease(self)
        if upstream is None:
            self.waiting_at = origin
        else:
            self.leased(upstream)

    # --- towards the upstream -------------------------------------------------------------

    def leased(self, upstream: Upstream) -> None:
        """Send the request's head on this connection, and let the body follow."""
        self.waiting_at = None
        self.upstream = upstream
        head = self.head
        has_body = head.length != 0
        upstream.send(
            self,
            upstream_head(self),
            head_only=head.method == b"HEAD",
            upgrading=head.upgrade is not None,
            done=not has_body,
        )
        if has_body:
            self.client.start_body()

    def request_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """More of the request's body."""
        upstream = self.upstream
        if upstream is None:
            return
        self.bytes_in += len(payload)
        self.body_sent = True
        limit = self.request.route.max_body
        if limit is not None and self.bytes_in > limit:
            upstream.abort()
            self.upstream = None
            self.fail(Refusal("body_too_large", "the request's body is too large", status=413))
            return
        if self.head.length is not None:
            upstream.send_data(payload, done=done)
            return
        if trailers:
            ours = self.grant.header_names
            trailers = [trailer for trailer in trailers if normalize(trailer[0]) not in ours]
        upstream.send_chunk(payload, done=done, trailers=trailers)

    # --- towards the client ---------------------------------------------------------------

    def informational(self, head: ResponseHead) -> None:
        """A 1xx response of the upstream."""
        if self.head.minor == 1:
            self.client.send_informational(head)

    def response(self, head: ResponseHead, length: int | None, payload: bytes, done: bool) -> None:
        """The final response's head, and the body's first piece."""
        self.status = self.upstream_status = head.status
        self.bytes_out = len(payload)
        self.responding = True
        lines = [*head.lines]
        unit_meter = self.request.route.unit_meter
        if unit_meter is not None and self.metered:
            self.reading = unit_meter.begin(head.status, lines)
            self.reading.feed(payload)
        admitted = self.admitted
        if admitted is not None:
            admitted.read_price(lines)
            lines += admitted.lines
        if not head.dated:  # RFC 9110, 6.6.1
            lines.append(b"date: " + self.plane.date())
        lines += self.request.route.response_lines
        lines.append(b"via: " + self.plane.via)
        lines.append(b"x-request-id: " + self.id)
        client = self.client
        if done:
            self.upstream = None
            self.finish("ok", client)
        elif self.upstream is not None:
            client.transport.registerProducer(self.upstream.transport)
        client.send_response(head.status, head.reason, lines, length, payload, done)

    def response_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """More of the response's body."""
        self.bytes_out += len(payload)
        if self.reading is not None:
            self.reading.feed(payload)
        if done:
            self.upstream = None
            self.client.transport.unregisterProducer()
            self.finish("ok", self.client)
        self.client.send_data(payload, done, trailers if self.head.accepts_trailers else [])

    def switched(self, head: ResponseHead, upstream: UpstreamConnection, data: bytes) -> None:
        """The upstream switched protocols, as the client asked: from now on it is a tunnel."""
        self.upstream = None
        self.status = self.upstream_status = 101
        self.responding = True
        lines = [b"HTTP/1.1 101 Switching Protocols", *head.lines, b"via: " + self.plane.via]
        lines += (b"x-request-id: " + self.id, b"connection: upgrade")
        if head.upgrade is not None:
            lines.append(b"upgrade: " + head.upgrade)
        self.open_tunnel(
            upstream.transport,
            b"\r\n".join((*lines, b"", b"")),
            data,
            upstream.origin.timeouts.tunnel,
        )

    def open_tunnel(
        self, upstream: LoopTransport, answer: bytes, data: bytes, idle_timeout: float
    ) -> None:
        """Join the client's connection and the upstream's. ``data`` came from the upstream."""
        self.responding = True
        self.tunnel = self.client.become_tunnel(
            upstream, answer, data, idle_timeout, self._tunnel_ended
        )

    def _tunnel_ended(self, bytes_in: int, bytes_out: int, reason: str) -> None:
        self.bytes_in, self.bytes_out = bytes_in, bytes_out
        self.finish(reason)
        self.tunnel = None

    # --- when it goes wrong ---------------------------------------------------------------

    def upstream_lost(self, *, untouched: bool) -> None:
        """The upstream hung up in the middle.

        A request is sent again only where a kept connection had gone stale, not one byte of an
        answer came, and the method is safe: nothing can have been done twice (RFC 9110, 9.2.2).
        """
        self.upstream = None
        if (
            untouched
            and not self.retried
            and self.head.method in _SAFE
            and not self.body_sent
            and not self.responding
        ):
            self.retried = True
            try:
                self.forward()
            except Refusal as refusal:
                self.refuse(refusal)
            return
        self.fail(UpstreamError("upstream_lost", "the upstream hung up"))

    def upstream_failed(self, refusal: UpstreamError) -> None:
        """No connection, or no good answer on it."""
        self.upstream = self.waiting_at = None
        self.fail(refusal)

    def _broken(self, failure: Failure) -> None:
        """A step that answered later failed."""
        self.waiting = None
        if self.finished or failure.check(CancelledError):
            return
        if isinstance(failure.value, Refusal):
            if failure.value.status == 403:  # where nobody may go, nothing was used
                self.authorized = self.metered = False
            self.refuse(failure.value)
            return
        log.failure("An exchange failed", failure)
        self.fail(Refusal("internal_error", "something went wrong here", status=500))

    def fail(self, refusal: Refusal) -> None:
        """End it: with an answer where none has begun, else by breaking the connection."""
        if self.finished:
            return
        if self.responding:
            self.finish(refusal.reason)
            self.client.abort()
        else:
            self.refuse(refusal)

    def refuse(self, refusal: Refusal) -> None:
        """Answer the request ourselves."""
        if self.finished:
            return
        reply = make_reply(refusal, self.head.values(b"accept"), self.id)
        self.status = reply.status
        self.bytes_out = 0 if self.head.method == b"HEAD" else len(reply.body)
        self.responding = True
        self._let_go()
        self.finish(refusal.reason, self.client)
        self._answer(reply, close=refusal.close)

    def withhold(self) -> None:
        """Answer with a 503 in place of a response whose usage could not be written down."""
        self.metered = False
        refusal = Refusal("usage_unwritable", "usage cannot be counted now", status=503)
        self._answer(make_reply(refusal, self.head.values(b"accept"), self.id), close=True)

    def _answer(self, reply: Reply, *, close: bool) -> None:
        lines = [
            b"date: " + self.plane.date(),
            *field_lines(reply.fields),
            b"x-request-id: " + self.id,
        ]
        if close:
            self.client.close()
        self.client.send_reply(reply, lines)

    def client_lost(self) -> None:
        """The client has gone."""
        self.finish("client_gone")

    # --- while it runs --------------------------------------------------------------------

    def watch(self, wall: float, monotonic: float) -> None:
        """Whether it may go on; called now and then, with the times of the plane's two clocks."""
        grant = self.grant
        if (
            grant.expires is not None
            and grant.expires <= wall
            and not self.request.route.outlives_grant
        ):
            self.cut("grant_expired")
        elif grant.recheck is not None and monotonic - self.checked_at >= grant.recheck:
            self.check_again()

    def check_again(self) -> None:
        """Ask the chain again; what runs under a grant ends when that is not given any more."""
        if not self.authorized or self.checking or self.grant is _UNCHECKED:
            return
        chain = self.request.route.chain
        if chain is None:
            return
        self.checking = True
        self.checks += 1
        asked = chain.check_again(self._credentials(self.checks))
        if isinstance(asked, Deferred):
            asked.addCallback(self._checked_again).addErrback(self._broken)
        else:
            self._checked_again(asked)

    def _checked_again(self, verdict: Decision) -> None:
        self.checking = False
        self.checked_at = self.plane.monotonic()
        access = self.request.route.access
        if not isinstance(verdict, Grant) or (
            access is not None
            and access.decide(self.head.method, self.request.path, verdict.groups) is not None
        ):
            self.cut("grant_withdrawn")

    def cut(self, reason: str) -> None:
        """End it now, whatever state it is in: a grant was revoked, or the daemon stops."""
        if self.finished:
            return
        tunnel = self.tunnel
        if tunnel is not None:
            tunnel.cut(reason)
        else:
            self.finish(reason)
            self.client.abort(reason)

    # --- the end --------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Give back what is held of the upstream."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
            self.client.transport.unregisterProducer()
        origin, self.waiting_at = self.waiting_at, None
        if origin is not None:
            origin.forget(self)
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()

    def finish(self, reason: str, answered: ClientSide | None = None) -> None:
        """The one end, however it comes: before the response's last bytes are released.

        ``answered``: the client, where they go to it next.
        """
        if self.finished:
            return
        self.finished = True
        plane = self.plane
        plane.live.discard(self)
        if self.upstream is not None or self.waiting_at is not None or self.waiting is not None:
            self._let_go()
        duration = plane.monotonic() - self.start
        stats = (self.request.route if self.request is not None else self.client.door).stats
        if self.tunnel is None:
            stats.finished(self.status, duration, reason, self.bytes_in, self.bytes_out)
        else:
            stats.tunnel_finished(self.status, reason, self.bytes_in, self.bytes_out)
        if self.metered and plane.meter is not None:
            start = plane.wall_clock() - duration
            plane.meter.record(usage_record(self, start, duration, reason), answered)
        elif self.admitted is not None:
            self.admitted.release()
        if plane.access_log is not None:
            plane.access_log.write(
                access_entry(self, plane.wall_clock() - duration, duration, reason)
            )


_RETRY: Final = ((b"retry-after", b"5"),)
