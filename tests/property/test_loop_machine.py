"""The whole core against a world that does as it likes: store, memories, queue, reconciler.

Where ``test_plan_machine`` plays the reconciler, here the real one works, with the files of a data
directory, and is killed between any two things that it does. The machine is its only worker.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flow_operator import controller
from flow_operator.memory import StepMemory
from flow_operator.model.status import FlowStatus
from flow_operator.runners.base import Launch, Notify
from flow_operator.runners.fake import FakeRunner, FakeWorld
from reconcile.test_loop import Loop
from support import FakeClock, make_manifest

NAMES = ("a", "b")
TURNS = 500
"""Looks within which nothing more may be ready."""

ROUNDS = 60
"""Times that the clock goes on until everything must have come to rest."""

RESET_AFTER = 600.0
LONGEST = 60.0
"""Seconds: of a healthy spell, and the longest wait."""

STEPS = st.sampled_from(
    [
        ["forever"],
        ["forever", "cat"],
        ["trap '' TERM; forever"],
        ["exit 1"],
        ["exit 0"],
        ["forever", "exit 1"],
        ["exit 0", "cat"],
    ]
)
SPECS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["running", "running", "running", "paused", "stopped"]),
        "replicas": st.integers(1, 2),
        "restart": st.fixed_dictionaries(
            {
                "policy": st.sampled_from(["Always", "Always", "OnFailure", "Never"]),
                "scope": st.sampled_from(["step", "step", "flow"]),
                "maxRestarts": st.sampled_from([None, None, 2]),
                "backoff": st.just({"initial": "4s", "factor": 2, "max": "1m", "jitter": 0}),
            }
        ),
        "stop": st.fixed_dictionaries({"mode": st.sampled_from(["drain", "signal"])}),
    }
)
NAME = st.sampled_from(NAMES)
PICK = st.integers(0, 7)
RIGHT = {
    "running": {"running", "backoff", "completed", "failed", "pending"},
    "paused": {"paused", "stopped", "completed", "failed"},
    "stopped": {"stopped"},
}
"""What may be observed at rest, by what is desired."""


class Killed(BaseException):
    """The operator is no more; none of its own handlers may catch that."""


class Fate:
    """When the operator is killed, and whether it hears of what happens.

    Attributes:
        kill_in: how many moments it has left; 0 is no end.
        deaf: whether events are lost.
        lost: whether one was.
    """

    def __init__(self) -> None:
        self.kill_in = 0
        self.deaf = self.lost = False

    def moment(self) -> None:
        """Between two things that an operator does, it may be killed."""
        self.kill_in -= 1
        if self.kill_in == 0:
            raise Killed

    def between(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Have such a moment before and after a call."""

        def called(*arguments: Any, **options: Any) -> Any:
            self.moment()
            result = call(*arguments, **options)
            self.moment()
            return result

        return called

    def heard(self, call: Callable[[Any], None]) -> Callable[[Any], None]:
        """Have a listener that does not hear everything."""

        def hear(told: Any) -> None:
            if self.deaf:
                self.lost = True
            else:
                call(told)

        return hear


class Runner(FakeRunner):
    """Keeps its contract, but does not prevent a second copy."""

    def __init__(self, world: FakeWorld, fate: Fate) -> None:
        super().__init__(world)
        self._fate = fate
        for verb in ("start_step", "end_step", "signal", "sweep", "freeze", "thaw", "forget"):
            setattr(self, verb, fate.between(getattr(self, verb)))

    def start(self, notify: Notify) -> None:
        super().start(self._fate.heard(notify))

    def launch(self, launch: Launch) -> None:
        self._fate.moment()
        runs = self._world.runs.items()
        mine = (launch.flow.flow_id, launch.replica)
        double = [n for n, r in runs if (r.flow_id, r.replica) == mine and n != launch.run]
        assert not double, f"{launch.run} is launched beside {double}"
        super().launch(launch)
        self._fate.moment()


