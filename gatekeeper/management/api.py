"""The management listener's resources. Importing this imports the reactor (klein does)."""

from __future__ import annotations

from http import HTTPStatus

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gatekeeper.errors import Refusal
from gatekeeper.management.answers import answer, refuse
from gatekeeper.management.health import Readiness, Report
from gatekeeper.management.keyvals import ROOT, Keyvals
from gatekeeper.management.metrics import MetricsPage


class ManagementAPI:
    """``/healthz``, ``/readyz`` and more; everything else is a problem document (RFC 9457).

    ``keyvals`` are the token caches' calls, ``metrics`` is ``/metrics``; they are not there if left
    out.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        readiness: Readiness,
        clock: IReactorTime,
        keyvals: Keyvals | None = None,
        metrics: MetricsPage | None = None,
    ) -> None:
        self._readiness = readiness
        self._clock = clock
        self._keyvals = keyvals or Keyvals({}, None)
        self._metrics = metrics

    def resource(self) -> IResource:
        """The root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """The process runs: 200, always."""
        return answer(request, HTTPStatus.OK, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    def readyz(self, request: IRequest) -> Deferred[bytes]:
        """200 if requests may be sent here, else 503; and what each check says."""
        return self._readiness.report(self._clock).addCallback(_readiness_answer, request)

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: IRequest) -> Deferred[bytes]:
        """What the daemon counts."""
        if self._metrics is None:
            raise _nothing()
        return self._metrics.show(request)

    @app.route(ROOT, branch=True)
    def keyvals(self, request: IRequest) -> IResource:
        """The token caches."""
        return self._keyvals.resource()

    @app.handle_errors(Refusal)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        """What is raised here."""
        assert isinstance(failure.value, Refusal)
        return refuse(request, failure.value)

    @app.handle_errors(HTTPException)
    def no_such_thing(self, request: IRequest, failure: Failure) -> bytes:
        """404 or 405. (A redirection to a tidier path is a 404: ask for the right one.)"""
        error = failure.value
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

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """500: our fault, told to the log."""
        self._log.failure("The management API failed", failure)
        return refuse(request, Refusal("internal_error", "See the log.", status=500))


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
