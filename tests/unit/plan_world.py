"""A world in memory for the plan: it does what it is told, and lets tests break what runs.

It plays the reconciler's part (plan, remember, act, tell) over a runner that only keeps notes.
After every plan it checks the invariants that :mod:`flow_operator.model.status` lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from flow_operator.clock import rfc3339
from flow_operator.memory import FlowMemory, decode_memory, encode_memory
from flow_operator.model.flow import template_hash
from flow_operator.model.status import TERMINAL, FlowStatus, Source
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
    plan,
    report,
)
from flow_operator.runners.base import Exit, Instance, StepView
from support import FakeClock, make_manifest

ROUNDS = 32
"""Plans in one look; as many as the reconciler makes."""

REACHED = {
    "running": {"running"},
    "paused": {"paused", "stopped"},
    "stopped": {"stopped"},
    "deleted": {"stopped"},
}
"""The phases in which nothing more has to happen, by what is desired."""


@dataclass
class Process:
    """One step of a run in the world."""

    attempt: int = 1
    pid: int = 0
    ended: bool = False
    exit: Exit | None = None
    input_bytes: int = 0
    limits: tuple[tuple[str, bool], ...] = ()
    cut: bool = False
    signals: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.exit is None

    def view(self) -> StepView:
        pid = self.pid if self.alive else 0
        seen = (self.attempt, pid, self.pid, self.ended, self.exit, self.input_bytes)
        return StepView(*seen, self.limits, cut=self.cut)


@dataclass
class Run:
    """One instance in the world."""

    name: str
    replica: int
    steps: list[Process]
    frozen: bool = False
    thawed: bool = False
    gone: bool = False
    jobs: set[str] = field(default_factory=set)
    survivors: tuple[int, ...] = ()
    unheld: tuple[int, ...] = ()
    restless: set[int] = field(default_factory=set)
    rested: bool = False

    @property
    def alive(self) -> bool:
        return any(step.alive for step in self.steps)


class World:
    """One flow, what is wanted of it, what runs of it, and what is remembered."""

    def __init__(self, *steps: str | dict[str, Any], **spec: Any) -> None:
        self.clock = FakeClock()
        self.boot = "boot-1"
        self.tick = 0.0
        self.memory = FlowMemory()
        self.runs: dict[str, Run] = {}
        self.done: list[Action] = []
        self.notes: list[Note] = []
        self.wake: float | None = None
        self.seen_extra: dict[str, Any] = {}
        self.status: FlowStatus | None = None
        self.forgotten = False
        self._pids = 100
        self.want = Want(None, uid="uid-1")
        self.apply(*steps, **spec)

    # --- what is wanted ------------------------------------------------------------------

    def apply(self, *steps: str | dict[str, Any], **spec: Any) -> None:
        """Another configuration of the same flow."""
        flow = make_manifest("demo", *steps, **spec).flow
        self.edit(flow=flow, state=flow.spec.state, template=template_hash(flow, None))

    def edit(self, **changes: Any) -> None:
        """Change what is wanted."""
        changes.setdefault("generation", self.want.generation + 1)
        self.want = replace(self.want, **changes)

    def ask(self, state: str, *, hard: bool = False, again: bool = False) -> None:
        """A command: the configuration gets another state."""
        flow = replace(self.want.flow, spec=replace(self.want.flow.spec, state=state))
        self.edit(flow=flow, state=state, hard=hard, token=self.want.token + again)

    def delete(self, *, hard: bool = False) -> None:
        """The configuration goes; its processes may still be there."""
        self.want = Want(None, generation=self.want.generation + 1, hard=hard)

    # --- one look, as the reconciler's ---------------------------------------------------

    def seen(self) -> Seen:
        instances = tuple(
            Instance(
                run.name,
                "demo",
                run.replica,
                tuple(step.view() for step in run.steps),
                run.frozen,
                run.gone,
                run.survivors,
                run.unheld,
                run.thawed,
            )
            for run in self.runs.values()
        )
        return Seen(self.boot, instances, **{"restless": self._restless(), **self.seen_extra})

    def _restless(self) -> dict[str, frozenset[int]]:
        """What was looked at, as the reconciler has it looked at."""
        looked = [
            self.runs[run.run]
            for run in self.memory.runs.values()
            if run.run in self.runs and run.pause is not None
            if not (run.pause.idle or run.steps[0].pid)
        ]
        for run in looked:
            run.restless.discard(0)
            run.rested = all(run.steps[index].ended for index in run.restless)
        return {run.name: frozenset(run.restless) for run in looked}

    def look(self, killed_after: int = 0) -> list[Action]:
        """Plan and act until nothing changes; returns what was done.

        Args:
            killed_after: after how many actions the operator is killed, and another one begins.
        """
        done: list[Action] = []
        for _ in range(ROUNDS):
            memory = self.memory
            decision = plan(self.want, self.seen(), memory, self.clock.now)
            self._check_fixed(decision)
            self.notes += decision.notes
            self.wake = decision.wake
            self.memory = decision.intent
            for action in decision.actions:
                self._act(action)
                done.append(action)
                self.done.append(action)
                killed_after -= 1
                if killed_after == 0:
                    self.restart_operator()
                    return done
            if decision.memory is not None:
                self.memory = decision.memory
            if decision.memory is None and not decision.actions:
                self.memory, self.forgotten = FlowMemory(), True
                return done
            self._tell()
            self.clock.advance(self.tick)
            if not decision.goes_on(memory):
                return done
        raise AssertionError(f"no fixpoint; the last actions were {decision.actions}")

    def _check_fixed(self, decision: Decision) -> None:
        """Where nothing would come of planning again, nothing does."""
        if decision.fixed and not decision.actions and decision.memory is not None:
            again = plan(self.want, self.seen(), decision.memory, self.clock.now)
            assert not again.actions
            assert again.memory == decision.memory

    def advance(self, seconds: float) -> list[Action]:
        """Let time pass, then look."""
        self.clock.advance(seconds)
        return self.look()

    def restart_operator(self) -> None:
        """Another operator reads what this one has remembered."""
        self.memory = decode_memory(encode_memory(self.memory))
        self.status = None

    def reboot(self) -> None:
        """The machine starts again: no process is left."""
        self.runs.clear()
        self.boot = f"boot-{int(self.boot[5:]) + 1}"
        self.clock.now = 10.0

    # --- what the runner does ------------------------------------------------------------

    def _act(self, action: Action) -> None:
        match action:
            case LaunchRun():
                intended = {run.run for run in self.memory.runs.values()}
                assert action.run in intended, "a launch that nobody would remember"
                self._launch(action)
            case StartStep():
                self._start_step(action)
            case EndStep():
                step = self.runs[action.run].steps[action.index]
                assert not step.alive, "a living step's pipes were let go"
                step.ended = True
            case SignalSteps():
                for index in action.indexes:
                    self.runs[action.run].steps[index].signals.append(action.name)
            case Sweep():
                self.runs[action.run].jobs = {f"sweep {action.name}"}
            case Freeze():
                self.runs[action.run].jobs = {"freeze"}
                self.runs[action.run].thawed = False
            case Thaw():
                self.runs[action.run].jobs = {"thaw"}
            case Forget():
                assert not self.runs[action.run].alive, "forgot a living run"
                del self.runs[action.run]

    def _launch(self, action: LaunchRun) -> None:
        if action.run in self.runs:
            return
        memory = action.memory
        double = [r.name for r in self.runs.values() if r.replica == memory.replica and r.alive]
        assert not double, f"{action.run} is launched beside {double}"
        steps = [Process(pid=self._pid()) for _ in memory.flow.spec.steps]
        self.runs[action.run] = Run(action.run, memory.replica, steps)

    def _pid(self) -> int:
        self._pids += 1
        return self._pids

    def _start_step(self, action: StartStep) -> None:
        run = self.runs[action.run]
        step = run.steps[action.index]
        assert not step.ended, "started a step whose pipes were let go"
        if action.attempt == step.attempt + 1:
            assert not step.alive, "started a step twice"
            assert not run.gone, "started a step of a run that is gone"
            run.steps[action.index] = Process(action.attempt, self._pid())
            run.rested = run.rested and action.index > 0

    # --- what happens by itself ----------------------------------------------------------

    def run(self, replica: int = 0) -> Run:
        """The newest instance of a replica."""
        return next(run for run in reversed(self.runs.values()) if run.replica == replica)

    def exit(
        self, index: int = 0, code: int | None = 0, *, signal: int | None = None, **where: int
    ) -> None:
        """A step's process ends."""
        run = self.run(where.get("replica", 0))
        self.end(run, index, code, signal=signal, input_bytes=where.get("input_bytes", 0))

    def end(
        self,
        run: Run,
        index: int,
        code: int | None = 0,
        *,
        signal: int | None = None,
        input_bytes: int = 0,
    ) -> None:
        """The same, of any instance."""
        step = run.steps[index]
        reason = "Signaled" if signal else ("Completed" if code == 0 else "Error")
        ended = None if signal else code
        step.exit = Exit(reason, ended, signal, at=self.clock.now, wall=self.clock.wall())
        step.input_bytes = input_bytes

    def exit_all(self, code: int = 0, replica: int = 0) -> None:
        """Every process of an instance ends."""
        for index, step in enumerate(self.run(replica).steps):
            if step.alive:
                self.exit(index, code, replica=replica)

    def finish_jobs(self) -> None:
        """What goes on behind the runner's verbs comes to its end."""
        for run in self.runs.values():
            for job in run.jobs:
                if job == "freeze":
                    run.frozen = True
                elif job == "thaw":
                    run.frozen, run.thawed = False, True
                else:
                    self._sweep(run, job.removeprefix("sweep "))
            run.jobs = set()

    def carry_out(self) -> None:
        """Have what the next look begins come to its end, and be seen."""
        self.look()
        self.finish_jobs()
        self.look()

    def _sweep(self, run: Run, name: str) -> None:
        """What still lives is signalled; KILL cannot be ignored."""
        for index, step in enumerate(run.steps):
            if step.alive:
                step.signals.append(name)
                if name == "SIGKILL":
                    self.end(run, index, signal=9)
        run.gone = not run.alive

    def cascade(self, code: int = 0) -> list[Action]:
        """Let a drain go on: each step ends once the one before it has; returns what was done."""
        run = self.run()
        done = self.look()
        for index, step in enumerate(run.steps):
            if step.alive:
                self.end(run, index, code)
            done += self.look()
        self.finish_jobs()
        return done + self.look()

    # --- what is told --------------------------------------------------------------------

    def _tell(self) -> None:
        now = (self.clock.now, self.clock.wall())
        before = self.status
        arguments = ("demo", self.want, self.seen(), self.memory, before, Source("api"), now)
        self.status = report(*arguments)
        self.check(self.status, before)

    def check(self, status: FlowStatus, before: FlowStatus | None) -> None:
        """The invariants that the model's status lists."""
        flow = self.want.flow
        ready = status.condition("Ready")
        reconciling = status.condition("Reconciling")
        reached = status.status in REACHED[status.desired] | TERMINAL
        assert status.desired == (flow.spec.state if flow else "deleted"), "invariant 1"
        if status.status == "stopped":
            assert not any(run.alive for run in self.runs.values()), "invariant 2"
        assert status.observed_generation <= status.generation, "invariant 3"
        assert ready.status == "False" or status.status == "running", "invariant 4"
        assert reconciling.status == ("False" if reached else "True"), "invariant 5"
        if status.status == "paused" and self.want.state == "paused":
            self.check_paused()
        for condition in status.conditions if before else ():
            earlier = before.condition(condition.type)
            if earlier is None:
                continue  # It was asked for just now.
            same = earlier.status == condition.status
            assert same == (earlier.last_transition_time == condition.last_transition_time) or (
                earlier.last_transition_time == self.status_time()
            ), "a transition time moved without a transition, or did not move with one"

    def check_paused(self) -> None:
        """All is frozen, or the first step has ended and the others were seen to be idle."""
        for run in self.runs.values():
            if self.want.flow.spec.pause.mode == "freeze":
                assert run.frozen, "paused, and not frozen"
                continue
            assert not run.steps[0].alive, "paused, and its source runs"
            assert run.rested or len(run.steps) == 1, "paused before it was idle"

    def status_time(self) -> str:
        """Now, as conditions write it."""
        return rfc3339(self.clock.wall())

    @property
    def phase(self) -> str:
        assert self.status is not None
        return self.status.status

    def reasons(self) -> list[str]:
        """The reasons of all events so far."""
        return [note.reason for note in self.notes]


def kinds(actions: list[Action]) -> list[str]:
    """The names of actions, in order."""
    return [type(action).__name__ for action in actions]


def signals(actions: list[Action]) -> list[tuple[tuple[int, ...], str]]:
    """Which steps were signalled, and how."""
    return [(a.indexes, a.name) for a in actions if isinstance(a, SignalSteps)]


def running(*steps: str | dict[str, Any], **spec: Any) -> World:
    """A world whose flow runs."""
    world = World(*steps, **spec)
    world.look()
    assert world.phase == "running"
    world.done.clear()
    return world
