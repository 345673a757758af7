"""The management listener's resources. Importing this imports the reactor (klein does)."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Final

from klein import Klein
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gatekeeper.errors import Refusal
from gatekeeper.management.answers import answer
from gatekeeper.management.dispatch import Dispatch, refuse
from gatekeeper.management.gate import Gate
from gatekeeper.management.health import Readiness, Report
from gatekeeper.management.index import OPERATIONS
from gatekeeper.management.keyvals import ROOT, Keyvals
from gatekeeper.management.managed import Managed
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.operations import Call

log = Logger()

#: What says by itself who may see it: whether the daemon runs, for everybody; what it counts.
_OPEN: Final = (b"/healthz", b"/readyz", b"/metrics")


class ManagementAPI:
    """Everything on the management listener; what is not there is a problem document (RFC 9457).

    ``keyvals`` are the token caches' calls, ``metrics`` is ``/metrics``, ``managed`` is what the
    operations work on; they are not there if left out. ``gate`` says who may call; everybody who
    can reach the listener if left out.
    """

    def __init__(
        self,
        readiness: Readiness,
        clock: IReactorTime,
        keyvals: Keyvals | None = None,
        metrics: MetricsPage | None = None,
        managed: Managed | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._readiness = readiness
        self._clock = clock
        self._keyvals = keyvals or Keyvals({}, None)
        self._metrics = metrics
        self._gate = gate
        self._app = app = Klein()
        app.route("/healthz", methods=["GET"])(self.healthz)
        app.route("/readyz", methods=["GET"])(self.readyz)
        app.route("/metrics", methods=["GET"])(self.metrics)
        app.route(ROOT, branch=True)(self.keyvals)
        if managed is not None:
            gate = gate or Gate(None)
            dispatch = Dispatch(managed, gate)
            self._keyvals.note = partial(_note, managed, gate)
            for operation in OPERATIONS:
                handler = dispatch.handler(operation)
                app.route(operation.route, methods=[operation.method])(handler)
        app.handle_errors(Refusal)(self.refused)
        app.handle_errors(HTTPException)(self.no_such_thing)
        app.handle_errors(Exception)(self.failed)

    def resource(self) -> IResource:
        """The root of the site."""
        return _Undecoded(self._app.resource())

    def healthz(self, request: IRequest) -> bytes:
        """The process runs: 200, always."""
        return answer(request, HTTPStatus.OK, {"status": "ok"})

    def readyz(self, request: IRequest) -> Deferred[bytes]:
        """200 if requests may be sent here, else 503; and what each check says."""
        return self._readiness.report(self._clock).addCallback(_readiness_answer, request)

    def metrics(self, request: IRequest) -> Deferred[bytes]:
        """What the daemon counts."""
        if self._metrics is None:
            raise _nothing()
        if self._gate is not None and self._gate.actor == "nobody":
            self._gate.admit(request)  # web pages are not to read it
        return self._metrics.show(request)

    def keyvals(self, request: IRequest) -> IResource:
        """The token caches."""
        self._admit(request)
        return self._keyvals.resource()

    def refused(self, request: IRequest, failure: Failure) -> bytes:
        """What is raised here."""
        assert isinstance(failure.value, Refusal)
        return refuse(request, failure.value)

    def no_such_thing(self, request: IRequest, failure: Failure) -> bytes:
        """404 or 405, to operators; others are told nothing.

        (A redirection to a tidier path is a 404: ask for the right one.)
        """
        error = failure.value
        if request.path not in _OPEN:
            try:
                self._admit(request)
            except Refusal as refusal:
                return refuse(request, refusal)
        if not isinstance(error, MethodNotAllowed):
            return refuse(request, _nothing())
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return refuse(
            request,
            Refusal(
                "method_not_allowed",
                f"This can be asked for with {allowed}.",
                status=405,
                fields=((b"allow", allowed.encode("ascii")),),
            ),
        )

    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """500: our fault, told to the log."""
        log.failure("The management API failed", failure)
        return refuse(request, Refusal("internal_error", "See the log.", status=500))

    def _admit(self, request: IRequest) -> None:
        if self._gate is not None:
            self._gate.admit(request)


class _Undecoded(Resource):
    """Routes by the path as it was sent, so that ``%2F`` is part of a name, and no slash."""

    isLeaf = True

    def __init__(self, root: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._root = root

    def render(self, request: IRequest) -> bytes | int:
        """Answer a request."""
        request.prepath, request.postpath = [], request.path[1:].split(b"/")
        answered: bytes | int = self._root.render(request)
        return answered


def _note(
    managed: Managed, gate: Gate, request: IRequest, action: str, subject: str
) -> Deferred[None]:
    """Note down what a request has changed. Who does not wait for it does not end it."""
    waiter: Deferred[None] = Deferred()

    def noted(result: object) -> None:
        if isinstance(result, Failure):
            log.failure("A change could not be noted down", result)
        if not waiter.called:
            waiter.callback(None)

    call = Call(managed, gate.admit(request))
    ensureDeferred(managed.note(call, action, subject)).addBoth(noted)
    return waiter


def _nothing() -> Refusal:
    return Refusal("not_found", "There is nothing here.", status=404)


def _readiness_answer(report: Report, request: IRequest) -> bytes:
    status = "draining" if report.draining else "ready" if report.ready else "unavailable"
    checks = {
        name: {"ok": True} if problem is None else {"ok": False, "problem": problem}
        for name, problem in report.problems.items()
    }
    code = HTTPStatus.OK if report.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return answer(request, code, {"status": status, "checks": checks})
