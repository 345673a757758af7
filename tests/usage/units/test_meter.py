from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from gatekeeper.config.model_selling import Meter
from gatekeeper.usage.units.interface import Measured, UnitMeter
from gatekeeper.usage.units.meter import make_unit_meter

JSON = b"Content-Type: application/json; charset=utf-8"
EVENTS = b"content-type: text/event-stream"
PRICES = {
    "gpt-4o": {"prompt": 2.5, "completion": 10.0, "per": 1000},
    "llama3*": {"prompt": 1, "completion": "2"},
}


def meter(**settings: Any) -> UnitMeter:
    made = make_unit_meter(Meter.model_validate(settings))
    assert made is not None
    return made


def measured(
    made: UnitMeter, *pieces: bytes, status: int = 200, lines: tuple[bytes, ...] = (JSON,)
) -> Measured:
    reading = made.begin(status, lines)
    for piece in pieces:
        reading.feed(piece)
    return reading.result(100, sum(map(len, pieces)), 1.5)


def answer(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_one_unit_a_request_needs_no_meter() -> None:
    assert make_unit_meter(None) is None
    assert make_unit_meter(Meter()) is None
    assert make_unit_meter(Meter(units="requests")) is None


@pytest.mark.parametrize(
    ("units", "expected"), [("bytes", 107), ("bytes_in", 100), ("bytes_out", 7), ("seconds", 2)]
)
def test_what_is_seen_from_outside(units: str, expected: int) -> None:
    made = meter(units=units)
    for status in (200, 404, 500):
        assert measured(made, b"123", b"4567", status=status) == (expected, "")
    assert made.unread(100, 7, 1.5) == (expected, "")
    assert made.unread(100, 7, 1.5, tunnel=True) == (expected, "")


def test_seconds_are_rounded_up() -> None:
    made = meter(units="seconds")
    assert [made.unread(0, 0, s).units for s in (0.0, 0.001, 1.0, 1.001)] == [0, 1, 1, 2]


def test_a_header() -> None:
    made = meter(units="header", header="NVMCreditsConsumed")
    assert measured(made, lines=(b"date: x", b"nvmcreditsconsumed:\t12 ")) == (12, "")
    assert measured(made, lines=(b"NVMCREDITSCONSUMED:0",)) == (0, "")
    assert measured(made, status=201, lines=(b"NVMCreditsConsumed: 3",)) == (3, "")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"NVMCreditsConsumed2: 5",),
        *(
            (b"NVMCreditsConsumed: " + value,)
            for value in (b"", b"-1", b"1.0", b"1e3", b"\xb2", b"9" * 20)
        ),
        (b"NVMCreditsConsumed: 5", b"nvmcreditsconsumed: 6"),
        (b"NVMCreditsConsumed: 5", b"nvmcreditsconsumed: 5"),
        (b"NVMCreditsConsumed: 5, 5",),
    ],
)
def test_a_header_that_does_not_say_it(lines: tuple[bytes, ...]) -> None:
    made = meter(units="header", header="NVMCreditsConsumed", fallback=7)
    assert measured(made, lines=lines) == (7, "")


def test_json() -> None:
    made = meter(units="json", path="usage.total_tokens", model="model")
    body = answer(model="gpt-4o", usage={"total_tokens": 29})
    assert measured(made, body) == (29, "gpt-4o")
    assert measured(made, *(body[i : i + 1] for i in range(len(body)))) == (29, "gpt-4o")
    assert measured(made, gzip.compress(body), lines=(JSON, b"content-encoding: gzip")).units == 29
    assert measured(meter(units="json", path="usage.total_tokens"), body) == (29, "")


def test_json_of_megabytes() -> None:
    body = answer(
        data=[{"embedding": [0.125] * 1536, "text": '"usage":{"total_tokens":1}'}] * 300,
        usage={"total_tokens": 8},
    )
    assert len(body) > 2_000_000
    made = meter(units="json", path="usage.total_tokens")
    assert measured(made, *(body[i : i + 65_536] for i in range(0, len(body), 65_536))).units == 8


def test_a_stream_of_openai() -> None:
    made = meter(units="json", path="usage.total_tokens", model="model")
    chunk = b"data: " + answer(model="gpt-4o", choices=[{"delta": {}}], usage=None) + b"\n\n"
    last = b"data: " + answer(model="gpt-4o", choices=[], usage={"total_tokens": 29}) + b"\n\n"
    done = b"data: [DONE]\n\n"
    assert measured(made, *[chunk] * 9, last, done, lines=(EVENTS,)) == (29, "gpt-4o")
    # The client left before the end: the model was seen, the tokens were not.
    assert measured(made, *[chunk] * 9, lines=(EVENTS,)) == (1, "gpt-4o")


def test_a_stream_that_tells_as_it_goes() -> None:
    made = meter(units="json", path="usage.total_tokens")
    chunks = [b"data: " + answer(usage={"total_tokens": n}) + b"\n\n" for n in range(1, 9)]
    for seen in range(1, 9):
        assert measured(made, *chunks[:seen], b"data: {", lines=(EVENTS,)).units == seen


def test_a_stream_of_anthropic() -> None:
    """Each number is taken from the last event that has it."""
    made = meter(
        units="json",
        prices={"claude*": {"prompt": 1, "completion": 10}},
        model=["model", "message.model"],
        prompt=["usage.input_tokens", "message.usage.input_tokens"],
        completion="usage.output_tokens",
    )
    usage = {"input_tokens": 25, "output_tokens": 1}
    start = answer(type="message_start", message={"model": "claude-x", "usage": usage})
    deltas = [answer(type="message_delta", usage={"output_tokens": n}) for n in (7, 15)]
    stream = [b"event: x\ndata: " + data + b"\n\n" for data in (start, *deltas)]
    assert measured(made, *stream, lines=(EVENTS,)) == (175, "claude-x")
    plain = answer(model="claude-x", usage=usage)
    assert measured(made, plain) == (35, "claude-x")


