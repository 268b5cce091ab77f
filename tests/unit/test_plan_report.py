"""What is told of a flow, phase by phase; ``World`` checks the invariants after every plan."""

from __future__ import annotations

import pytest

from flow_operator.memory import FlowMemory
from flow_operator.model.status import Source
from flow_operator.plan import Want, report
from unit.plan_world import World, running


def _conditions(world: World) -> dict[str, str]:
    return {condition.type: condition.status for condition in world.status.conditions}


def test_a_running_flow_is_ready_and_settled():
    """All replicas run all steps."""
    world = running("a", "b", replicas=2)
    status = world.status
    assert _conditions(world) == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Backpressured": "False",
        "PipeUnheld": "False",
    }
    assert (status.replicas, status.ready_replicas) == (2, 2)
    assert [(step.name, step.replica, step.state) for step in status.steps] == [
        ("s0", 0, "running"),
        ("s1", 0, "running"),
        ("s0", 1, "running"),
        ("s1", 1, "running"),
    ]
    assert len({step.pid for step in status.steps}) == 4


def test_a_status_speaks_of_its_generation():
    """``settled`` is about the configuration that stands, not about an earlier one."""
    world = running("a")
    assert world.status.generation == world.status.observed_generation == world.want.generation
    assert world.status.settled


def test_a_startup_probe_holds_the_phase_at_starting():
    """Running is what has started up."""
    world = running("a")
    world.seen_extra = {"not_started": frozenset({(world.run().name, 0)})}
    world.look()
    assert (world.phase, _conditions(world)["Ready"]) == ("starting", "False")
    assert not world.status.steps[0].ready


def test_a_readiness_probe_that_fails_makes_a_running_flow_unready():
    """It runs, so nothing more will happen by itself; why it is not ready stands in Ready."""
    world = running("a")
    world.seen_extra = {"not_ready": {(world.run().name, 0): "step 's0' is not ready: HTTP 503"}}
    world.look()
    ready = world.status.condition("Ready")
    assert (world.phase, world.status.settled) == ("running", True)
    assert (ready.status, ready.reason) == ("False", "NotReady")
    assert ready.message == "step 's0' is not ready: HTTP 503"
    assert world.status.ready_replicas == 0


def test_a_step_that_waits_tells_how_it_ended():
    """Backoff names the step, its exit and its last exit's time."""
    world = running("a", "b")
    for _ in range(2):
        world.exit(1, 3)
        world.look()
    step = world.status.steps[1]
    assert (world.phase, step.state, step.pid) == ("backoff", "waiting", None)
    assert world.status.message == "step 's1' exited with code 3; waiting to restart it"
    assert (step.last_exit.code, step.last_exit.reason) == (3, "Error")
    assert world.status.steps[0].state == "running"


def test_the_last_exit_is_told_after_the_restart():
    """A step that runs again still says how it ended before."""
    world = running("a")
    world.exit(0, signal=11)
    world.look()
    assert world.phase == "running"
    assert world.status.steps[0].last_exit.signal == 11


def test_a_frozen_flow_is_paused_and_not_ready():
    """Its steps are frozen; its processes are kept."""
    world = running("a")
    world.ask("paused")
    world.look()
    assert (world.phase, world.status.settled) == ("running", False), "as it is observed"
    world.finish_jobs()
    world.look()
    assert (world.phase, _conditions(world)["Ready"]) == ("paused", "False")
    assert world.status.steps[0].state == "frozen"


def test_a_paused_flow_that_is_resumed_is_told_paused_until_it_goes_on():
    """Status is what was observed."""
    world = running("a")
    world.ask("paused")
    world.carry_out()
    world.ask("running")
    world.look()
    assert (world.phase, world.status.settled) == ("paused", False)


def test_a_replica_that_has_completed_is_not_missing():
    """The others run on, and nothing is about to be started."""
    world = running("a", replicas=2, restart={"policy": "OnFailure"})
    world.exit(0, 0, replica=1)
    world.carry_out()
    assert set(world.memory.runs) == {0}
    assert world.phase == "running"
    assert world.status.settled


def test_a_replica_that_waits_for_its_launch_is_told_beside_those_that_run():
    """Its trouble is the flow's."""
    world = running("a", replicas=2, restart={"scope": "flow"})
    for _ in range(2):
        world.exit(0, 1, replica=1)
        world.look()
        world.finish_jobs()
        world.look()
    assert set(world.memory.relaunches) == {1}
    assert world.phase == "backoff"


def test_a_completed_replica_that_is_no_longer_wanted_counts_no_more():
    """After scaling down, only the replicas that are wanted decide."""
    world = running("a", replicas=2, restart={"policy": "OnFailure", "scope": "flow"})
    world.exit(0, 0, replica=1)
    world.carry_out()
    world.apply("a", restart={"policy": "OnFailure", "scope": "flow"})
    for _ in range(2):
        world.exit(0, 1)
        world.look()
        world.finish_jobs()
        world.look()
    assert set(world.memory.relaunches) == {0}
    assert world.phase == "backoff"


def test_started_at_is_when_the_oldest_instance_was_launched():
    """In wall time, although only the monotonic clock is kept."""
    world = running("a")
    launched = world.status_time()
    world.apply("a", replicas=2)
    world.advance(100)
    assert world.status.started_at == launched


def test_a_wall_clock_that_jumps_changes_no_decision():
    """Durations come from the monotonic clock."""
    world = running("a")
    world.exit(0, 1)
    world.look()
    world.exit(0, 1)
    world.look()
    world.clock.wall_now += 365 * 86400
    assert world.look() == []
    world.clock.wall_now -= 2 * 365 * 86400
    assert world.look() == []


def test_transition_times_move_with_the_condition_and_only_then():
    """A reason may change; the time tells when the status did."""
    world = running("a")
    since = world.status.condition("Ready").last_transition_time
    world.advance(10)
    assert world.status.condition("Ready").last_transition_time == since
    world.exit(0, 1)
    world.look()
    world.exit(0, 1)
    world.advance(10)
    assert world.phase == "backoff"
    assert world.status.condition("Ready").last_transition_time == world.status_time()
    assert world.status.condition("Stalled").last_transition_time == since


@pytest.mark.parametrize(
    ("state", "phase"), [("running", "pending"), ("paused", "stopped"), ("stopped", "stopped")]
)
def test_a_flow_that_has_no_instance_yet(state, phase):
    """Before its first plan a flow is pending if it is to run, else stopped."""
    world = World("a", state=state)
    told = report(
        "demo", world.want, world.seen(), FlowMemory(), None, Source("api"), (1000.0, 1.7e9)
    )
    assert told.status == phase
    assert told.settled is (state != "running")


def test_a_deleted_flow_says_so():
    """``desired`` is deleted until it is gone."""
    world = World("a")
    told = report("x", Want(None), world.seen(), FlowMemory(), None, Source("api"), (1.0, 1.7e9))
    assert (told.status, told.desired, told.replicas) == ("stopped", "deleted", 0)


def test_a_shutdown_leaves_what_is_desired_as_it_is():
    """The operator stops what runs; the user's wish stands, so it is not yet fulfilled."""
    world = running("a")
    world.edit(state="stopped")
    world.look()
    world.cascade()
    assert (world.phase, world.status.desired) == ("stopped", "running")
    assert not world.status.settled
