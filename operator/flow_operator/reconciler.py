"""One look at one flow: observe, plan, remember, act, tell."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import structlog
from msgspec import Struct

from flow_operator.board import Board
from flow_operator.clock import Clock
from flow_operator.errors import (
    AwayError,
    FlowError,
    TerminalError,
    WaitingError,
)
from flow_operator.executor import Executor, no_runner
from flow_operator.gauges import Gauges, Watched
from flow_operator.memory import FlowMemory, RunMemory, StepMemory
from flow_operator.meter import Meter
from flow_operator.model.flow import Flow
from flow_operator.model.status import Change, FlowStatus
from flow_operator.plan import (
    Action,
    Decision,
    LaunchRun,
    Note,
    Seen,
    StartStep,
    Want,
    foresee,
    launch_failed,
    plan,
    start_failed,
    tally,
)
from flow_operator.prober import ProbeKey, Prober, Target
from flow_operator.runners.base import Finish, Launch, Runner
from flow_operator.store import Memories, Store, StoredFlow, Tombstone
from flow_operator.teller import Teller
from flow_operator.turns import in_turns

Shutdown = Literal["no", "soft", "term", "hard"]

_MAX_ROUNDS = 32
"""Plans in one look; more would mean that a plan undoes what the one before it did."""

_REWRITE = 5.0
"""Seconds until what could not be written is tried again."""

_REACHED: Mapping[str, frozenset[str]] = {
    "Started": frozenset({"running", "paused", "completed"}),
    "Completed": frozenset({"completed"}),
}

VOLLEY = 16
"""Flows that a runner is told of at once."""

MOST_SAID = 512
"""Volleys that are told something, as to end, before the first of them is told of, unless there is
anything else to do. Full ones are two seconds' work."""

AHEAD = 2
"""Volleys that a runner is told of before the first of them was done, so that it is never idle."""

log = structlog.get_logger("reconciler")


class Result(Struct, frozen=True):
    """What a look at a flow asks for next.

    Attributes:
        wake: when to look again even if nothing happens (monotonic seconds).
    """

    wake: float | None = None


class _Planned(Struct, frozen=True):
    """What a look has last planned, and from what."""

    record: StoredFlow | Tombstone | None
    want: Want
    memory: FlowMemory
    seen: Seen
    decision: Decision


