"""What the plan does when a step ends by itself, or is unhealthy."""

from __future__ import annotations

import pytest

from flow_operator.plan import EndStep, StartStep, start_failed
from unit.plan_world import World, kinds, running, signals


def _crash(world: World, index: int = 0) -> float:
    """A step fails; returns the seconds until it is started again."""
    world.exit(index, 1)
    done = world.look()
    if "StartStep" in kinds(done):
        return 0.0
    assert world.phase == "backoff"
    wait = world.wake - world.clock.now
    assert kinds(world.advance(wait)) == ["StartStep"]
    return wait


# --- policies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "action"),
    [
        ("Always", 0, "StartStep"),
        ("Always", 1, "StartStep"),
        ("OnFailure", 0, "EndStep"),
        ("OnFailure", 1, "StartStep"),
        ("Never", 0, "EndStep"),
        ("Never", 1, "EndStep"),
    ],
)
def test_the_policy_decides_what_follows_an_exit(policy, code, action):
    """Started again on its old pipes, or let go so that end of file goes on."""
    world = running("a", "b", restart={"policy": policy})
    world.exit(0, code)
    assert kinds(world.look()) == [action]
    assert world.run().steps[1].alive


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_step_that_a_signal_ended_has_failed(policy):
    """No exit code is no success."""
    world = running("a", restart={"policy": policy})
    world.exit(0, signal=9)
    assert kinds(world.look()) == ["StartStep"]


def test_success_codes_are_the_steps_own():
    """``successExitCodes`` says which exits count as success."""
    step = {"name": "a", "script": "a", "successExitCodes": [3]}
    world = running(step, restart={"policy": "OnFailure"})
    world.exit(0, 0)
    assert kinds(world.look()) == ["StartStep"]
    world.exit(0, 3)
    world.carry_out()
    assert world.phase == "completed"


def test_only_the_crashed_step_is_started_again():
    """The others keep running; the attempt counts up, the run stays."""
    world = running("a", "b", "c")
    run = world.run().name
    world.exit(1, 1)
    (start,) = world.look()
    assert isinstance(start, StartStep)
    assert (start.run, start.index, start.attempt) == (run, 1, 2)
    assert world.status.restarts == 1
    assert [step.restarts for step in world.status.steps] == [0, 1, 0]


# --- backoff ---------------------------------------------------------------------------------


def test_the_first_restart_is_immediate_and_the_next_ones_back_off():
    """Immediately, then initial, then growing by the factor up to the cap."""
    backoff = {"initial": "1s", "factor": 3, "max": "20s", "jitter": 0}
    world = running("a", restart={"backoff": backoff})
    assert [_crash(world) for _ in range(6)] == pytest.approx([0, 1, 3, 9, 20, 20])


def test_jitter_spreads_waits_within_its_bounds():
    """±10 % around each wait, and never above the cap."""
    world = running("a", restart={"backoff": {"jitter": 0.1, "max": "8s"}})
    waits = [_crash(world) for _ in range(6)][1:]
    for wait, middle in zip(waits, [1, 2, 4, 8, 8], strict=True):
        assert 0.9 * middle <= wait <= min(1.1 * middle, 8)
    assert waits[:3] != [1, 2, 4]


def test_a_healthy_spell_starts_backoff_over():
    """After ``resetAfter`` the next failure counts as the first."""
    world = running("a", restart={"resetAfter": "1m", "backoff": {"jitter": 0}})
    assert [_crash(world) for _ in range(3)] == pytest.approx([0, 1, 2])
    world.advance(60)
    assert [_crash(world) for _ in range(2)] == pytest.approx([0, 1])


def test_backoff_is_kept_over_a_restart_of_the_operator():
    """A crash loop does not become a fast one because the operator was restarted."""
    world = running("a", restart={"backoff": {"jitter": 0}})
    assert [_crash(world) for _ in range(3)] == pytest.approx([0, 1, 2])
    world.restart_operator()
    assert _crash(world) == pytest.approx(4)


def test_no_step_is_started_before_its_time():
    """Looking earlier changes nothing."""
    world = running("a", restart={"backoff": {"jitter": 0}})
    _crash(world)
    world.exit(0, 1)
    world.look()
    assert world.advance(0.5) == []
    assert world.phase == "backoff"
    assert kinds(world.advance(0.5)) == ["StartStep"]


def test_a_step_that_cannot_be_started_is_tried_again_under_the_same_attempt():
    """The runner refused: nothing was started, so nothing is counted as a restart."""
    world = running("a", restart={"backoff": {"jitter": 0}})
    world.exit(0, 1)
    run = world.run()
    crashed = run.steps[0]
    (start,) = world.look()
    run.steps[0] = crashed
    world.memory = start_failed(world.memory, start, "no such user", world.clock.now)
    assert world.look() == []
    assert world.status.message == "step 's0' no such user; waiting to restart it"
    assert world.status.restarts == 0
    (again,) = world.advance(world.wake - world.clock.now)
    assert again.attempt == start.attempt


# --- giving up -------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["step", "flow"])
@pytest.mark.parametrize("most", [0, 2])
def test_a_flow_whose_restarts_are_used_up_has_failed(scope, most):
    """``maxRestarts`` failures in a row are answered by a restart, the next one is the last."""
    world = running("a", restart={"maxRestarts": most, "scope": scope})
    for _ in range(most + 1):
        world.exit(0, 1)
        for _ in range(3):
            world.look()
            world.finish_jobs()
            world.clock.advance(10)
    world.look()
    assert world.phase == "failed"
    assert world.status.restarts == most
    assert world.status.condition("Stalled").status == "True"
    assert world.runs == {}
    assert world.advance(3600) == []


