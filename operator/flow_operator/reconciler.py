"""One look at one flow: observe, plan, remember, act, tell."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Literal

import structlog
from msgspec import Struct
from msgspec.structs import replace

from flow_operator.backoff import retry_transient
from flow_operator.board import Board
from flow_operator.clock import Clock, rfc3339
from flow_operator.errors import AwayError, FlowError, TerminalError, WaitingError
from flow_operator.gauges import Gauges, Watched
from flow_operator.memory import FlowMemory, RunMemory, StepMemory
from flow_operator.meter import Meter
from flow_operator.model.flow import Flow
from flow_operator.model.status import Change, Condition, FlowStatus, Phase, Source, Truth
from flow_operator.plan import (
    Action,
    Decision,
    EndStep,
    Forget,
    Freeze,
    LaunchRun,
    Note,
    Seen,
    SignalSteps,
    StartStep,
    Sweep,
    Thaw,
    Want,
    foresee,
    launch_failed,
    over,
    plan,
    report,
    start_failed,
    tally,
    transitions,
)
from flow_operator.prober import ProbeKey, Prober, Target
from flow_operator.runners.base import Launch, Runner
from flow_operator.store import Memories, Store, StoredFlow, Tombstone

Shutdown = Literal["no", "soft", "term", "hard"]

_MAX_ROUNDS = 32
"""Plans in one look; more would mean that a plan undoes what the one before it did."""

_REWRITE = 5.0
"""Seconds until what could not be written is tried again."""

_REACHED: Mapping[str, frozenset[str]] = {
    "Started": frozenset({"running", "paused", "completed"}),
    "Completed": frozenset({"completed"}),
}

log = structlog.get_logger("reconciler")


class Result(Struct, frozen=True):
    """What a look at a flow asks for next.

    Attributes:
        wake: when to look again even if nothing happens (monotonic seconds).
    """

    wake: float | None = None


class Reconciler:
    """Moves flows towards what is wanted of them.

    It trusts no event: each look reads everything again.

    Attributes:
        shutdown: what the operator itself is about to do; flows are stopped accordingly, and
            their desired state is left alone.
    """

    def __init__(  # noqa: PLR0913 - everything that a look needs, given once
        self,
        *,
        store: Store,
        memories: Memories,
        runners: Mapping[str, Runner],
        board: Board,
        prober: Prober,
        gauges: Gauges,
        clock: Clock,
        boot: str,
        interrupt: threading.Event,
        meter: Meter | None = None,
    ) -> None:
        self._store = store
        self._memories = memories
        self._runners = runners
        self._board = board
        self._prober = prober
        self._gauges = gauges
        self._clock = clock
        self.boot = boot
        self._interrupt = interrupt
        self._meter = meter or Meter()
        self.shutdown: Shutdown = "no"

    def reconcile(self, flow_id: str) -> Result:
        """Look at one flow.

        Raises:
            RetryableError: a runner is away; look again later.
            WaitingError: what a flow needs is not there yet; look again when it is.
            StorageError: what must be remembered could not be written, so nothing was done.
        """
        try:
            return self._reconcile(flow_id)
        except AwayError as error:
            self._tell_instead(flow_id, "unknown", str(error))
            raise
        except WaitingError as error:
            self._tell_instead(flow_id, "starting", str(error))
            raise

    def _reconcile(self, flow_id: str) -> Result:
        if flow_id in self._store.corrupt and self.shutdown == "no":
            self._tell_corrupt(flow_id)
            return Result()
        bound = log.bind(flow_id=flow_id)
        for earlier in range(_MAX_ROUNDS):
            try:
                result = self._round(flow_id, bound)
            except FlowError:
                if earlier:  # What those have done stands, and was not told yet.
                    self._tell(flow_id, bound)
                raise
            if result is not None:
                return result
        self._tell(flow_id, bound)
        bound.error("no fixpoint", rounds=_MAX_ROUNDS)
        return Result(self._clock.monotonic() + 1)

    def _round(self, flow_id: str, bound: structlog.stdlib.BoundLogger) -> Result | None:
        """Plan once, and act; None where it has to be planned again.

        Only what stands in the end is told: nobody sees the steps to it, which take no time.
        """
        record = self._store.record(flow_id)
        want = self._want(flow_id, record)
        memory = self._memories.get(flow_id)
        seen = self._see(flow_id)
        decision = plan(want, seen, memory, self._clock.monotonic())
        for note in decision.notes:
            self._note(flow_id, note, bound)
        self._intend(flow_id, memory, decision)
        written = True
        after = decision.memory
        for action in decision.actions:
            after = self._act(flow_id, action, after, bound)
        if after is not None:
            written = self._memories.keep(flow_id, after)
            self._count(memory, seen, after)
        elif decision.actions:
            # What it forgets now has ended once the next plan finds nothing of it.
            self._count(memory, seen, memory)
        else:
            self._count(memory, seen, None)
            self._gone(flow_id, record)
            return Result()
        if decision.goes_on(memory):
            return None
        if self._watch(flow_id, want):
            seen = self._see(flow_id)
        self._tell_seen(flow_id, record, want, seen, bound)
        return Result(decision.wake if written else self._sooner(decision.wake))

    def _intend(self, flow_id: str, memory: FlowMemory, decision: Decision) -> None:
        """Remember what is about to be begun, if anything is.

        A stop is begun also where that cannot be written.

        Raises:
            StorageError: nothing was launched.
        """
        if any(isinstance(action, LaunchRun) for action in decision.actions):
            self._memories.put(flow_id, decision.intent)
            self._count_launched(memory, decision.intent)
        elif decision.intent != memory:
            self._memories.keep(flow_id, decision.intent)

    def _sooner(self, wake: float | None) -> float:
        """When to try again to write what could not be written."""
        retry = self._clock.monotonic() + _REWRITE
        return retry if wake is None else min(wake, retry)

    # --- what is wanted ------------------------------------------------------------------

    def _want(self, flow_id: str, record: StoredFlow | Tombstone | None) -> Want:
        if not isinstance(record, StoredFlow):
            hard = self.shutdown == "hard" or (record is not None and record.hard)
            generation = record.generation if record else 0
            return Want(None, generation=generation, hard=hard)
        ending = self.shutdown != "no"
        state = "stopped" if ending else record.flow.spec.state
        return Want(
            flow=record.flow,
            uid=record.uid,
            generation=record.generation,
            state=state,
            hard=self.shutdown == "hard" or (state == "stopped" and record.hard and not ending),
            token=record.token,
            template=record.template,
            base=record.origin.base,
            blocked=tuple(self._blocked(record.flow)),
            hold=self.shutdown == "soft" and self._has_live_dependents(flow_id),
            hurry=self.shutdown == "term",
        )

    def _blocked(self, flow: Flow) -> list[str]:
        """Why a flow may not start yet."""
        reasons = []
        for dependency in flow.spec.depends_on:
            status = self._board.get(dependency.name)
            if self._store.get(dependency.name) is None:
                reasons.append(f"waits for '{dependency.name}', which does not exist")
            elif status is None or not _reached(status, dependency.condition):
                reasons.append(f"waits for '{dependency.name}' to be {dependency.condition}")
        return reasons

    def _has_live_dependents(self, flow_id: str) -> bool:
        return any(self._memories.get(name).runs for name in self._store.dependents(flow_id))

    def foresee(self, before: StoredFlow | None, after: StoredFlow | Tombstone) -> Change:
        """What it does to a flow's processes that another record takes its record's place."""
        flow_id = after.flow_id
        wants = self._want(flow_id, before), self._want(flow_id, after)
        return foresee(*wants, self._memories.get(flow_id))

    # --- what is seen --------------------------------------------------------------------

    def _see(self, flow_id: str) -> Seen:
        """What is there of a flow.

        Raises:
            AwayError: a runner that has some of it, or should have, cannot tell.
        """
        for run in self._memories.get(flow_id).runs.values():
            if run.confirmed and run.flow.spec.runner not in self._runners:
                raise AwayError(_without(run.flow.spec.runner))
        verdict = self._prober.verdict(flow_id)
        reading = self._gauges.reading(flow_id)
        return Seen(
            boot=self.boot,
            instances=tuple(
                instance
                for runner in self._runners.values()
                for instance in runner.observe(flow_id)
            ),
            unhealthy=verdict.unhealthy,
            not_started=verdict.not_started,
            not_ready=verdict.not_ready,
            printed=verdict.printed,
            silent=reading.silent,
            backpressured=reading.backpressured,
            restless=reading.restless,
        )

    def _watch(self, flow_id: str, want: Want) -> bool:
        """Have those steps checked that run and are to go on running; whether there are any.

        Before anything is told: a step whose check was not yet made is not ready.
        """
        targets: list[Target] = []
        watched: list[Watched] = []
        if want.flow is not None and want.state == "running":
            runs = self._memories.get(flow_id).runs.values()
            going = [run for run in runs if run.stop is None and run.uid == want.uid]
            for run in going:
                targets += _targets(run, want.flow_of(run))
            watched = self._watched(flow_id, want.flow, going)
        elif want.flow is not None and want.paused and want.flow.spec.pause.mode == "intake":
            watched = _draining(self._memories.get(flow_id).runs.values())
        self._prober.sync(flow_id, targets)
        self._gauges.sync(flow_id, watched)
        return bool(targets or watched)

    def _watched(self, flow_id: str, flow: Flow, runs: list[RunMemory]) -> list[Watched]:
        """What the gauges are to look at: not what is frozen, which cannot move."""
        limit = flow.spec.progress.silence_timeout
        if limit is None and all(len(run.steps) == 1 for run in runs):
            return []
        frozen = {
            instance.run
            for runner in self._runners.values()
            for instance in runner.observe(flow_id)
            if instance.frozen
        }
        return [
            Watched(
                run.run,
                _attempts(run),
                None if limit is None else limit.seconds,
            )
            for run in runs
            if run.run not in frozen
        ]

    # --- acting --------------------------------------------------------------------------

    def _act(
        self,
        flow_id: str,
        action: Action,
        memory: FlowMemory | None,
        bound: structlog.stdlib.BoundLogger,
    ) -> FlowMemory | None:
        """Carry one action out; returns what is to be remembered after it.

        Raises:
            RetryableError: the runner is away; what stood before is planned anew.
        """
        try:
            runner = self._runner(flow_id, action)
            retry_transient(lambda: _carry_out(runner, action), self._interrupt)
        except TerminalError as error:
            trouble = str(error)
            bound.warning("action refused", action=type(action).__name__, error=trouble)
            self._board.record(flow_id, "ActionRefused", trouble, warning=True)
            now = self._clock.monotonic()
            if memory is not None and isinstance(action, LaunchRun):
                return launch_failed(memory, action.run, trouble, now)
            if memory is not None and isinstance(action, StartStep):
                return start_failed(memory, action, trouble, now)
        return memory

    def _runner(self, flow_id: str, action: Action) -> Runner:
        """The runner that has a run, or is to have it.

        Raises:
            TerminalError: this operator has no such runner.
        """
        if isinstance(action, LaunchRun | StartStep):
            name = action.memory.flow.spec.runner
            if name not in self._runners:
                raise TerminalError(_without(name))
            return self._runners[name]
        *others, last = self._runners.values()
        for runner in others:
            if any(instance.run == action.run for instance in runner.observe(flow_id)):
                return runner
        return last

    def _gone(self, flow_id: str, record: StoredFlow | Tombstone | None) -> None:
        """Nothing is wanted and nothing is left."""
        self._prober.sync(flow_id, ())
        self._gauges.sync(flow_id, ())
        self._memories.drop(flow_id)
        for runner in self._runners.values():
            runner.purge(flow_id)
        if isinstance(record, Tombstone) and not self._store.purge(record):
            return  # A new flow has taken its place; its own look follows.
        self._board.remove(flow_id)

    # --- counting ------------------------------------------------------------------------

    def _count_launched(self, before: FlowMemory, intent: FlowMemory) -> None:
        """Once the intent is written: from then on it is the same run, however often tried."""
        known = {run.run for run in before.runs.values()}
        for run in intent.runs.values():
            if run.run not in known:
                self._meter.launched()

    def _count(self, before: FlowMemory, seen: Seen, after: FlowMemory | None) -> None:
        exits, ends = tally(before, seen, after)
        for reason in exits:
            self._meter.exited(reason)
        for outcome in ends:
            self._meter.ended(outcome)

    # --- telling -------------------------------------------------------------------------

    def _note(self, flow_id: str, note: Note, bound: structlog.stdlib.BoundLogger) -> None:
        self._board.record(flow_id, note.reason, note.message, warning=note.warning)
        tell = bound.warning if note.warning else bound.info
        tell(note.reason, detail=note.message)

    def _tell(self, flow_id: str, bound: structlog.stdlib.BoundLogger) -> None:
        record = self._store.record(flow_id)
        want = self._want(flow_id, record)
        self._watch(flow_id, want)
        self._tell_seen(flow_id, record, want, self._see(flow_id), bound)

    def _tell_seen(
        self,
        flow_id: str,
        record: StoredFlow | Tombstone | None,
        want: Want,
        seen: Seen,
        bound: structlog.stdlib.BoundLogger,
    ) -> None:
        origin = record.origin if isinstance(record, StoredFlow) else None
        file = origin.file if origin else None
        previous = self._board.get(flow_id)
        error = self._board.source_error(flow_id) if file else None
        source = Source("file" if file else "api", file, error)
        memory = self._memories.get(flow_id)
        now = (self._clock.monotonic(), self._clock.wall())
        status = report(flow_id, want, seen, memory, previous, source, now)
        for note in transitions(previous, status):
            if previous is not None or not self._told_before(flow_id, note):
                self._note(flow_id, note, bound)
        self._board.publish(status)

    def _tell_instead(self, flow_id: str, phase: Phase, message: str) -> None:
        """Tell why nothing more is known of a flow, or why it does not go on."""
        status = self._board.get(flow_id) or self._unseen(flow_id, message)
        value: Truth = "Unknown" if phase == "unknown" else "False"
        reason = "RunnerAway" if phase == "unknown" else "Waiting"
        before = status.condition("Ready")
        same = before is not None and before.status == value
        since = before.last_transition_time if before and same else rfc3339(self._clock.wall())
        ready = Condition("Ready", value, reason, message, since)
        others = (one for one in status.conditions if one.type != "Ready")
        self._board.publish(
            replace(status, status=phase, message=message, conditions=(ready, *others))
        )

    def _unseen(self, flow_id: str, message: str) -> FlowStatus:
        """The status of a flow of which nothing was seen yet."""
        status = unknown_status(flow_id, message)
        record = self._store.get(flow_id)
        if record is None:
            return status
        return replace(
            status,
            uid=record.uid,
            desired=record.flow.spec.state,
            generation=record.generation,
            observed_generation=record.generation,
            replicas=record.flow.spec.replicas,
            labels=record.flow.metadata.labels,
        )

    def _told_before(self, flow_id: str, note: Note) -> bool:
        """Whether an earlier operator has told that it is so, and nobody that it is over."""
        last = self._board.last_event(flow_id, note.reason, over(note.reason))
        return last is not None and last.reason == note.reason

    def _tell_corrupt(self, flow_id: str) -> None:
        message = self._store.corrupt[flow_id]
        last = self._board.last_event(flow_id, "StoreError")
        if self._board.get(flow_id) is None and (last is None or last.message != message):
            self._board.record(flow_id, "StoreError", message, warning=True)
        self._board.publish(unknown_status(flow_id, message))


def unknown_status(flow_id: str, message: str) -> FlowStatus:
    """The status of a flow whose configuration cannot be read."""
    return FlowStatus(
        flow_id=flow_id,
        uid="",
        status="unknown",
        desired="stopped",
        generation=0,
        observed_generation=0,
        restarts=0,
        replicas=0,
        ready_replicas=0,
        started_at=None,
        message=message,
        source=Source("api"),
        conditions=(),
        steps=(),
    )


def _without(runner: str) -> str:
    hint = " --engine unix:///run/docker.sock" if runner == "container" else ""
    return f"this operator has no runner '{runner}': start flowd with one{hint}"


def _reached(status: FlowStatus, condition: str) -> bool:
    if condition == "Ready":
        ready = status.condition("Ready")
        return ready is not None and ready.status == "True"
    return status.status in _REACHED[condition]


def _targets(run: RunMemory, flow: Flow) -> list[Target]:
    launch = Launch(run.run, run.replica, run.flow, run.base)
    found: list[Target] = []
    for index, (step, memory) in enumerate(zip(flow.spec.steps, run.steps, strict=True)):
        if _without_process(memory):
            continue
        for kind, probe in step.probes.items():
            key = ProbeKey(run.run, index, memory.attempt, kind)
            line = probe.log_line
            printed = line is not None and memory.printed.get(line.pattern) == memory.attempt
            found.append(Target(key, probe, launch, step, printed))
    return found


def _draining(runs: Iterable[RunMemory]) -> list[Watched]:
    """Those whose first step has ended for a pause, until they were seen to be idle."""
    return [
        Watched(run.run, _attempts(run), drains=True)
        for run in runs
        if run.stop is None and run.pause is not None
        if not (run.pause.idle or run.steps[0].pid)
    ]


def _attempts(run: RunMemory) -> tuple[int, ...]:
    return tuple(0 if _without_process(step) else step.attempt for step in run.steps)


def _without_process(step: StepMemory) -> bool:
    """Whether a step has ended, or waits for its next start."""
    return step.ended or step.retry_at is not None


def _carry_out(runner: Runner, action: Action) -> None:
    match action:
        case LaunchRun():
            runner.launch(_launch(action.memory))
        case StartStep():
            runner.start_step(_launch(action.memory), action.index, action.attempt)
        case EndStep():
            runner.end_step(action.run, action.index)
        case SignalSteps():
            runner.signal(action.run, action.indexes, action.name)
        case Sweep():
            runner.sweep(action.run, action.name)
        case Freeze():
            runner.freeze(action.run)
        case Thaw():
            runner.thaw(action.run)
        case Forget():
            runner.forget(action.run)
        case _:
            raise NotImplementedError(action)


def _launch(memory: RunMemory) -> Launch:
    return Launch(memory.run, memory.replica, memory.flow, memory.base)
