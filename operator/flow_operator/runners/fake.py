"""A runner without processes: what tests of the reconcile loop run on.

It keeps the whole contract of :mod:`flow_operator.runners.base`, at once instead of soon. A step's
script says how it behaves, in words that mean the same to a shell:

=========================== ==============================================
``echo WORD; ...``          prints a line as soon as it is started, then goes on with the rest
``exit N``                  exits with that code as soon as it is started
``cat``                     writes what the step before it writes, and ends well when that has ended
``exec yes``                writes all the time: the pipe after it is full, unless ``cat`` reads it
``while :; do ...``         writes a line now and then
``trap '' TERM; ...``       ignores SIGTERM
anything else               runs until it is signalled
=========================== ==============================================
"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flow_operator.clock import Clock, SystemClock
from flow_operator.errors import RetryableError, TerminalError
from flow_operator.model.flow import Step
from flow_operator.runners.base import (
    Call,
    Capabilities,
    CheckResult,
    Exit,
    Finish,
    Handle,
    Instance,
    Launch,
    LogPart,
    Notify,
    PipeView,
    StepView,
    Usage,
    one_by_one,
)

_EXIT = re.compile(r"exit (\d+)")
_ECHO = re.compile(r"echo (\w+); (.*)")
_PIPE = 64 * 1024


@dataclass
class FakeStep:
    """One step, and how it behaves.

    Attributes:
        log: everything that was printed, by all attempts.
        written: bytes that it has written to anything.
        unread: bytes in the pipe before it.
        cpu: seconds that it has computed.
    """

    script: str
    attempt: int = 0
    pid: int = 0
    ended: bool = False
    exit: Exit | None = None
    log: bytes = b""
    log_from: int = 0
    written: int = 0
    unread: int = 0
    cpu: float = 0.0

    def prints(self, line: str) -> None:
        """Have it write a line to its log."""
        self.log += line.encode() + b"\n"
        self.written += len(line) + 1

    def view(self) -> StepView:
        """As it is observed."""
        return StepView(
            self.attempt, self.pid, self.attempt, self.ended, self.exit, log_from=self.log_from
        )


@dataclass
class FakeRun:
    """One run."""

    flow_id: str
    replica: int
    steps: list[FakeStep]
    frozen: bool = False
    gone: bool = False

    def work(self) -> None:
        """Have those write that always do, and pass it on."""
        fed = False
        for step in self.steps:
            busy = step.script == "exec yes" or step.script.startswith("while :; do")
            fed = step.pid > 0 and not self.frozen and (busy or (step.script == "cat" and fed))
            step.written += fed


@dataclass
class FakeWorld:
    """The backend: it outlives the runners that are connected to it.

    Attributes:
        away: while set, every verb raises RetryableError.
        verbs: what was called, in order.
    """

    clock: Clock = field(default_factory=SystemClock)
    runs: dict[str, FakeRun] = field(default_factory=dict)
    away: bool = False
    verbs: list[tuple[str, str]] = field(default_factory=list)
    pids: itertools.count[int] = field(default_factory=lambda: itertools.count(100))

    def exit(self, run: str, index: int, *, code: int | None = None, number: int = 0) -> None:
        """Have a step's process end."""
        step = self.runs[run].steps[index]
        if step.pid == 0:
            return
        step.pid = 0
        reason = "Signaled" if number else ("Completed" if code == 0 else "Error")
        moment, wall = self.clock.monotonic(), self.clock.wall()
        step.exit = Exit(reason, code, number or None, "", moment, wall)

    def start(self, run: str, index: int, attempt: int) -> None:
        """Have a step's process start, and behave."""
        step = self.runs[run].steps[index]
        if attempt <= step.attempt or step.pid or step.ended:
            return
        step.attempt, step.pid, step.exit = attempt, next(self.pids), None
        step.log_from = len(step.log)
        script = step.script
        if echo := _ECHO.fullmatch(script):
            step.prints(echo.group(1))
            script = echo.group(2)
        if leave := _EXIT.fullmatch(script):
            self.exit(run, index, code=int(leave.group(1)))
        steps = self.runs[run].steps
        if script == "exec yes" and index + 1 < len(steps) and steps[index + 1].script != "cat":
            steps[index + 1].unread = _PIPE


