"""An explanation, as it is shown to people and programs: no value of a credential is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeper.auth.interfaces import Abstain, Deny, Grant, Unavailable
from gatekeeper.config.values import parse_upstream
from gatekeeper.doors import Request
from gatekeeper.explain import Explained, Explanation, Step
from gatekeeper.explain_limits import in_words, limits_of
from gatekeeper.http.target import Authority
from gatekeeper.net.dialing import destination
from gatekeeper.terminal import printable

Report = dict[str, Any]

#: A scheme is named only where it is one of these: what is presented may be a bare secret.
_SCHEMES: Final = frozenset({b"basic", b"bearer", b"digest", b"negotiate"})
_CHALLENGES: Final = frozenset({b"www-authenticate", b"proxy-authenticate"})


def describe(explanation: Explanation) -> Report:
    """All that there is to say. Times are in RFC 3339; what was not come to is None."""
    listener, exchange = explanation.choice.listener, explanation.exchange
    return {
        "listener": {
            "name": listener.name,
            "role": listener.role,
            "bind": listener.bind,
            "why": explanation.choice.why,
            "others": list(explanation.choice.others),
        },
        "peer": explanation.question.peer,
        "peer_trusted": explanation.door.trusts(explanation.question.peer),
        "client": None if exchange is None else _client(explanation, exchange),
        "method": explanation.question.method,
        "url": _url(explanation),
        "service": None if explanation.service is None else explanation.service.name,
        "presented": _presented(explanation),
        "unchecked": _unchecked(explanation),
        "checkers": [{"checker": step.checker, **_said(step)} for step in explanation.steps],
        "access": _access(explanation),
        "opened": _opened(explanation),
        "limits": _limits(explanation),
        "answer": _answer(explanation),
    }


def print_lines(report: Mapping[str, Any], console: Console) -> None:
    """Print a report, a line for each thing that there is to say."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, line in _lines(report):
        table.add_row(name, Text(printable(line)))
    console.print(table)


# --- what there is to say ---------------------------------------------------------------------


def _client(explanation: Explanation, exchange: Explained) -> str:
    return explanation.door.client_address(explanation.question.peer, exchange.head)


def _url(explanation: Explanation) -> str | None:
    """The canonical URL; of a query only that there is one, for it may hold a secret."""
    request = explanation.request
    if request is None:
        return None
    if explanation.question.is_connect:
        return request.host_label
    door = explanation.door
    scheme = explanation.question.scheme if door.is_proxy else door.scheme.decode("ascii")
    return f"{scheme}://{request.host_label}{_path_and_query(request, request.path)}"


def _path_and_query(request: Request, path: bytes) -> str:
    return path.decode("ascii") + ("?***" if request.query else "")


def _presented(explanation: Explanation) -> str | None:
    """The scheme, ``other`` for any that is not common; None: there are no credentials."""
    exchange, request = explanation.exchange, explanation.request
    if exchange is None or request is None:
        return None
    presented = explanation.door.presented(exchange.head, request)
    if not presented:
        return None
    scheme = presented.partition(b" ")[0].lower()
    return scheme.decode("ascii") if scheme in _SCHEMES else "other"


def _unchecked(explanation: Explanation) -> str | None:
    """Why no checker is asked."""
    exchange, request = explanation.exchange, explanation.request
    if exchange is None or request is None:
        return None
    if request.route.chain is None:
        return "there are no checkers"
    if exchange.head.method in request.route.open_methods:
        return "the method is one of `open_methods`"
    return None


def _said(step: Step) -> Report:
    match step.verdict:
        case Grant() as grant:
            return {
                "said": "grant",
                "user": grant.user,
                "key_id": grant.key_id,
                "groups": sorted(grant.groups),
                "expires": _time(grant.expires),
                "recheck": grant.recheck,
                "headers": [name.decode("latin-1") for name, _ in grant.headers],
                "own_authorization": grant.authorization is not None,
                "limited_to_urls": grant.opens is not None,
            }
        case Deny() as deny:
            return {
                "said": "deny",
                "status": deny.status,
                "reason": deny.reason,
                "detail": deny.detail,
            }
        case Unavailable() as away:
            return {"said": "unavailable", "reason": away.reason, "detail": away.detail}
        case Abstain():
            return {"said": "abstain"}
        case None:
            return {"said": "fault", "fault": step.fault} if step.fault else {"said": "not asked"}


def _is_granted(explanation: Explanation) -> bool:
    """Whether the request came as far as to authorization."""
    return _unchecked(explanation) is not None or any(
        isinstance(step.verdict, Grant) for step in explanation.steps
    )


def _access(explanation: Explanation) -> Report | None:
    exchange, request = explanation.exchange, explanation.request
    if exchange is None or request is None or not _is_granted(explanation):
        return None
    rules = request.route.access
    if rules is None:
        return None
    method = exchange.head.method
    denied = rules.decide(method, request.path, exchange.grant.groups)
    return {"rule": rules.explain(method, request.path), "passes": denied is None}


