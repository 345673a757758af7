from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import programs
from benchmarks.programs import find, find_njs, version
from benchmarks.results import NotMeasuredError


@pytest.fixture
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(programs, "_NJS", Path("/nowhere/module.so"))


@pytest.mark.usefixtures("_nothing_installed")
def test_a_missing_program_is_named_with_its_debian_package() -> None:
    with pytest.raises(NotMeasuredError, match=r"taskset .* \(Debian package util-linux\)"):
        find("taskset")
    with pytest.raises(NotMeasuredError, match="Debian package libnginx-mod-http-js"):
        find_njs()
    assert version("squid") == "squid is not installed (Debian package squid)"


def test_a_program_is_found_in_sbin_when_path_does_not_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return f"/usr/sbin/{name}" if path and "/usr/sbin" in path else None

    monkeypatch.setattr(shutil, "which", which)
    assert find("haproxy") == "/usr/sbin/haproxy"
