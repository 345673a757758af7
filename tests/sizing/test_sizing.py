"""What docs/sizing.rst says of how often the store is asked is so.

How long that takes is for ``python -m tests.sizing``, not for a test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest

from gatekeeper.config.model import Usage
from gatekeeper.config.model_credits import Credits
from gatekeeper.usage.journal import SEGMENT_RECORDS
from tests.documents import TEXTS
from tests.servers import PostgresServer, running_postgres
from tests.sizing.flushing import Kind, batches, statements
from tests.sizing.leasing import spread, transactions
from tests.sizing.spies import PostgresSpy
from tests.store.support import in_reactor

PAGE = TEXTS["docs/sizing.rst"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()


def rows(caption: str) -> list[list[str]]:
    """The cells of the table that is called so, without its header."""
    _, _, rest = PAGE.partition(f".. list-table:: {caption}\n")
    body = re.match(r"(?:   .*\n|\n)+", rest)
    assert body is not None, caption
    return [
        re.findall(r"^   (?:\*|  |) ?- ?(.*)$", row, re.MULTILINE)
        for row in re.split(r"(?m)^(?=   \* )", body[0])[2:]
    ]


def numbers(text: str) -> list[float]:
    """Those in a cell."""
    return [float(each) for each in re.findall(r"[\d.]+", text.replace(" ", ""))]


@in_reactor
async def test_a_batch_is_one_statement_and_a_lease_five(postgres: PostgresServer) -> None:
    batch, lease = await statements(postgres, PostgresSpy(postgres))
    assert [text.split()[0] for text in batch] == ["WITH"]
    assert sorted(text.split()[0] for text in lease) == [
        "BEGIN",
        "COMMIT",
        "SELECT",
        "WITH",
        "WITH",
    ]


@in_reactor
async def test_tables_grow_by_single_records(postgres: PostgresServer) -> None:
    """Bytes are the same wherever they are measured, or nearly."""
    _, grown = await batches(postgres, PostgresSpy(postgres), Kind(50, records=True), times=5)
    assert 240 < grown / SEGMENT_RECORDS < 340


def test_how_many_batches_there_are() -> None:
    assert Usage().flush_interval == 5.0
    assert f"{SEGMENT_RECORDS} · P" in PAGE
    found = rows("Batches (computed)")
    assert len(found) == 4
    for processes, *rates, size in found:
        ((count,), (in_each,)) = numbers(processes), numbers(size)
        for span, cell in zip((5, 30), rates, strict=True):
            rate = count * math.ceil(10_000 * span / (SEGMENT_RECORDS * count)) / span
            assert numbers(cell) == [round(rate, 1)]
            if span == 5:
                assert in_each == math.floor(10_000 / rate)


def test_how_often_a_busy_user_is_asked_for() -> None:
    assert Credits().balance_ttl == 30.0
    found = rows("Transactions for one user, of each process that the user comes to (computed)")
    assert len(found) == 6
    for rate, first, later, longer in found:
        (often,) = numbers(rate)
        told = [numbers(first), numbers(later), numbers(longer)]
        begun, then = transactions(often)
        assert told == [[begun], [round(then, 1)], [round(transactions(often, 300.0)[1], 1)]]


def test_what_small_accounts_are_enough_for() -> None:
    found = rows("One request of a user to each process (computed)")
    assert len(found) == 7
    for who, at_once, later in found:
        credits, processes = map(int, numbers(who.replace(",", " x")))
        assert [numbers(at_once), numbers(later)] == [[each] for each in spread(credits, processes)]
