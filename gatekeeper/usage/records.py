"""What one exchange used, and what a batch of them adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

#: A counter's key: service, user, path, model, and the hour: seconds since the epoch, UTC, floored.
CounterKey = tuple[str, str, str, str, int]

#: Stands for every further path once a user has asked for ``usage.max_paths`` distinct ones.
OTHER_PATHS = "*"

#: Stands for every further model once an upstream has named too many of them for one user.
OTHER_MODELS = "*"

#: Sources of accounts that the store keeps; every other one is a contract's address.
PREPAID = "prepaid"
QUOTA = "quota"


class Account(NamedTuple):
    """What a request draws on.

    Credits on a chain: ``source`` is the NFT contract's address in lower case, ``name`` the token
    id in decimal digits, ``holder`` an address in lower case. Credits that an operator has granted:
    :data:`PREPAID`, the pool, the user. A quota: :data:`QUOTA`, which one and in which period (such
    as ``acme/user/day/2024-05-01``), and whose.
    """

    source: str
    name: str
    holder: str

    @property
    def is_on_chain(self) -> bool:
        """Whether what is spent is to be burned."""
        return self.source not in (PREPAID, QUOTA)


class Spent(NamedTuple):
    """What one exchange took from one :class:`Account`; the ``amount`` is not negative."""

    source: str
    name: str
    holder: str
    amount: int


class UsageRecord(NamedTuple):
    """One authorized exchange, from its first byte in to its last byte out.

    ``start`` is in seconds since the epoch (wall clock), ``duration`` in seconds (monotonic).
    ``path`` is the canonical path without the query. ``bytes_in`` and ``bytes_out`` count body
    bytes from and to the client; for a tunnel, all bytes. ``units`` is what the service's meter
    says was used, ``reason`` is ``ok`` or why the exchange was cut. ``model`` is what the upstream
    says that it used, where the meter looks for that. ``did`` and ``owner`` are of the service's
    document, where an access token names them. ``spent`` is what was drawn from which accounts.
    """

    id: str
    start: float
    duration: float
    service: str
    user: str
    key_id: str
    method: str
    path: str
    status: int
    upstream_status: int
    bytes_in: int
    bytes_out: int
    units: int
    reason: str
    model: str = ""
    did: str = ""
    owner: str = ""
    spent: tuple[Spent, ...] = ()


class Counted(NamedTuple):
    """The sum of the records that share a :data:`CounterKey`.

    ``status_2xx`` and the like say how many of the ``requests`` got such a status. They come to
    less than ``requests`` where an exchange was cut before there was one.
    """

    requests: int
    bytes_in: int
    bytes_out: int
    units: int
    duration: float
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0


class Batch(NamedTuple):
    """Usage on its way into the store.

    The triple (``node``, ``worker``, ``sequence``) names the batch for good: a store that has it
    already changes nothing when it comes again. ``records`` are those that the counters are the
    sum of, where each one is to be kept. ``spent`` adds up what they drew from each account.
    """

    node: str
    worker: int
    sequence: int
    counters: dict[CounterKey, Counted]
    records: tuple[UsageRecord, ...] = ()
    spent: Mapping[Account, int] = MappingProxyType({})
