"""Every metric of our own: its name, its labels, what it tells. ``docs/metrics.rst`` lists them.

A label's values come from the configuration or from a short list in the code, never from what
clients send. None is a user, a key, an address of a client, or a URL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from gatekeeper.stats import DURATIONS, RequestStats

Labels: TypeAlias = tuple[str, ...]

_BOUNDS: Final = [*map(floatToGoString, DURATIONS), "+Inf"]


class Family(NamedTuple):
    """A metric. ``name`` is the one in queries: of a counter, with its ``_total``."""

    name: str
    help: str
    labels: Labels = ()

    @property
    def is_counter(self) -> bool:
        """Whether it only goes up, until the process ends."""
        return self.name.endswith("_total")

    def of(self, values: Iterable[tuple[Labels, float]]) -> Metric:
        """The metric with these values by the labels' values; what has the same labels adds up.

        Two services or listeners may go by one name, and Prometheus takes no sample twice.
        """
        made = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        family = made(self.name, self.help, labels=self.labels)
        sums: dict[Labels, float] = {}
        for labels, value in values:
            sums[labels] = sums.get(labels, 0) + value
        for labels, value in sums.items():
            family.add_metric(labels, value)
        return family

    def one(self, value: float) -> Metric:
        """The metric that has no labels."""
        return self.of([((), value)])

    def durations(self, stats: Iterable[tuple[Labels, RequestStats]]) -> Metric:
        """The histogram of what routes have counted."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        sums: dict[Labels, tuple[list[int], float]] = {}
        for labels, each in stats:
            counts, seconds = sums.get(labels, ([0] * len(_BOUNDS), 0.0))
            counts = [a + b for a, b in zip(counts, each.durations, strict=True)]
            sums[labels] = counts, seconds + each.seconds
        for labels, (counts, seconds) in sums.items():
            total, buckets = 0, []
            for bound, count in zip(_BOUNDS, counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, seconds)
        return family


def all_families() -> list[Family]:
    """Every metric that is described here."""
    return [each for each in globals().values() if isinstance(each, Family)]


# --- Requests -----------------------------------------------------------------------------

_SERVICE: Final = ("service",)

REQUESTS: Final = Family(
    "gatekeeper_requests_total",
    "Requests that have ended, by the class of their status and the reason code.",
    ("service", "status", "reason"),
)
REQUEST_DURATION: Final = Family(
    "gatekeeper_request_duration_seconds",
    "From a request's head to its response's last byte, tunnels left out.",
    _SERVICE,
)
REQUEST_BYTES: Final = Family(
    "gatekeeper_request_bytes_total",
    "Body bytes from clients, and all bytes of their side of tunnels, counted at the end.",
    _SERVICE,
)
RESPONSE_BYTES: Final = Family(
    "gatekeeper_response_bytes_total",
    "Body bytes to clients, and all bytes of the other side of tunnels, counted at the end.",
    _SERVICE,
)
LIVE_EXCHANGES: Final = Family(
    "gatekeeper_live_exchanges", "Exchanges that run now, tunnels left out.", _SERVICE
)
LIVE_TUNNELS: Final = Family("gatekeeper_live_tunnels", "Tunnels that are open now.", _SERVICE)

# --- Clients' connections -----------------------------------------------------------------

_LISTENER: Final = ("listener",)

CONNECTIONS: Final = Family(
    "gatekeeper_client_connections", "Clients' connections that are open now.", _LISTENER
)
CONNECTIONS_ACCEPTED: Final = Family(
    "gatekeeper_client_connections_accepted_total", "Clients' connections so far.", _LISTENER
)
CONNECTIONS_REFUSED: Final = Family(
    "gatekeeper_client_connections_refused_total",
    "Clients' connections that were closed at once, for there were too many.",
    _LISTENER,
)

# --- Who may pass -------------------------------------------------------------------------

DECISIONS: Final = Family(
    "gatekeeper_auth_decisions_total",
    "What the checkers have decided, by the one that did; verdicts in the cache left out.",
    ("service", "checker", "verdict"),
)
CACHE_HITS: Final = Family(
    "gatekeeper_verdict_cache_hits_total",
    "Requests whose verdict was remembered.",
    ("service", "verdict"),
)
CACHE_MISSES: Final = Family(
    "gatekeeper_verdict_cache_misses_total",
    "Requests whose verdict might have been remembered, and was not.",
    _SERVICE,
)
CACHE_ENTRIES: Final = Family(
    "gatekeeper_verdict_cache_entries", "Verdicts that are remembered now.", ("verdict",)
)
TOKEN_CACHE_ENTRIES: Final = Family(
    "gatekeeper_token_cache_entries",
    "Tokens and revocations of a zone that this process holds now.",
    ("zone", "kind"),
)
TOKEN_CACHE_CAUGHT_UP: Final = Family(
    "gatekeeper_token_cache_caught_up",
    "1 while all is known here that other nodes have changed in a zone, 0 while cut off.",
    ("zone",),
)
TOKEN_CACHE_OUTAGES: Final = Family(
    "gatekeeper_token_cache_outages_total",
    "How often this process was cut off from those that share a zone.",
    ("zone",),
)

STATE_VERSION: Final = Family(
    "gatekeeper_state_version",
    "The version of services, users, keys and revocations that holds here; 0: none was read yet.",
)
STATE_LISTENING: Final = Family(
    "gatekeeper_state_listening",
    "1: the store tells what others change; 0: it is looked for. Absent where none can tell.",
)

# --- Upstreams ----------------------------------------------------------------------------

