"""One round with two nodes: who calls, who is shut out, what it came to."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from gatekeeper.auth.token_exchange import fingerprint
from tests.daemon import wait_until
from tests.faults.crowd import Caller
from tests.faults.load import KINDS, PASSWORD
from tests.faults.nodes import CREDITS, PATIENCE, PRICE, QUOTA, SILENCE, Node, Nodes
from tests.process.crew import call

#: Requests that are let through cost something then.
_COSTLY: Final = tuple(kind for kind in KINDS if kind.name != "missing")

#: Who is called what, by service, and how many of a user's clients there are at each node.
_CLIENTS: Final = {
    "/shop": (("ann", "bob"), 2),
    "/tokened": (("tim", "tom", "mallory"), 2),
    "/paid": (("buyer",), 3),
    "/limited": (("guest",), 3),
}
_ENTRIES: Final = "/api/8/http/keyvals/tokens/"


class Outage(NamedTuple):
    """From when until when nobody with a token may be served by the node at ``port``."""

    port: int
    since: float
    until: float


@dataclass
class Result:
    """What one round came to.

    ``missing``, ``twice``, ``doubtful`` are those of :class:`tests.faults.house.Result`; ``cut``:
    in the store as cut by the gateway, because of the revocation or its own end. ``revoked``:
    answers that ended too late after the revocation, ``blind``: requests with tokens that were
    served by a node that could not know; ``lag``: milliseconds from the revocation to the end of
    the last answer. What is left of the credits and of the quota, and what was used beyond them,
    comes from the accounts and from what clients got.
    """

    fault: str
    answered: int = 0
    stored: int = 0
    missing: int = 0
    twice: int = 0
    doubtful: int = 0
    cut: int = 0
    revoked: int = 0
    blind: int = 0
    lag: int = 0
    credits_left: int = 0
    quota_left: int = 0
    overspent: int = 0
    refused: int = 0
    broken: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether something happened that must never happen."""
        wrong = self.missing, self.twice, self.doubtful, self.revoked, self.blind, self.overspent
        return any(wrong) or self.cut > self.broken


