"""The programs that are measured, and those that measure: where they are, which version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.results import NotMeasuredError

#: The Debian package of each program.
PACKAGES: Final = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "squid": "squid",
    "wrk": "wrk",
    "curl": "curl",
    "taskset": "util-linux",
}

_NJS: Final = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")
_VERSION_OPTIONS: Final = {
    "nginx": "-v",
    "haproxy": "-v",
    "squid": "-v",
    "wrk": "-v",
    "curl": "--version",
}


def find(program: str) -> str:
    """The path of a program, in PATH or where Debian keeps daemons.

    :raises NotMeasuredError: it is not installed; names its Debian package.
    """
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise NotMeasuredError(f"{program} is not installed (Debian package {PACKAGES[program]})")
    return path


def find_njs() -> Path:
    """Nginx's JavaScript module.

    :raises NotMeasuredError: it is not installed; names its Debian package.
    """
    if not _NJS.exists():
        raise NotMeasuredError("nginx's njs is not installed (Debian package libnginx-mod-http-js)")
    return _NJS


def version(program: str) -> str:
    """The first line that the program says about its version, or that it is missing."""
    try:
        path = find(program)
    except NotMeasuredError as error:
        return str(error)
    # wrk has no option for that alone and exits with 1; nginx and wrk write to different streams.
    said = subprocess.run(
        [path, _VERSION_OPTIONS[program]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=10,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return said.stdout.decode("utf-8", "replace").partition("\n")[0].strip()


def versions() -> dict[str, str]:
    """What all of them say about their versions."""
    found = {program: version(program) for program in _VERSION_OPTIONS}
    try:
        found["njs"] = str(find_njs())
    except NotMeasuredError as error:
        found["njs"] = str(error)
    return found