class LoopMachine(RuleBasedStateMachine):
    """What is asked for comes about, whatever happens."""

    @initialize()
    def begin(self):
        self._left = contextlib.ExitStack()
        shm = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.root = Path(self._left.enter_context(tempfile.TemporaryDirectory(dir=shm)))
        patch = self._left.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(controller, "WORKERS", 0)  # The machine works itself.
        quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
        structlog.configure(wrapper_class=quiet)
        self._left.callback(structlog.reset_defaults)
        self.clock = FakeClock()
        self.world = FakeWorld(clock=self.clock)
        self.fate = Fate()
        self.rested: set[str] = set()
        self.waits: dict[tuple[str, int], tuple[StepMemory, float]] = {}
        self.loop = self._operator()

    def _operator(self) -> Loop:
        runner = Runner(self.world, self.fate)
        self.fate.lost = False
        loop = Loop(self.root, self.world, self.clock, runner=runner)
        loop.reconciler._executor._interrupt.set()  # Do not wait for a runner that is away.
        loop.memories.put = self.fate.between(loop.memories.put)
        loop.start()
        loop.store._listeners = [self.fate.heard(call) for call in loop.store._listeners]
        return loop

    # --- what users do -------------------------------------------------------------------

    @rule(name=NAME, steps=STEPS, spec=SPECS, waits=st.booleans())
    def put(self, name, steps, spec, waits):
        if waits and name == "a":
            spec = {**spec, "dependsOn": [{"name": "b", "condition": "Started"}]}
        manifest = make_manifest(name, *steps, **spec)
        self._changes(name)
        if self.loop.store.get(name) is None:
            self.loop.desired.create([manifest])
        else:
            self.loop.desired.replace(manifest)

    @rule(name=NAME, hard=st.booleans())
    def delete(self, name, hard):
        if self.loop.store.get(name) is not None:
            self._changes(name)
            self.loop.desired.delete(name, hard=hard)

    @rule(
        command=st.sampled_from(["start", "stop", "pause", "resume", "restart"]),
        names=st.sampled_from([["a"], ["b"], None]),
        hard=st.booleans(),
    )
    def command(self, command, names, hard):
        there = [flow.flow_id for flow in self.loop.store.flows()]
        chosen = [name for name in names or there if name in there]
        self._changes(*chosen)
        self.loop.desired.command(command, chosen, hard=hard)

    def _changes(self, *names: str) -> None:
        self.rested -= set(names)

    # --- what the world does -------------------------------------------------------------

    @rule(which=PICK, index=PICK, code=st.sampled_from([0, 1, None]))
    def exit(self, which, index, code):
        runs = sorted(self.world.runs)
        if runs:
            run = runs[which % len(runs)]
            index %= len(self.world.runs[run].steps)
            if not self.world.runs[run].frozen:
                self.loop.runner.exits(run, index, code=code, number=11 * (code is None))

    @rule(seconds=st.sampled_from([0.5, 5, 40, 700]))
    def tick(self, seconds):
        self.clock.advance(seconds)

    @rule(days=st.sampled_from([-800, -1, 1, 365]))
    def wall_clock_jumps(self, days):
        self.clock.wall_now = max(0.0, self.clock.wall_now + days * 86400)

    @rule(away=st.booleans())
    def runner_away(self, away):
        self.world.away = away

    @rule(deaf=st.booleans())
    def events_lost(self, deaf):
        self.fate.deaf = deaf

    # --- what operators do ---------------------------------------------------------------

    @rule(kill_in=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 11]))
    def look(self, kill_in):
        self.fate.kill_in = kill_in
        try:
            self._work()
        except Killed:
            self.crash()
        self.fate.kill_in = 0

    @rule()
    def crash(self):
        """The operator is killed between two looks, and another one starts."""
        self.fate.kill_in = 0
        self.loop.close()
        self.loop = self._operator()

    @rule(name=NAME, command=st.sampled_from(["start", "stop", "pause"]))
    def want_while_the_runner_is_away(self, name, command):
        """It comes about once the runner is back, without anybody asking again."""
        if self.loop.store.get(name) is not None:
            self.world.away = True
            self.command(command, [name], hard=False)
            self._work()
            self.world.away = False

    @precondition(lambda self: not self.world.away and not self.fate.deaf)
    @rule()
    def crash_at_rest(self):
        """Another operator does nothing that this one had no reason to do."""
        self._look_at_all()
        done = len(self.world.verbs)
        self.crash()
        self._work()
        assert self.world.verbs[done:] == []

    @precondition(lambda self: not self.world.away and not self.fate.deaf)
    @rule()
    def look_twice(self):
        """Where everything was done, nothing is done again."""
        self._look_at_all()
        done = len(self.world.verbs)
        self._look_at_all()
        assert self.world.verbs[done:] == []

    def _look_at_all(self) -> None:
        for name in NAMES:
            self.loop.queue.add(name)
        self._work()

    def _work(self) -> None:
        """As a worker does, until nothing is ready."""
        queue = self.loop.queue
        for _ in range(TURNS):
            with queue._changed:
                queue._promote()
            if not len(queue):
                return
            batch = queue.get_some(len(NAMES))
            assert batch is not None
            self.loop.controller._look(batch)
            for key in NAMES:
                self._follow_backoff(key)
        raise AssertionError("there is always something to do")

    # --- what must hold all the time -----------------------------------------------------

    def _follow_backoff(self, name: str) -> None:
        """The wait before a restart never shrinks while a step fails, over operators too."""
        for run in self.loop.memories.get(name).runs.values():
            if run.stop is not None:
                continue  # It is now or never then.
            for index, step in enumerate(run.steps):
                key = (run.run, index)
                wait = 0.0 if step.retry_at is None else step.retry_at - self.clock.now
                before, waited = self.waits.get(key, (step, 0.0))
                self.waits[key] = (step, waited)
                if _restarts(before, step):
                    lived = step.last_exit.at - before.started_at
                    assert lived >= RESET_AFTER or step.failures > before.failures, "forgiven early"
                    assert lived >= RESET_AFTER or wait >= waited, f"{wait} s after {waited} s"
                    assert wait <= LONGEST
                    self.waits[key] = (step, wait)

    @invariant()
    def one_run_for_each_replica(self):
        if hasattr(self, "world"):
            alive = [
                (run.flow_id, run.replica)
                for run in self.world.runs.values()
                if any(step.pid for step in run.steps)
            ]
            assert len(alive) == len(set(alive)), alive

    @invariant()
    def stopped_stays_stopped(self):
        if not hasattr(self, "loop"):
            return
        for name in NAMES:
            record = self.loop.store.get(name)
            status = self.loop.board.get(name)
            if record and status and self._says_stopped(record.generation, status):
                self.rested.add(name)
        running = {r.flow_id for r in self.world.runs.values() if any(s.pid for s in r.steps)}
        assert not self.rested & running

    def _says_stopped(self, generation: int, status: FlowStatus) -> bool:
        return (status.desired, status.status, status.observed_generation) == (
            "stopped",
            "stopped",
            generation,
        )

    # --- what must come of it ------------------------------------------------------------

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        try:
            self.world.away = self.fate.deaf = False
            if self.fate.lost:
                self.crash()  # The next operator looks at everything.
            self._come_to_rest()
            for name in NAMES:
                self._check_rest(name)
        finally:
            self.loop.close()
            self._left.close()

    def _come_to_rest(self) -> None:
        for _ in range(ROUNDS):
            self._work()
            self.clock.advance(3.0)
        self._work()

    def _check_rest(self, name: str) -> None:
        record, status = self.loop.store.get(name), self.loop.board.get(name)
        runs = [run for run in self.world.runs.values() if run.flow_id == name]
        if record is None:
            assert (self.loop.store.record(name), status, runs) == (None, None, [])
            assert name not in self.loop.memories.flow_ids()
            return
        desired = record.flow.spec.state
        assert status is not None, "nobody has looked"
        assert status.status in RIGHT[desired], (desired, status)
        assert status.observed_generation == record.generation
        alive = [run for run in runs if any(step.pid for step in run.steps)]
        if status.status == "running":
            replicas = set(range(record.flow.spec.replicas))
            finished = self.loop.memories.get(name).finished
            assert {run.replica for run in alive} == replicas - finished.keys()
        if status.status == "stopped":
            assert alive == []
        if status.status == "paused":
            assert all(run.frozen for run in alive)


def _restarts(before: StepMemory, step: StepMemory) -> bool:
    """Whether an exit was followed by a restart, or by a wait for it."""
    begins_to_wait = before.retry_at is None and step.retry_at is not None
    return step.judged > before.judged and (begins_to_wait or step.attempt > before.attempt)


TestLoopMachine = LoopMachine.TestCase
TestLoopMachine.pytestmark = [pytest.mark.timeout(600)]  # To find the shortest example takes long.
TestLoopMachine.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
