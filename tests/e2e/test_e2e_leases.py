"""Budgets that run out, with two nodes, their workers, and 200 clients at once.

Whatever they do, and whoever is killed, never more is let through than there is; and in the end
all of it is used.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.daemon import Daemon, free_port, wait_until
from tests.e2e.shoppers import Shopper, Shoppers
from tests.e2e.test_e2e_reload import ALICE, ask, request
from tests.hostile.raw import Client
from tests.origin import Conversation, Origin
from tests.process.crew import CREW, call, is_there, kill, one_at_each, workers
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")

CLIENTS: Final = 200
PRICE: Final = 7
GRANTED: Final = 6_000
QUOTA: Final = 700

#: Nobody is sent away so many times in a row while there is something that others give back.
REFUSALS: Final = 8

#: Of what there is, so much is used in the end at the least.
NEARLY: Final = 0.95


class Budget(NamedTuple):
    """How much is ``there``, what a request takes of it, and its status when nothing is left.

    ``where`` is the account in the store.
    """

    path: str
    there: int
    price: int
    refusal: int
    where: str


def paid(name: str) -> tuple[str, Budget]:
    """A service that is paid for with prepaid credits, of a pool of its own."""
    sells = f'credits = {{ source = "prepaid", pool = "{name}", amount = {PRICE} }}'
    return sells, Budget(f"/{name}", GRANTED, PRICE, 402, f"source = 'prepaid' AND name = '{name}'")


def limited(name: str) -> tuple[str, Budget]:
    """A service with a quota."""
    sells = f'quotas = [{{ units = {QUOTA}, per = "month" }}]'
    return sells, Budget(f"/{name}", QUOTA, 1, 429, f"source = 'quota' AND name LIKE '{name}/%'")


CALM: Final = (paid("paid"), limited("limited"))
STORM: Final = (paid("still-paid"), limited("still-limited"))
ONE: Final = paid("one")


def selling(store: str) -> str:
    """The configuration of both nodes."""
    text = CREW.partition("[[services]]")[0] + "\n[credits]\nbalance_ttl = 1.0\n"
    for sells, budget in (*CALM, *STORM, ONE):
        text += (
            f'\n[[services]]\nname = "{budget.path[1:]}"\nfrom = "{budget.path}"\n'
            f'to = "http://@origin@"\ncheckers = ["users"]\n{sells}\n'
        )
    return f'store = {{ url = "{store}" }}\n{text}'


class World:
    """Two nodes with two workers each, which share a store."""

    def __init__(self, directory: Path, postgres: PostgresServer) -> None:
        self._postgres = postgres
        url = postgres.create_database()
        self._database = url.rpartition("/")[2]
        self.origin = free_port()
        self.nodes = [
            Daemon(directory / name, selling(url), ports={"origin": self.origin})
            for name in ("here", "there")
        ]

    def start(self) -> None:
        """Start both at once."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Daemon.start, self.nodes))

    def grant(self, budget: Budget, credits: int) -> None:
        """Let alice have credits."""
        grant = {"user": "alice", "pool": budget.path[1:], "credits": credits}
        status, answer = call(self.nodes[0], "POST", "/v1/credits/grants", grant)
        assert status == 200, answer

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the store."""
        return self._postgres.execute(sql, self._database)

    def stored(self, budget: Budget) -> int:
        """What the store says was spent."""
        ((spent,),) = self.query(
            f"SELECT coalesce(sum(spent), 0) FROM account WHERE {budget.where}"
        )
        return int(str(spent))

    def leased(self) -> list[tuple[object, ...]]:
        """The leases that there are."""
        return self.query("SELECT owner, name, credits FROM lease")


class Sale:
    """Some budgets, and 200 clients: as many at each node for each."""

    def __init__(self, world: World, budgets: tuple[tuple[str, Budget], ...]) -> None:
        self._world = world
        self.budgets = [budget for _, budget in budgets]
        ports = [node.port("gateway") for node in world.nodes]
        self.crowd = Shoppers(
            [
                Shopper(ports[n % 2], self.budgets[n // 2 % len(self.budgets)].path, ALICE)
                for n in range(CLIENTS)
            ]
        )
        for budget in self.budgets:
            if budget.refusal == 402:
                world.grant(budget, budget.there)

    def answers(self, budget: Budget) -> Counter[int]:
        """What clients were told."""
        counted = (each.answers for each in self.crowd.clients if each.path == budget.path)
        return sum(counted, Counter())

    def broken(self, budget: Budget) -> int:
        """Requests that may have been charged, and whose answers nobody has."""
        return sum(each.broken for each in self.crowd.clients if each.path == budget.path)

    def is_over(self) -> bool:
        """Nearly all is used, and everybody was sent away again and again."""
        return all(each.refused >= REFUSALS for each in self.crowd.clients) and all(
            self._world.stored(budget) >= NEARLY * budget.there for budget in self.budgets
        )

    def run(self, title: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Let them ask until nothing is left, and print what has become of all requests."""
        try:
            self.crowd.run(self._world.origin, until=self.is_over, meanwhile=meanwhile)
        except BaseException:
            for node in self._world.nodes:
                print(node.log, node.stderr)
            raise
        finally:
            print(f"\n{title}")
            self._print()

    def _print(self) -> None:
        head = ("path", "there", "price", "200", "used", "stored", "refused", "503", "broken")
        print(" ".join(f"{each:>14}" for each in head))
        for budget in self.budgets:
            path, there, price, refusal, _ = budget
            answers = self.answers(budget)
            row = (
                *(path, there, price, answers[200], answers[200] * price),
                *(self._world.stored(budget), answers[refusal], answers[503], self.broken(budget)),
            )
            print(" ".join(f"{each:>14}" for each in row))

    def check(self) -> None:
        """Nothing is overspent, and nearly all is used. Whatever was used is in the store."""
        for budget in self.budgets:
            answers = self.answers(budget)
            assert set(answers) <= {200, budget.refusal, 503}, answers
            used = answers[200] * budget.price
            assert used <= budget.there, "more was let through than there is"
            wait_until(lambda: self._world.stored(budget) >= used, "it is in the store")  # noqa: B023
            stored = self._world.stored(budget)
            assert stored <= used + self.broken(budget) * budget.price, "something counts twice"
            assert NEARLY * budget.there <= stored <= budget.there


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[World]:
    """Both run."""
    world = World(tmp_path_factory.mktemp("leases"), postgres)
    with ExitStack() as running:
        for node in world.nodes:
            running.push(node)
        world.start()
        yield world


