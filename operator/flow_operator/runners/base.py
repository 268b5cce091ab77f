"""What every runner does.

A runner has mechanisms and no opinions: it starts what it is told to start and reports what it
sees. When to do what is decided by :mod:`flow_operator.plan` alone.

All verbs are idempotent and return soon; what takes time goes on behind them, and ``notify`` is
called with the flow's id when what can be observed has changed. A verb for a run that the runner
does not know does nothing: absence is an answer.

Errors: :class:`~flow_operator.errors.RetryableError` while the backend is away,
:class:`~flow_operator.errors.TerminalError` when the user must change something.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

from flow_operator.model.flow import Flow, Step
from flow_operator.structs import prepared

Notify = Callable[[str], None]


@prepared
class Exit(Struct, frozen=True, omit_defaults=True):
    """How a process ended.

    Attributes:
        reason: Completed, Error, Signaled, OOMKilled, SpawnFailed, or ExitUnknown where nobody saw
            it.
        code: the exit code, unless a signal ended it or nobody saw it.
        signal: the signal's number, if one ended it.
        detail: a sentence, where there is more to tell.
        at: CLOCK_MONOTONIC seconds.
        wall: seconds since the epoch.
    """

    reason: str
    code: int | None = None
    signal: int | None = None
    detail: str = ""
    at: float = 0.0
    wall: float = 0.0


def signal_name(number: int) -> str:
    """``SIGKILL`` and its like; the number of one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class StepView(Struct, frozen=True):
    """One step as observed.

    Attributes:
        attempt: how many times it was started within its run; 0 is never.
        pid: of its process; 0 while it has none.
        start: the process' start time in clock ticks since boot.
        ended: whether it has ended for good and its pipes are let go.
        exit: how its last process ended; None while it runs.
        input_bytes: what it left unread in its pipe when it exited.
        limits: of those for all of its processes together that were asked for, whether they are
            enforced; one that is missing is not. Those of each process always are: a process that
            cannot have them is not started.
        log_from: the position in its log at which the output of this attempt begins; None if
            nobody knows. Opaque to all but the runner.
        cut: whether it has seen an end of its input that was none: who had held its pipe, while
            the step before it had no process, was killed.
    """

    attempt: int = 0
    pid: int = 0
    start: int = 0
    ended: bool = False
    exit: Exit | None = None
    input_bytes: int = 0
    limits: tuple[tuple[str, bool], ...] = ()
    log_from: int | None = None
    cut: bool = False

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is frozen)."""
        return self.pid > 0 and self.exit is None


class Instance(Struct, frozen=True):
    """One running (or just ended) instance of a flow, as observed.

    Attributes:
        frozen: every process was seen stopped.
        thawed: nothing is held by a freeze, as was seen; not told where nobody has looked.
        gone: no process of the run is left; seen twice.
        survivors: pids that outlived every step, as last seen by a sweep or a freeze.
        unheld: the pipes, by the index of the step before them, that will break if a step beside
            them exits: who held them was killed, and nobody could take them over.
    """

    run: str
    flow_id: str
    replica: int
    steps: tuple[StepView, ...]
    frozen: bool = False
    gone: bool = False
    survivors: tuple[int, ...] = ()
    unheld: tuple[int, ...] = ()
    thawed: bool = False

    @property
    def alive(self) -> bool:
        """Whether any step has a process."""
        return any(step.alive for step in self.steps)


class Launch(Struct, frozen=True):
    """What an instance is started from.

    Attributes:
        run: the run id; a second launch of the same id changes nothing.
        base: the directory that relative paths of the flow start from.
    """

    run: str
    replica: int
    flow: Flow
    base: str | None = None


class Handle(Struct, frozen=True):
    """What survives of an instance in a file, so that a later operator can take it back."""

    run: str
    flow_id: str
    replica: int
    names: tuple[str, ...]
    steps: tuple[StepView, ...]

    @property
    def started(self) -> bool:
        """Whether anything of it was ever seen."""
        return any(
            step.pid or step.exit is not None or step.ended or step.attempt > 1
            for step in self.steps
        )


class Usage(Struct, frozen=True):
    """What one step uses now.

    Attributes:
        cpu_seconds: user and system time of its processes since they started.
        memory_bytes: resident memory.
        in_flight_bytes: unread bytes in the pipe before it.
        open_files: descriptors that its processes hold, of those that may be looked at.
    """

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    in_flight_bytes: int = 0
    open_files: int = 0


class PipeView(Struct, frozen=True):
    """The pipe before a step, as it is now.

    Attributes:
        unread_bytes: what was written and not yet read.
        full: whether the step before it can write no more until something is read. Never once
            that step has ended for good.
    """

    unread_bytes: int = 0
    full: bool = False


class LogPart(Struct, frozen=True):
    """Part of what a step has printed.

    Attributes:
        start: the position of its first byte; not the one that was asked for, where what stood
            there is no longer kept.
        data: empty when nothing more was printed.
    """

    start: int
    data: bytes = b""

    @property
    def end(self) -> int:
        """The position to go on from."""
        return self.start + len(self.data)


class Capabilities(Struct, frozen=True):
    """What a runner can do; the rest of the operator asks for these and never for its name.

    Attributes:
        groups: whether a run is kept in a group of the kernel, which none of its processes leaves.
        limits: which of a step's ``resources.limits`` for all of its processes together can be
            enforced.
    """

    freeze: bool = False
    step_restart: bool = False
    groups: bool = False
    limits: tuple[str, ...] = ()


class CheckResult(Struct, frozen=True):
    """The outcome of a command that was run as a check."""

    ok: bool
    message: str


Verb = Literal[
    "launch", "start_step", "end_step", "signal", "sweep", "freeze", "thaw", "forget"
]  # fmt: skip
"""What changes an instance; the methods of a :class:`Runner`."""


class Call(NamedTuple):
    """One verb, with what it is called with."""

    verb: Verb
    arguments: tuple[Any, ...]


Finish = Callable[[], list[Exception | None]]
"""Waits until verbs that were begun are done; returns what each of them has raised."""


class Runner(Protocol):
    """One way to run flows.

    Attributes:
        quick: whether verbs and observations take a moment only, so that one worker may see to
            many flows in a row.
    """

    quick: bool

    @property
    def capabilities(self) -> Capabilities:
        """What this runner can do."""

    def start(self, notify: Notify) -> None:
        """Connect to the backend; call once, before any other verb."""

    def recover(self, handles: Iterable[Handle]) -> None:
        """Take back instances that an earlier operator started, where they still live."""

    def flow_ids(self) -> frozenset[str]:
        """The flows that have an instance here."""

    def observe(self, flow_id: str) -> tuple[Instance, ...]:
        """The instances of a flow; empty if it has none. Changes nothing."""

    def launch(self, launch: Launch) -> None:
        """Start an instance: its pipes and every step, unless that run exists already."""

    def start_step(self, launch: Launch, index: int, attempt: int) -> None:
        """Start a step that has exited, on its old pipes, unless that attempt was made already."""

    def end_step(self, run: str, index: int) -> None:
        """Let go of the pipes of a step that has ended for good, so that end of file goes on."""

    def signal(self, run: str, indexes: Iterable[int], name: str) -> None:
        """Signal the processes of those steps that live."""

    def sweep(self, run: str, name: str | None) -> None:
        """Look for what is left of a run, and go on until it is ``gone``.

        What is found is signalled, if ``name`` is given.
        """

    def freeze(self, run: str) -> None:
        """Stop every process where it is; the instance is ``frozen`` once all were seen stopped."""

    def thaw(self, run: str) -> None:
        """Undo ``freeze``."""

    def forget(self, run: str) -> None:
        """Drop what is kept of a run whose processes are gone."""

    def begin(self, calls: Sequence[Call]) -> Finish:
        """Begin to carry out several verbs, each for another run."""

    def usage(self, flow_ids: Iterable[str]) -> dict[str, tuple[Usage, ...]]:
        """What each step uses, by run id, for those runs that could be asked."""

    def pipes(self, runs: Iterable[str]) -> dict[str, tuple[PipeView, ...]]:
        """The pipe before each step, by run id, for those runs that could be asked.

        The first step has none, which is as good as an empty one.
        """

    def output(self, runs: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """A number for each step that is another one once its processes have written something.

        By run id, for those runs that could be asked. The numbers mean nothing by themselves.
        """

    def read_log(self, run: str, index: int, position: int | None) -> LogPart:
        """A part of what a step has printed from a position on.

        None is where its present attempt began or, if nobody knows that, the oldest that is kept.

        Raises:
            OSError: it cannot be read.
        """

    def check(
        self, launch: Launch, step: Step, command: tuple[str, ...], timeout: float
    ) -> CheckResult:
        """Run a command beside a step, in its surroundings, for at most ``timeout`` seconds."""

    def address(self, run: str, index: int) -> str:
        """Where a step can be reached from here: a host name or an IP address."""

    def purge(self, flow_id: str) -> None:
        """Remove what is kept of a flow that is deleted and gone, but for its own data."""

    def close(self, *, final: bool) -> None:
        """Let go of the backend; ``final`` when nothing runs any more. May be called twice."""


def one_by_one(runner: Runner, calls: Iterable[Call]) -> Finish:
    """Carry out verbs one after the other: ``begin`` of runners to which it makes no difference."""
    outcomes: list[Exception | None] = []
    for verb, arguments in calls:
        try:
            getattr(runner, verb)(*arguments)
        except Exception as error:  # noqa: BLE001 - it is none of the others' fault
            outcomes.append(error)
        else:
            outcomes.append(None)
    return lambda: outcomes