def test_a_stream_of_ollama() -> None:
    made = meter(units="json", prices=PRICES, prompt="prompt_eval_count", completion="eval_count")
    chunk = answer(model="llama3.1", response="x", done=False) + b"\n"
    last = answer(model="llama3.1", done=True, prompt_eval_count=26, eval_count=298) + b"\n"
    lines = (b"content-type: application/x-ndjson",)
    assert measured(made, *[chunk] * 9, last, lines=lines) == (26 + 2 * 298, "llama3.1")
    assert measured(made, last, lines=()) == (26 + 2 * 298, "llama3.1")


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        ({"prompt_tokens": 400, "completion_tokens": 0}, 1),
        ({"prompt_tokens": 400, "completion_tokens": 1}, 2),
        ({"prompt_tokens": 400}, 1),  # as embeddings have it
        ({"completion_tokens": 400}, 4),
        ({"prompt_tokens": 0, "completion_tokens": 0}, 0),
        ({"prompt_tokens": -1, "completion_tokens": "x"}, 50),
        ({}, 50),
    ],
)
def test_prices(usage: dict[str, Any], units: int) -> None:
    made = meter(units="json", prices=PRICES, fallback=50)
    assert measured(made, answer(model="gpt-4o-2024-08-06", usage=usage)).units == units


def test_a_model_without_a_price() -> None:
    body = answer(model="gpt-4", usage={"prompt_tokens": 400})
    assert measured(meter(units="json", prices=PRICES, fallback=50), body) == (50, "gpt-4")
    prices = PRICES | {"*": {"prompt": 1, "completion": 1}}
    assert measured(meter(units="json", prices=prices, fallback=50), body) == (400, "gpt-4")
    nameless = answer(usage={"prompt_tokens": 400})
    assert measured(meter(units="json", prices=prices, fallback=50), nameless) == (400, "")


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "1.5",
        "true",
        "null",
        '"29"',
        "[29]",
        "{}",
        "NaN",
        "1e400",
        "9" * 5000,
        "9223372036854775808",
    ],
)
def test_what_is_no_number_of_units(value: str) -> None:
    made = meter(units="json", path="usage.total_tokens", fallback=7)
    assert measured(made, f'{{"usage":{{"total_tokens":{value}}}}}'.encode()).units == 7


@pytest.mark.parametrize(
    "lines", [(JSON, b"content-encoding: br"), (JSON, b"content-encoding: gzip")]
)
def test_what_cannot_be_decoded(lines: tuple[bytes, ...]) -> None:
    body = answer(usage={"total_tokens": 29})
    assert measured(meter(units="json", path="usage.total_tokens"), body, lines=lines).units == 1


def test_the_first_place_that_has_it_counts() -> None:
    made = meter(units="json", path=["a.x", "b.x"])
    assert measured(made, answer(b={"x": 2}, a={"x": 1})).units == 1
    assert measured(made, answer(b={"x": 2}, a={"x": -1})).units == 2
    assert measured(made, answer(b={"x": 2})).units == 2


@pytest.mark.parametrize("kind", [{"header": "cost"}, {"path": "cost"}])
def test_errors(kind: dict[str, str]) -> None:
    settings = {
        "units": "json" if "path" in kind else "header",
        "fallback": 5,
        "minimum": 2,
        **kind,
    }
    free, charging = meter(**settings), meter(**settings, on_error="charge")
    for status in (301, 400, 402, 500, 503):
        for body, lines, units in (
            (answer(cost=9), (JSON, b"cost: 9"), 9),
            (b"oops", (JSON,), 5),
        ):
            assert measured(free, body, status=status, lines=lines).units == 0
            assert measured(charging, body, status=status, lines=lines).units == units
    for status in (200, 201, 206, 299):
        assert measured(free, b"", status=status).units == 5


@pytest.mark.parametrize("kind", [{"header": "cost"}, {"path": "cost"}])
def test_without_an_answer_of_the_upstream(kind: dict[str, str]) -> None:
    made = meter(units="json" if "path" in kind else "header", fallback=5, **kind)
    assert made.unread(1000, 1000, 9.0) == (0, "")
    assert made.unread(1000, 1000, 9.0, tunnel=True) == (5, "")


def test_bounds() -> None:
    made = meter(units="json", path="cost", minimum=10, maximum=20, fallback=1)
    costs = {0: 10, 9: 10, 15: 15, 21: 20, 2**62: 20}
    assert {n: measured(made, answer(cost=n)).units for n in costs} == costs
    assert measured(made, b"").units == 10
    assert meter(units="bytes", maximum=20).unread(100, 0, 0.0).units == 20
    assert meter(units="seconds", minimum=60).unread(0, 0, 0.5).units == 60


def test_the_store_can_hold_it() -> None:
    most = 2**63 - 1
    assert meter(units="bytes").unread(2**62, 2**62, 0.0).units == 10**15
    assert meter(units="bytes", maximum=most).unread(2**63, 2**63, 0.0).units == most
    prices = {"*": {"prompt": 10**12, "completion": 0}}
    made = meter(units="json", prices=prices, maximum=most)
    assert measured(made, answer(usage={"prompt_tokens": most})).units == most


def test_readings_do_not_share_anything() -> None:
    made = meter(units="json", path="cost")
    first, second = made.begin(200, [JSON]), made.begin(200, [JSON])
    first.feed(b'{"cost":')
    second.feed(b'{"cost":2}')
    first.feed(b"1}")
    assert (first.result(0, 0, 0.0).units, second.result(0, 0, 0.0).units) == (1, 2)