def test_a_failed_flow_runs_again_when_somebody_says_so():
    """A start raises the token; the failure is forgotten."""
    world = running("a", restart={"maxRestarts": 0})
    world.exit(0, 1)
    world.cascade()
    assert world.phase == "failed"
    world.ask("running", again=True)
    assert kinds(world.look()) == ["LaunchRun"]
    assert world.phase == "running"


def test_the_other_steps_of_a_failed_flow_are_drained():
    """The step that used up its restarts ends the flow, not the data before it."""
    world = running("a", "b", restart={"maxRestarts": 0})
    world.exit(1, 1)
    done = world.look()
    assert signals(done) == [((0,), "SIGTERM")]
    world.cascade()
    assert world.phase == "failed"


def test_a_step_whose_restarts_are_used_up_is_not_waited_for():
    """It will not read what is in its pipe, so the end need not wait for the drain's deadline."""
    world = running("a", "b", restart={"maxRestarts": 0}, stop={"timeout": "1h"})
    world.exit(1, 1, input_bytes=10)
    world.look()
    world.exit(0)
    world.carry_out()
    assert world.phase == "failed"


# --- scope: flow -----------------------------------------------------------------------------


def test_with_scope_flow_every_step_is_stopped_and_a_new_instance_launched():
    """TERM to all, gone, then the next instance: the first one at once."""
    world = running("a", "b", restart={"scope": "flow"})
    world.exit(0, 1)
    done = world.look()
    assert signals(done) == [((1,), "SIGTERM")]
    assert "StartStep" not in kinds(done)
    world.exit(1)
    world.look()
    world.finish_jobs()
    assert kinds(world.look()) == ["Forget", "LaunchRun"]
    assert world.status.restarts == 1


def test_with_scope_flow_instances_back_off():
    """Failures are counted over the instances."""
    world = running("a", restart={"scope": "flow", "backoff": {"jitter": 0}})
    waits = []
    for _ in range(4):
        world.exit(0, 1)
        world.look()
        world.finish_jobs()
        done = world.look()
        if "LaunchRun" in kinds(done):
            waits.append(0.0)
            continue
        assert world.phase == "backoff"
        waits.append(world.wake - world.clock.now)
        assert kinds(world.advance(waits[-1])) == ["LaunchRun"]
    assert waits == pytest.approx([0, 1, 2, 4])


# --- completion ------------------------------------------------------------------------------


def test_completion_goes_down_the_pipe():
    """Each step that has ended well hands the end of file on; the last one completes the flow."""
    world = running("a", "b", "c", restart={"policy": "OnFailure"})
    for index in range(3):
        world.exit(index, 0)
        done = world.look()
        assert [a.index for a in done if isinstance(a, EndStep)] == [index]
        assert ("Sweep" in kinds(done)) is (index == 2)
    world.finish_jobs()
    world.look()
    assert (world.phase, world.runs) == ("completed", {})
    assert world.advance(3600) == []


def test_one_step_that_failed_fails_the_flow():
    """With policy Never the others may end; the outcome is still failed, and says why."""
    world = running("a", "b", restart={"policy": "Never"})
    world.exit(0, 3)
    world.look()
    world.exit(1, 0)
    world.carry_out()
    assert world.phase == "failed"
    assert "exited with code 3" in world.status.message


@pytest.mark.parametrize("change", ["token", "template"])
def test_a_completed_flow_runs_again_only_for_another_token_or_template(change):
    """Neither an edit in place nor another operator runs it again."""
    world = running("a", restart={"policy": "OnFailure"})
    world.exit(0)
    world.cascade()
    world.apply("a", restart={"policy": "OnFailure"}, description="else")
    world.restart_operator()
    assert world.look() == []
    assert world.phase == "completed"
    world.edit(**{change: 1 if change == "token" else "other"})
    assert kinds(world.look()) == ["LaunchRun"]


def test_a_completed_flow_stays_completed_over_a_shutdown_of_the_operator():
    """The operator stops what runs, without a wish of the user to run it again."""
    world = running("a", restart={"policy": "OnFailure"})
    world.exit(0)
    world.cascade()
    world.edit(state="stopped", generation=world.want.generation)
    world.look()
    world.restart_operator()
    world.edit(state="running", generation=world.want.generation)
    assert world.look() == []
    assert world.phase == "completed"


# --- liveness --------------------------------------------------------------------------------


def _unhealthy(world: World, attempt: int = 1) -> None:
    world.seen_extra = {"unhealthy": frozenset({(world.run().name, 0, attempt)})}


def test_an_unhealthy_step_is_told_to_end_and_started_again():
    """TERM to it alone; its exit counts as a failure even with code 0."""
    world = running("a", "b", restart={"policy": "OnFailure"})
    _unhealthy(world)
    assert signals(world.look()) == [((0,), "SIGTERM")]
    assert world.look() == []
    assert world.wake == world.clock.now + 30
    world.exit(0, 0)
    assert kinds(world.look()) == ["StartStep"]
    assert world.look() == [], "the verdict about the attempt before is not about this one"


def test_an_unhealthy_step_that_does_not_end_is_killed_after_the_timeout():
    """KILL once ``stop.timeout`` has passed; asking again at once does not help."""
    world = running("a", stop={"timeout": "5s"})
    _unhealthy(world)
    world.look()
    assert signals(world.advance(4.9)) == []
    assert signals(world.advance(0.2)) == [((0,), "SIGKILL")]
    world.exit(0, signal=9)
    assert kinds(world.look()) == ["StartStep"]
