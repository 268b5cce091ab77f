"""How the plan pauses the intake: the source ends, the rest drains and stays, a resume goes on."""

from __future__ import annotations

import pytest

from flow_operator.memory import decode_memory, encode_memory
from flow_operator.plan import StartStep, start_failed
from unit.plan_world import World, kinds, running, signals

INTAKE = {"mode": "intake"}
FREEZE = {"mode": "freeze"}


def _pausing(*steps: str, **spec: object) -> World:
    """A world whose source was just told to end."""
    world = running(*(steps or ("a", "b", "c")), pause=INTAKE, **spec)
    world.ask("paused")
    assert signals(world.look()) == [((0,), spec.get("stop", {}).get("signal", "SIGTERM"))]
    return world


def _draining(*restless: int, **spec: object) -> World:
    """A world whose source has ended, and whose other steps still have something to do."""
    world = _pausing(**spec)
    world.run().restless = set(restless)
    world.exit(0, signal=15)
    world.look()
    return world


def _paused(*steps: str, **spec: object) -> World:
    world = _pausing(*steps, **spec)
    world.exit(0, signal=15)
    world.look()
    assert (world.phase, world.status.settled) == ("paused", True)
    world.done.clear()
    return world


def _told(world: World) -> tuple[str, str, str]:
    """Phase, and what ``Reconciling`` says."""
    reconciling = world.status.condition("Reconciling")
    return world.phase, reconciling.reason, reconciling.message


def _ready(world: World) -> tuple[str, str]:
    ready = world.status.condition("Ready")
    return ready.status, ready.reason


# --- pausing ---------------------------------------------------------------------------------


def test_paused_is_told_once_all_was_seen_to_be_used_up():
    """Not when the source was told to end, nor when it has; each stage says what it waits for."""
    world = _pausing()
    pids = [step.pid for step in world.run().steps]
    said = "the first step was told to end; waiting for it"
    assert (_told(world), _ready(world)) == (("running", "Pausing", said), ("False", "Pausing"))
    world.run().restless = {1, 2}
    world.exit(0, 0)
    assert kinds(world.look()) == []
    said = "the first step has ended; waiting for 's1', 's2' to use up what it wrote"
    assert (_told(world), _ready(world)) == (("running", "Draining", said), ("False", "Draining"))
    world.run().restless = {2}
    assert kinds(world.look()) == []
    assert _told(world)[2].endswith("waiting for 's2' to use up what it wrote")
    world.run().restless = set()
    assert kinds(world.look()) == []
    assert (world.phase, world.status.settled) == ("paused", True)
    assert world.status.message == "the first step has ended, and what it wrote is used up"
    assert [step.state for step in world.status.steps] == ["waiting", "running", "running"]
    assert [step.pid for step in world.run().steps][1:] == pids[1:]
    assert world.reasons()[-2:] == ["Pausing", "Paused"]


def test_a_run_that_was_not_looked_at_is_not_idle():
    """Whatever is not known counts as work."""
    world = _pausing()
    world.seen_extra = {"restless": {}}
    world.exit(0, 0)
    world.look()
    assert _told(world)[:2] == ("running", "Draining")


def test_nobody_wakes_up_for_a_flow_that_is_idle():
    """However long the pause is."""
    world = _paused()
    assert world.wake is None
    assert world.advance(86_400) == []
    assert (world.phase, world.wake) == ("paused", None)


def test_a_pause_is_remembered_before_the_source_is_signalled():
    """Killed in between, the next operator knows that the exit was asked for."""
    world = running("a", "b", pause=INTAKE, restart={"policy": "OnFailure"})
    world.ask("paused")
    assert signals(world.look(killed_after=1)) == [((0,), "SIGTERM")]
    world.exit(0, 0)
    assert kinds(world.look()) == []
    assert world.phase == "paused"
    world.ask("running")
    assert kinds(world.look()) == ["StartStep"]


def test_the_operator_that_comes_next_goes_on_where_the_first_was_killed():
    """While the source ends, with its deadline; while it drains; while it is idle."""
    world = _pausing(stop={"timeout": "30s"})
    world.clock.advance(10)
    world.restart_operator()
    assert world.look() == []
    assert world.wake == world.clock.now + 20
    world.run().restless = {1}
    world.exit(0, 0)
    world.restart_operator()
    assert world.look() == []
    assert world.phase == "running"
    world.run().restless = set()
    world.look()
    world.restart_operator()
    assert world.look() == []
    assert world.phase == "paused"
    assert world.reasons().count("Paused") == 1


