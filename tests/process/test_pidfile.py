"""Whose number the pid file has."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.process.pidfile import PidFile


def test_from_one_process_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "twistd.pid"
    file.write_text("17")
    old: dict[str, Any] = {"pidfile": "twistd.pid"}
    new: dict[str, Any] = {"pidfile": "twistd.pid"}
    ours, its = PidFile(old), PidFile(new)
    its.leave_alone()
    assert new["pidfile"] == "", "twistd looks for a process of that number"
    monkeypatch.chdir("/")
    its.take()
    assert new["pidfile"] == str(file)
    ours.hand_over(4711)
    assert old["pidfile"] == "", "it is not to be removed"
    assert file.read_text() == "4711"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("options", [{}, {"pidfile": ""}, {"pidfile": None}])
def test_without_one(options: dict[str, Any], tmp_path: Path) -> None:
    pid_file = PidFile(options)
    pid_file.hand_over(1)
    pid_file.take()
    assert options["pidfile"] == ""


def test_it_cannot_be_written(tmp_path: Path) -> None:
    """That is no reason not to go on."""
    (tmp_path / "file").touch()
    options: dict[str, Any] = {"pidfile": str(tmp_path / "file" / "pid")}
    PidFile(options).hand_over(os.getpid())
    assert options["pidfile"] == ""
