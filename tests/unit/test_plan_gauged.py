"""What the plan does with steps that write nothing, and what is told of them and of full pipes."""

from __future__ import annotations

import pytest

from flow_operator.memory import StepMemory, decode_memory, encode_memory
from flow_operator.plan import transitions
from unit.plan_world import World, kinds, running, signals

REPORT = {"silenceTimeout": "90s"}
RESTART = {"silenceTimeout": "90s", "action": "Restart"}


def _silence(world: World, *indexes: int) -> None:
    run = world.run()
    silent = frozenset((run.name, index, run.steps[index].attempt) for index in indexes)
    world.seen_extra = {"silent": silent}


def _told(world: World, kind: str) -> tuple[str, str, str]:
    condition = world.status.condition(kind)
    return condition.status, condition.reason, condition.message


# --- the conditions --------------------------------------------------------------------------


def test_only_flows_that_ask_for_it_tell_of_silence():
    """And only flows of several steps of full pipes."""
    assert running("a").status.condition("Silent") is None
    assert running("a").status.condition("Backpressured") is None
    assert running("a", "b").status.condition("Silent") is None
    assert _told(running("a", progress=REPORT), "Silent") == ("False", "NotSilent", "")
    assert _told(running("a", "b"), "Backpressured") == ("False", "NotBackpressured", "")


def test_a_silent_step_is_named_with_its_timeout():
    """As the user wrote it; the flow runs on and is ready."""
    world = running("a", "b", progress=REPORT)
    _silence(world, 1)
    assert world.look() == []
    said = "step 's1' has written nothing for 90s"
    assert _told(world, "Silent") == ("True", "SilenceTimeout", said)
    assert world.status.condition("Ready").status == "True"
    world.seen_extra = {}
    world.look()
    assert world.status.condition("Silent").status == "False"


def test_a_pipe_that_stays_full_names_the_step_that_does_not_read():
    """And how much waits for it; which replica, where there are several."""
    world = running("a", "b", replicas=2)
    world.seen_extra = {"backpressured": {(world.run(1).name, 1): 65536}}
    world.look()
    said = "step 's1' of replica 1 does not keep up: the pipe before it is full, with"
    status, reason, message = _told(world, "Backpressured")
    assert (status, reason) == ("True", "PipeFull")
    assert message == f"{said} 65536 unread bytes"


def test_silence_of_an_earlier_attempt_is_not_told():
    """It was another process."""
    world = running("a", progress=REPORT)
    _silence(world, 0)
    world.exit(0, 1)
    world.look()
    assert world.run().steps[0].attempt == 2
    assert world.status.condition("Silent").status == "False"


@pytest.mark.parametrize(
    ("replicas", "unheld", "pipes"),
    [
        (1, {0: (0,)}, ["between step 's0' and step 's1'"]),
        (1, {0: (1,)}, ["between step 's1' and step 's2'"]),
        (1, {0: (0, 1)}, ["between step 's0' and step 's1'", "between step 's1' and step 's2'"]),
        (2, {1: (0,)}, ["between step 's0' of replica 1 and step 's1' of replica 1"]),
    ],
)
def test_a_pipe_that_nobody_holds_names_the_steps_beside_it(replicas, unheld, pipes):
    """And what may happen, and what to do; the flow is ready and nothing is done about it."""
    world = running("a", "b", "c", replicas=replicas)
    assert _told(world, "PipeUnheld") == ("False", "NotPipeUnheld", "")
    for replica, indexes in unheld.items():
        world.run(replica).unheld = indexes
    assert world.look() == []
    status, reason, message = _told(world, "PipeUnheld")
    assert (status, reason) == ("True", "ShimLost")
    said = "is no longer held: if one of them exits it breaks, and what is in it is lost"
    assert message.split("; ") == [
        part for pipe in pipes for part in (f"the pipe {pipe} {said}", _MEND)
    ]
    assert world.status.condition("Ready").status == "True"


_MEND = "restart the flow when convenient"


def test_a_flow_without_pipes_tells_of_none():
    """One step."""
    assert running("a").status.condition("PipeUnheld") is None


def test_a_pipe_of_a_run_that_ends_anyway_is_not_told():
    """The restart that mends it is under way."""
    world = running("a", "b")
    world.run().unheld = (0,)
    world.look()
    assert world.status.condition("PipeUnheld").status == "True"
    world.edit(token=world.want.token + 1)
    world.look()
    assert world.status.condition("PipeUnheld").status == "False"


# --- events ----------------------------------------------------------------------------------