class FakeRunner:
    """A runner on a :class:`FakeWorld`."""

    quick = True

    def __init__(self, world: FakeWorld) -> None:
        self._world = world
        self._notify: Notify = lambda _flow_id: None

    @property
    def capabilities(self) -> Capabilities:
        """As much as local processes."""
        return Capabilities(freeze=True, step_restart=True)

    def start(self, notify: Notify) -> None:
        """Connect."""
        self._notify = notify

    def recover(self, handles: Iterable[Handle]) -> None:
        """The world has kept everything."""

    def close(self, *, final: bool) -> None:
        """Disconnect; the world goes on."""

    def flow_ids(self) -> frozenset[str]:
        """The flows with a run."""
        return frozenset(run.flow_id for run in self._world.runs.values())

    def observe(self, flow_id: str) -> tuple[Instance, ...]:
        """The flow's runs."""
        return tuple(
            Instance(
                name,
                run.flow_id,
                run.replica,
                tuple(step.view() for step in run.steps),
                run.frozen,
                run.gone,
                thawed=not run.frozen,
            )
            for name, run in sorted(self._world.runs.items())
            if run.flow_id == flow_id
        )

    def exits(self, run: str, index: int, *, code: int | None = None, number: int = 0) -> None:
        """Have a step end by itself, and tell."""
        self._world.exit(run, index, code=code, number=number)
        self._notify(self._world.runs[run].flow_id)

    # --- verbs ---------------------------------------------------------------------------

    def _verb(self, name: str, run: str) -> FakeRun | None:
        self._world.verbs.append((name, run))
        if self._world.away:
            raise RetryableError("the fake world is away")
        return self._world.runs.get(run)

    def launch(self, launch: Launch) -> None:
        """Start every step."""
        if self._verb("launch", launch.run) is not None:
            return
        flow_id = launch.flow.flow_id
        for name, run in self._world.runs.items():
            if (run.flow_id, run.replica) == (flow_id, launch.replica):
                raise TerminalError(f"the run {name} still stands for {flow_id}")
        steps = [FakeStep(step.argv[-1]) for step in launch.flow.spec.steps]
        self._world.runs[launch.run] = FakeRun(flow_id, launch.replica, steps)
        for index in range(len(steps)):
            self._world.start(launch.run, index, 1)
        self._notify(flow_id)

    def start_step(self, launch: Launch, index: int, attempt: int) -> None:
        """Start one step again."""
        if self._verb("start_step", launch.run) is not None:
            self._world.start(launch.run, index, attempt)

    def end_step(self, run: str, index: int) -> None:
        """The next step sees the end of its input."""
        known = self._verb("end_step", run)
        if known is None:
            return
        known.steps[index].ended = True
        following = index + 1
        if following < len(known.steps) and known.steps[following].script == "cat":
            self._world.exit(run, following, code=0)
        self._notify(known.flow_id)

    def signal(self, run: str, indexes: Iterable[int], name: str) -> None:
        """End steps, unless they ignore it."""
        known = self._verb(f"signal {name}", run)
        if known is None:
            return
        for index in indexes:
            deaf = known.steps[index].script.startswith("trap") and name != "SIGKILL"
            if not deaf:
                self._world.exit(run, index, number=signal.Signals[name])
        self._notify(known.flow_id)

    def sweep(self, run: str, name: str | None) -> None:
        """Nothing outlives its step here, but what is still running."""
        known = self._verb("sweep", run)
        if known is None:
            return
        if name == "SIGKILL":
            self.signal(run, range(len(known.steps)), name)
        if not any(step.pid for step in known.steps) and not known.gone:
            known.gone = True
            self._notify(known.flow_id)

    def freeze(self, run: str) -> None:
        """Stop every step where it is."""
        self._set_frozen("freeze", run, frozen=True)

    def thaw(self, run: str) -> None:
        """Let every step go on."""
        self._set_frozen("thaw", run, frozen=False)

    def _set_frozen(self, verb: str, run: str, *, frozen: bool) -> None:
        known = self._verb(verb, run)
        if known is not None and known.frozen != frozen:
            known.frozen = frozen
            self._notify(known.flow_id)

    def forget(self, run: str) -> None:
        """Drop a run that is gone."""
        known = self._verb("forget", run)
        if known is not None:
            if any(step.pid for step in known.steps):
                raise TerminalError(f"{run} is alive")
            del self._world.runs[run]

    def begin(self, calls: Sequence[Call]) -> Finish:
        """Carry verbs out one after the other."""
        return one_by_one(self, calls)

    def purge(self, flow_id: str) -> None:
        """Nothing is kept."""

    def usage(self, flow_ids: Iterable[str]) -> dict[str, tuple[Usage, ...]]:
        """As much as the world says."""
        wanted = frozenset(flow_ids)
        return {
            name: tuple(Usage(step.cpu, 0, step.unread) for step in run.steps)
            for name, run in self._world.runs.items()
            if run.flow_id in wanted
        }

    def _asked(self, runs: Iterable[str]) -> dict[str, FakeRun]:
        if self._world.away:
            raise RetryableError("the fake world is away")
        return {name: self._world.runs[name] for name in runs if name in self._world.runs}

    def pipes(self, runs: Iterable[str]) -> dict[str, tuple[PipeView, ...]]:
        """As full as the world says."""
        return {
            name: tuple(PipeView(step.unread, step.unread >= _PIPE) for step in run.steps)
            for name, run in self._asked(runs).items()
        }

    def output(self, runs: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """What was written; those that always write have written more since the last look."""
        known = self._asked(runs)
        for run in known.values():
            run.work()
        return {name: tuple(step.written for step in run.steps) for name, run in known.items()}

    def read_log(self, run: str, index: int, position: int | None) -> LogPart:
        """Everything from there on at once."""
        known = self._asked([run]).get(run)
        if known is None:
            return LogPart(position or 0)
        step = known.steps[index]
        start = step.log_from if position is None else position
        return LogPart(start, step.log[start:])

    def address(self, run: str, index: int) -> str:
        """On this machine."""
        del run, index
        return "127.0.0.1"

    def check(
        self, launch: Launch, step: Step, command: tuple[str, ...], timeout: float
    ) -> CheckResult:
        """``true`` succeeds, anything else fails."""
        return CheckResult(ok=command == ("true",), message=" ".join(command))
