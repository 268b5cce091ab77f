"""What the shim keeps: runs, their steps and the pipes between them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from functools import partial

from flow_operator.shim import cgroups
from flow_operator.shim.birth import Births, start_time
from flow_operator.shim.cgroups import Cgroups
from flow_operator.shim.fork import ForkError
from flow_operator.shim.pidfd import signal_group
from flow_operator.shim.pipes import Pipe, Piped
from flow_operator.shim.spawn import NULL, SpawnError, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPOCH = time.monotonic_ns()
"""When this shim was started: what it tells is newer than all that one before it has told."""

_BIRTHS = Births()


def _pipe_at(path: str) -> int | None:
    """Which pipe a process holds as ``/proc/PID/fd/N``; None if it is none, or cannot be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino if stat.S_ISFIFO(found.st_mode) else None


class Step:
    """One step of a run: its present process, or how the last one ended.

    Attributes:
        leaf: the directory of its present attempt's cgroup, if it has one.
        limits: which of those that were asked for hold.
        cut: whether its present attempt has seen an end of its input because a shim was killed.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.pid = 0
        self.start = 0
        self.pidfd = -1
        self.ended = False
        self.exit: dict[str, Any] | None = None
        self.leaf: str | None = None
        self.limits: dict[str, bool] = {}
        self.log_from: int | None = None
        self.cut = False

    @property
    def alive(self) -> bool:
        """Whether its process has not been reaped."""
        return self.pid > 0 and self.exit is None

    def left(self, reason: str, code: int | None, number: int | None, detail: str = "") -> None:
        """Record how the process ended; ``code`` and signal ``number`` as waitpid tells them."""
        if number == signal.SIGKILL and self.leaf and cgroups.out_of_memory(self.leaf):
            reason = "OOMKilled"
        self.exit = {
            "reason": reason,
            "code": code,
            "signal": number,
            "detail": detail,
            "at": time.monotonic(),
            "wall": time.time(),
        }
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Run(Piped):
    """One instance of a flow: its steps and the pipes that join them.

    Attributes:
        group: the directory of its cgroup, if it has one.
        lost: the pipes, by the index of the step before them, that an earlier shim held and this
            one could not get hold of.
    """

    def __init__(self, run: str, labels: Mapping[str, Any], count: int) -> None:
        self.run = run
        self.labels = dict(labels)
        self.seq = 0
        self.group: str | None = None
        self.lost: list[int] = []
        self.steps = [Step() for _ in range(count)]
        super().__init__()
        try:
            for _ in range(count - 1):
                self.pipes.append(Pipe.fresh())
        except OSError:
            self.close()
            raise

    def launch(
        self,
        index: int,
        attempt: int,
        spec: Mapping[str, Any],
        env: dict[str, str],
        groups: Cgroups | None,
        reap: Callable[[], None],
    ) -> bool:
        """Start a step unless it was already; returns whether there is a new process.

        A step that cannot be started counts as one that exited, with reason ``SpawnFailed``.
        Where the limit of processes is reached, the dead ones are buried first.
        """
        step = self.steps[index]
        if attempt <= step.attempt or step.alive or step.ended:
            return False
        step.attempt = attempt
        step.exit = None
        step.pid = 0
        step.cut = False
        step.log_from = spec.get("log_from")
        try:
            place = self._place(groups, index) if groups is not None else None
            start = partial(self._start, index, spec, env, groups, place)
            try:
                step.pid, step.start = start()
            except SpawnError as error:
                if error.errno != errno.EAGAIN:
                    raise
                reap()
                step.pid, step.start = start()
        except (SpawnError, OSError) as error:
            step.left("SpawnFailed", None, None, str(error))
            return False
        if groups is not None and spec["limits"]:
            groups.go_home()  # They would hold for us too.
        step.limits = cgroups.limit(step.leaf, spec["limits"])
        return True

    def _place(self, groups: Cgroups, index: int) -> str | None:
        """Where in the run's group a step goes; that is made where none lives without one."""
        step = self.steps[index]
        if step.leaf is not None:
            cgroups.remove(step.leaf)  # Fails, as it should, where somebody has outlived its step.
            step.leaf = None
        if self.group is None and not self.alive:
            with contextlib.suppress(OSError):  # Then it is started like where there are none.
                self.group = groups.open(self.run)
        if self.group is None:
            groups.go_home()  # Not in the group of the one that was started before.
            return None
        leaf = f"{index}.{step.attempt}"
        try:
            place = groups.place(self.group, leaf)
        except FileNotFoundError:
            # Somebody has tidied it away, as he may while nobody is in it.
            self.group = groups.open(self.run)
            place = groups.place(self.group, leaf)
        step.leaf = place if place != self.group else None
        return place

    def _start(
        self,
        index: int,
        spec: Mapping[str, Any],
        env: dict[str, str],
        groups: Cgroups | None,
        place: str | None,
    ) -> tuple[int, int]:
        """Start a process at its place; returns its pid and its start time."""
        if groups is None or place is None:
            return self._spawn(index, spec, env, None)
        if groups.born_there():
            try:
                return self._spawn(index, spec, env, place)
            except ForkError as error:
                groups.refused = error.lasting
        groups.enter(place)
        return self._spawn(index, spec, env, None)

    def _spawn(
        self, index: int, spec: Mapping[str, Any], env: dict[str, str], group: str | None
    ) -> tuple[int, int]:
        log = os.open(spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            first, last = index == 0, index == len(self.steps) - 1
            stdin = NULL if first else self.pipes[index - 1].read
            stdout = log if last else self.pipes[index].write
            return _BIRTHS.tell(lambda: spawn(spec, env, (stdin, stdout, log), group))
        finally:
            os.close(log)

    def adopt(self, known: list[dict[str, Any]], groups: Cgroups | None) -> None:
        """Take over processes that another shim started: pipes through /proc, exits by pidfd.

        Where no step lives any more, what it left behind may still be in the group.
        """
        places = (cgroups.group_of(process["pid"], self.run) for process in known)
        left = groups.of(self.run) if groups is not None else None
        self.group = next(filter(None, places), left)
        for index, (step, process) in enumerate(zip(self.steps, known, strict=True)):
            step.attempt = process["attempt"]
            step.log_from = process.get("log_from")
            self._take(step, process)
            leaf = self._leaf(index, step.attempt)
            if leaf is not None:
                step.leaf, step.limits = leaf, cgroups.held(leaf)
            if index + 1 < len(self.steps):
                self._hold_again(index, process, known[index + 1])
                # For a moment nobody could have written.
                self.steps[index + 1].cut = step.exit is not None and not process["ended"]
        for index, process in enumerate(known):
            if process["ended"]:
                self.end(index)

    def _leaf(self, index: int, attempt: int) -> str | None:
        """The group of a step's attempt, where it was started in one."""
        leaf = os.path.join(self.group, f"{index}.{attempt}") if self.group is not None else ""
        return leaf if os.path.isdir(leaf) else None

    def _take(self, step: Step, process: Mapping[str, Any]) -> None:
        pid = process["pid"]
        step.pid, step.start = pid, process["start"]
        try:
            step.pidfd = os.pidfd_open(pid) if pid else -1
        except OSError:
            step.pidfd = -1
        # The descriptor first, then the check: it then is the process that we mean.
        if pid == 0 and process["exit"] is not None:
            step.exit = {"code": None, "signal": None, "detail": "", **process["exit"]}
        elif step.pidfd < 0 or start_time(pid) != step.start:
            step.left("ExitUnknown", None, None, "ended while no shim was watching")

    def _hold_again(self, index: int, writer: Mapping[str, Any], reader: Mapping[str, Any]) -> None:
        ends = [(writer, self.steps[index], 1), (reader, self.steps[index + 1], 0)]
        paths = [f"/proc/{told['pid']}/fd/{fd}" for told, step, fd in ends if step.exit is None]
        # Two pipes, and one of them is none of ours: to hold it would keep its end from being seen.
        found = {inode: path for path in paths if (inode := _pipe_at(path)) is not None}
        pipe = Pipe.reopened(*found.values()) if len(found) == 1 else None
        if pipe is None:
            self.lost.append(index)
            return
        self.pipes[index].close_read()
        self.pipes[index].close_write()
        self.pipes[index] = pipe

    def end(self, index: int) -> None:
        """A step has ended for good: its reader will see end of file, its writer a broken pipe."""
        self.steps[index].ended = True
        super().end(index)

    def signal(self, indexes: list[int], number: int) -> None:
        """Signal the process groups of those steps that live.

        A child that was not reaped keeps its pid; one that was adopted is meant by its pidfd.
        """
        for index in indexes:
            step = self.steps[index]
            if step.alive:
                try:
                    if step.pidfd >= 0:
                        signal_group(step.pidfd, step.pid, number)
                    else:
                        os.killpg(step.pid, number)
                except (ProcessLookupError, PermissionError):
                    _signal_leader(step, number)

    def close(self) -> None:
        """Give the pipes and the group back."""
        super().close()
        if self.group is not None:
            cgroups.remove(self.group)

    @property
    def alive(self) -> bool:
        """Whether any step has a process."""
        return any(step.alive for step in self.steps)

    @property
    def unheld(self) -> list[int]:
        """Those of the lost pipes that are in use: by an adopted process, which has a pidfd.

        Whoever is started beside them gets another pipe, which is held.
        """
        return [i for i in self.lost if any(step.pidfd >= 0 for step in self.steps[i : i + 2])]

    def state(self) -> dict[str, Any]:
        """The run as it is told to the operator.

        ``seq`` grows, also from one shim to the next, so that the newest is known; ``leader`` is
        the pid of the last process, whose session may outlive it.
        """
        self.seq += 1
        return {
            "run": self.run,
            "seq": [_EPOCH, self.seq],
            "labels": self.labels,
            "group": self.group,
            "unheld": self.unheld,
            "steps": [
                {
                    "attempt": step.attempt,
                    "pid": step.pid if step.alive else 0,
                    "leader": step.pid,
                    "start": step.start,
                    "ended": step.ended,
                    "exit": step.exit,
                    "limits": step.limits,
                    "input": self.pipes[index - 1].bytes() if index and not step.alive else 0,
                    "log_from": step.log_from,
                    "cut": step.cut,
                }
                for index, step in enumerate(self.steps)
            ],
        }


def _signal_leader(step: Step, number: int) -> None:
    # A zombie that changed its owner, or one that is just being reaped, cannot be signalled.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(step.pid, number)


def exit_of(status: int) -> tuple[str, int | None, int | None]:
    """(reason, code, signal) of a status from waitpid."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return ("Completed" if code == 0 else "Error"), code, None
    return "Signaled", None, -code


def signal_number(name: str) -> int:
    """The number of ``SIGTERM`` and its like."""
    return int(signal.Signals[name])
