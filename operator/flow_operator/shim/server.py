"""The shim's loop: one thread that answers the operator and reaps children."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from flow_operator.shim import cgroups, handover, protocol
from flow_operator.shim.cgroups import Cgroups
from flow_operator.shim.children import Children
from flow_operator.shim.connections import Client, Connections, UnknownRunError, listen
from flow_operator.shim.fifos import Held
from flow_operator.shim.pidfd import exit_status
from flow_operator.shim.pipes import Piped
from flow_operator.shim.runs import Run, Step, exit_of, signal_number
from flow_operator.shim.spawn import ROOM, SpawnError, raise_own_limit, require_room, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphaned descendants become our children instead of init's."""

_IDLE_EXIT = 60.0
"""Seconds without a run and without an operator after which the shim ends itself."""

_REAPED_WITHIN = 0.5
"""Seconds after which nobody seems to reap an adopted process that has ended."""

_STARTING = frozenset({"start", "spawn"})
"""Operations that may be carried out in the group of another run. To leave the one that was last
started in takes a tenth of a start; the next may begin from there as well."""

TELL_WITHIN = 0.005
"""Seconds within which exits are told while a volley is carried out; else at once."""

LOOK_AGAIN = 0.02
"""Seconds between looks at adopted processes that nobody has reaped yet."""