class Round:
    """The callers of a round are there from the beginning until :meth:`end`.

    One of the tokens may be revoked. Credits and quota are such that they run out.

    :param promised: seconds within which a revocation, or that a node is cut off, takes effect.
    """

    def __init__(self, nodes: Nodes, number: int, promised: float) -> None:
        self._nodes = nodes
        self._number = number
        self._promised = promised
        self._revoked_at = inf
        self._outages: list[Outage] = []
        nodes.grant(self._name("buyer"))
        for user in map(self._name, _CLIENTS["/tokened"][0]):
            nodes.auth.tokens[f"Bearer {user}"] = _token(user)
        self._traffic = nodes.crowd.send(
            [
                self._caller(user, node, path)
                for path, (users, clients) in _CLIENTS.items()
                for user in users
                for node in nodes.both
                for _ in range(clients)
            ]
        )

    def _name(self, user: str) -> str:
        return f"{user}{self._number}"

    def _caller(self, user: str, node: Node, path: str) -> Caller:
        name = self._name(user)
        basic = base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()
        authorization = f"Bearer {name}" if path == "/tokened" else f"Basic {basic}"
        kinds = _COSTLY if path in ("/paid", "/limited") else KINDS
        return Caller(name, node.port, path, authorization, kinds)

    # --- what faults do -------------------------------------------------------------------

    def serve(self, *nodes: Node, paths: Sequence[str] = ("/shop", "/tokened")) -> None:
        """Wait until each of the nodes, or both, has served some more requests."""
        wanted = [(node.port, path, 200) for node in nodes or self._nodes.both for path in paths]
        self._wait_for_more(wanted, 20)

    def revoke(self, node: Node) -> None:
        """Shut one caller out at this node."""
        user = self._name("mallory")
        answers = self._traffic.answers
        wait_until(lambda: any(each.caller.user == user for each in answers), "it is known")
        key = fingerprint(f"Bearer {user}".encode())
        self._revoked_at = time.monotonic()
        status, document = call(node.daemon, "PATCH", _ENTRIES, {key: "0"})
        assert status == 204, document

    @contextmanager
    def without_redis(self, node: Node, *, silent: bool = False) -> Iterator[None]:
        """Cut a node from Redis meanwhile, or let nothing through, until it refuses all tokens."""
        since = time.monotonic()
        try:
            if silent:
                since += SILENCE
                node.to_redis.fall_silent()
            else:
                node.to_redis.sever()
            yield
            time.sleep(max(0.0, since + self._promised - time.monotonic()))
            self._wait_for_more([(node.port, "/tokened", 503)], 10)
            self._outages.append(Outage(node.port, since, time.monotonic()))
        finally:
            node.to_redis.mend()
        wait_until(lambda: node.daemon.management("/readyz")[0] == 200, "it is back", PATIENCE)

    def run_out(self) -> None:
        """Wait until nothing is left of credits and quota, and the one is shut out everywhere."""
        refusals = (("/paid", 402), ("/limited", 429), ("/tokened", 403))
        self._wait_for_more(
            [(node.port, *each) for node in self._nodes.both for each in refusals], 5
        )

    def _wait_for_more(self, wanted: Sequence[tuple[int, str, int]], more: int) -> None:
        counts = self._traffic.counts
        goals = {key: counts[key] + more for key in wanted}

        def are_there() -> bool:
            return all(counts[key] >= goal for key, goal in goals.items())

        try:
            wait_until(are_there, "they go on", PATIENCE)
        except AssertionError:
            lacking = {key: goal - counts[key] for key, goal in goals.items()}
            raise AssertionError(f"too few answers: {lacking} of {counts}") from None

    # --- what it came to ------------------------------------------------------------------

    def end(self) -> None:
        """No more requests."""
        self._traffic.end()

    def compare(self, fault: str) -> Result:
        """Compare what was answered with what is in the store."""
        traffic = self._traffic
        assert not traffic.surprises, traffic.surprises
        users = {caller.user for caller in traffic.callers}
        stored, spent = self._records(users)
        answered = {(answer.caller.user, answer.id) for answer in traffic.answers}
        assert len(answered) == len(traffic.answers)
        unanswered = [reason for key, reason in stored if key not in answered]
        kept = Counter(key for key, _ in stored)
        left, overspent = self._accounts(spent)
        beyond, lag = self._served_after_revocation()
        return Result(
            fault,
            answered=len(answered),
            stored=len(stored),
            missing=len(answered - kept.keys()),
            twice=len(stored) - len(kept),
            doubtful=unanswered.count("ok"),
            cut=len(unanswered) - unanswered.count("ok"),
            revoked=beyond,
            blind=self._served_blindly(),
            lag=round(lag * 1000),
            credits_left=left["/paid"],
            quota_left=left["/limited"],
            overspent=overspent,
            refused=traffic.refused,
            broken=traffic.broken,
        )

    def _records(
        self, users: Collection[str]
    ) -> tuple[list[tuple[tuple[str, str], str]], Counter[str]]:
        """The single records, user and id with the reason, and what each user's have spent."""
        names = ", ".join(f"'{user}'" for user in users)
        stored: list[tuple[tuple[str, str], str]] = []
        spent: Counter[str] = Counter()
        for user, request_id, reason, drawn in self._nodes.query(
            f"SELECT user_name, id, reason, spent FROM usage_record WHERE user_name IN ({names})"
        ):
            stored.append(((str(user), str(request_id)), str(reason)))
            spent[str(user)] += sum(amount for *_, amount in json.loads(str(drawn)))
        sums = self._nodes.query(
            "SELECT user_name, sum(requests)::bigint FROM usage "
            f"WHERE user_name IN ({names}) GROUP BY 1"
        )
        by_user = Counter(user for (user, _), _ in stored)
        assert {str(user): count for user, count in sums} == by_user, "the sums are others"
        return stored, spent

    def _accounts(self, spent: Counter[str]) -> tuple[dict[str, int], int]:
        """What is left, by service, and how much more was used than there was."""
        left: dict[str, int] = {}
        overspent = 0
        for path, user, there, price in (
            ("/paid", self._name("buyer"), CREDITS, PRICE),
            ("/limited", self._name("guest"), QUOTA, 1),
        ):
            ((drawn,),) = self._nodes.query(f"SELECT spent FROM account WHERE holder = '{user}'")
            assert drawn == spent[user], "the account is not the sum of the records"
            served = sum(answer.caller.user == user for answer in self._traffic.answers) * price
            assert isinstance(drawn, int)
            left[path] = there - drawn
            overspent += max(drawn - there, served - there, 0)
        return left, overspent

    def _served_after_revocation(self) -> tuple[int, float]:
        """How many answers ended too late to one who was shut out, and how late the last did."""
        since = {node.port: self._revoked_at for node in self._nodes.both}
        for outage in self._outages:
            since[outage.port] = max(since[outage.port], outage.since)
        late = [
            answer.ended - since[answer.caller.port]
            for answer in self._traffic.answers
            if answer.caller.user == self._name("mallory")
        ]
        return sum(each > self._promised for each in late), max(0.0, *late)

    def _served_blindly(self) -> int:
        """How many requests with tokens were served by a node that was cut off from Redis."""
        return sum(
            answer.caller.port == outage.port
            and answer.caller.path == "/tokened"
            and outage.since + self._promised < answer.sent
            and answer.ended < outage.until
            for outage in self._outages
            for answer in self._traffic.answers
        )


def _token(user: str) -> str:
    """What the auth tier gives for a user's credential: a JWT that names it, and no more."""
    parts = (json.dumps(each).encode() for each in ({"alg": "none"}, {"sub": user}))
    encoded = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return ".".join((*encoded, "unsigned"))
