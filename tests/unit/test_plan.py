"""What the plan starts, replaces and takes back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flow_operator.memory import FlowMemory, encode_memory
from flow_operator.plan import Forget, LaunchRun, Seen, StartStep, Sweep, launch_failed, plan
from flow_operator.runners.base import Instance, StepView
from unit.plan_world import World, kinds, running, signals

# --- launching -------------------------------------------------------------------------------


def test_a_flow_that_is_wanted_is_launched_once():
    """One instance, and no second one on later looks."""
    world = World("a", "b")
    assert kinds(world.look()) == ["LaunchRun"]
    assert world.look() == []
    assert world.phase == "running"
    assert world.status.settled


def test_the_memory_holds_the_run_before_it_is_launched():
    """Launch intent: whoever is killed right after knows what it may have started."""
    world = World("a", replicas=3)
    decision = plan(world.want, world.seen(), FlowMemory(), 1000.0)
    assert [action.memory for action in decision.actions] == [
        decision.intent.runs[replica] for replica in range(3)
    ]
    assert len({action.run for action in decision.actions}) == 3
    assert not any(run.confirmed for run in decision.intent.runs.values())


def test_an_unconfirmed_run_is_launched_again_under_its_id():
    """An operator killed between intent and start repeats the start, which is idempotent."""
    world = World("a")
    first = plan(world.want, world.seen(), FlowMemory(), 1000.0)
    again = plan(world.want, world.seen(), first.intent, 1001.0)
    assert again.actions == first.actions
    assert again.memory.runs == first.memory.runs


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_an_operator_that_is_killed_among_its_launches_starts_none_twice(killed_after):
    """The next one launches what is missing, under the ids that were remembered."""
    world = World("a", replicas=3)
    assert len(world.look(killed_after)) == killed_after
    before = set(world.runs)
    world.look()
    assert before < set(world.runs) or killed_after == 3
    assert len(world.runs) == len(world.memory.runs) == 3


def test_a_confirmed_run_that_vanished_is_replaced_under_another_id():
    """A run that the runner has lost is told of, and started anew."""
    world = running("a")
    lost = world.run().name
    world.runs.clear()
    (launch,) = world.look()
    assert isinstance(launch, LaunchRun)
    assert launch.run != lost
    assert "Lost" in world.reasons()


@pytest.mark.parametrize("state", ["stopped", "paused"])
def test_what_is_not_wanted_running_is_not_launched(state):
    """Stopped and paused flows that have no instance get none."""
    world = World("a", state=state)
    assert world.look() == []
    assert world.phase == "stopped"
    assert world.status.settled


def test_a_blocked_flow_waits_and_says_for_what():
    """Dependencies hold back the launch, and nothing else."""
    world = World("a")
    world.edit(blocked=("waits for 'db' to be Ready",))
    assert world.look() == []
    assert (world.phase, world.status.message) == ("pending", "waits for 'db' to be Ready")
    world.edit(blocked=())
    assert kinds(world.look()) == ["LaunchRun"]
    world.edit(blocked=("waits for 'db' to be Ready",))
    assert world.look() == []
    assert world.phase == "running"


def test_a_launch_that_fails_is_repeated_later_and_later():
    """Nothing of the failed launch is kept; the delay grows with each failure."""
    world = World("a", restart={"backoff": {"jitter": 0}})
    delays = []
    for _ in range(4):
        decision = plan(world.want, world.seen(), world.memory, world.clock.now)
        (launch,) = decision.actions
        world.memory = launch_failed(decision.memory, launch.run, "no such file", world.clock.now)
        assert world.memory.runs == {}
        assert world.look() == []
        assert (world.phase, world.status.message) == ("backoff", "no such file")
        delays.append(world.wake - world.clock.now)
        world.clock.advance(delays[-1])
    assert delays == pytest.approx([1, 2, 4, 8])


# --- replicas --------------------------------------------------------------------------------


def test_scaling_up_launches_what_is_missing_and_touches_nothing_else():
    """Those that run go on."""
    world = running("a")
    world.apply("a", replicas=3)
    done = world.look()
    assert [action.memory.replica for action in done] == [1, 2]
    assert world.status.ready_replicas == 3


def test_scaling_down_drains_the_last_replicas():
    """The first replicas stay."""
    world = running("a", replicas=3)
    world.apply("a", replicas=1)
    done = world.look()
    assert signals(done) == [((0,), "SIGTERM")] * 2
    assert world.run(0).steps[0].signals == []
    world.exit_all(replica=1)
    world.exit_all(replica=2)
    world.look()
    world.finish_jobs()
    assert kinds(world.look()) == ["Forget", "Forget"]
    assert (world.phase, world.status.replicas) == ("running", 1)


# --- updates ---------------------------------------------------------------------------------


def test_a_changed_step_drains_the_old_instance_before_the_new_one_starts():
    """``Restart``: never both at once."""
    world = running("a", "b")
    old = world.run().name
    world.apply("a", "c")
    assert signals(world.look()) == [((0,), "SIGTERM")]
    assert "Updated" in world.status.message
    done = world.cascade()
    assert kinds(done)[-2:] == ["Forget", "LaunchRun"]
    assert world.run().name != old
    assert world.phase == "running"


def test_on_delete_keeps_the_old_instance_until_it_is_stopped():
    """The new configuration reaches the flow with its next start."""
    world = running("a", update={"strategy": "OnDelete"})
    world.apply("b", update={"strategy": "OnDelete"})
    assert world.look() == []
    assert world.status.condition("Reconciling").reason == "UpdatePending"
    world.ask("stopped")
    world.cascade()
    world.ask("running")
    (launch,) = world.look()
    assert launch.memory.flow.spec.steps[0].script == "b"


def test_an_edit_that_needs_no_restart_restarts_nothing():
    """Settings outside the steps hold at once for what runs."""
    world = running("a")
    world.apply("a", stop={"signal": "SIGINT"}, description="else")
    assert world.look() == []
    world.ask("stopped")
    assert signals(world.look()) == [((0,), "SIGINT")]


def test_a_wish_to_restart_drains_and_launches_anew():
    """The token outlives everything: the wish is granted once."""
    world = running("a")
    world.ask("running", again=True)
    world.look()
    assert kinds(world.cascade())[-2:] == ["Forget", "LaunchRun"]
    assert world.look() == []


def test_a_new_flow_of_the_same_name_waits_until_the_old_one_is_gone():
    """Two lives never overlap, and restarts are counted anew."""
    world = running("a")
    world.memory = replace(world.memory, restarts=7)
    world.edit(uid="uid-2")
    done = world.look()
    assert "LaunchRun" not in kinds(done)
    assert "Replaced" in world.status.message
    assert kinds(world.cascade())[-2:] == ["Forget", "LaunchRun"]
    assert world.memory.uid == "uid-2"
    assert world.status.restarts == 0


# --- another operator, another boot ----------------------------------------------------------


def test_an_operator_that_comes_later_changes_nothing():
    """Memory read back from its file leads to the same decisions."""
    world = running("a", "b", replicas=2)
    world.restart_operator()
    assert world.look() == []
    assert world.phase == "running"


def test_after_a_reboot_flows_are_launched_and_nothing_is_signalled():
    """Pids of another boot mean nothing: whoever has them now is a stranger."""
    world = running("a", replicas=2)
    before = set(world.runs)
    world.reboot()
    done = world.look()
    assert kinds(done) == ["LaunchRun", "LaunchRun"]
    assert not before & set(world.runs)
    assert "Rebooted" in world.reasons()


def test_a_reboot_ends_waits_whose_moments_are_of_the_old_clock():
    """Monotonic times do not outlive their boot."""
    world = running("a", restart={"scope": "flow"})
    for _ in range(2):
        world.exit(0, 1)
        world.look()
        world.finish_jobs()
        world.look()
    assert world.phase == "backoff"
    world.reboot()
    assert kinds(world.look()) == ["LaunchRun"]


def test_after_a_reboot_a_stop_that_was_under_way_is_done():
    """Nothing of it can have survived."""
    world = running("a")
    world.ask("stopped")
    world.look()
    world.reboot()
    assert world.look() == []
    assert world.phase == "stopped"


def test_a_restart_that_could_not_be_remembered_is_counted_when_it_is_seen():
    """The operator was killed right after it started the step."""
    world = running("a")
    world.exit(0, 1)
    assert kinds(world.look(killed_after=1)) == ["StartStep"]
    assert world.look() == []
    assert (world.status.restarts, world.status.steps[0].restarts) == (1, 1)
    world.exit(0, 1)
    (again,) = world.look()
    assert again.attempt == 3


def _lost_attempt(*, ends: int = 0) -> World:
    """A world whose step was started again by a shim that was killed before its word had come."""
    world = running("a", "b")
    world.exit(ends, 1)
    before = world.run().steps[ends]
    assert kinds(world.look()) == ["StartStep"]
    world.run().steps[ends] = before
    return world


def test_an_attempt_that_the_runner_does_not_know_is_ordered_again():
    """Under its number, so that nothing runs twice; it is no reason to give the flow up."""
    world = _lost_attempt()
    (again,) = world.look()
    assert isinstance(again, StartStep)
    assert (again.index, again.attempt) == (0, 2)
    assert (world.phase, world.status.restarts) == ("running", 1)


@pytest.mark.parametrize(("index", "left", "action"), [(0, 0, "EndStep"), (1, 10, "StartStep")])
def test_a_drain_orders_again_only_what_has_something_to_read(index, left, action):
    """The source was told to end; a sink whose restart was lost still has its input."""
    world = _lost_attempt(ends=index)
    world.run().steps[index].input_bytes = left
    world.ask("stopped")
    assert action in kinds(world.look())


# --- strays ----------------------------------------------------------------------------------


def _stray(*, alive: bool) -> Instance:
    return Instance("demo-9", "demo", 0, (StepView(1, 77 if alive else 0, 5),), gone=not alive)


def test_an_instance_that_nobody_intended_is_killed():
    """The intent always comes first, so what has none must go, leftovers included."""
    world = World("a", state="stopped")
    decision = plan(world.want, Seen("boot-1", (_stray(alive=True),)), world.memory, 1000.0)
    assert decision.actions[-1] == Sweep("demo-9", "SIGKILL")


def test_a_stray_that_is_gone_is_forgotten():
    """Nothing is left to be killed."""
    world = World("a", state="stopped")
    decision = plan(world.want, Seen("boot-1", (_stray(alive=False),)), world.memory, 1000.0)
    assert decision.actions == (Forget("demo-9"),)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_stray_is_told_to_go_once_and_reported_until_it_has(deleted):
    """``stopped`` means that no process exists, whether or not anybody remembers it."""
    world = running("a")
    world.memory = FlowMemory()
    if deleted:
        world.delete()
    else:
        world.ask("stopped")
    world.look()
    assert world.phase == "stopping"
    assert not world.forgotten
    world.exit_all(code=9)
    world.finish_jobs()
    world.look()
    assert world.runs == {}
    assert world.forgotten is deleted


def test_a_launch_waits_until_strays_are_gone():
    """A lost memory must not lead to two instances at once."""
    world = running("a")
    stray = world.run().name
    decision = plan(world.want, world.seen(), FlowMemory(), world.clock.now)
    assert "LaunchRun" not in kinds(decision.actions)
    assert {action.run for action in decision.actions} == {stray}


# --- properties of every decision ------------------------------------------------------------


def test_a_decision_follows_from_its_arguments_alone():
    """Asked twice, the plan says the same; nothing it was given is changed."""
    world = running("a", "b")
    world.exit(1, 1)
    before = encode_memory(world.memory)
    first = plan(world.want, world.seen(), world.memory, world.clock.now)
    again = plan(world.want, world.seen(), world.memory, world.clock.now)
    assert first == again
    assert encode_memory(world.memory) == before
    assert any(isinstance(action, StartStep) for action in first.actions)
