"""How the plan stops, pauses and deletes."""

from __future__ import annotations

import pytest

from flow_operator.plan import KILL_GRACE, EndStep, Sweep, plan
from unit.plan_world import World, kinds, running, signals


def _stopping(*steps: str, **spec: object) -> World:
    """A world whose flow has just begun to stop."""
    world = running(*(steps or ("a", "b", "c")), **spec)
    world.ask("stopped")
    world.look()
    assert world.phase == "stopping"
    return world


# --- draining --------------------------------------------------------------------------------


def test_a_drain_ends_the_source_and_lets_the_end_of_file_go_on():
    """TERM to the first step only; each step's pipes are let go as it ends; then a sweep."""
    world = _stopping()
    assert signals(world.done) == [((0,), "SIGTERM")]
    for index in range(3):
        assert world.look() == []
        world.exit(index)
        done = world.look()
        assert [action.index for action in done if isinstance(action, EndStep)] == [index]
    assert done[-1] == Sweep(world.run().name, "SIGTERM")
    assert world.phase == "stopping", "not before nothing is left"
    world.finish_jobs()
    assert kinds(world.look()) == ["Forget"]
    assert (world.phase, world.memory.last_stop) == ("stopped", "Drained")
    assert "Drained" in world.reasons()
    assert world.advance(3600) == []


def test_a_drain_is_carried_on_by_the_operator_that_comes_next():
    """Stage, deadline and what was signalled are remembered."""
    world = _stopping(stop={"timeout": "30s"})
    world.clock.advance(10)
    world.restart_operator()
    assert world.look() == []
    assert world.wake == world.clock.now + 20
    assert signals(world.advance(20)) == [((0, 1, 2), "SIGTERM")]


def test_an_operator_that_runs_out_of_time_hurries_every_drain():
    """Every step is told to end though the flow has time left; the rest of the stop is as ever."""
    world = _stopping(stop={"timeout": "10m"})
    world.edit(hurry=True)
    assert signals(world.look()) == [((0, 1, 2), "SIGTERM")]
    assert "DrainTimedOut" in world.reasons()
    assert world.look() == [], "once"
    assert world.wake == world.clock.now + KILL_GRACE


@pytest.mark.parametrize("waits", [False, True], ids=["running", "in backoff"])
def test_a_stop_that_was_cut_off_is_finished_though_it_is_no_longer_wanted(waits):
    """The operator was killed after the first thing it did; then the flow was started again."""
    world = running("a", "b", restart={"backoff": {"initial": "1h", "max": "2h"}})
    for _ in range(2 * waits):
        world.exit(0, 1)
        world.look()
    old = world.run().name
    world.ask("stopped")
    assert len(world.look(killed_after=1)) == 1
    world.ask("running")
    world.look()
    world.cascade()
    assert world.phase == "running"
    assert world.run().name != old
    assert all(step.alive for step in world.run().steps)


def test_the_stop_signal_is_the_flows_own():
    """``stop.signal`` goes to the source."""
    world = _stopping(stop={"signal": "SIGINT"})
    assert signals(world.done) == [((0,), "SIGINT")]


def test_mode_signal_ends_every_step_at_once():
    """No cascade; the outcome is no drain."""
    world = _stopping(stop={"mode": "signal"})
    assert signals(world.done) == [((0, 1, 2), "SIGTERM")]
    world.exit_all()
    world.carry_out()
    assert (world.phase, world.memory.last_stop) == ("stopped", "Terminated")


@pytest.mark.parametrize(
    ("upstream_ends", "left", "action"),
    [(False, 0, "StartStep"), (True, 10, "StartStep"), (True, 0, "EndStep")],
)
def test_a_step_that_crashes_in_a_drain_is_restarted_while_it_has_input(
    upstream_ends, left, action
):
    """While its upstream writes, or its pipe holds something; not when all has been read."""
    world = _stopping()
    if upstream_ends:
        world.exit(0)
        world.look()
    world.exit(1, 1, input_bytes=left)
    assert kinds(world.look()) == [action]
    assert world.run().steps[2].alive


def test_the_last_step_that_is_restarted_in_a_drain_is_not_swept_away():
    """Nothing else lives while it reads the rest; a sweep now would end it as a leftover."""
    world = _stopping("a", "b")
    world.exit(0)
    world.look()
    world.exit(1, 1, input_bytes=10)
    assert kinds(world.look()) == ["StartStep"]
    world.exit(1, 0)
    world.carry_out()
    assert world.memory.last_stop == "Drained"


def test_a_source_that_crashes_in_a_drain_is_not_started_again():
    """It was told to end, and that is what it did."""
    world = _stopping()
    world.exit(0, 1)
    assert kinds(world.look()) == ["EndStep"]


def test_a_source_that_waits_for_its_restart_is_not_started_by_a_drain():
    """What was due while the flow ran is due no more; a middle step still is."""
    world = running("a", "b")
    for _ in range(2):
        world.exit(0, 1)
        world.look()
    assert world.phase == "backoff"
    world.ask("stopped")
    assert kinds(world.look()) == ["EndStep"]
    world.exit(1)
    world.carry_out()
    assert world.phase == "stopped"