class _Look:
    """A look at one flow.

    Attributes:
        planned: the last plan; None before the first.
        after: what is to be remembered once its actions were carried out.
        notes: of all plans, not yet told.
        rounds: plans that were carried out.
        goes_on: whether to plan again at once.
        written: whether that is remembered, and stands in its file; None before.
        error: what has ended the look early.
    """

    __slots__ = ("after", "error", "flow_id", "goes_on", "notes", "planned", "rounds", "written")

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.planned: _Planned | None = None
        self.after: FlowMemory | None = None
        self.notes: list[Note] = []
        self.rounds = 0
        self.goes_on = True
        self.written: bool | None = None
        self.error: Exception | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it still has to do."""
        return self.planned.decision.actions if self.planned and self.error is None else ()

    def fail(self, error: Exception) -> None:
        """End it early."""
        self.error, self.goes_on = error, False


_Due = tuple[_Look, Action]


class _Volley(NamedTuple):
    """Looks of which a runner was told at once.

    Attributes:
        due: those whose first action was begun.
        finish: waits for that.
    """

    looks: Sequence[_Look]
    due: Sequence[_Due]
    finish: Finish

    @property
    def settles(self) -> bool:
        """Whether something of it is done when its verb returns, and not told of later."""
        return any(action.settles for _, action in self.due)

    def parted(self) -> tuple[_Volley, _Volley]:
        """The looks that find nothing to do, and the others."""
        idle = [look for look in self.looks if not look.actions]
        busy = [look for look in self.looks if look.actions]
        return _Volley(idle, (), list), self._replace(looks=busy)


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
        self._teller = Teller(board, store, clock)
        self._prober = prober
        self._gauges = gauges
        self._clock = clock
        self.boot = boot
        self._executor = Executor(runners, interrupt)
        self._slow = {name for name, runner in runners.items() if not runner.quick}
        self._meter = meter or Meter()
        self.shutdown: Shutdown = "no"

    def reconcile(self, flow_id: str) -> Result:
        """Look at one flow.

        Raises:
            RetryableError: a runner is away; look again later.
            WaitingError: what a flow needs is not there yet; look again when it is.
            StorageError: what must be remembered could not be written, so nothing was done.
        """
        [(_, outcome)] = self.reconcile_all([flow_id])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def reconcile_all(
        self, flow_ids: Sequence[str], more: Callable[[], Sequence[str]] = list
    ) -> Iterator[tuple[str, Result | Exception]]:
        """Look at several flows; what a look has come to is given as soon as that is told.

        Flows that are only told something, to end above all, are told it before any of them is
        told of: to make up a status takes longer than to send a signal, and the last flow would
        wait for the statuses of all others. A launch is waited for, and keeps the runner busy
        while we tell of the one before.

        Args:
            flow_ids: those of which a runner is told at once.
            more: gives the next ones, if any; asked after each step of all this, so that nobody
                who comes meanwhile waits until all are told of.
        """
        awaited: deque[_Volley] = deque()
        said: list[_Volley] = []
        untold: deque[tuple[_Volley, list[_Look]]] = deque()
        while flow_ids or awaited or said or untold:
            volley = self._begin([_Look(flow_id) for flow_id in flow_ids])
            launched = volley.settles
            only_said = volley.due and not launched
            if launched:
                idle, volley = volley.parted()
                yield from self._carried_through(idle)
                awaited.append(volley)
            elif only_said:
                said.append(volley)
            else:
                yield from self._carried_through(volley)
            if awaited and (len(awaited) > AHEAD or not launched):
                yield from self._carried_through(awaited.popleft())
            if not untold and (len(said) >= MOST_SAID or not only_said):
                untold.extend(self._remembered(said))
                said.clear()
            if untold:
                yield from self._told_of(*untold.popleft())
            flow_ids = more()

    def _remembered(self, said: Sequence[_Volley]) -> list[tuple[_Volley, list[_Look]]]:
        """Finish all of which a runner need not be waited for, and remember what was done.

        Soon: a signal that is not remembered is sent again if we are killed now.
        """
        done = [(volley, self._finish(volley)) for volley in said]
        for volley in said:
            _each(volley.looks, self._remember)
        return done

    def _carried_through(self, volley: _Volley) -> Iterator[tuple[str, Result | Exception]]:
        """Wait for what was begun, and tell."""
        yield from self._told_of(volley, self._finish(volley))

    def _told_of(
        self, volley: _Volley, going: list[_Look]
    ) -> Iterator[tuple[str, Result | Exception]]:
        """Go on until nothing more is to be done at once, and tell."""
        for _ in range(_MAX_ROUNDS - 1):
            if not going:
                break
            going = self._finish(self._begin(going))
        for look in in_turns(volley.looks):
            yield look.flow_id, self._end(look)

    def is_quick(self, flow_id: str) -> bool:
        """Whether a flow holds up no others that are looked at together with it."""
        if not self._slow:
            return True
        record = self._store.get(flow_id)
        flows = [run.flow for run in self._memories.get(flow_id).runs.values()]
        runners = {flow.spec.runner for flow in (*flows, *([record.flow] if record else ()))}
        return runners.isdisjoint(self._slow)

    def _begin(self, looks: Sequence[_Look]) -> _Volley:
        """Plan once for each, and begin to act.

        Only what stands in the end is told: nobody sees the steps to it, which take no time.
        """
        _each(looks, self._plan)
        due = [(look, look.actions[0]) for look in looks if look.actions]
        finish = self._executor.begin([(look.flow_id, action) for look, action in due])
        return _Volley(looks, due, finish)

    def _finish(self, volley: _Volley) -> list[_Look]:
        """Wait for what was begun, and do the rest; returns those that are to be planned again."""
        self._see_to(volley.due, volley.finish())
        for number in itertools.count(1):
            due = [(look, look.actions[number]) for look in volley.looks if look.actions[number:]]
            if not due:
                break
            self._see_to(due, self._executor.begin([(at.flow_id, act) for at, act in due])())
        _each(volley.looks, self._go_on)
        return [look for look in volley.looks if look.goes_on]

    def _see_to(self, due: Sequence[_Due], errors: Sequence[Exception | None]) -> None:
        """An action that was refused is a thing to be remembered; another error ends the look."""
        for (look, action), error in zip(due, errors, strict=True):
            if isinstance(error, TerminalError):
                trouble, now = str(error), self._clock.monotonic()
                look.notes.append(Note("ActionRefused", trouble, warning=True))
                if look.after is not None and isinstance(action, LaunchRun):
                    look.after = launch_failed(look.after, action.run, trouble, now)
                elif look.after is not None and isinstance(action, StartStep):
                    look.after = start_failed(look.after, action, trouble, now)
            elif error is not None:
                look.fail(error)

    def _plan(self, look: _Look) -> None:
        flow_id = look.flow_id
        if flow_id in self._store.corrupt and self.shutdown == "no":
            return
        record = self._store.record(flow_id)
        want = self._want(flow_id, record)
        memory = self._memories.get(flow_id)
        seen = self._see(flow_id)
        decision = plan(want, seen, memory, self._clock.monotonic())
        look.planned = _Planned(record, want, memory, seen, decision)
        look.after, look.written = decision.memory, None
        look.notes += decision.notes
        self._intend(flow_id, memory, decision)

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

    def _go_on(self, look: _Look) -> None:
        """See whether there is more to be done at once, and remember what was, if so."""
        if look.planned is None:
            look.goes_on = False  # It cannot be read.
            return
        look.rounds += 1
        decision = look.planned.decision
        nothing_left = look.after is None and not decision.actions
        look.goes_on = not nothing_left and decision.goes_on(look.planned.memory)
        if look.goes_on:
            self._remember(look)

    def _remember(self, look: _Look) -> None:
        """Remember what was done by the last plan, unless it is already."""
        planned = look.planned
        if planned is None or look.written is not None:
            return
        look.written = True
        if look.after is not None:
            look.written = self._memories.keep(look.flow_id, look.after)
            self._count(planned.memory, planned.seen, look.after)
        else:
            # What it forgets now has ended once the next plan finds nothing of it.
            self._count(planned.memory, planned.seen, planned.memory if look.actions else None)

    # --- the end of a look ---------------------------------------------------------------

    def _end(self, look: _Look) -> Result | Exception:
        """Tell of a flow what was found and done; returns what the look has come to."""
        try:
            return self._told(look)
        except AwayError as error:
            self._teller.tell_instead(look.flow_id, "unknown", str(error))
            return error
        except WaitingError as error:
            self._teller.tell_instead(look.flow_id, "starting", str(error))
            return error
        except Exception as error:  # noqa: BLE001 - told by who has asked; the others go on
            return error

    def _told(self, look: _Look) -> Result:
        for note in look.notes:
            self._teller.note(look.flow_id, note)
        if look.error is not None:
            if look.rounds and isinstance(look.error, FlowError):
                self._tell_anew(look.flow_id)  # What those have done stands, and was not told yet.
            raise look.error
        if look.planned is None:
            self._teller.tell_corrupt(look.flow_id)
            return Result()
        planned = look.planned
        if look.goes_on:
            self._tell_anew(look.flow_id)
            log.error("no fixpoint", flow_id=look.flow_id, rounds=look.rounds)
            return Result(self._clock.monotonic() + 1)
        self._remember(look)
        if look.after is None and not planned.decision.actions:
            self._gone(look.flow_id, planned.record)
            return Result()
        self._tell(look.flow_id, planned.record, planned.want, planned.seen)
        wake = planned.decision.wake
        return Result(wake if look.written else self._sooner(wake))

    def _tell_anew(self, flow_id: str) -> None:
        record = self._store.record(flow_id)
        self._tell(flow_id, record, self._want(flow_id, record), self._see(flow_id))

    def _tell(
        self, flow_id: str, record: StoredFlow | Tombstone | None, want: Want, seen: Seen
    ) -> None:
        if self._watch(flow_id, want):
            seen = self._see(flow_id)
        self._teller.tell(flow_id, record, want, seen, self._memories.get(flow_id))

    def _gone(self, flow_id: str, record: StoredFlow | Tombstone | None) -> None:
        """Nothing is wanted and nothing is left."""
        self._prober.sync(flow_id, ())
        self._gauges.sync(flow_id, ())
        self._memories.drop(flow_id)
        for runner in self._runners.values():
            runner.purge(flow_id)
        if isinstance(record, Tombstone) and not self._store.purge(record):
            return  # A new flow has taken its place; its own look follows.
        self._teller.gone(flow_id)

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
                raise AwayError(no_runner(run.flow.spec.runner))
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


def _each(looks: Sequence[_Look], phase: Callable[[_Look], None]) -> None:
    """Have a phase of every look that has not failed; one that fails is none of the others'."""
    for look in in_turns(looks):
        if look.error is None:
            try:
                phase(look)
            except Exception as error:  # noqa: BLE001 - it is what the look has come to
                look.fail(error)


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