def test_a_budget_that_runs_out(world: World) -> None:
    sale = Sale(world, CALM)
    sale.run("Two nodes with two workers each, and 200 clients")
    sale.check()
    assert len(world.query("SELECT DISTINCT node FROM batch")) == 4, "each worker was asked"


def stall(conversation: Conversation) -> None:
    """Say nothing before the other side hangs up."""
    conversation.read(1)


def test_what_a_killed_worker_had_leased_is_soon_free(world: World) -> None:
    """What it has let through counts; what it has set aside for others is there again."""
    _, one = ONE
    path = f"{one.path}/x"
    here, there = world.nodes
    world.grant(one, 2 * PRICE)
    with Origin(port=world.origin) as origin, Client(there.address("gateway")) as other:
        origin.on["/stalls"] = stall
        first, second = one_at_each(here)
        with first, second:
            assert ask(first, path, ALICE).status == 200
            first.send(request(f"{one.path}/stalls", ALICE))
            wait_until(lambda: "/stalls" in origin.paths, "a request is under way")
            for client in second, other:
                assert ask(client, path, ALICE).status == 402
            kill(here, 1)
            wait_until(lambda: ask(other, path, ALICE).status == 200, "it is free")
            assert ask(second, path, ALICE).status == 402
    wait_until(lambda: world.stored(one) == 2 * PRICE, "it is in the store")


def strike(node: Daemon) -> None:
    """Kill a node's supervisor and one of its workers; the other one ends by itself."""
    os.kill(node.pid, signal.SIGSTOP)  # it starts no more of them
    pids = [*map(int, Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split())]
    for pid in pids[0], node.pid:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not node.is_running, "the supervisor's end")
    wait_until(lambda: not any(map(is_there, pids)), "the workers' end")
    node.check_log()


def test_nodes_are_killed_and_come_back(world: World) -> None:
    """What they had let through counts, and what they had leased is there again."""
    here, there = world.nodes
    sale = Sale(world, STORM)

    def meanwhile() -> None:
        wait_until(lambda: sale.crowd.served >= 200, "requests get through")
        os.kill(workers(here)[2], signal.SIGKILL)
        wait_until(lambda: sale.crowd.served >= 400, "more requests get through")
        strike(there)
        there.start()

    sale.run("The same; a worker of one node is killed, and then the other node", meanwhile)
    for node in world.nodes:
        node.stop()
    assert world.leased() == []
    sale.check()