# --- when it takes too long ------------------------------------------------------------------


def test_a_drain_that_takes_too_long_is_ended_by_term_and_then_by_kill():
    """At ``stop.timeout`` TERM to all that live, then KILL; the outcome is Forced."""
    world = _stopping(stop={"timeout": "30s"})
    world.exit(0)
    world.look()
    assert signals(world.advance(29.9)) == []
    assert signals(world.advance(0.1)) == [((1, 2), "SIGTERM")]
    assert signals(world.advance(KILL_GRACE - 0.1)) == []
    done = world.advance(0.1)
    assert signals(done) == [((1, 2), "SIGKILL")]
    assert done[-1] == Sweep(world.run().name, "SIGKILL")
    world.exit_all()
    world.carry_out()
    assert (world.phase, world.memory.last_stop) == ("stopped", "Forced")
    assert world.reasons()[-3:] == ["DrainTimedOut", "Forced", "Forced"]
    assert "Stopping" in world.reasons()


def test_a_drain_that_ends_after_the_second_term_has_timed_out():
    """The outcome says that it was not drained."""
    world = _stopping()
    world.advance(30)
    world.exit_all()
    world.carry_out()
    assert world.memory.last_stop == "DrainTimedOut"


def test_survivors_are_named_until_they_are_gone():
    """A flow is not stopped while a process of it is left."""
    world = _stopping("a")
    world.exit(0)
    world.look()
    world.run().survivors = (4711,)
    world.look()
    assert world.phase == "stopping"
    assert "4711" in world.status.message


# --- hard ------------------------------------------------------------------------------------


def test_a_hard_stop_kills_at_once():
    """KILL to every step and a sweep for the rest."""
    world = running("a", "b")
    world.ask("stopped", hard=True)
    done = world.look()
    assert signals(done) == [((0, 1), "SIGKILL")]
    assert "Sweep" in kinds(done)
    world.exit_all(9)
    world.carry_out()
    assert (world.phase, world.memory.last_stop) == ("stopped", "Forced")


def test_a_hard_stop_during_a_soft_one_escalates():
    """Whatever stage the soft one has reached."""
    world = _stopping()
    world.exit(0)
    world.look()
    world.ask("stopped", hard=True)
    assert signals(world.look()) == [((1, 2), "SIGKILL")]


def test_a_start_during_a_stop_waits_for_its_end():
    """One instance at a time."""
    world = _stopping("a")
    world.ask("running")
    assert world.look() == []
    assert (world.phase, world.status.settled) == ("stopping", False)
    done = world.cascade()
    assert kinds(done)[-2:] == ["Forget", "LaunchRun"]
    assert world.phase == "running"


# --- deleted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_a_deleted_flow_is_stopped_and_then_forgotten(hard):
    """Nothing is kept once nothing is left."""
    world = running("a")
    world.delete(hard=hard)
    assert signals(world.look()) == [((0,), "SIGKILL" if hard else "SIGTERM")]
    assert (world.phase, world.status.desired) == ("stopping", "deleted")
    world.cascade()
    assert world.forgotten
    assert world.runs == {}


def test_a_deleted_flow_that_never_ran_is_forgotten_at_once():
    """There is nothing to wait for."""
    world = World("a", state="stopped")
    world.look()
    world.delete()
    assert world.look() == []
    assert world.forgotten


# --- paused ----------------------------------------------------------------------------------


def test_a_pause_freezes_and_a_resume_thaws():
    """The processes stay the same."""
    world = running("a", "b")
    pids = [step.pid for step in world.run().steps]
    world.ask("paused")
    assert set(kinds(world.look())) == {"Freeze"}
    world.finish_jobs()
    world.look()
    assert (world.phase, world.status.settled) == ("paused", True)
    world.ask("running")
    assert set(kinds(world.look())) == {"Thaw"}
    world.finish_jobs()
    world.look()
    assert world.phase == "running"
    assert [step.pid for step in world.run().steps] == pids


def test_a_pause_that_takes_a_moment_is_waited_for():
    """Time passes between two plans; nothing else happens until everything was seen stopped."""
    world = running("a")
    world.tick = 0.001
    world.ask("paused")
    assert set(kinds(world.look())) == {"Freeze"}
    world.finish_jobs()
    world.look()
    assert world.phase == "paused"


def test_a_pause_soon_after_a_resume_freezes_again():
    """Whatever was remembered of the pause before does not hold it back."""
    world = running("a")
    for _ in range(3):
        world.ask("paused")
        assert "Freeze" in kinds(world.look())
        world.finish_jobs()
        world.look()
        assert world.phase == "paused"
        world.ask("running")
        world.look()
        world.finish_jobs()
        world.look()
        assert world.phase == "running"


def test_a_paused_flow_is_looked_after():
    """Somebody outside may continue it: it is frozen again from time to time."""
    world = running("a")
    world.ask("paused")
    world.carry_out()
    assert world.wake is not None
    assert kinds(world.advance(world.wake - world.clock.now)) == ["Freeze"]


