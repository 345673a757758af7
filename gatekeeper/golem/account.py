"""The users that one runtime has let into its service, and what they have asked for."""

from __future__ import annotations

from threading import Lock
from typing import Any

from gatekeeper.management_client import Client, Refused, Unreachable


class _User:
    """A user that this runtime added, and the most requests that were seen."""

    def __init__(self) -> None:
        self.requests = 0


class Account:
    """Adds and removes users of a service, and counts their requests; used by several threads.

    The count never goes down: not when a user is removed, and not when the API answers with less,
    or not at all.
    """

    def __init__(self, api: Client, service: str) -> None:
        self.api = api
        self.service = service
        self._lock = Lock()
        self._users: dict[str, _User] = {}
        self._settled = 0  # requests of users that are gone

    @property
    def requests(self) -> int:
        """What is known to have been asked for so far."""
        with self._lock:
            return self._settled + sum(user.requests for user in self._users.values())

    def refresh(self, timeout: float) -> None:
        """Ask for the numbers; they stay as they are where there is no answer.

        ``timeout`` in seconds, for each answer. None is waited for after one
        that does not come.
        """
        with self._lock:
            users = dict(self._users)
        try:
            for name, user in users.items():
                self._observe(name, user, timeout)
        except Unreachable:
            return  # until it is asked again, a little later

    def add(self, name: str, password: str) -> Any:
        """Add a user.

        :raises Refused: the API did not; 409 where there is one of this name.
        :raises Unreachable: nobody knows.
        """
        added = self.api.call(
            "POST",
            ("services", self.service, "users"),
            body={"username": name, "password": password},
        )
        with self._lock:
            self._users[name] = _User()
        return added

    def remove(self, name: str) -> None:
        """Remove a user; what was asked for until then stays counted.

        :raises Refused: the API did not; 404 where there is none of this name.
        :raises Unreachable: nobody knows.
        """
        with self._lock:
            user = self._users.get(name)
        if user is not None:
            self._observe(name, user, 10.0)
        self.api.call("DELETE", ("services", self.service, "users", name))
        with self._lock:
            if user is not None and self._users.get(name) is user:
                self._settled += self._users.pop(name).requests

    def close(self) -> list[str]:
        """Remove the users that were added; what went wrong comes back, a sentence for each."""
        problems = []
        with self._lock:
            names = list(self._users)
        for name in names:
            try:
                self.remove(name)
            except Refused as error:
                if error.status != 404:  # somebody else has removed the user
                    problems.append(f"the user `{name}` is still there: {error}")
            except Unreachable as error:
                problems.append(f"{len(self._users)} users are still there: {error}")
                break
        return problems

    def _observe(self, name: str, user: _User, timeout: float) -> None:
        try:
            stats = self.api.call(
                "GET", ("services", self.service, "users", name, "stats"), timeout=timeout
            )
            requests = stats["requests"]
        except Refused:
            return  # somebody else has removed the user
        except (KeyError, TypeError):
            raise Unreachable("the management API's answer has no `requests`") from None
        if isinstance(requests, int):
            with self._lock:
                user.requests = max(user.requests, requests)
