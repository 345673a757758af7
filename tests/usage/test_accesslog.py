from __future__ import annotations

import json
import select
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from gatekeeper.usage.accesslog import AccessEntry, AccessLog, open_access_log
from gatekeeper.usage.logfile import whole_lines

ENTRY = AccessEntry(
    time=1714557600.0625,
    id="0123456789abcdef",
    listener="public",
    client="203.0.113.9",
    service="acme",
    user="alice",
    key_id="k1",
    method="GET",
    host="service.acme.com",
    path="/acme/v0",
    status=200,
    upstream_status=201,
    bytes_in=3,
    bytes_out=1234,
    duration=0.001234,
    reason="ok",
)


class Memory:
    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.error: OSError | None = None
        self.closed = False

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.blocks.append(data)

    def close(self) -> None:
        self.closed = True


class Setup:
    def __init__(self) -> None:
        self.sink = Memory()
        self.turn: list[Callable[[], None]] = []
        self.now = 0.0
        self.log = AccessLog(self.sink, self.turn.append, lambda: self.now)

    def end_turn(self) -> None:
        (flush,) = self.turn
        self.turn.clear()
        flush()


@pytest.fixture
def setup() -> Setup:
    return Setup()


def lines_of(*entries: AccessEntry) -> list[bytes]:
    setup = Setup()
    for entry in entries:
        setup.log.write(entry)
    setup.end_turn()
    (block,) = setup.sink.blocks
    return block.splitlines(keepends=True)


def test_line() -> None:
    assert lines_of(ENTRY) == [
        b'{"time":"2024-05-01T10:00:00.062Z","id":"0123456789abcdef","listener":"public",'
        b'"client":"203.0.113.9","service":"acme","user":"alice","key_id":"k1","method":"GET",'
        b'"host":"service.acme.com","path":"/acme/v0","status":200,"upstream_status":201,'
        b'"bytes_in":3,"bytes_out":1234,"duration":0.001234,"reason":"ok"}\n'
    ]


def test_line_has_the_fields_of_the_entry_in_their_order() -> None:
    assert tuple(json.loads(lines_of(ENTRY)[0])) == AccessEntry._fields


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1714557599.9999, "2024-05-01T09:59:59.999Z"),
        (1714557600.0, "2024-05-01T10:00:00.000Z"),
    ],
)
def test_time(time: float, written: str) -> None:
    assert json.loads(lines_of(ENTRY._replace(time=time))[0])["time"] == written


def test_each_line_has_the_time_of_its_entry() -> None:
    times = [ENTRY.time, ENTRY.time + 1, ENTRY.time]
    lines = lines_of(*(ENTRY._replace(time=time) for time in times))
    assert [json.loads(line)["time"][17:19] for line in lines] == ["00", "01", "00"]


@given(st.lists(st.text(), min_size=9, max_size=9))
def test_any_text_is_one_line_of_printable_ascii(texts: list[str]) -> None:
    names = ["listener", "client", "service", "user", "key_id", "method", "host", "path", "reason"]
    (line,) = lines_of(ENTRY._replace(**dict(zip(names, texts, strict=True))))  # type: ignore[arg-type]
    found = json.loads(line)
    assert [found[name] for name in names] == texts
    assert line.endswith(b"}\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])


def test_one_write_per_turn(setup: Setup) -> None:
    for count in (3, 1):
        for _ in range(count):
            setup.log.write(ENTRY)
        setup.end_turn()
    assert [block.count(b"\n") for block in setup.sink.blocks] == [3, 1]


def test_closing_writes_the_rest(setup: Setup) -> None:
    setup.log.write(ENTRY)
    setup.log.close()
    assert len(setup.sink.blocks) == 1
    assert setup.sink.closed
    setup.end_turn()
    assert len(setup.sink.blocks) == 1


def test_failing_sink_costs_lines_and_nothing_else(setup: Setup) -> None:
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        setup.sink.error = OSError(28, "No space left on device")
        for now, lines in ((0.0, 2), (30.0, 3), (59.0, 1), (61.0, 1)):
            setup.now = now
            for _ in range(lines):
                setup.log.write(ENTRY)
            setup.end_turn()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert setup.log.dropped == 7
    complaints = [event for event in events if event.get("log_namespace", "").endswith("accesslog")]
    assert [event["lines"] for event in complaints] == [2, 5], "once a minute, none untold"
    setup.sink.error = None
    setup.log.write(ENTRY)
    setup.end_turn()
    assert len(setup.sink.blocks) == 1


def test_opening(tmp_path: Path) -> None:
    assert open_access_log("none", lambda f: f(), lambda: 0.0) is None
    log = open_access_log(str(tmp_path / "a.log"), lambda f: None, lambda: 0.0)
    assert log is not None
    log.write(ENTRY)
    log.close()
    assert json.loads((tmp_path / "a.log").read_text())["user"] == "alice"


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = open_access_log("-", lambda f: None, lambda: 0.0)
    assert log is not None
    log.write(ENTRY)
    log.close()
    assert json.loads(capfd.readouterr().out)["user"] == "alice"


def test_a_shared_pipe_gets_whole_lines() -> None:
    lines = [b"%d" % number * size + b"\n" for number in range(10) for size in (1, 900, 5000)]
    pieces = list(whole_lines(b"".join(lines)))
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert all(len(piece) <= select.PIPE_BUF or piece.count(b"\n") == 1 for piece in pieces)
    assert list(whole_lines(b"no end")) == [b"no end"]