class Shim:
    """Serves one data directory until it is told to end.

    Args:
        data: the directory.
        lock: the descriptor whose flock makes this the only shim of it.
        listener: where operators connect.
    """

    def __init__(self, data: str, lock: int, listener: socket.socket) -> None:
        self._data = data
        self._lock = lock
        self._code = protocol.code()
        self._runs: dict[str, Run] = {}
        self._instances: dict[tuple[str, int], str] = {}
        self._held = Held(data)
        self._children: dict[int, tuple[str, int]] = {}
        self._checks: dict[int, str] = {}
        self._base: dict[str, str] = {}
        self._groups: Cgroups | None = None
        self._unreaped: list[tuple[float, Run, Step]] = []
        self._exits: dict[str, Run] = {}
        """Runs of which a step has ended, and that was not told yet."""
        self._exits_since = 0.0
        self._selector = selectors.DefaultSelector()
        self._connections = Connections(self._selector, listener, self._answer)
        raise_own_limit()
        self._reaper = Children(self._reaped)
        gc.set_threshold(50_000, 10, 10)  # As in flowd: next to nothing here is in a cycle.
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
            "upgrade": self._upgrade,
            "pipes": self._pipes,
            "check": self._check,
            "check-kill": self._check_kill,
            "hold": self._held.hold,
            "end-held": self._held.end,
            "release": self._held.release,
            "shutdown": self._shutdown,
        }

    def serve(self) -> None:
        """Run until told to end, or until nobody needs it."""
        self._selector.register(self._catch_signals(), selectors.EVENT_READ, self._woken)
        self._selector.register(self._reaper, selectors.EVENT_READ, lambda *_: self._reaper.look())
        self._reaper.look_at_all()  # What ended while another program was this shim.
        while self._running:
            more = self._connections.busy
            for key, mask in self._selector.select(0 if more else self._timeout()):
                key.data(key.fileobj, mask)
            self._connections.go_on()
            self._look_at_unreaped()
            self._reaper.look_if_due()
            self._tell_exits()
            self._connections.keep_reserve()
            self._look_at_clock()
        os.unlink(os.path.join(self._data, protocol.SOCKET_NAME))
        if self._groups is not None:
            self._groups.close()
        self._held.close()
        self._reaper.close()

    @property
    def _needed(self) -> bool:
        return bool(self._runs or self._held or self._connections)

    def _timeout(self) -> float | None:
        return min([*self._looks_in(), *([] if self._needed else [_IDLE_EXIT])], default=None)

    def _looks_in(self) -> list[float]:
        """Seconds until there is to be looked for ends that nothing tells of."""
        looks = [LOOK_AGAIN] if self._unreaped else []
        if (look := self._reaper.look_in) is not None:
            looks.append(look)
        return looks

    def _catch_signals(self) -> int:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        return read

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if self._needed:
            self._idle_since = now
        elif now - self._idle_since >= _IDLE_EXIT:
            self._running = False

    def _answer(self, message: dict[str, Any], client: Client, following: Any) -> Any:
        starts, more_follow = _starts(message), _starts(following)
        if not starts:
            self._go_home()
        elif self._groups is not None:
            self._groups.more_follow = more_follow
        try:
            return self._ops[message["op"]](message, client)
        finally:
            # Before the answer: whoever has it may have everybody in the group killed.
            if starts and not more_follow:
                self._go_home()

    def _go_home(self) -> None:
        if self._groups is not None:
            self._groups.go_home()

    # --- children ------------------------------------------------------------------------

    def _woken(self, wakeup: int, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in set(os.read(wakeup, 4096)):
                self._signalled(number)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGUSR1:
            # Somebody has removed the socket, and an operator asks for another.
            self._connections.listen_again(listen(self._data))

    def _reaped(self, pid: int, status: int) -> None:
        reason, code, number = exit_of(status)
        if pid in self._checks:
            tag = self._checks.pop(pid)
            self._connections.tell({"event": "check", "tag": tag, "code": code, "signal": number})
            return
        if pid not in self._children:
            return  # An orphan that came to us as its subreaper.
        name, index = self._children.pop(pid)
        run = self._runs[name]
        run.steps[index].left(reason, code, number)
        self._tell_exit(run)

    def _adopted_exit(self, run: Run, step: Step) -> None:
        """A process that is no child of ours has ended; its parent is about to reap it."""
        self._selector.unregister(step.pidfd)
        self._unreaped.append((time.monotonic() + _REAPED_WITHIN, run, step))

    def _look_at_unreaped(self) -> None:
        for entry in list(self._unreaped):
            until, run, step = entry
            detail = "it is no child of this shim"
            try:
                status = exit_status(step.pidfd)
                if status is None and time.monotonic() < until:
                    continue
            except OSError:
                status, detail = None, f"{detail}, and Linux tells only from 6.15 on"
            self._unreaped.remove(entry)
            if status is None:
                step.left("ExitUnknown", None, None, detail)
            else:
                step.left(*exit_of(status))
            self._tell_exit(run)

    def _tell_exit(self, run: Run) -> None:
        """Have it told, soon; many that come at once disturb the operator but once."""
        if not self._exits:
            self._exits_since = time.monotonic()
        self._exits[run.run] = run

    def _tell_exits(self) -> None:
        soon = self._connections.busy and time.monotonic() - self._exits_since < TELL_WITHIN
        if self._exits and not soon:
            states = [run.state() for run in self._exits.values()]
            self._exits.clear()
            self._connections.tell({"event": "exits", "runs": states})

    def _run(self, message: dict[str, Any]) -> Run:
        run = self._runs.get(message["run"])
        if run is None:
            raise UnknownRunError(message["run"])
        return run

    def find_groups(self) -> None:
        """Take our place among the cgroups, where there are any that we may write."""
        self._groups = Cgroups.found(self._data)

    # --- requests ------------------------------------------------------------------------

    def _hello(self, message: dict[str, Any], client: Client) -> dict[str, Any]:
        self._base = message["env"]
        if not message["cgroups"]:
            self._groups = None
        elif self._groups is None:
            self.find_groups()
        client.subscribed = True
        return {
            "version": protocol.VERSION,
            "code": self._code,
            "pid": os.getpid(),
            "controllers": None if self._groups is None else sorted(self._groups.controllers),
            "runs": [run.state() for run in self._runs.values()],
        }

    def _start(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        name, labels, steps = message["run"], message["labels"], message["steps"]
        run = self._runs.get(name)
        if run is None:
            require_room(ROOM)
            run = self._register(Run(name, labels, len(steps)))
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
        if run.launch(index, attempt, spec, env, self._groups, self._reaper.look_at_all):
            self._children[run.steps[index].pid] = (run.run, index)

    def _adopt(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        name, known = message["run"], message["steps"]
        if name not in self._runs:
            run = self._register(Run(name, message["labels"], len(known)))
            run.adopt(known, self._groups)
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

    def _signal(self, message: dict[str, Any], _: Client) -> bool:
        self._run(message).signal(message["steps"], signal_number(message["signal"]))
        return True

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
            self._exits.pop(run.run, None)
            del self._runs[run.run]
            del self._instances[_instance(run.labels)]
        return True

    def _usage(self, message: dict[str, Any], _: Client) -> dict[str, list[int]]:
        return {name: piped.in_flight() for name, piped in self._piped(message["runs"])}

    def _pipes(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        return {name: piped.fills() for name, piped in self._piped(message["runs"])}

    def _piped(self, wanted: list[str]) -> Iterator[tuple[str, Piped]]:
        for name in wanted:
            piped = self._runs.get(name) or self._held.get(name)
            if piped is not None:
                yield name, piped

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

    def _upgrade(self, message: dict[str, Any], _: Client) -> None:
        """Become the program of another version; who asked sees the connection end.

        Raises:
            RuntimeError: it cannot take over; nothing has changed.
        """
        kept = [self._lock, self._connections.listener.fileno()]
        document = {
            "lock": kept[0],
            "listener": kept[1],
            "base": self._base,
            "groups": self._groups.root if self._groups is not None else None,
            "children": [[pid, *place] for pid, place in self._children.items()],
            "checks": list(self._checks.items()),
            "runs": [handover.pack_run(run) for run in self._runs.values()],
            "held": self._held.pack(),
        }
        inherited = kept + handover.descriptors(document)
        handover.become([*message["command"], self._data], document, inherited)

    def resume(self, document: dict[str, Any]) -> None:
        """Go on where the program that this process was before has stopped."""
        self._base = document["base"]
        self._groups = Cgroups(document["groups"]) if document["groups"] else None
        self._children = {pid: (run, step) for pid, run, step in document["children"]}
        self._checks = dict(document["checks"])
        self._held.unpack(document["held"])
        for descriptor in handover.descriptors(document):
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - os names it so
        for packed in document["runs"]:
            run = self._register(handover.unpack_run(packed))
            for step in run.steps:
                if step.pidfd >= 0:
                    self._watch_adopted(run, step)

    def _shutdown(self, _message: dict[str, Any], _: Client) -> bool:
        """End, unless something still runs."""
        self._running = any(run.alive for run in self._runs.values())
        return not self._running


def _starts(message: Any) -> bool:
    return isinstance(message, dict) and message.get("op") in _STARTING


def _instance(labels: dict[str, Any]) -> tuple[str, int]:
    return labels["flow"], labels["replica"]


def _become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def main(data: str, handed: str | None = None, *options: str) -> None:
    """Start serving a data directory in a process of its own; return once it can be reached.

    Where another shim already serves it, nothing happens.

    Args:
        data: the data directory.
        handed: the descriptor of what a shim of another version hands over to this program, in
            the same process.
        options: ``--trial`` only looks whether that can be read.
    """
    if handed is not None:
        _take_over(data, int(handed), trial="--trial" in options)
        return
    claimed = claim(data)
    if claimed is None or os.fork() > 0:
        return
    # Whoever ends a terminal or a service means the operator, which drains and tells us.
    settle(claimed[0], ignored=("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGQUIT"))
    Shim(data, *claimed).serve()


def claim(data: str) -> tuple[int, socket.socket] | None:
    """The lock and the listener of a data directory; None where another shim serves it."""
    lock = os.open(
        os.path.join(data, protocol.LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock, listen(data)


def settle(lock: int, ignored: Sequence[str]) -> None:
    """Become the process that holds a lock: named in it, in nobody's way, parent of orphans."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    os.chdir("/")
    for name in ignored:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    _become_subreaper()


def _take_over(data: str, descriptor: int, *, trial: bool) -> None:
    document = handover.read(descriptor)
    if trial:
        for packed in document["runs"]:
            handover.unpack_run(packed)
        Held(data).unpack(document["held"])
        return
    os.close(descriptor)
    for kept in (document["lock"], document["listener"]):
        os.set_inheritable(kept, False)  # noqa: FBT003 - os names it so
    shim = Shim(data, document["lock"], socket.socket(fileno=document["listener"]))
    shim.resume(document)
    shim.serve()
