from __future__ import annotations

import pytest

from gatekeeper.stats import (
    DURATIONS,
    MOST_REASONS,
    OTHER_REASON,
    ChainStats,
    Lateness,
    RequestStats,
)


class TestRequests:
    def test_by_status_and_reason(self) -> None:
        stats = RequestStats()
        for status, reason in (
            (200, "ok"),
            (204, "ok"),
            (404, "ok"),
            (401, "wrong_password"),
            (0, "client_gone"),
            (200, "client_gone"),
            (999, "ok"),
        ):
            stats.finished(status, 0.1, reason, 0, 0)
        assert +stats.requests == {
            (2, "ok"): 2,
            (4, "ok"): 1,
            (9, "ok"): 1,
            (4, "wrong_password"): 1,
            (0, "client_gone"): 1,
            (2, "client_gone"): 1,
        }

    def test_durations(self) -> None:
        stats = RequestStats()
        for duration in (0.0, 0.001, 0.0011, 0.25, 179.0, 180.0, 181.0):
            stats.finished(200, duration, "ok", 0, 0)
        counted = dict(zip((*DURATIONS, None), stats.durations, strict=True))
        assert {bound: count for bound, count in counted.items() if count} == {
            0.001: 2,
            0.0025: 1,
            0.25: 1,
            180.0: 2,
            None: 1,
        }
        assert stats.seconds == pytest.approx(540.2521)

    def test_bytes(self) -> None:
        stats = RequestStats()
        stats.finished(200, 0.1, "ok", 3, 50)
        stats.finished(502, 0.1, "upstream_lost", 4, 60)
        assert (stats.bytes_in, stats.bytes_out) == (7, 110)

    def test_a_tunnel_has_no_duration(self) -> None:
        stats = RequestStats()
        stats.tunnel_finished(200, "ok", 3, 50)
        stats.tunnel_finished(101, "tunnel_idle", 4, 60)
        assert +stats.requests == {(2, "ok"): 1, (1, "tunnel_idle"): 1}
        assert (stats.bytes_in, stats.bytes_out) == (7, 110)
        assert sum(stats.durations) == stats.seconds == 0

    def test_tunnels_add_to_what_is_there(self) -> None:
        stats = RequestStats()
        stats.finished(200, 0.1, "ok", 0, 0)
        stats.tunnel_finished(200, "ok", 0, 0)
        assert stats.requests[2, "ok"] == 2

    def test_what_never_became_a_request(self) -> None:
        stats = RequestStats()
        stats.count(400, "bad_request")
        assert +stats.requests == {(4, "bad_request"): 1}
        assert sum(stats.durations) == 0

    def test_reasons_are_bounded(self) -> None:
        """A plug-in may put anything into them."""
        stats = RequestStats()
        for number in range(3 * MOST_REASONS):
            stats.finished(401, 0.1, f"made up: {number}", 0, 0)
        stats.finished(401, 0.1, "made up: 7", 0, 0)
        assert len(stats.others) == MOST_REASONS + 1
        assert stats.others[4, OTHER_REASON] == 2 * MOST_REASONS
        assert stats.others[4, "made up: 7"] == 2


class TestChain:
    def test_all_that_can_be_is_there_from_the_start(self) -> None:
        stats = ChainStats(["users", "keys"])
        assert len(stats.decisions) == 2 * 4 + 1
        assert set(stats.decisions.values()) == {0}

    def test_one_checker_twice(self) -> None:
        stats = ChainStats(["secret://", "secret://"])
        stats.decided(0, "granted")
        stats.decided(1, "granted")
        assert stats.decisions["secret://", "granted"] == 2


class TestLateness:
    def test_on_time(self) -> None:
        lateness = Lateness(0.25)
        assert lateness.worst == 0.0
        for beat in range(10):
            lateness.beat(1000 + beat * 0.25)
        assert lateness.worst == 0.0

    def test_too_early_is_not_late(self) -> None:
        lateness = Lateness(0.25)
        for now in (1000.0, 1000.1, 1000.2):
            lateness.beat(now)
        assert lateness.worst == 0.0

    def test_the_worst_counts(self) -> None:
        lateness = Lateness(0.25)
        for now in (1000.0, 1000.5, 1002.75, 1003.0):
            lateness.beat(now)
        assert lateness.worst == 2.0
        assert lateness.worst == 2.0  # whoever asks

    def test_it_is_forgotten_in_the_end(self) -> None:
        lateness = Lateness(1.0)
        lateness.beat(0.0)
        lateness.beat(4.0)
        worst = []
        for now in range(5, 200):
            lateness.beat(float(now))
            worst.append((now, lateness.worst))
        last = max(now for now, late in worst if late)
        assert Lateness.SPAN + 4 <= last <= 2 * Lateness.SPAN + 4
        assert worst[-1][1] == 0.0
