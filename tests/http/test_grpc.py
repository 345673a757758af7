"""gRPC's words."""

from http import HTTPStatus

import pytest

from gatekeeper.http import grpc


@pytest.mark.parametrize(
    ("content_type", "it_is"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"Application/GRPC;a=b", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_which_requests_are_calls(content_type: bytes, it_is: bool) -> None:
    assert grpc.is_grpc(content_type) is it_is


def test_every_status_becomes_one() -> None:
    for status in HTTPStatus:
        assert 0 < grpc.code_of(status) <= 16
    assert grpc.code_of(401) == 16
    assert grpc.code_of(418) == 2


def test_messages_are_escaped() -> None:
    assert grpc.status_fields(16, "100 % größer\n~") == [
        (b"grpc-status", b"16"),
        (b"grpc-message", b"100 %25 gr%C3%B6%C3%9Fer%0A~"),
    ]
