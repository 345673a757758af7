"""What the burner has done, and what keeps it from doing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from twisted.internet.interfaces import IReactorTime

from gatekeeper.credits.burn_report import LASTING, Ending, Trouble
from gatekeeper.metrics import families

if TYPE_CHECKING:
    from gatekeeper.credits.burn_report import Report


class BurnerCollector:
    """A burner's report. Sums of what is owed are only shown by who burns, and so once.

    ``clock`` is the burner's, ``now`` gives seconds since the epoch.
    """

    def __init__(
        self, report: Report, clock: IReactorTime, now: Callable[[], float] = time.time
    ) -> None:
        self._report = report
        self._clock = clock
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        report = self._report
        yield families.BURNER_OWNER.one(report.owner)
        yield from self._queue()
        yield families.BURNER_ENDED.of(((how.value,), report.endings[how]) for how in Ending)
        yield families.BURNER_BURNED.one(report.burned)
        yield families.BURNER_FAILURES.of(
            ((kind.value,), report.failures[kind]) for kind in Trouble
        )
        yield families.BURNER_TROUBLES.of(
            ((kind.value,), kind in report.troubles) for kind in Trouble if kind in LASTING
        )
        yield families.BURNER_GAS.one(report.gas_spent)
        if report.funds is not None:
            yield families.BURNER_FUNDS.one(report.funds)
        if report.finished_at is not None:
            yield families.BURNER_PASSED.one(self._clock.seconds() - report.finished_at)

    def _queue(self) -> Iterator[Metric]:
        report = self._report
        if not report.owner:
            return
        owed = report.owed
        now = self._now()
        yield families.BURNER_CREDITS.of(((each.state.value,), each.credits) for each in owed)
        yield families.BURNER_CHARGES.of(((each.state.value,), each.charges) for each in owed)
        yield families.BURNER_AGE.of(
            ((each.state.value,), max(now - each.since, 0.0))
            for each in owed
            if each.since is not None
        )
        yield families.BURNER_UNDER_WAY.one(report.under_way)
