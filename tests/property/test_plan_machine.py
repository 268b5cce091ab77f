"""The plan against a world that does as it likes: whatever happens, it comes to what is wanted."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flow_operator.backoff import restart_delay
from flow_operator.memory import FlowMemory
from flow_operator.model.flow import Backoff
from flow_operator.model.units import Duration
from flow_operator.plan import Freeze
from unit.plan_world import World

ROUNDS = 120
"""Looks within which everything must have come to rest."""

SCRIPTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
SPECS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["running", "running", "running", "paused", "stopped"]),
        "replicas": st.integers(1, 3),
        "restart": st.fixed_dictionaries(
            {
                "policy": st.sampled_from(["Always", "OnFailure", "Never"]),
                "scope": st.sampled_from(["step", "flow"]),
                "maxRestarts": st.sampled_from([None, 0, 2]),
            }
        ),
        "stop": st.fixed_dictionaries({"mode": st.sampled_from(["drain", "signal"])}),
        "pause": st.fixed_dictionaries({"mode": st.sampled_from(["freeze", "intake"])}),
        "progress": st.fixed_dictionaries(
            {
                "silenceTimeout": st.sampled_from([None, "1m"]),
                "action": st.sampled_from(["Report", "Restart"]),
            }
        ),
        "update": st.fixed_dictionaries({"strategy": st.sampled_from(["Restart", "OnDelete"])}),
    }
)
PICK = st.integers(0, 7)


class PlanMachine(RuleBasedStateMachine):
    """``World`` itself asserts one live instance per replica, a fixpoint, and the invariants."""

    world: World

    @initialize(scripts=SCRIPTS, spec=SPECS)
    def begin(self, scripts, spec):
        self.world = World(*scripts, **spec)
        self.world.tick = 1e-6
        self.stubborn = False
        self.lives = 1

    # --- what users do -------------------------------------------------------------------

    @rule(scripts=SCRIPTS, spec=SPECS)
    def configure(self, scripts, spec):
        if self.world.want.flow is None:
            self.lives += 1
            self.world.forgotten = False
        self.world.apply(*scripts, **spec)
        self.world.edit(uid=f"uid-{self.lives}", hard=False)

    @precondition(lambda self: self.world.want.flow is not None)
    @rule(
        state=st.sampled_from(["running", "paused", "stopped"]),
        hard=st.booleans(),
        again=st.booleans(),
    )
    def command(self, state, hard, again):
        self.world.ask(state, hard=hard and state == "stopped", again=again)

    @rule(hard=st.booleans())
    def delete(self, hard):
        self.world.delete(hard=hard)

    @precondition(lambda self: self.world.want.flow is not None)
    @rule(blocked=st.booleans())
    def block(self, blocked):
        self.world.edit(blocked=("waits",) if blocked else ())

    # --- what processes and machines do --------------------------------------------------

    @rule(which=PICK, index=PICK, code=st.sampled_from([0, 0, 1, None]), left=st.integers(0, 1))
    def exit(self, which, index, code, left):
        runs = list(self.world.runs.values())
        if runs:
            run = runs[which % len(runs)]
            index %= len(run.steps)
            if run.steps[index].alive and not run.frozen:
                signal = 11 if code is None else None
                self.world.end(run, index, code, signal=signal, input_bytes=left)

    @rule()
    def deliver(self):
        for run in self.world.runs.values():
            for index, step in enumerate(run.steps):
                if step.alive and "SIGKILL" in step.signals:
                    self.world.end(run, index, signal=9)
                elif step.alive and step.signals and not run.frozen and not self.stubborn:
                    self.world.end(run, index, 0)

    @rule()
    def end_of_file(self):
        for run in self.world.runs.values():
            for index, step in enumerate(run.steps):
                ended = index > 0 and run.steps[index - 1].ended
                if step.alive and ended and not run.frozen and not self.stubborn:
                    self.world.end(run, index, 0)

    @rule()
    def finish(self):
        self.world.finish_jobs()

    @rule(which=PICK)
    def lose(self, which):
        """The shim was killed, and a run with it."""
        names = list(self.world.runs)
        if names:
            del self.world.runs[names[which % len(names)]]

    @rule(which=PICK, index=PICK, restless=st.booleans())
    def work(self, which, index, restless):
        """A step has something to read, or has used it up."""
        runs = list(self.world.runs.values())
        if runs:
            run = runs[which % len(runs)]
            change = run.restless.add if restless else run.restless.discard
            change(index % len(run.steps))

    @rule(stubborn=st.booleans())
    def ignore_term(self, stubborn):
        self.stubborn = stubborn

    @rule(which=PICK, index=PICK, how=st.sampled_from(["unhealthy", "silent"]))
    def unhealthy(self, which, index, how):
        runs = list(self.world.runs.values())
        if runs:
            run = runs[which % len(runs)]
            index %= len(run.steps)
            verdict = frozenset({(run.name, index, run.steps[index].attempt)})
            self.world.seen_extra = {how: verdict, "backpressured": {(run.name, index): 1}}

    @rule(seconds=st.sampled_from([0.5, 5, 40, 700]))
    def wait(self, seconds):
        self.world.clock.advance(seconds)

    # --- what the operator does ----------------------------------------------------------

    @rule(killed_after=st.sampled_from([0, 0, 0, 1, 2]))
    def look(self, killed_after):
        self.world.look(killed_after)

    @rule()
    def restart_operator(self):
        self.world.restart_operator()

    @rule()
    def lose_memory(self):
        """Its file was damaged."""
        self.world.memory = FlowMemory()

    @rule()
    def reboot(self):
        self.world.reboot()

    @precondition(lambda self: self.world.want.flow is not None)
    @rule()
    def shut_down(self):
        """The operator stops what runs, then another one begins."""
        state = self.world.want.state
        self.world.edit(state="stopped")
        self._come_to_rest()
        assert self.world.runs == {}
        self.world.restart_operator()
        self.world.edit(state=state)

    # --- what must come of it ------------------------------------------------------------

    def _come_to_rest(self):
        """Let everything that is under way come to its end."""
        world = self.world
        quiet = 0
        for _ in range(ROUNDS):
            before = len(world.done)
            self.deliver()
            self.end_of_file()
            world.finish_jobs()
            for run in world.runs.values():
                run.restless.clear()
            world.look()
            done = [action for action in world.done[before:] if not isinstance(action, Freeze)]
            quiet = 0 if done else quiet + 1
            if quiet > 2 and (world.wake is None or world.phase == "paused"):
                return
            due = world.wake - world.clock.now if world.wake is not None else 0
            world.clock.advance(max(due, 0.1))
        raise AssertionError("it does not come to rest")

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        world.seen_extra = {}
        if world.want.flow is not None:
            world.edit(blocked=())
        self._come_to_rest()
        alive = [run for run in world.runs.values() if run.alive]
        if world.want.flow is None:
            assert world.forgotten
            assert world.runs == {}
            return
        assert world.status.settled, world.status
        if world.want.state == "stopped":
            assert (world.phase, world.runs) == ("stopped", {})
            assert world.advance(86_400) == []
        elif world.want.state == "paused":
            assert world.phase in ("paused", "stopped", "failed", "completed")
            if world.want.flow.spec.pause.mode == "freeze":
                assert all(run.frozen for run in alive)
            else:
                assert not any(run.frozen or run.steps[0].alive for run in alive)
        else:
            assert world.phase in ("running", "failed", "completed")
            assert len(alive) <= world.want.flow.spec.replicas


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@given(
    initial=st.floats(0, 100),
    factor=st.floats(1, 10),
    longest=st.floats(100, 1000),
    count=st.integers(2, 60),
)
@settings(max_examples=100, deadline=None)
def test_backoff_never_shrinks_while_a_step_fails(initial, factor, longest, count):
    """Without jitter, each wait is at least as long as the one before, and at most the cap."""
    policy = Backoff(Duration("", initial), factor, Duration("", longest), 0.0)
    waits = [restart_delay(policy, failures, "x") for failures in range(1, count)]
    assert waits == sorted(waits)
    assert waits[0] == 0
    assert max(waits) <= longest


@given(st.text(), st.integers(2, 40), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_jitter_stays_within_its_bounds(seed, failures, jitter):
    """Whatever the seed."""
    plain = restart_delay(Backoff(jitter=0.0), failures, seed)
    spread = restart_delay(Backoff(jitter=jitter), failures, seed)
    assert plain * (1 - jitter) == pytest.approx(spread, abs=plain * jitter * 2 + 1e-9)
    assert 0 <= spread <= 300