def test_a_record_of_an_operator_that_knew_no_such_pause_is_readable():
    """It has none."""
    world = running("a")
    data = encode_memory(world.memory)
    assert b"pause" not in data.replace(b'"paused"', b"")
    assert decode_memory(data).runs[0].pause is None


def test_a_source_that_ignores_its_signal_is_killed_after_the_timeout():
    """Once, and an event says so."""
    world = _pausing(stop={"timeout": "5s", "signal": "SIGINT"})
    assert signals(world.advance(4.9)) == []
    assert signals(world.advance(0.1)) == [((0,), "SIGKILL")]
    assert world.advance(60) == []
    [note] = [note for note in world.notes if note.reason == "Forced"]
    assert note.warning
    world.exit(0, signal=9)
    world.look()
    assert world.phase == "paused"


def test_a_drain_that_takes_longer_than_the_timeout_is_told_once_and_waited_for():
    """Nobody but the source is ended."""
    world = _draining(2, stop={"timeout": "30s"})
    assert world.wake == world.clock.now + 30
    assert world.advance(30) == []
    assert world.advance(3600) == []
    [note] = [note for note in world.notes if note.reason == "StillDraining"]
    assert (note.warning, note.message) == (
        True,
        "replica 0: step 's2' has not come to rest in time; waiting for it",
    )
    assert (world.phase, world.wake) == ("running", None)
    world.run().restless = set()
    world.look()
    assert world.phase == "paused"


def test_a_flow_of_one_step_is_paused_without_a_process():
    """There is nothing to be used up."""
    world = _paused("a")
    assert not world.run().alive
    world.ask("running")
    assert kinds(world.look()) == ["StartStep"]
    assert (world.phase, world.status.settled) == ("running", True)


def test_every_replica_must_be_idle():
    """The one that is not is told."""
    world = running("a", "b", pause=INTAKE, replicas=2)
    world.ask("paused")
    world.look()
    for replica in range(2):
        world.exit(0, 0, replica=replica)
    world.run(1).restless = {1}
    world.look()
    assert world.phase == "running"
    world.run(1).restless = set()
    world.look()
    assert world.phase == "paused"


def test_what_is_before_a_step_that_has_ended_is_waited_for_by_nobody():
    """No one will ever read it."""
    world = running("a", "b", "c", pause=INTAKE, restart={"policy": "Never"})
    world.exit(2, 0)
    world.look()
    world.ask("paused")
    world.look()
    world.run().restless = {2}
    world.exit(0, 0)
    world.look()
    assert world.phase == "paused"


# --- steps that exit meanwhile ---------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize(("code", "signal"), [(0, None), (3, None), (None, 15)])
def test_the_exit_of_a_source_that_was_told_to_end_is_no_failure(policy, code, signal):
    """Whatever the policy and the code: it is not restarted while paused, and is by the resume."""
    world = _pausing(restart={"policy": policy})
    world.exit(0, code, signal=signal)
    assert kinds(world.look()) == []
    assert "StepExited" not in world.reasons()
    world.ask("running")
    [start] = world.look()
    assert (start.index, start.attempt) == (0, 2)
    [step, *_] = world.memory.runs[0].steps
    assert (step.restarts, step.failures, world.status.restarts) == (0, 0, 0)
    assert world.phase == "running"


def test_a_source_that_had_completed_before_it_was_told_to_end_stays_so():
    """Its end of file goes on, and the flow completes, paused or not."""
    world = running("a", "b", pause=INTAKE, restart={"policy": "OnFailure"})
    world.exit(0, 0)
    world.clock.advance(0.01)
    world.ask("paused")
    assert kinds(world.look()) == ["EndStep"]
    world.exit(1, 0)
    world.carry_out()
    assert world.phase == "completed"


