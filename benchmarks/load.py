"""The load: many small requests by wrk, single big bodies by curl. Both run on the load's core."""

from __future__ import annotations

import http.client
import re
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.bench import Bench
from benchmarks.programs import find
from benchmarks.results import NotMeasuredError
from benchmarks.servers import PEERS

_PATIENCE: Final = 60.0  # seconds, beyond what a run is asked to take
_SLOWEST: Final = 300.0  # seconds, for one body

_FINISHED: Final = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
_RATE: Final = re.compile(r"^Requests/sec:\s*([\d.]+)", re.MULTILINE)
_WRONG: Final = re.compile(r"^\s*((?:Non-2xx|Socket errors).*)$", re.MULTILINE)


class Request(NamedTuple):
    """A GET: its target as it is sent, its Host, and the field with the credentials.

    ``number`` is what tells its fields from those of others.
    """

    target: str
    host: str
    name: str
    value: str
    number: str = ""


@dataclass(frozen=True)
class Sent:
    """What wrk did."""

    requests: int
    per_second: float


class Load:
    """The same requests over and over, through one server."""

    def __init__(self, bench: Bench, port: int, requests: Sequence[Request], scheme: str) -> None:
        self._bench = bench
        self._port = port
        self._scheme = scheme
        self._requests = requests
        self._file = bench.directory / f"load-{port}.txt"
        self._file.write_text("".join("\t".join(each) + "\n" for each in requests))

    def check(self, *, checks: bool) -> None:
        """See that the server does what it is measured for.

        ``checks``: it must refuse the first request without credentials, and with wrong ones.

        :raises NotMeasuredError: it answers otherwise.
        """
        request = self._requests[0]
        self._expect({200}, request.value)
        if checks:
            forged = request.value[:-8] + request.value[-8:].swapcase()
            self._expect({401, 403, 407}, None)
            self._expect({401, 403, 407}, forged)

    def run(self, seconds: int) -> Sent:
        """Send for so long.

        :raises NotMeasuredError: an answer was not a good one.
        """
        command = [
            find("wrk"), "--threads", "1", "--connections", str(self._bench.connections),
            "--duration", f"{seconds}s", "--script", str(PEERS / "load.lua"),
            f"{self._scheme}://127.0.0.1:{self._port}", "--", str(self._file),
        ]  # fmt: skip
        said = _run(command, seconds + _PATIENCE)
        finished, rate, wrong = _FINISHED.search(said), _RATE.search(said), _WRONG.search(said)
        if wrong:
            raise NotMeasuredError(f"wrk says: {wrong[1]}")
        if not finished or not rate or not int(finished[1]):
            raise NotMeasuredError("wrk finished no request")
        return Sent(int(finished[1]), float(rate[1]))

    def _expect(self, statuses: set[int], credentials: str | None) -> None:
        request = self._requests[0]
        connection: http.client.HTTPConnection
        if self._scheme == "https":
            context = ssl.create_default_context(cafile=self._bench.directory / "self-signed.pem")
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=10, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        headers = {"Host": request.host}
        if credentials is not None:
            headers[request.name] = credentials
        try:
            connection.request("GET", request.target, headers=headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise NotMeasuredError(f"a first request fails: {error!r}") from error
        finally:
            connection.close()
        if status not in statuses:
            how = "without credentials" if credentials is None else "with a token"
            raise NotMeasuredError(f"a first request {how} gets a {status}")


def transfer(size: int, url: str, arguments: Sequence[str | Path]) -> None:
    """One body of ``size`` bytes, down or up, by curl with these arguments.

    :raises NotMeasuredError: it did not come through whole.
    """
    command = [
        find("curl"), "--silent", "--show-error", "--output", "/dev/null",
        "--max-time", str(_SLOWEST), "--write-out", "%{http_code} %{size_download} %{size_upload}",
        "--noproxy", "", *map(str, arguments), url,
    ]  # fmt: skip
    status, down, up = _run(command, _SLOWEST + 10).split()[-3:]
    if status != "200" or size not in (int(down), int(up)):
        raise NotMeasuredError(f"curl got a {status}, {down} bytes down, {up} up, not {size}")


def _run(command: Sequence[str], timeout: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"{Path(command[0]).name} does not end") from None
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise NotMeasuredError(f"{Path(command[0]).name} fails: {message}")
    return done.stdout
