"""The runtime protocol: what the supervisor asks for over stdin, answered over stdout.

Three threads: one reads what the supervisor wants and answers it, one does what takes long (the
management API is asked), one after the other, and one tells the number of requests every 2 s.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from io import FileIO
from queue import Queue
from typing import BinaryIO, Final, NamedTuple, NoReturn

from gatekeeper import __version__
from gatekeeper.errors import GatekeeperError
from gatekeeper.golem.account import Account
from gatekeeper.golem.commands import Command, UsageError, parse_command
from gatekeeper.golem.framing import FramingError, ResponseWriter, read_request
from gatekeeper.golem.protos.runtime_pb2 import (
    BAD_REQUEST,
    INTERNAL,
    NOT_FOUND,
    Counter,
    Error,
    ErrorCode,
    Hello,
    Killed,
    ProcessStatus,
    Request,
    Response,
    RuntimeStatus,
    Shutdown,
    Started,
)

COUNTER: Final = "http-auth.requests"
INTERVAL: Final = 2.0  # seconds

#: What commands end with.
DONE, FAILED, MISUSED, DROPPED = 0, 1, 2, 130

_MOST_WAITING: Final = 1_000
_PATIENCE: Final = 30.0  # seconds that a call to the API may take in all, when it must end
_GONE: Final = "the supervisor is gone"
_UNSIGNALLED: Final = 128  # what is added to a signal's number, as shells do


class _Process(NamedTuple):
    pid: int
    command: Command


class _Terminated(BaseException):
    """SIGTERM or SIGINT came while we waited for the supervisor."""


class Session:
    """One run of the program, from the service's start to the shutdown.

    ``interval``: seconds between two counter events.
    """

    def __init__(
        self, source: BinaryIO, sink: FileIO, account: Account, interval: float = INTERVAL
    ) -> None:
        self._source = source
        self._writer = ResponseWriter(sink)
        self._account = account
        self._interval = interval
        self._last_pid = 0
        self._alive: set[int] = set()
        self._alive_lock = threading.Lock()
        self._waiting: Queue[_Process | None] = Queue()
        self._problems: list[str] = []
        self._stopping = threading.Event()
        self._is_reading = self._is_terminated = False

    def run(self) -> int:
        """Serve until the supervisor says so, closes its end, or goes away: the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        threads = [
            threading.Thread(target=self._guard, args=(loop,), daemon=True)
            for loop in (self._work, self._tick)
        ]
        for thread in threads:
            thread.start()
        shutdown = None
        try:
            shutdown = self._serve()
        except FramingError as error:
            self._problems.append(str(error))
        except OSError:
            self._problems.append(_GONE)
        self._stopping.set()
        self._waiting.put(None)
        for thread in threads:
            thread.join(_PATIENCE)
        self._problems += self._account.close()
        try:
            self._send_counter()
            if shutdown is not None:
                self._writer.write(Response(id=shutdown.id, shutdown=Shutdown()))
        except OSError:
            self._problems.append(_GONE)
        for problem in dict.fromkeys(self._problems):
            print(f"gatekeeper-golem-runtime: {problem}", file=sys.stderr)
        return 1 if self._problems else 0

    # --- the supervisor's requests ----------------------------------------------------------

    def _serve(self) -> Request | None:
        """Answer requests until it is time to end: the one that asked for it, if one did."""
        while True:
            request = self._next_request()
            if request is None or request.WhichOneof("command") == "shutdown":
                return request
            self._answer(request)

    def _next_request(self) -> Request | None:
        try:
            self._is_reading = True
            return None if self._is_terminated else read_request(self._source)
        except _Terminated:
            return None
        finally:
            self._is_reading = False

    def _answer(self, request: Request) -> None:
        kind = request.WhichOneof("command")
        if kind == "hello":
            self._writer.write(Response(id=request.id, hello=Hello(version=__version__)))
        elif kind == "run":
            self._run(request)
        elif kind == "kill":
            self._kill(request)
        elif kind == "network":
            self._refuse(request, BAD_REQUEST, "this runtime has no networks")
        else:
            self._refuse(request, BAD_REQUEST, "there is no such request")

    def _refuse(self, request: Request, code: ErrorCode, message: str) -> None:
        self._writer.write(Response(id=request.id, error=Error(code=code, message=message)))

    def _run(self, request: Request) -> None:
        try:
            command = parse_command(request.run.bin, request.run.args)
        except UsageError as error:
            command = partial(_misuse, error)
        if self._waiting.qsize() >= _MOST_WAITING:
            self._refuse(request, INTERNAL, "too many commands are waiting")
            return
        self._last_pid += 1
        pid = self._last_pid
        with self._alive_lock:
            self._alive.add(pid)
        self._writer.write(Response(id=request.id, run=Started(pid=pid)))
        self._status(ProcessStatus(pid=pid, running=True))
        self._waiting.put(_Process(pid, command))

    def _kill(self, request: Request) -> None:
        """End a command that waits, or whose answer is waited for; it may take effect still."""
        number = request.kill.signal
        code = _UNSIGNALLED + (number if 0 < number < signal.NSIG else signal.SIGKILL)
        if self._is_alive(request.kill.pid):
            self._writer.write(Response(id=request.id, kill=Killed()))
            self._end(request.kill.pid, code)
        else:
            self._refuse(request, NOT_FOUND, "no such process is running")

    # --- what runs ----------------------------------------------------------------------------

    def _work(self) -> None:
        """Run what waits, one after the other. (A thread of its own.)"""
        while (process := self._waiting.get()) is not None:
            if self._stopping.is_set():
                self._end(process.pid, DROPPED, stderr="the runtime shuts down")
            elif self._is_alive(process.pid):
                self._execute(process)

    def _execute(self, process: _Process) -> None:
        try:
            result = process.command(self._account)
        except UsageError as error:
            self._end(process.pid, MISUSED, stderr=str(error))
        except GatekeeperError as error:
            self._end(process.pid, FAILED, stderr=str(error))
        else:
            self._end(process.pid, DONE, stdout="" if result is None else json.dumps(result))

    def _end(self, pid: int, code: int, stdout: str = "", stderr: str = "") -> None:
        """Tell that a process has ended, once."""
        with self._alive_lock:
            if pid not in self._alive:
                return
            self._alive.remove(pid)
        if stdout or stderr:
            output = ProcessStatus(
                pid=pid, running=True, stdout=stdout.encode(), stderr=stderr.encode()
            )
            self._status(output)
        self._status(ProcessStatus(pid=pid, return_code=code))

    def _is_alive(self, pid: int) -> bool:
        with self._alive_lock:
            return pid in self._alive

    def _status(self, status: ProcessStatus) -> None:
        self._writer.write(Response(event=True, status=status))

    # --- what is counted ----------------------------------------------------------------------

    def _tick(self) -> None:
        """Tell the number of requests, again and again. (A thread of its own.)"""
        self._send_counter()
        while not self._stopping.wait(self._interval):
            self._account.refresh(timeout=self._interval / 2)
            self._send_counter()

    def _send_counter(self) -> None:
        counter = Counter(name=COUNTER, value=self._account.requests)
        self._writer.write(Response(event=True, rt_status=RuntimeStatus(counter=counter)))

    # --- the end ------------------------------------------------------------------------------

    def _guard(self, loop: Callable[[], None]) -> None:
        """Run the loop of a thread; where it ends before its time, all ends."""
        try:
            loop()
        except OSError:
            self._problems.append(_GONE)
        except BaseException:
            self._problems.append("a mistake of ours, told above")
            raise
        finally:
            if not self._stopping.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _terminate(self, *_: object) -> None:
        self._is_terminated = True
        if self._is_reading:
            raise _Terminated


def _misuse(error: UsageError, account: Account) -> NoReturn:
    raise error
