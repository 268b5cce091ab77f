"""The shim's loop: one thread that answers the operator and reaps children."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flow_operator.shim import cgroups, protocol
from flow_operator.shim.cgroups import Cgroups
from flow_operator.shim.runs import Run, Step, exit_of, signal_number
from flow_operator.shim.spawn import SpawnError, raise_own_limit, spawn

_PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphaned descendants become our children instead of init's."""

_IDLE_EXIT = 60.0
"""Seconds without a run and without an operator after which the shim ends itself."""

_MAX_QUEUED = 10_000
"""Messages that wait for one operator; beyond it is cut off and asks again from the start."""

_PEER = struct.Struct("3i")


class UnknownRunError(Exception):
    """A request is about a run that this shim does not have."""


class Client:
    """One connection of an operator."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.queue: deque[bytes] = deque()
        self.subscribed = False


class Shim:
    """Serves one data directory until it is told to end."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._runs: dict[str, Run] = {}
        self._instances: dict[tuple[str, int], str] = {}
        self._children: dict[int, tuple[str, int]] = {}
        self._checks: dict[int, str] = {}
        self._base: dict[str, str] = {}
        self._groups: Cgroups | None = None
        self._clients: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self._running = True
        self._idle_since = time.monotonic()
        self._ops: dict[str, Callable[[dict[str, Any], Client], Any]] = {
            "hello": self._hello,
            "start": self._start,
            "spawn": self._respawn,
            "adopt": self._adopt,
            "end": self._end,
            "signal": self._signal,
            "group": self._group,
            "forget": self._forget,
            "usage": self._usage,
            "check": self._check,
            "check-kill": self._check_kill,
            "shutdown": self._shutdown,
        }

    def serve(self, listener: socket.socket) -> None:
        """Run until told to end, or until nobody needs it."""
        wakeup = self._catch_children()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(wakeup, selectors.EVENT_READ, self._woken)
        while self._running:
            timeout = None if self._runs or self._clients else _IDLE_EXIT
            for key, mask in self._selector.select(timeout):
                key.data(key.fileobj, mask)
            self._end_when_idle()
        os.unlink(self._data / protocol.SOCKET_NAME)
        if self._groups is not None:
            self._groups.close()

    def _catch_children(self) -> int:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return read

    def _end_when_idle(self) -> None:
        now = time.monotonic()
        if self._runs or self._clients:
            self._idle_since = now
        elif now - self._idle_since >= _IDLE_EXIT:
            self._running = False

    # --- connections ---------------------------------------------------------------------

    def _accept(self, listener: socket.socket, _: int) -> None:
        try:
            sock, _address = listener.accept()
        except OSError:
            return  # No descriptor is left, or the caller has gone: who calls will call again.
        sock.setblocking(False)  # noqa: FBT003 - the name of the method tells
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(raw)
        if uid not in (os.geteuid(), 0):
            sock.close()
            return
        client = Client(sock)
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda _s, m: self._serve(client, m))

    def _serve(self, client: Client, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(client)
            if mask & selectors.EVENT_READ:
                message = protocol.receive(client.sock)
                if message is None:
                    self._drop(client)
                else:
                    self._answer(message, client)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop(client)  # It has gone, or speaks no language of ours.

    def _answer(self, message: Any, client: Client) -> None:
        if not isinstance(message, dict):
            self._drop(client)
            return
        number = message.get("id")
        try:
            reply = {"id": number, "ok": self._ops[message["op"]](message, client)}
        except UnknownRunError as error:
            reply = {"id": number, "error": str(error), "unknown": True}
        except Exception as error:  # noqa: BLE001 - the shim outlives every mistake of a request
            reply = {"id": number, "error": f"{type(error).__name__}: {error}"}
        self._send(client, protocol.encode(reply))

    def _send(self, client: Client, data: bytes) -> None:
        if client not in self._clients:
            return
        client.queue.append(data)
        if len(client.queue) > _MAX_QUEUED:
            self._drop(client)
        elif len(client.queue) == 1:
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.queue:
                protocol.send(client.sock, client.queue[0])
                client.queue.popleft()
            events = selectors.EVENT_READ
        except BlockingIOError:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
        except OSError:
            self._drop(client)
            return
        if self._selector.get_key(client.sock).events != events:
            data = self._selector.get_key(client.sock).data
            self._selector.modify(client.sock, events, data)

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.sock)
            client.sock.close()

    def _tell(self, event: dict[str, Any]) -> None:
        data = protocol.encode(event)
        for client in list(self._clients):
            if client.subscribed:
                self._send(client, data)

    # --- children ------------------------------------------------------------------------

    def _woken(self, wakeup: int, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        reason, code, number = exit_of(status)
        if pid in self._checks:
            tag = self._checks.pop(pid)
            self._tell({"event": "check", "tag": tag, "code": code, "signal": number})
            return
        if pid not in self._children:
            return  # An orphan that came to us as its subreaper.
        name, index = self._children.pop(pid)
        run = self._runs[name]
        run.steps[index].left(reason, code, number)
        self._tell({"event": "exit", **run.state()})

    def _adopted_exit(self, run: Run, step: Step) -> None:
        self._selector.unregister(step.pidfd)
        step.left("ExitUnknown", None, None, "not a child of this shim")
        self._tell({"event": "exit", **run.state()})

    def _run(self, message: dict[str, Any]) -> Run:
        run = self._runs.get(message["run"])
        if run is None:
            raise UnknownRunError(message["run"])
        return run

    # --- requests ------------------------------------------------------------------------

    def _hello(self, message: dict[str, Any], client: Client) -> dict[str, Any]:
        self._base = message["env"]
        if not message["cgroups"]:
            self._groups = None
        elif self._groups is None:
            self._groups = Cgroups.found(str(self._data))
        client.subscribed = True
        return {
            "version": protocol.VERSION,
            "pid": os.getpid(),
            "runs": [run.state() for run in self._runs.values()],
        }

    def _start(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        name, labels, steps = message["run"], message["labels"], message["steps"]
        run = self._runs.get(name)
        if run is None:
            run = self._register(Run(name, labels, len(steps)))
            if self._groups is not None:
                with contextlib.suppress(OSError):  # Then it is started like where there are none.
                    run.group = self._groups.open(name)
        for index, spec in enumerate(steps):
            self._launch(run, index, 1, spec)
        return run.state()

    def _register(self, run: Run) -> Run:
        """Keep a run; a second one for the same instance of a flow is refused."""
        instance = _instance(run.labels)
        other = self._instances.get(instance)
        if other is not None:
            run.close()
            raise RuntimeError(f"the run {other} still stands for {instance}")
        self._instances[instance] = run.run
        self._runs[run.run] = run
        return run

    def _respawn(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        run = self._run(message)
        self._launch(run, message["step"], message["attempt"], message["spec"])
        return run.state()

    def _launch(self, run: Run, index: int, attempt: int, spec: dict[str, Any]) -> None:
        env = {**self._base, **spec["env"]}
        if run.launch(index, attempt, spec, env, self._groups):
            self._children[run.steps[index].pid] = (run.run, index)

    def _adopt(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        name, known = message["run"], message["steps"]
        if name not in self._runs:
            run = self._register(Run(name, message["labels"], len(known)))
            run.adopt(known)
            for step in run.steps:
                if step.pidfd >= 0:
                    self._watch_adopted(run, step)
        return self._runs[name].state()

    def _watch_adopted(self, run: Run, step: Step) -> None:
        def gone(_descriptor: int, _mask: int) -> None:
            self._adopted_exit(run, step)

        self._selector.register(step.pidfd, selectors.EVENT_READ, gone)

    def _end(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        run = self._run(message)
        run.end(message["step"])
        return run.state()

    def _signal(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        run = self._run(message)
        run.signal(message["steps"], signal_number(message["signal"]))
        return run.state()

    def _group(self, message: dict[str, Any], _: Client) -> bool:
        run = self._run(message)
        if run.group is not None:
            cgroups.change(run.group, message["what"])
        return True

    def _forget(self, message: dict[str, Any], _: Client) -> bool:
        run = self._runs.get(message["run"])
        if run is not None:
            if run.alive:
                raise RuntimeError(f"{run.run} is alive")
            run.close()
            del self._runs[run.run]
            del self._instances[_instance(run.labels)]
        return True

    def _usage(self, message: dict[str, Any], _: Client) -> dict[str, list[int]]:
        wanted = message["runs"]
        return {name: self._runs[name].in_flight() for name in wanted if name in self._runs}

    def _check(self, message: dict[str, Any], _: Client) -> int:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            spec = message["spec"]
            pid = spawn(spec, {**self._base, **spec["env"]}, (null, null, null))
        except SpawnError as error:
            raise RuntimeError(str(error)) from None
        finally:
            os.close(null)
        self._checks[pid] = message["tag"]
        return pid

    def _check_kill(self, message: dict[str, Any], _: Client) -> bool:
        for pid, tag in self._checks.items():
            if tag == message["tag"]:
                os.killpg(pid, signal.SIGKILL)
        return True

    def _shutdown(self, _message: dict[str, Any], _: Client) -> bool:
        """End, unless something still runs."""
        self._running = any(run.alive for run in self._runs.values())
        return not self._running


def _instance(labels: dict[str, Any]) -> tuple[str, int]:
    return labels["flow"], labels["replica"]


def _listen(data: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with protocol.SocketPath(data) as path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        previous = os.umask(0o177)
        listener.bind(path)
        os.umask(previous)
    listener.listen(8)
    return listener


def _become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def main(directory: str) -> None:
    """Start serving a data directory in a process of its own; return once it can be reached.

    Where another shim already serves it, nothing happens.
    """
    data = Path(directory)
    lock = os.open(data / protocol.LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    listener = _listen(data)
    if os.fork() > 0:
        return
    os.chdir("/")
    raise_own_limit()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"):
        # Whoever ends a terminal or a service means the operator, which drains and tells us.
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    _become_subreaper()
    Shim(data).serve(listener)