UPSTREAM_CONNECTIONS: Final = Family(
    "gatekeeper_upstream_connections",
    "Pooled connections to upstreams now, by what they do.",
    ("service", "state"),
)
UPSTREAM_QUEUED: Final = Family(
    "gatekeeper_upstream_queued_requests",
    "Requests that wait for a connection to their upstream now.",
    _SERVICE,
)
DIALS: Final = Family(
    "gatekeeper_upstream_dials_total", "Attempts to connect to an upstream.", _SERVICE
)
DIAL_FAILURES: Final = Family(
    "gatekeeper_upstream_dial_failures_total",
    "Attempts to connect to an upstream that failed.",
    ("service", "reason"),
)

_UPSTREAM: Final = ("service", "upstream")

UPSTREAM_HEALTHY: Final = Family(
    "gatekeeper_upstream_healthy",
    "1: the upstream gets requests; 0: it is ejected, or down by its health checks.",
    _UPSTREAM,
)
UPSTREAM_OUTSTANDING: Final = Family(
    "gatekeeper_upstream_outstanding_requests",
    "Requests under way at the upstream, or waiting to be, and open tunnels.",
    _UPSTREAM,
)
UPSTREAM_EJECTIONS: Final = Family(
    "gatekeeper_upstream_ejections_total",
    "How often the upstream was left alone, for it did not answer.",
    _UPSTREAM,
)

# --- Usage on its way into the store ------------------------------------------------------

JOURNAL_RECORDS: Final = Family(
    "gatekeeper_journal_records", "Usage records that wait for the store."
)
JOURNAL_BYTES: Final = Family(
    "gatekeeper_journal_bytes", "What the waiting usage records take on the disk."
)
JOURNAL_LIMIT: Final = Family(
    "gatekeeper_journal_limit_bytes", "What they may take (usage.journal_size)."
)
JOURNAL_AGE: Final = Family(
    "gatekeeper_journal_age_seconds",
    "How long the oldest usage record has waited for the store; 0: none does.",
)
JOURNAL_FAILING: Final = Family(
    "gatekeeper_journal_failing", "1: nothing can be written down now; 0: it can."
)
JOURNAL_FULL: Final = Family(
    "gatekeeper_journal_full",
    "1: new requests are not admitted, or not counted, for the journal fails or is full; 0: no.",
)
JOURNAL_APPENDED: Final = Family(
    "gatekeeper_journal_appended_records_total", "Usage records that were written down."
)
JOURNAL_REFUSED: Final = Family(
    "gatekeeper_journal_refused_records_total",
    "Usage records that could not be written down; their responses were withheld.",
)
FLUSH_LAG: Final = Family(
    "gatekeeper_flush_lag_seconds", "For how long the store has not had everything."
)
FLUSH_FAILING: Final = Family(
    "gatekeeper_flush_failing", "1: the store did not take the last batch; 0: it did."
)
FLUSH_BATCHES: Final = Family(
    "gatekeeper_flush_batches_total", "Batches that the store has confirmed."
)
FLUSH_FAILURES: Final = Family(
    "gatekeeper_flush_failures_total",
    "Store errors: attempts to write a batch that failed, and are repeated.",
)
FLUSH_SET_ASIDE: Final = Family(
    "gatekeeper_flush_set_aside_total",
    "Batches that were set aside: damaged, or such that the store will never take them.",
)

# --- Burning credits ----------------------------------------------------------------------

_STATE: Final = ("state",)

BURNER_OWNER: Final = Family(
    "gatekeeper_burner_owner", "1: this process burns from the account; 0: another one may."
)
BURNER_CREDITS: Final = Family(
    "gatekeeper_burner_owed_credits", "Credits on the chain that are owed, by state.", _STATE
)
BURNER_CHARGES: Final = Family(
    "gatekeeper_burner_owed_charges", "Charges that are not burned, by state.", _STATE
)
BURNER_AGE: Final = Family(
    "gatekeeper_burner_oldest_charge_seconds",
    "How old the oldest charge of a state is.",
    _STATE,
)
BURNER_UNDER_WAY: Final = Family(
    "gatekeeper_burner_settlements_under_way", "Settlements that have not ended."
)
BURNER_ENDED: Final = Family(
    "gatekeeper_burner_settlements_total",
    "Settlements that have ended, by how they did.",
    ("outcome",),
)
BURNER_BURNED: Final = Family(
    "gatekeeper_burner_burned_credits_total", "Credits that were burned, and that is final."
)
BURNER_FAILURES: Final = Family(
    "gatekeeper_burner_failures_total", "What went wrong, by its kind.", ("kind",)
)
BURNER_TROUBLES: Final = Family(
    "gatekeeper_burner_trouble", "1: this keeps credits from being burned now.", ("kind",)
)
BURNER_GAS: Final = Family(
    "gatekeeper_burner_gas_spent_wei_total", "What final transactions have cost."
)
BURNER_FUNDS: Final = Family(
    "gatekeeper_burner_account_balance_wei", "What the account has to pay for gas with."
)
BURNER_PASSED: Final = Family(
    "gatekeeper_burner_last_pass_age_seconds", "How long ago everything was last gone through."
)

# --- Workers ------------------------------------------------------------------------------

_WORKER: Final = ("worker",)

WORKER_UP: Final = Family(
    "gatekeeper_worker_up", "1: the worker serves requests; 0: it does not.", _WORKER
)
WORKER_DEATHS: Final = Family(
    "gatekeeper_worker_deaths_total", "How often the worker has ended unasked.", _WORKER
)

# --- The process --------------------------------------------------------------------------

BUILD: Final = Family(
    "gatekeeper_build_info", "Always 1; the label tells the version.", ("version",)
)
LATENESS: Final = Family(
    "gatekeeper_loop_lateness_seconds",
    "The latest that the event loop has been in the last one or two minutes.",
)
