"""A thread that goes over /proc for everybody who waits for something to be seen there.

One pass serves all runs that are being swept, frozen or thawed, so that stopping a thousand flows
costs a few passes and not a few thousand; the steps of all others are left out, so that stopping
one of a thousand costs no more than stopping one. The thread sleeps while nobody waits.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from flow_operator.errors import RunnerError
from flow_operator.runners import groups
from flow_operator.runners.procfs import (
    STOPPED_STATES,
    Proc,
    RunIndex,
    scan,
    send_signal,
    with_descendants,
)

Kind = Literal["sweep", "freeze", "thaw"]

_FIRST_DELAY = 0.002
_LAST_DELAY = 0.1
"""Seconds between passes while something is to be seen; doubled from first to last."""

_REST = 3
"""After a pass that has met nobody, nothing is looked at for so many times as long as it took (at
most the last delay): who comes meanwhile is served together, and passes do not keep the processor
from what they wait for. Whoever was met may fork, and is not to get ahead; who is alone with what
he waits for is served at once."""

_WORTH_TELLING = 0.2
"""Seconds after which what a sweep still finds is told as survivors."""

_EMPTY_PASSES = 2
"""A process that forks while it is being looked for shows in the second pass at the latest."""

log = structlog.get_logger("census")


@dataclass(slots=True)
class Job:
    """What somebody waits for.

    Attributes:
        leaders: pid -> start time of the run's steps; their sessions belong to the run.
        group: the run's cgroup, if it has one: all in it belong to the run.
        number: the signal that a sweep sends, once, to everything it finds.
        populated: whether anybody was in the group at the last look.
        signalled: what was sent its signal, by pid and start time.
    """

    kind: Kind
    leaders: Mapping[int, int]
    number: signal.Signals | None = None
    group: str | None = None
    populated: bool = False
    empty: int = 0
    seen: tuple[int, ...] = ()
    signalled: set[tuple[int, int]] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)


def _still_going(procs: list[Proc]) -> list[Proc]:
    """Those that can still run.

    One whose vfork(2)ed child was stopped before it could exec cannot, though it never shows as
    stopped: it waits for that child, uninterruptibly.
    """
    held_by_child = {proc.ppid for proc in procs if proc.state in STOPPED_STATES}
    return [
        proc
        for proc in procs
        if proc.state not in STOPPED_STATES
        and not (proc.state == "D" and proc.pid in held_by_child)
    ]


def _still_held(procs: list[Proc], job: Job) -> list[Proc]:
    """Those that are stopped, and each at least once.

    SIGCONT also takes back a SIGSTOP that is pending because it could not take effect yet.
    """
    held = [
        proc
        for proc in procs
        if proc.state in STOPPED_STATES or (proc.pid, proc.start) not in job.signalled
    ]
    job.signalled |= {(proc.pid, proc.start) for proc in held}
    return held


def _change_for(job: Job) -> What | None:
    """What is to be done to a whole group."""
    if job.group is None:
        return None
    if job.kind != "sweep":
        return job.kind
    return "kill" if job.populated and job.number == signal.SIGKILL else None


def _left_behind(procs: list[Proc], job: Job) -> tuple[int, ...]:
    """All of a run, if no step of it lives."""
    if any(job.leaders.get(proc.pid) == proc.start for proc in procs):
        return ()
    return tuple(sorted(proc.pid for proc in procs))


Besides = Callable[[Container[str]], Container[int]]
Done = Callable[[str, Kind], None]
Seen = Callable[[str, tuple[int, ...]], None]
What = Literal["kill", "freeze", "thaw"]
Change = Callable[[Sequence[tuple[str, What]]], Sequence[object]]


class Census:
    """Serves jobs by run id until closed.

    Args:
        home: the data directory, which the environment of our processes names.
        shim_pid: tells the present shim's pid, to which orphans of its children fall.
        besides: tells the living steps of all runs but those named: they belong to nobody else.
        on_done: called when a job's end was seen.
        on_survivors: called when the processes that a sweep finds have changed, and with those that
            have outlived every step when a run was seen frozen.
        change: kills, freezes or thaws the cgroups of runs, all in one go; returns for each an
            exception, or something else where it went well.
    """

    def __init__(
        self,
        home: str,
        shim_pid: Callable[[], int],
        besides: Besides,
        on_done: Done,
        on_survivors: Seen,
        change: Change,
    ) -> None:
        self._shim_pid = shim_pid
        self._besides = besides
        self._change = change
        self._on_done = on_done
        self._on_survivors = on_survivors
        self._jobs: dict[str, Job] = {}
        self._index = RunIndex(home)
        self._changed = threading.Condition()
        self._fresh = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="census", daemon=True)
        self._thread.start()

    def want(self, run: str, job: Job) -> None:
        """Add a job; one of the same run is replaced, or kept if it asks for the same."""
        with self._changed:
            present = self._jobs.get(run)
            if present is None or (present.kind, present.number) != (job.kind, job.number):
                self._jobs[run] = job
                self._fresh = True
                self._changed.notify()

    def drop(self, run: str) -> None:
        """Forget a run's job."""
        with self._changed:
            self._jobs.pop(run, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        delay, rested = _FIRST_DELAY, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._fresh:
                    self._changed.wait(delay)
                self._changed.wait_for(lambda: self._closed, max(rested - time.monotonic(), 0))
                if self._closed:
                    return
                delay = _FIRST_DELAY if self._fresh else min(delay * 2, _LAST_DELAY)
                self._fresh = False
                jobs = dict(self._jobs)
            begun = time.monotonic()
            try:
                met, progress = self._pass(jobs)
                if progress:
                    delay = _FIRST_DELAY
            except OSError as error:
                # What cannot be looked at is not gone. It has to be looked at again.
                log.warning("cannot look at every process", error=str(error))
                met, delay = True, _LAST_DELAY
            now = time.monotonic()
            alone = len(self._jobs) == 1
            rested = now if met or alone else now + min((now - begun) * _REST, _LAST_DELAY)

    def _pass(self, jobs: Mapping[str, Job]) -> tuple[bool, bool]:
        """One look at everything: whether it met any process, and brought any job further."""
        procs = scan(self._besides(jobs))
        members = self._members(procs, jobs)
        failed = self._change_groups(jobs)
        progress = False
        for run, job in jobs.items():
            mine = [procs[pid] for pid in members.get(run, ())]
            try:
                if run in failed:
                    raise failed[run]
                progress |= self._serve(run, job, mine)
            except (OSError, RunnerError) as error:
                # The next pass tries again; the others' jobs are not its business.
                log.warning("cannot look after a run", run=run, error=str(error))
        return not members.keys().isdisjoint(jobs), progress

    def _change_groups(self, jobs: Mapping[str, Job]) -> dict[str, Exception]:
        """Have all groups killed, frozen or thawed that are to be; returns what did not work."""
        changes = [(run, what) for run, job in jobs.items() if (what := _change_for(job))]
        outcomes = zip(changes, self._change(changes) if changes else (), strict=True)
        return {run: error for (run, _), error in outcomes if isinstance(error, Exception)}

    def _members(self, procs: dict[int, Proc], jobs: Mapping[str, Job]) -> dict[str, list[int]]:
        roots = self._index.runs(procs)
        for run, job in jobs.items():
            if job.group:
                job.populated, residents = groups.residents(job.group)
                roots |= dict.fromkeys(residents, run)
        leaders = {pid: (run, job) for run, job in jobs.items() for pid in job.leaders}
        shim = self._shim_pid()
        for proc in procs.values():
            if proc.sid in leaders and proc.pid not in roots:
                run, job = leaders[proc.sid]
                # A session's number may be another's by now; ours are led by our leader or, once
                # it is gone, have fallen to the shim.
                leads = proc.pid == proc.sid and job.leaders[proc.sid] == proc.start
                if leads or proc.ppid == shim:
                    roots[proc.pid] = run
        members: dict[str, list[int]] = {}
        for pid, run in with_descendants(procs, roots).items():
            if pid in procs:
                members.setdefault(run, []).append(pid)
        return members

    def _serve(self, run: str, job: Job, mine: list[Proc]) -> bool:
        match job.kind:
            case "sweep":
                return self._sweep(run, job, mine)
            case "freeze":
                if not self._hold(job, mine):
                    return False
                self._on_survivors(run, _left_behind(mine, job))
                return self._finish(run, job)
            case "thaw":
                return self._let_go(job, mine) and self._finish(run, job)

    def _hold(self, job: Job, mine: list[Proc]) -> bool:
        """Stop all of a run; returns whether all were seen to stand still.

        In a group, which is frozen by now, the kernel holds everybody, whoever sends SIGCONT.
        Others are sent SIGSTOP.
        """
        held: frozenset[int] = frozenset()
        if job.group:
            # Where nobody is left, a new shim may have tidied the group away.
            frozen, populated = groups.state(job.group)
            if populated and not frozen:
                return False
            held = groups.members(job.group)
        going = [proc for proc in _still_going(mine) if proc.pid not in held]
        for proc in going:
            send_signal(proc, signal.SIGSTOP)
        return not going

    def _let_go(self, job: Job, mine: list[Proc]) -> bool:
        """Undo :meth:`_hold`; returns whether all were seen to go on."""
        if job.group and groups.frozen(job.group):
            return False
        held = _still_held(mine, job)
        for proc in held:
            send_signal(proc, signal.SIGCONT)
        return not held

    def _sweep(self, run: str, job: Job, mine: list[Proc]) -> bool:
        for proc in mine:
            if proc.state in STOPPED_STATES:
                # An operator was killed while it paused the run. Who stands still does not end.
                send_signal(proc, signal.SIGCONT)
            if job.number is not None and (proc.pid, proc.start) not in job.signalled:
                send_signal(proc, job.number)
                job.signalled.add((proc.pid, proc.start))
        pids = tuple(sorted(proc.pid for proc in mine))
        job.empty = 0 if pids or job.populated else job.empty + 1
        if job.empty >= _EMPTY_PASSES:
            return self._finish(run, job)
        if pids != job.seen:
            # What is just dying is not worth telling.
            if time.monotonic() - job.since > _WORTH_TELLING:
                self._on_survivors(run, pids)
                job.seen = pids
            return True
        return not (pids or job.populated)

    def _finish(self, run: str, job: Job) -> bool:
        with self._changed:
            if self._jobs.get(run) is not job:
                return False
            del self._jobs[run]
        self._on_done(run, job.kind)
        return True
