"""What the tests of the ledger share: who owes what, and steps of a settlement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count

from gatekeeper.credits.grouping import Charge, Group, group
from gatekeeper.credits.ledger import Mark, Receipt, SettlementEvent
from gatekeeper.store.interface import IStore
from gatekeeper.store.ledger import ISettling, StoredSettlement, StoredTransaction
from gatekeeper.store.state import AuditEntry
from gatekeeper.usage.records import PREPAID, QUOTA, Account, Batch

BURNER = "0x" + "b0" * 20
CONTRACT = "0x" + "c0" * 20
ALICE, BOB, CAROL = (f"0x{number:040x}" for number in range(0xA11CE, 0xA11CE + 3))
ENTRY = AuditEntry(1.5, "token", "127.0.0.1", "credits", "somebody", '{"why": "asked"}')
NOW = 1_700_000_000.25

PREPAID_ALICE = Account(PREPAID, "main", "alice")
QUOTA_ALICE = Account(QUOTA, "acme/user/day/2024-05-01", "alice")

_numbers: Iterator[int] = count(1000)  # beyond those that tests choose themselves


def owes(holder: str, token: int = 7, contract: str = CONTRACT) -> Account:
    return Account(contract, str(token), holder)


def batch_of(spent: Mapping[Account, int], sequence: int | None = None, node: str = "a") -> Batch:
    return Batch(node, 0, next(_numbers) if sequence is None else sequence, {}, (), spent)


async def meter(store: IStore, **credits: int) -> None:
    """Usage of ``alice``, ``bob``, ``carol`` comes in."""
    names = {"alice": ALICE, "bob": BOB, "carol": CAROL}
    await store.write_batch(batch_of({owes(names[who]): n for who, n in credits.items()}))


async def own(store: IStore, account: str = BURNER) -> ISettling:
    settling = await store.own_burning(account)
    assert settling is not None
    return settling


async def only_group(settling: ISettling) -> Group:
    (found,) = group(await settling.pending(100), 100)
    return found


async def claim(settling: ISettling) -> StoredSettlement:
    """Claim all that is pending, of one contract."""
    number = await settling.claim(await only_group(settling), NOW)
    return await look(settling, number)


async def look(settling: ISettling, number: int | None) -> StoredSettlement:
    (found,) = [each for each in await settling.under_way() if each.id == number]
    return found


def transaction(nonce: int, salt: object = "", fee: int = 10**20) -> StoredTransaction:
    """One that is dearer than 64 bits."""
    name = "0x" + sha256(f"{nonce} {salt}".encode()).hexdigest()
    return StoredTransaction(name, b"\x02\0\xff" + name.encode(), nonce, 90_000, fee, fee // 3, NOW)


async def sign(
    settling: ISettling,
    settlement: StoredSettlement,
    nonce: int,
    burns: Sequence[int] | None = None,
) -> str:
    """Sign with what is burned of each entry, and send; the name of the transaction."""
    entries = settlement.entries
    if burns is not None:
        entries = tuple(e._replace(burn=n) for e, n in zip(entries, burns, strict=True))
    signed = transaction(nonce, settlement.id)
    mark = Mark(SettlementEvent.SIGN, signed.hash)
    await settling.sign(settlement.id, mark, entries, signed, NOW)
    await settling.sent(settlement.id, signed.hash, NOW + 1)
    return signed.hash


async def mine(settling: ISettling, number: int, name: str, succeeded: bool = True) -> None:
    receipt = Receipt(100, succeeded, 91_000, 10**19)
    await settling.mark(number, Mark(SettlementEvent.MINE, name), NOW + 2, receipt=receipt)


async def unburned(store: IStore, *holders: str) -> list[int]:
    kept = await store.read_accounts([owes(holder) for holder in holders])
    assert {each.granted for each in kept} == {0}
    return [each.spent for each in kept]


def ids(charges: Sequence[Charge]) -> tuple[int, ...]:
    return tuple(charge.id for charge in charges)