def test_an_exit_that_was_told_late_is_the_sources_own():
    """It had ended when it was told to, only nobody knew it yet."""
    world = running("a", "b", pause=INTAKE, restart={"policy": "OnFailure"})
    ended = world.clock.now
    world.clock.advance(0.01)
    world.ask("paused")
    world.look()
    world.exit(0, 0)
    world.run().steps[0].exit = type(world.run().steps[0].exit)("Completed", 0, at=ended)
    assert kinds(world.look()) == ["EndStep"]


def test_a_source_that_waits_for_its_restart_is_left_waiting_until_the_resume():
    """Its backoff is what it was, and goes on meanwhile; the others drain."""
    world = running("a", "b", pause=INTAKE, restart={"backoff": {"initial": "10s", "jitter": 0}})
    for _ in range(2):
        world.exit(0, 1)
        world.look()
    assert world.phase == "backoff"
    world.ask("paused")
    assert world.look() == []
    assert world.phase == "paused"
    assert world.advance(5) == []
    world.ask("running")
    assert world.look() == []
    assert (world.phase, world.wake) == ("backoff", world.clock.now + 5)
    world.ask("paused")
    world.look()
    assert world.advance(60) == []
    assert (world.phase, world.wake) == ("paused", None)
    world.ask("running")
    assert kinds(world.look()) == ["StartStep"]


def test_a_flow_of_one_step_that_was_not_running_stays_not_running():
    """As with a freeze."""
    world = running("a", pause=INTAKE)
    for _ in range(2):
        world.exit(0, 1)
        world.look()
    world.ask("paused")
    assert world.look() == []
    assert (world.phase, world.status.settled) == ("stopped", True)


@pytest.mark.parametrize("scope", ["step", "flow"])
@pytest.mark.parametrize("restless", [set(), {1}])
def test_a_later_step_that_crashes_is_started_again(scope, restless):
    """While it drains, so that it can; while it is idle, so that it is there for the resume."""
    world = _draining(*restless, restart={"scope": scope, "backoff": {"jitter": 0}})
    world.exit(1, 1, input_bytes=10)
    assert kinds(world.look()) == ["StartStep"]
    world.exit(1, 1)
    assert world.look() == []
    assert kinds(world.advance(1)) == ["StartStep"]
    assert world.status.restarts == 2
    assert world.run().steps[0].attempt == 1


def test_an_idle_flow_whose_later_step_waits_for_its_restart_is_paused_and_says_so():
    """Nothing of what was written is left; one that drains is told as waiting."""
    for restless, phase in ((set(), "paused"), ({2}, "backoff")):
        world = _draining(*restless)
        for _ in range(2):
            world.exit(1, 1)
            world.look()
        assert world.phase == phase
        assert "'s1' exited with code 1; waiting to restart it" in world.status.message


def test_a_later_step_that_uses_up_its_restarts_fails_the_flow():
    """It could never drain."""
    world = _draining(1, restart={"maxRestarts": 0})
    world.exit(1, 1)
    world.look()
    world.cascade()
    assert world.phase == "failed"


@pytest.mark.parametrize(("cut", "action"), [(False, "EndStep"), (True, "StartStep")])
def test_a_step_whose_pipe_was_cut_is_started_again(cut, action):
    """The end that it saw was nobody's wish; one that ends well by itself has ended for good."""
    world = _paused(restart={"policy": "OnFailure"})
    world.run().steps[1].cut = cut
    world.exit(1, 0)
    assert kinds(world.look()) == [action]


def test_a_step_that_was_found_unhealthy_before_is_still_seen_to_its_end():
    """The source too, whose exit then is the pause's."""
    world = running("a", "b", pause=INTAKE, stop={"timeout": "5s"})
    world.seen_extra = {"unhealthy": frozenset((world.run().name, i, 1) for i in range(2))}
    world.look()
    world.seen_extra = {}
    world.ask("paused")
    world.clock.advance(1)
    assert signals(world.look()) == [((0,), "SIGTERM")]
    world.exit(0, signal=15)
    assert kinds(world.look()) == []
    assert signals(world.advance(4)) == [((1,), "SIGKILL")]


def test_a_verdict_about_a_source_that_is_to_end_anyway_changes_nothing():
    """It is neither told twice, nor is the event about its health."""
    world = _pausing()
    world.seen_extra = {"unhealthy": frozenset({(world.run().name, 0, 1)})}
    assert world.look() == []
    assert "Unhealthy" not in world.reasons()