@pytest.mark.parametrize(("wanted", "done"), [("running", "Thaw"), ("paused", "Freeze")])
def test_a_pause_that_was_cut_off_is_undone_or_completed(wanted, done):
    """Its operator was killed among the signals; by what the next one wants, maybe from a file."""
    world = running("a", "b")
    world.ask("paused")
    decision = plan(world.want, world.seen(), world.memory, world.clock.now)
    assert "Freeze" in kinds(decision.actions)
    world.memory = decision.intent
    world.ask(wanted)
    assert set(kinds(world.look())) == {done}
    world.finish_jobs()
    world.look()
    assert world.phase == wanted


@pytest.mark.parametrize("wanted", ["running", "stopped"])
def test_a_resume_that_was_cut_off_is_completed(wanted):
    """Its operator was killed among the signals: some go on, and some stand still.

    So it is if the next one is to stop the flow: who stands still drains nothing.
    """
    world = running("a", "b")
    world.ask("paused")
    world.carry_out()
    world.ask("running")
    world.look()
    run = world.run()
    run.frozen, run.jobs = False, set()
    world.ask(wanted)
    assert "Thaw" in kinds(world.look())
    world.finish_jobs()
    world.look()
    assert "Thaw" not in kinds(world.look())
    assert world.memory.runs[0].verify_at == 0


def test_a_pause_that_overtakes_a_resume_freezes_at_once():
    """Though all are still seen to stand still: they are just let go."""
    world = running("a")
    world.ask("paused")
    world.carry_out()
    world.ask("running")
    assert "Thaw" in kinds(world.look())
    world.ask("paused")
    assert "Freeze" in kinds(world.look())
    world.finish_jobs()
    world.look()
    assert world.phase == "paused"


def test_who_was_frozen_by_others_is_thawed_by_the_next_operator_too():
    """That it is thawed is remembered before: the first may be killed half-way."""
    world = running("a", "b")
    world.run().frozen = True
    decision = plan(world.want, world.seen(), world.memory, world.clock.now)
    assert kinds(decision.actions) == ["Thaw"]
    world.memory = decision.intent
    world.run().frozen = False
    assert set(kinds(world.look())) == {"Thaw"}


def test_what_is_thawed_to_be_stopped_is_swept_once_it_goes_on():
    """A runner does one of both at a time, and a sweep begun anew would signal again."""
    world = running("a")
    world.ask("paused")
    world.carry_out()
    world.ask("stopped")
    world.look()
    world.exit(0, 0)
    for _ in range(3):
        assert "Sweep" not in kinds(world.look())
    world.finish_jobs()
    assert "Sweep" in kinds(world.look())
    world.finish_jobs()
    world.look()
    assert world.phase == "stopped"


def test_a_freeze_after_a_thaw_is_thawed_again():
    """That all went on once tells nothing of a later pause that was cut off."""
    world = running("a", "b")
    for _ in range(2):
        world.ask("paused")
        world.look()
        world.ask("running")
        assert "Thaw" in kinds(world.look())
        world.finish_jobs()
        world.look()
        assert world.phase == "running"


def test_a_pause_never_restarts_a_step():
    """A step that exits, or waits for its restart, is started by the resume."""
    world = running("a", "b")
    world.exit(1, 1)
    world.ask("paused")
    world.look()
    world.finish_jobs()
    assert "StartStep" not in kinds(world.look())
    assert "StartStep" not in kinds(world.advance(3600))
    world.ask("running")
    world.look()
    world.finish_jobs()
    assert "StartStep" in kinds(world.look())


def test_a_pause_never_stops_nor_updates():
    """A changed step reaches the flow when it is resumed."""
    world = running("a")
    world.apply("b", state="paused")
    assert set(kinds(world.look())) == {"Freeze"}
    world.finish_jobs()
    world.look()
    assert world.phase == "paused"
    world.ask("running")
    assert signals(world.look()) == [((0,), "SIGTERM")]


@pytest.mark.parametrize("hard", [False, True])
def test_a_stop_of_a_paused_flow_lets_it_end(hard):
    """A soft one thaws it first, so that it can drain; a hard one kills it as it is."""
    world = running("a", "b")
    world.ask("paused")
    world.carry_out()
    world.ask("stopped", hard=hard)
    done = world.look()
    assert kinds(done)[0] == ("SignalSteps" if hard else "Thaw")
    assert signals(done) == [((0, 1), "SIGKILL") if hard else ((0,), "SIGTERM")]
    world.finish_jobs()
    world.cascade()
    assert world.phase == "stopped"


# --- shutting down ---------------------------------------------------------------------------


def test_a_flow_that_others_depend_on_is_held_until_they_are_gone():
    """Ordered shutdown: it goes on running, restarts included, and stops last."""
    world = running("a")
    world.edit(state="stopped", hold=True)
    assert world.look() == []
    assert world.phase == "running"
    world.exit(0, 1)
    assert kinds(world.look()) == ["StartStep"]
    world.edit(hold=False)
    assert signals(world.look()) == [((0,), "SIGTERM")]


def test_a_stop_that_has_begun_is_not_held():
    """Holding is for what has not begun."""
    world = _stopping("a")
    world.edit(hold=True)
    world.cascade()
    assert world.phase == "stopped"
