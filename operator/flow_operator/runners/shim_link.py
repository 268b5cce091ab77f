"""The operator's end of the line to the shim, and how a shim is started."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import msgspec

import flow_operator
from flow_operator.errors import RetryableError, RunnerError, TerminalError
from flow_operator.shim import protocol

Request = tuple[str, Mapping[str, Any]]
"""An operation of the shim, and its arguments."""

CALL_TIMEOUT = 30.0
"""Seconds for one request; the shim answers in micro- to milliseconds unless the machine hangs."""

_CONNECT_TIMEOUT = 15.0

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from flow_operator.shim.server import main; main(*sys.argv[2:])"
)


def shim_command() -> list[str]:
    """What runs the shim of this version; the data directory follows."""
    root = str(Path(flow_operator.__file__).parent.parent)
    return [sys.executable, "-I", "-S", "-c", _BOOT, root]


class ShimLink:
    """One connection to the shim of a data directory.

    A thread of its own receives: replies wake their callers, events go to ``on_event``, and the
    end of the connection to ``on_lost`` (unless :meth:`close` caused it).
    """

    def __init__(
        self,
        data: Path,
        on_event: Callable[[dict[str, Any]], None],
        on_lost: Callable[[ShimLink], None],
        starting: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_lost = on_lost
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._sock = _connect_or_start(data, starting)
        self._thread = threading.Thread(target=self._receive, name="shim-link", daemon=True)
        self._thread.start()

    def call(self, op: str, **arguments: Any) -> Any:
        """Ask the shim and wait for its answer.

        Raises:
            RetryableError: the connection is gone or the answer is overdue.
            TerminalError: the shim refused.
        """
        return _result(self._wait(op, *self._send(op, arguments)))

    def ask_many(self, requests: Sequence[Request]) -> Callable[[], list[Any]]:
        """Ask the shim several things at once; returns what waits for the answers.

        An answer that is an error is given, not raised.
        """
        listed = [{"op": op, **arguments} for op, arguments in requests]
        try:
            number, future = self._send("many", {"requests": listed})
        except RetryableError as error:
            refused = [error] * len(requests)
            return lambda: refused

        def answers() -> list[Any]:
            try:
                answer = _result(self._wait("many", number, future))
            except RunnerError as error:
                return [error] * len(requests)
            return [_result_or_error(one) for one in answer]

        return answers

    def _send(self, op: str, arguments: Mapping[str, Any]) -> tuple[int, Future[dict[str, Any]]]:
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        message = protocol.encode({"id": number, "op": op, **arguments})
        with self._lock:
            if self._closed:
                raise RetryableError("the shim is away")
            self._waiting[number] = future
            try:
                protocol.send(self._sock, message)
            except OSError as error:
                del self._waiting[number]
                raise RetryableError(f"the shim is away: {error}") from error
        return number, future

    def _wait(self, op: str, number: int, future: Future[dict[str, Any]]) -> dict[str, Any]:
        try:
            return future.result(CALL_TIMEOUT)
        except FutureTimeoutError:
            self._waiting.pop(number, None)
            raise RetryableError(f"the shim did not answer '{op}' in {CALL_TIMEOUT:g}s") from None

    @property
    def alive(self) -> bool:
        """Whether the shim is still at the other end."""
        return not self._closed

    def close(self) -> None:
        """Hang up; the shim and its children go on."""
        with self._lock:
            already, self._closed = self._closed, True
        if not already:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _receive(self) -> None:
        try:
            while (message := protocol.receive(self._sock, _decode)) is not None:
                if "event" in message:
                    self._on_event(message)
                elif (future := self._waiting.pop(message["id"], None)) is not None:
                    future.set_result(message)
        except (OSError, ValueError):
            pass  # The other end died, or is no shim: told below.
        with self._lock:
            lost, self._closed = not self._closed, True
            self._sock.close()
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(RetryableError("the shim went away"))
        if lost:
            self._on_lost(self)


def _decode(data: bytes) -> Any:
    """Read a message; in far less time than the standard library takes."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        # A name that is not UTF-8 travels as lone surrogates, which msgspec refuses.
        return json.loads(data)


def _result(answer: Mapping[str, Any]) -> Any:
    if answer.get("unknown"):
        raise RetryableError(f"the shim does not know the run {answer['error']}")
    if "error" in answer:
        raise TerminalError(f"the shim refused: {answer['error']}")
    return answer["ok"]


def _result_or_error(answer: Mapping[str, Any]) -> Any:
    try:
        return _result(answer)
    except RunnerError as error:
        return error


def _connect_or_start(data: Path, starting: subprocess.Popen[bytes] | None) -> socket.socket:
    deadline = time.monotonic() + _CONNECT_TIMEOUT
    if starting is not None:
        _await(starting, data)
    while True:
        try:
            return _connect(data)
        except (FileNotFoundError, ConnectionRefusedError):
            _await(start_shim(data), data)
            _ask_for_socket(data)
        if time.monotonic() > deadline:
            raise _not_started(data)
        time.sleep(0.005)


def _await(starting: subprocess.Popen[bytes], data: Path) -> None:
    try:
        starting.wait(_CONNECT_TIMEOUT)
    except subprocess.TimeoutExpired:
        starting.kill()
        starting.wait()
        raise _not_started(data) from None


def _not_started(data: Path) -> RetryableError:
    return RetryableError(f"the shim did not start; see {data / 'shim.log'}")


def _ask_for_socket(data: Path) -> None:
    """Where a shim lives whose socket somebody has removed, have it make another.

    Its pid stands in the file that it holds a lock on; none but a shim holds one.
    """
    try:
        with (data / protocol.LOCK_NAME).open("rb") as file:
            pid = int(file.read())
            descriptor = os.pidfd_open(pid)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # It is held, so that who has written his pid still lives.
                if not (data / protocol.SOCKET_NAME).exists():
                    signal.pidfd_send_signal(descriptor, signal.SIGUSR1)
            finally:
                os.close(descriptor)
    except (OSError, ValueError):
        return  # It is just being started, or has just ended: the next connect tells.


def _connect(data: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with protocol.SocketPath(data) as path:
            sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def begin_shim(data: Path) -> subprocess.Popen[bytes] | None:
    """Start a shim, unless there seems to be one; who connects waits for it, or starts another."""
    if (data / protocol.SOCKET_NAME).exists():
        return None
    with contextlib.suppress(OSError):
        return start_shim(data)
    return None


def end_shim(data: Path, starting: subprocess.Popen[bytes]) -> None:
    """Have a shim end that was begun and that nobody needs, unless it runs something after all."""
    with contextlib.suppress(RetryableError, OSError):
        _await(starting, data)
        with _connect(data) as sock:
            sock.settimeout(_CONNECT_TIMEOUT)
            protocol.send(sock, protocol.encode({"id": 1, "op": "shutdown"}))
            protocol.receive(sock)  # It has seen to it, or says that it goes on.


def start_shim(data: Path) -> subprocess.Popen[bytes]:
    """Start a shim for a data directory, in a session of its own, out of reach of our signals.

    The process that is started here forks the shim once its socket listens, and ends.
    """
    with (data / "shim.log").open("ab") as log:
        return subprocess.Popen(
            [*shim_command(), str(data)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={key: value for key, value in os.environ.items() if key in ("PATH", "LANG")},
        )