# --- resuming --------------------------------------------------------------------------------


def test_a_resume_while_the_source_still_ends_waits_for_that():
    """Then it starts it again; it cannot be called back."""
    world = _pausing(stop={"timeout": "5s"})
    world.ask("running")
    assert world.look() == []
    said = "waits for the first step to end, to start it again"
    assert _told(world) == ("starting", "Resuming", said)
    assert signals(world.advance(5)) == [((0,), "SIGKILL")]
    world.exit(0, signal=9)
    assert kinds(world.look()) == ["StartStep"]
    assert (world.phase, world.status.settled) == ("running", True)


def test_a_resume_that_an_operator_was_killed_in_is_not_made_twice():
    """The new attempt is found; it is no restart."""
    world = _paused()
    world.ask("running")
    assert kinds(world.look(killed_after=1)) == ["StartStep"]
    assert kinds(world.look()) == []
    assert (world.phase, world.status.restarts) == ("running", 0)
    assert world.memory.runs[0].steps[0].attempt == 2


def test_a_pause_after_such_a_kill_ends_the_new_attempt():
    """It is another one than the pause before had told to end."""
    world = _paused()
    world.ask("running")
    world.look(killed_after=1)
    world.ask("paused")
    assert signals(world.look()) == [((0,), "SIGTERM")]
    assert world.phase == "running"


def test_a_flow_can_be_paused_again_and_again():
    """Each time anew."""
    world = running("a", "b", pause=INTAKE)
    for attempt in (1, 2, 3):
        world.ask("paused")
        assert signals(world.look()) == [((0,), "SIGTERM")]
        world.exit(0, 0)
        world.look()
        assert world.phase == "paused"
        world.ask("running")
        assert [a.attempt for a in world.look() if isinstance(a, StartStep)] == [attempt + 1]
        world.clock.advance(1)
    assert world.status.restarts == 0


def test_a_resume_that_is_refused_is_tried_again_and_is_no_restart():
    """The source could not be started; it waits."""
    world = _paused(restart={"backoff": {"jitter": 0}})
    ended = world.run().steps[0]
    world.ask("running")
    (start,) = world.look()
    world.run().steps[0] = ended
    world.memory = start_failed(world.memory, start, "no such user", world.clock.now)
    assert world.look() == []
    assert (world.phase, world.status.restarts) == ("backoff", 0)
    (again,) = world.advance(world.wake - world.clock.now)
    assert again.attempt == start.attempt


def test_a_long_healthy_spell_before_the_pause_ends_the_backoff():
    """As it would have before a restart."""
    world = running("a", "b", pause=INTAKE, restart={"resetAfter": "10m"})
    world.exit(0, 1)
    world.look()
    world.advance(600)
    world.ask("paused")
    world.look()
    world.exit(0, 0)
    world.look()
    assert world.memory.runs[0].steps[0].failures == 0


# --- other wishes ----------------------------------------------------------------------------


def test_a_soft_stop_of_an_idle_flow_drains_it():
    """The end of file goes on from where the source was."""
    world = _paused()
    world.ask("stopped")
    done = world.cascade()
    assert signals(done) == []
    assert kinds(done).count("EndStep") == 3
    assert (world.phase, world.memory.last_stop) == ("stopped", "Drained")


def test_a_soft_stop_while_the_source_ends_goes_on_as_a_drain():
    """It is not started again."""
    world = _pausing()
    world.ask("stopped")
    assert signals(world.look()) == [((0,), "SIGTERM")]
    done = world.cascade()
    assert "StartStep" not in kinds(done)
    assert (world.phase, world.memory.last_stop) == ("stopped", "Drained")


@pytest.mark.parametrize("make", [_pausing, _draining, _paused])
def test_a_hard_stop_kills_what_is_left(make):
    """At any stage."""
    world = make()
    world.ask("stopped", hard=True)
    assert [name for _, name in signals(world.look())] == ["SIGKILL"]
    world.exit_all(9)
    world.carry_out()
    assert (world.phase, world.memory.last_stop) == ("stopped", "Forced")