def _opened(explanation: Explanation) -> Report | None:
    """What of the URLs that the grant is limited to this is."""
    exchange = explanation.exchange
    if exchange is None or exchange.grant.opens is None:
        return None
    opened = exchange.opened
    if opened is None:
        refused = explanation.refusal is not None and explanation.refusal.reason == "not_opened"
        return {"passes": False} if refused else None
    return {
        "passes": True,
        "origin": _origin(opened.scheme, opened.host, opened.port),
        "own_authorization": opened.authorization is not None,
    }


def _limits(explanation: Explanation) -> list[Report]:
    """Those that it runs into where it passes; how much of them is left only the daemon knows."""
    seller = explanation.service or explanation.choice.listener
    if explanation.exchange is None or explanation.refusal is not None:
        return []
    return limits_of(seller, explanation.exchange.grant.user)


def _answer(explanation: Explanation) -> Report:
    refusal, exchange = explanation.refusal, explanation.exchange
    if refusal is not None:
        return {
            "passes": False,
            "status": refusal.status,
            "reason": refusal.reason,
            "detail": refusal.detail,
            "challenges": [
                value.decode("latin-1") for name, value in refusal.fields if name in _CHALLENGES
            ],
        }
    assert exchange is not None, "it has passed"
    request = exchange.request
    path = request.route.upstream_path(request.path)
    return {
        "passes": True,
        "method": explanation.question.method,
        "to": _upstream(explanation, exchange),
        "path": None if explanation.question.is_connect else _path_and_query(request, path),
        "addresses": list(explanation.addresses),
    }


def _upstream(explanation: Explanation, exchange: Explained) -> str | list[str]:
    """Where it goes; a list where several upstreams share the requests."""
    if explanation.question.is_connect:
        return exchange.request.host_label
    service = explanation.service
    if service is not None and exchange.request.route.origin is not None:
        origins = [_origin(*parse_upstream(url)[:3]) for url in service.urls]
        return origins if isinstance(service.to, tuple) else origins[0]
    secure, host, port = destination(exchange)
    return _origin("https" if secure else "http", host, port)


def _origin(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{Authority(host, port).encode().decode('ascii')}"


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)  # after the year 9999


# --- for people -------------------------------------------------------------------------------


def _lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listener = report["listener"]
    others = ", ".join(listener["others"])
    yield (
        "listener",
        (
            f"{listener['name']} ({listener['role']}, {listener['bind']}): {listener['why']}"
            + (f"; so do {others}" if others else "")
        ),
    )
    trusted = ", a trusted peer" if report["peer_trusted"] else ""
    client = "" if report["client"] in (None, report["peer"]) else f", for {report['client']}"
    yield "from", f"{report['peer']}{trusted}{client}"
    if report["url"] is not None:
        yield "request", f"{report['method']} {report['url']}"
        yield "service", report["service"] or "none"
        yield "presented", report["presented"] or "no credentials"
    if report["unchecked"] is not None:
        yield "checkers", f"not asked: {report['unchecked']}"
    for checker in report["checkers"]:
        yield "checker", f"{checker['checker']}: {_in_words(checker)}"
    if report["access"] is not None:
        passes = "may pass" if report["access"]["passes"] else "may not pass"
        yield "access", f"{passes}, by {report['access']['rule']}"
    if report["opened"] is not None:
        origin = report["opened"].get("origin")
        yield "opened", "no URL of the grant's" if origin is None else f"leads to {origin}"
    yield from in_words(report["limits"])
    yield "answer", _answer_in_words(report["answer"])
    for challenge in report["answer"].get("challenges", ()):
        yield "challenge", challenge


def _in_words(checker: Mapping[str, Any]) -> str:
    said: str = checker["said"]
    if said == "grant":
        facts = [
            ("user", checker["user"]),
            ("key", checker["key_id"]),
            ("groups", ", ".join(checker["groups"])),
            ("until", checker["expires"]),
            ("asked again every", checker["recheck"] and f"{checker['recheck']:g} s"),
            ("sets", ", ".join(checker["headers"])),
        ]
        words = [f"{name} {value}" for name, value in facts if value]
        words += ["the upstream's own Authorization"] * checker["own_authorization"]
        words += ["for some URLs only"] * checker["limited_to_urls"]
        return "; ".join(["grant", *words])
    if said == "deny":
        return f"deny {checker['status']} {checker['reason']}: {checker['detail']}"
    if said == "unavailable":
        return f"unavailable, {checker['reason']}: {checker['detail']}"
    return f"fault: {checker['fault']}" if said == "fault" else said


def _answer_in_words(answer: Mapping[str, Any]) -> str:
    if not answer["passes"]:
        return f"{answer['status']} {answer['reason']}: {answer['detail']}"
    addresses = f" ({', '.join(answer['addresses'])})" if answer["addresses"] else ""
    path = f" as {answer['method']} {answer['path']}" if answer["path"] is not None else ""
    tunnel = "a tunnel to " if answer["path"] is None else "goes to "
    to = answer["to"] if isinstance(answer["to"], str) else " or ".join(answer["to"])
    return f"{tunnel}{to}{addresses}{path}"