def test_each_transition_is_an_event():
    """One when it begins to hold, one when it ceases; none while it stays, or for a first False."""
    world = running("a", "b", progress=REPORT)
    calm = world.status
    assert transitions(None, calm) == ()
    _silence(world, 0)
    world.look()
    silent = world.status
    [note] = transitions(calm, silent)
    assert (note.reason, note.message, note.warning) == (
        "Silent",
        "step 's0' has written nothing for 90s",
        True,
    )
    assert transitions(None, silent) == (note,)
    assert transitions(silent, silent) == ()
    [over] = transitions(silent, calm)
    assert (over.reason, over.warning) == ("NotSilent", False)
    world.seen_extra = {"backpressured": {(world.run().name, 1): 65536}}
    world.run().unheld = (0,)
    world.look()
    notes = transitions(silent, world.status)
    assert [(note.reason, note.warning) for note in notes] == [
        ("NotSilent", False),
        ("Backpressured", True),
        ("PipeUnheld", True),
    ]


def test_a_condition_that_is_no_longer_asked_for_ceases_to_hold():
    """The user has edited it away."""
    world = running("a", progress=REPORT)
    _silence(world, 0)
    world.look()
    silent = world.status
    world.apply("a")
    world.look()
    assert world.status.condition("Silent") is None
    assert [note.reason for note in transitions(silent, world.status)] == ["NotSilent"]


# --- action: Restart -------------------------------------------------------------------------


def test_a_silent_step_is_ended_and_started_again():
    """Alone, and the reason says that it was silent."""
    world = running("a", "b", progress=RESTART)
    _silence(world, 1)
    assert signals(world.look()) == [((1,), "SIGTERM")]
    [note] = [note for note in world.notes if note.reason == "Unhealthy"]
    assert note.message == "step 's1' has written nothing for 90s; restarting it"
    assert signals(world.look()) == [], "once"
    world.exit(1, signal=15)
    assert kinds(world.look()) == ["StartStep"]
    assert world.run().steps[0].alive
    assert world.status.condition("Silent").status == "False"


def test_a_silent_step_that_ignores_its_signal_is_killed():
    """After ``stop.timeout``."""
    world = running("a", progress=RESTART, stop={"timeout": "5s"})
    _silence(world, 0)
    world.look()
    assert world.advance(4.9) == []
    assert signals(world.advance(0.2)) == [((0,), "SIGKILL")]


def test_a_step_that_falls_silent_again_and_again_backs_off_and_says_why():
    """As one that fails its probe."""
    world = running("a", progress=RESTART, restart={"backoff": {"jitter": 0}})
    for _ in range(2):
        _silence(world, 0)
        world.look()
        world.exit(0, 0)
        world.look()
    assert world.phase == "backoff"
    assert world.wake - world.clock.now == pytest.approx(1)
    said = "step 's0' has written nothing for 90s and was ended; waiting to restart it"
    assert world.status.message == said
    assert kinds(world.advance(1)) == ["StartStep"]
    world.exit(0, 3)
    world.look()
    assert world.status.message == "step 's0' exited with code 3; waiting to restart it"


def test_a_step_that_fails_its_probe_says_so_while_it_waits():
    """The signal that ended it was ours."""
    world = running("a", restart={"backoff": {"jitter": 0}})
    for _ in range(2):
        run = world.run()
        attempt = (run.name, 0, run.steps[0].attempt)
        world.seen_extra = {"unhealthy": frozenset({attempt})}
        world.look()
        world.exit(0, signal=15)
        world.look()
    said = "step 's0' fails its probe and was ended; waiting to restart it"
    assert (world.phase, world.status.message) == ("backoff", said)


@pytest.mark.parametrize("progress", [REPORT, {"action": "Restart"}])
def test_nothing_is_ended_unless_both_are_asked_for(progress):
    """A verdict of before the edit restarts nobody."""
    world = running("a", progress=progress)
    _silence(world, 0)
    assert world.look() == []


# --- lines that were printed -----------------------------------------------------------------


def test_lines_that_were_found_are_remembered_with_their_attempt():
    """The log that holds them may be rotated away before the next operator looks."""
    world = running("a")
    name = world.run().name
    world.seen_extra = {"printed": frozenset({(name, 0, 1, "^ready$"), (name, 0, 9, "other")})}
    world.look()
    world.restart_operator()
    assert world.memory.runs[0].steps[0].printed == {"^ready$": 1}
    world.seen_extra = {}
    world.look()
    assert world.memory.runs[0].steps[0].printed == {"^ready$": 1}
    world.exit(0, 1)
    world.look()
    [step] = world.memory.runs[0].steps
    assert step.printed.get("^ready$") != step.attempt


def test_a_record_of_an_earlier_operator_is_readable():
    """Fields that it did not know have their defaults."""
    world = running("a")
    data = encode_memory(world.memory)
    assert b"printed" not in data
    assert b"log_from" not in data
    assert decode_memory(data).runs[0].steps[0].printed == StepMemory().printed == {}
