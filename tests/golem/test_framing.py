from __future__ import annotations

import os
from io import BytesIO, FileIO
from threading import Thread

import pytest
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.golem.framing import (
    LARGEST_MESSAGE,
    FramingError,
    ResponseWriter,
    read_request,
)
from gatekeeper.golem.protos.runtime_pb2 import (
    Counter,
    Error,
    Hello,
    KillProcess,
    Output,
    ProcessStatus,
    Request,
    Response,
    RunProcess,
    RuntimeStatus,
    Shutdown,
)

REQUESTS = st.builds(
    Request,
    id=st.integers(0, 2**64 - 1),
    run=st.builds(RunProcess, bin=st.text(), args=st.lists(st.text(), max_size=5)),
)


def framed(*requests: Request) -> bytes:
    stream = BytesIO()
    for request in requests:
        serialize_length_prefixed(request, stream)
    return stream.getvalue()


class TestTheWire:
    """Byte by byte, what other programs have agreed on."""

    @pytest.mark.parametrize(
        ("wire", "request_"),
        [
            (b"\x00", Request()),
            (b"\x07\x08\x01\x12\x03\x0a\x01x", Request(id=1, hello=Hello(version="x"))),
            (b"\x05\x08\xac\x02\x62\x00", Request(id=300, shutdown=Shutdown())),
            (
                b"\x08\x08\x02\x5a\x04\x08\x07\x10\x09",
                Request(id=2, kill=KillProcess(pid=7, signal=9)),
            ),
        ],
    )
    def test_requests(self, wire: bytes, request_: Request) -> None:
        assert read_request(BytesIO(wire)) == request_

    def test_a_run(self) -> None:
        inner = b"\x0a\x04user\x12\x04user\x12\x04list\x1a\x02/w\x22\x02\x10\x0a"
        wire = bytes([len(inner) + 4]) + b"\x08\x03\x52" + bytes([len(inner)]) + inner
        run = RunProcess(bin="user", args=["user", "list"], work_dir="/w", stdout=Output(at_end=10))
        assert read_request(BytesIO(wire)) == Request(id=3, run=run)

    @pytest.mark.parametrize(
        ("response", "wire"),
        [
            (Response(), b"\x00"),
            (Response(id=1, hello=Hello(version="x")), b"\x07\x10\x01\x22\x03\x0a\x01x"),
            (Response(id=1, shutdown=Shutdown()), b"\x04\x10\x01\x62\x00"),
            (
                Response(id=1, error=Error(code="NOT_FOUND", message="m")),
                b"\x09\x10\x01\x1a\x05\x08\x01\x12\x01m",
            ),
            (
                Response(event=True, status=ProcessStatus(pid=5, running=True, stdout=b"o")),
                b"\x0c\x08\x01\xa2\x01\x07\x08\x05\x10\x01\x22\x01o",
            ),
            (
                Response(event=True, status=ProcessStatus(pid=5, return_code=1)),
                b"\x09\x08\x01\xa2\x01\x04\x08\x05\x18\x01",
            ),
            (
                Response(event=True, rt_status=RuntimeStatus(counter=Counter(name="c", value=1.0))),
                b"\x13\x08\x01\xaa\x01\x0e\x12\x0c\x0a\x01c\x11" + b"\x00" * 6 + b"\xf0\x3f",
            ),
        ],
    )
    def test_responses(self, response: Response, wire: bytes) -> None:
        assert written(response) == wire


def written(*responses: Response) -> bytes:
    receiving, sending = os.pipe()
    found = []

    def read() -> None:
        with FileIO(receiving) as stream:
            found.append(stream.read())

    reader = Thread(target=read)
    reader.start()
    with FileIO(sending, "w") as stream:
        writer = ResponseWriter(stream)
        for response in responses:
            writer.write(response)
    reader.join()
    return found[0] or b""


@given(st.lists(REQUESTS, max_size=5))
def test_what_a_supervisor_sends(requests: list[Request]) -> None:
    stream = BytesIO(framed(*requests))
    assert [read_request(stream) for _ in requests] == requests
    assert read_request(stream) is None


def test_what_a_supervisor_gets() -> None:
    """Also where it is larger than a pipe."""
    responses = [
        Response(event=True, status=ProcessStatus(pid=size, running=True, stdout=b"x" * size))
        for size in (0, 1, 100, 200, 20_000, 500_000)
    ]
    stream = BytesIO(written(*responses))
    assert [parse_length_prefixed(Response, stream) for _ in responses] == responses
    assert parse_length_prefixed(Response, stream) is None


@given(REQUESTS, st.data())
def test_a_message_that_is_cut(request: Request, data: st.DataObject) -> None:
    wire = framed(request)
    cut = data.draw(st.integers(1, len(wire) - 1))
    with pytest.raises(FramingError, match="ends within a message"):
        read_request(BytesIO(wire[:cut]))


@given(st.binary(max_size=100))
def test_anything_at_all(wire: bytes) -> None:
    stream = BytesIO(wire)
    try:
        while read_request(stream) is not None:
            pass
    except FramingError:
        return
    assert stream.tell() == len(wire)


def test_the_largest_message() -> None:
    """What is larger is not read, let alone kept."""
    fitting = Request(run=RunProcess(args=["x" * (LARGEST_MESSAGE - 20)]))
    assert read_request(BytesIO(framed(fitting))) == fitting
    stream = BytesIO(framed(Request(run=RunProcess(args=["x" * LARGEST_MESSAGE]))))
    with pytest.raises(FramingError, match="more than 1048576 bytes"):
        read_request(stream)
    assert stream.tell() == 3


@pytest.mark.parametrize("wire", [b"\xff" * 12, b"\x80" * 12, b"\xff" * 9 + b"\x7f"])
def test_a_length_that_never_ends(wire: bytes) -> None:
    with pytest.raises(FramingError, match="no message's"):
        read_request(BytesIO(wire))
