"""Frames are cut, and paid for."""

import pytest

from gatekeeper.http.frames import PREFACE, Allowance, ConnectionFaultError, Frame, FrameCutter

PING = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"


def cutter(*, of_client: bool = False, block_limit: int = 100) -> FrameCutter:
    return FrameCutter(block_limit=block_limit, of_client=of_client, now=0.0)


def frame(kind: int, stream: int = 1, flags: int = 0, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def test_however_the_bytes_come() -> None:
    data = PREFACE + PING + frame(0, 3, 1, b"abc")
    whole = cutter(of_client=True)
    whole.feed(data)
    piecewise = cutter(of_client=True)
    found = []
    assert piecewise.incomplete  # the preface is to come
    for position in range(len(data)):
        piecewise.feed(data[position : position + 1])
        if (cut := piecewise.cut(0.0)) is not None:
            found.append(cut)
        assert piecewise.incomplete == (cut is None)
    assert [whole.cut(0.0) for _ in range(4)] == [*found, None]
    assert not whole.incomplete
    assert found == [
        Frame(-1, 0, 0, PREFACE),
        Frame(6, 0, 0, PING),
        Frame(0, 1, 3, frame(0, 3, 1, b"abc")),
    ]
    assert found[2].ends_stream


@pytest.mark.parametrize(
    ("flags", "payload", "size"),
    [(0, b"abc", 3), (8, b"\2abc\0\0", 3), (8, b"\5", 0), (8, b"", 0), (0, b"", 0)],
)
def test_padding_is_no_content(flags: int, payload: bytes, size: int) -> None:
    assert Frame(0, flags, 1, frame(0, 1, flags, payload)).payload == size


def test_a_reserved_bit_means_nothing() -> None:
    cut = cutter()
    cut.feed(frame(0, 2**31 + 5))
    read = cut.cut(0.0)
    assert read is not None
    assert read.stream_id == 5


def test_a_block_is_bounded_all_its_frames_together() -> None:
    cut = cutter(block_limit=10)
    cut.feed(frame(1, payload=b"12345") + frame(9, payload=b"12345"))
    assert cut.cut(0.0)
    assert cut.in_block
    assert cut.cut(0.0)
    cut.feed(frame(9, flags=4, payload=b"x"))
    with pytest.raises(ConnectionFaultError) as fault:
        cut.cut(0.0)
    assert fault.value.code == 0xB


def test_a_block_ends() -> None:
    cut = cutter(block_limit=10)
    for _ in range(20):
        cut.feed(frame(1, payload=b"12345") + frame(9, flags=4, payload=b"12345"))
        assert cut.cut(0.0)
        assert cut.cut(0.0)
        assert not cut.in_block


def test_what_we_send_may_be_answered() -> None:
    """Large frames earn more than one answer, small ones one, pieces of what did not fit none."""
    for size, whole, earned in ((1024, False, 4), (10, True, 1), (10, False, 0)):
        cut = cutter()
        cut.feed(PING * 2000)
        for _ in range(1000):
            assert cut.cut(0.0)
        cut.sent_data(size, whole=whole)
        for _ in range(earned):
            assert cut.cut(0.0)
        with pytest.raises(ConnectionFaultError):
            cut.cut(0.0)


def test_an_allowance() -> None:
    allowance = Allowance(2, 0.5, 100.0)
    assert allowance.spend(100.0)
    assert allowance.spend(100.0)
    assert allowance.spend(102.0)
    assert not allowance.spend(102.0)
    full = Allowance(2, 0.5, 0.0)
    full.earn(100)
    assert [full.spend(1000.0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("payload", [b"", b"1234567"])
def test_a_malformed_goaway(payload: bytes) -> None:
    with pytest.raises(ConnectionFaultError):
        _ = Frame(7, 0, 0, frame(7, 0, 0, payload)).goaway
