from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.net.binding import listening_unix_socket

PATH = "management.bind"


def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    file = tmp_path / "x.sock"
    mask = os.umask(0)
    try:
        with listening_unix_socket(str(file), "0600", PATH):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_what_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x.sock"
    listening_unix_socket(str(file), "0600", PATH).close()
    assert file.exists()
    with listening_unix_socket(str(file), "0660", PATH), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(file))
        assert stat.S_IMODE(file.stat().st_mode) == 0o660


def test_somebody_listens_already(tmp_path: Path) -> None:
    file = tmp_path / "x.sock"
    with (
        listening_unix_socket(str(file), "0600", PATH),
        pytest.raises(ConfigurationError, match=r"management\.bind: .*Address already in use"),
    ):
        listening_unix_socket(str(file), "0600", PATH)


def test_another_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "x.sock"
    file.write_text("precious")
    with pytest.raises(ConfigurationError, match="no socket"):
        listening_unix_socket(str(file), "0600", PATH)
    assert file.read_text() == "precious"


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        listening_unix_socket(str(tmp_path / "nowhere" / "x.sock"), "0600", PATH)