@pytest.mark.parametrize("make", [_pausing, _draining, _paused])
def test_a_deleted_flow_is_drained_and_forgotten(make):
    """At any stage."""
    world = make()
    world.delete()
    world.cascade()
    assert world.forgotten
    assert world.runs == {}


def test_an_update_reaches_the_flow_when_it_is_resumed():
    """As with a freeze; the source of the old configuration is not started once more."""
    world = _paused("a", "b")
    world.apply("x", "b", state="paused", pause=INTAKE)
    assert world.look() == []
    assert world.phase == "paused"
    world.ask("running")
    done = world.cascade()
    assert kinds(done).count("LaunchRun") == 1
    assert "StartStep" not in kinds(done)
    assert world.phase == "running"


def test_a_replica_that_is_scaled_away_is_stopped():
    """The other one stays idle."""
    world = running("a", "b", pause=INTAKE, replicas=2)
    world.ask("paused")
    world.look()
    for replica in range(2):
        world.exit(0, 0, replica=replica)
    world.look()
    world.apply("a", "b", state="paused", pause=INTAKE)
    world.look()
    assert [run.stop is None for run in world.memory.runs.values()] == [True, False]


def test_a_reboot_leaves_nothing_to_hold():
    """What was paused is not started; the resume does."""
    world = _paused()
    world.reboot()
    assert world.look() == []
    assert (world.phase, world.status.settled) == ("stopped", True)
    world.ask("running")
    assert kinds(world.look()) == ["LaunchRun"]


def test_an_idle_flow_that_others_depend_on_stays_idle_until_they_are_gone():
    """Its source is not started for a moment only to be drained."""
    world = _paused()
    world.edit(state="stopped", hold=True)
    assert world.look() == []
    world.edit(hold=False)
    world.cascade()
    assert (world.phase, world.memory.last_stop) == ("stopped", "Drained")


# --- another mode while it is paused ---------------------------------------------------------


def test_a_frozen_flow_that_is_to_be_idle_goes_on_and_drains():
    """The mode that stands is what it comes to; until then it is not told paused."""
    world = running("a", "b", pause=FREEZE)
    world.ask("paused")
    world.carry_out()
    assert world.phase == "paused"
    world.apply("a", "b", state="paused", pause=INTAKE)
    assert kinds(world.look()) == ["Thaw"]
    assert not world.status.settled
    world.finish_jobs()
    assert signals(world.look()) == [((0,), "SIGTERM")]
    world.exit(0, 0)
    world.look()
    assert (world.phase, world.status.settled) == ("paused", True)
    assert world.run().steps[1].alive


@pytest.mark.parametrize("make", [_pausing, _draining, _paused])
def test_an_intake_pause_that_becomes_a_freeze_holds_what_is_there(make):
    """At any stage; the resume lets it go on, and starts the source again."""
    world = make(stop={"timeout": "5s"})
    spec = {"stop": {"timeout": "5s"}}
    world.apply("a", "b", "c", state="paused", pause=FREEZE, **spec)
    assert set(kinds(world.look())) == {"Freeze"}
    world.finish_jobs()
    world.look()
    assert (world.phase, world.status.settled) == ("paused", True)
    world.clock.advance(60)
    world.ask("running")
    assert set(kinds(world.look())) == {"Thaw"}
    world.finish_jobs()
    if world.run().steps[0].alive:
        assert signals(world.look()) == [], "time in which it could not end does not count"
        world.exit(0, signal=15)
    world.look()
    assert world.phase == "running"
    assert world.run().steps[0].attempt == 2


def test_a_freeze_that_becomes_an_intake_pause_again_goes_on_draining():
    """From where it was."""
    world = _draining(1)
    world.apply("a", "b", "c", state="paused", pause=FREEZE)
    world.carry_out()
    assert world.phase == "paused"
    world.apply("a", "b", "c", state="paused", pause=INTAKE)
    assert set(kinds(world.look())) == {"Thaw"}
    world.finish_jobs()
    world.look()
    assert world.phase == "running"
    world.run().restless = set()
    world.look()
    assert world.phase == "paused"
    assert world.memory.runs[0].pause is not None


def test_a_run_remembers_no_pause_once_it_goes_on():
    """Nothing of it holds back the next one."""
    world = _paused()
    world.ask("running")
    world.look()
    assert world.memory.runs[0].pause is None
