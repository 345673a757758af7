"""A management API for the tests: what it answers, and nothing behind it.

Tests know it by :class:`Management` only, so that a real daemon can take its place.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from gatekeeper.errors import ConfigurationError
from gatekeeper.golem.definitions import (
    Definition,
    certificate_hash,
    conflict,
    definition_json,
    read_definition,
)


class Management(Protocol):
    """A gatekeeper, as far as a runtime can tell."""

    token: str | None

    @property
    def url(self) -> str:
        """Where the API is."""

    def request(self, service: str, user: str, path: str, times: int = 1) -> None:
        """Let requests of a user through."""

    def users(self, service: str) -> list[str]:
        """The names of a service's users, in order."""

    def crash(self) -> None:
        """Be gone."""

    def come_back(self) -> None:
        """Be there again, with all that was there before."""


class Failure(Exception):
    """An answer that is not a 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class User:
    def __init__(self) -> None:
        self.created_at = now()
        self.paths: Counter[str] = Counter()

    def shown(self, name: str) -> dict[str, Any]:
        return {"username": name, "createdAt": self.created_at}


class Service(NamedTuple):
    definition: Definition
    created_at: str
    users: dict[str, User]

    def shown(self) -> dict[str, Any]:
        shown = definition_json(self.definition) | {"createdAt": self.created_at}
        if self.definition.certificate is not None:
            shown["cert"]["hash"] = certificate_hash(self.definition.certificate.path)
        return shown


def now() -> str:
    return datetime.now(UTC).isoformat()


class StandIn:
    """Implements :class:`Management`."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.services: dict[str, Service] = {}
        self.log: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def request(self, service: str, user: str, path: str, times: int = 1) -> None:
        self.services[service].users[user].paths[path] += times

    def users(self, service: str) -> list[str]:
        return sorted(self.services[service].users)

    def crash(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def come_back(self) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def do_GET(self) -> None:
                length = int(self.headers["content-length"] or 0)
                content = self.rfile.read(length)
                authorization = self.headers["authorization"]
                status, answer = api.answer(self.command, self.path, content, authorization)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def answer(
        self, method: str, target: str, content: bytes, authorization: str | None
    ) -> tuple[int, Any]:
        self.log.append(f"{method} {target}")
        self.hold.wait()
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, {"message": "Present the token."}
        path = [unquote(segment) for segment in target.split("/")[1:]]
        try:
            return 200, self._called(method, path, content)
        except Failure as failure:
            return failure.status, {"message": str(failure)}

    def _called(self, method: str, path: list[str], content: bytes) -> Any:
        match method, path:
            case "GET", ["stats"]:
                users = [user for service in self.services.values() for user in service.users]
                total = sum(
                    user.paths.total()
                    for service in self.services.values()
                    for user in service.users.values()
                )
                return {
                    "users": len(users),
                    "services": len(self.services),
                    "requests": {"requests": total},
                }
            case "POST", ["control", "shutdown"]:
                threading.Thread(target=self.crash).start()
                return None
            case "GET", ["services"]:
                return [service.shown() for service in self.services.values()]
            case "POST", ["services"]:
                return self._create(body(content))
            case "GET", ["services", name]:
                return self._service(name).shown()
            case "DELETE", ["services", name]:
                self._service(name)
                del self.services[name]
                return None
            case method, ["services", name, "users", *rest]:
                return self._users(method, self._service(name).users, rest, content)
        raise Failure(404, "There is nothing here.")

    def _users(self, method: str, users: dict[str, User], path: list[str], content: bytes) -> Any:
        match method, path:
            case "GET", []:
                return [user.shown(name) for name, user in users.items()]
            case "POST", []:
                raw = body(content)
                for field in ("username", "password"):
                    if not isinstance(raw.get(field), str):
                        raise Failure(400, f"{field}: is required")
                name = raw["username"]
                if name in users:
                    raise Failure(409, f"there is a user `{name}` already")
                users[name] = User()
                return users[name].shown(name)
        if not path or path[0] not in users:
            raise Failure(404, "there is no such user")
        user = users[path[0]]
        match method, path[1:]:
            case "GET", []:
                return user.shown(path[0])
            case "DELETE", []:
                del users[path[0]]
                return None
            case "GET", ["stats"]:
                return {"requests": user.paths.total()}
            case "GET", ["endpoints", "stats"]:
                return dict(user.paths)
        raise Failure(404, "There is nothing here.")

    def _create(self, raw: dict[str, Any]) -> Any:
        try:
            definition = read_definition(raw)
        except ConfigurationError as error:
            raise Failure(400, "; ".join(map(str, error.problems))) from None
        for service in self.services.values():
            problem = conflict(definition, service.definition)
            if problem is not None:
                raise Failure(409, str(problem))
        service = Service(definition, now(), {})
        self.services[definition.name] = service
        return service.shown()

    def _service(self, name: str) -> Service:
        if name not in self.services:
            raise Failure(404, "there is no such service")
        return self.services[name]


def body(content: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(content)
    except ValueError:
        raise Failure(400, "this is not JSON") from None
    if not isinstance(raw, dict):
        raise Failure(400, "must be an object")
    return raw
