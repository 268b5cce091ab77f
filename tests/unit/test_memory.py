"""What is remembered of a flow, in a file and back."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from flow_operator.errors import StorageError
from flow_operator.memory import (
    Finished,
    FlowMemory,
    Relaunch,
    RunMemory,
    StepMemory,
    Stopping,
    decode_memory,
    encode_memory,
)
from flow_operator.plan import plan
from flow_operator.runners.base import Exit, Handle, StepView
from flow_operator.settings import Layout
from flow_operator.store import Memories
from support import make_manifest
from unit.plan_world import World, running


def _full() -> FlowMemory:
    """A memory in which everything stands."""
    flow = make_manifest(
        "demo",
        {"name": "a", "script": "x", "env": [{"name": "A", "value": "ä\n"}]},
        "b",
        stop={"timeout": "1m30s"},
        restart={"backoff": {"initial": "500ms", "jitter": 0.25}, "maxRestarts": 3},
    ).flow
    ended = Exit("Error", 3, None, "why", 12.5, 1.7e9)
    steps = (
        StepMemory(2, 1, 1, 1, 10.25, 11.5, None, 0, 0, ended=False, last_exit=ended, exited=2),
        StepMemory(pid=42, start=7),
    )
    stop = Stopping("drain", "term", "Stopped", 99.5, signalled=True)
    run = RunMemory("demo-0", 0, "u", 1, "t", flow, "/srv", 9.5, steps, True, stop, 3.5, 2)
    return FlowMemory(
        "boot",
        "u",
        4,
        5,
        {0: run, 7: replace(run, replica=7, stop=None)},
        {3: Relaunch(2, 5.5, "no such file")},
        {1: Finished("Failed", 1, "t", steps)},
        "Drained",
    )


@pytest.mark.parametrize("memory", [FlowMemory(), _full()])
def test_a_memory_survives_its_file(memory):
    """Every field, durations and times included."""
    assert decode_memory(encode_memory(memory)) == memory


def test_durations_are_kept_as_they_were_written():
    """``1m30s`` stays that."""
    run = decode_memory(encode_memory(_full())).runs[0]
    assert run.flow.spec.stop.timeout.text == "1m30s"
    assert run.flow.spec.stop.timeout.seconds == 90


@pytest.mark.parametrize("seconds", [0, 1, 0.5, 0.00001, 1234567, 2592000, 315360000, 1 / 3])
def test_durations_that_were_written_as_numbers_survive_too(seconds):
    """Any number of seconds that the manifest takes can be read back, to the millisecond."""
    world = running("a", restart={"resetAfter": seconds})
    restored = decode_memory(encode_memory(world.memory))
    assert restored == world.memory
    assert restored.runs[0].flow.spec.restart.reset_after.seconds == round(seconds, 3)


def test_a_memory_of_an_earlier_operator_is_read_by_its_defaults():
    """Fields may be added; what is not there has its default."""
    assert decode_memory(b'{"boot": "b"}') == FlowMemory("b")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b'{"boot": 5}', b'{"runs": {"0": {}}}', b'{"boot": "\xff"}']
)
def test_a_torn_memory_is_refused(data):
    """With the one error that readers expect."""
    with pytest.raises(msgspec.MsgspecError):
        decode_memory(data)


def test_a_handle_tells_what_a_runner_needs():
    """Names in order, pids with their start times, exits of those that have ended."""
    handle = _full().runs[0].handle()
    ended = Exit("Error", 3, None, "why", 12.5, 1.7e9)
    assert handle == Handle(
        "demo-0", "demo", 0, ("a", "s1"), (StepView(2, 0, 0, False, ended), StepView(1, 42, 7))
    )


def test_the_exit_of_the_attempt_before_is_not_in_a_handle():
    """The attempt was started, and the operator killed before it had seen its process."""
    world = running("a")
    world.exit(0, 1)
    decision = plan(world.want, world.seen(), world.memory, world.clock.now)
    handle = decision.memory.runs[0].handle()
    (step,) = handle.steps
    assert (step.attempt, step.pid, step.exit) == (2, 0, None)
    assert handle.started, "it was started before, so it is not to be launched"


def test_a_living_step_has_no_exit_in_its_handle():
    """Its last exit was that of the process before."""
    world = running("a")
    world.exit(0, 1)
    world.look()
    (step,) = world.memory.runs[0].handle().steps
    assert (step.attempt, step.exit) == (2, None)
    assert step.pid == world.run().steps[0].pid


def test_memories_are_kept_over_operators(root):
    """One file for each flow; dropped ones do not come back."""
    memories = Memories(Layout(root))
    memories.recover()
    memories.put("a", _full())
    memories.put("b", FlowMemory("boot"))
    memories.drop("b")
    memories.drop("never")
    later = Memories(Layout(root))
    later.recover()
    assert later.flow_ids() == {"a"}
    assert later.get("a") == _full()
    assert later.get("b") == FlowMemory()


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe", b'{"boot": "\xff"}', b""])
def test_an_unreadable_memory_is_set_aside_and_the_rest_is_read(root, damage):
    """One bad file must not keep the operator from starting."""
    memories = Memories(Layout(root))
    memories.recover()
    for flow_id in ("a", "b"):
        memories.put(flow_id, FlowMemory("boot"))
    (root / "runs" / "a.json").write_bytes(damage)
    (root / "runs" / ".tmp-c.json").write_bytes(b"{")
    later = Memories(Layout(root))
    later.recover()
    assert later.flow_ids() == {"b"}
    assert sorted(path.name for path in (root / "runs").iterdir()) == ["a.corrupt", "b.json"]


def test_a_pure_world_remembers_what_it_needs():
    """A crash loop's memory is the same after a round trip, so the plan decides the same."""
    world = World("a", "b")
    world.look()
    for _ in range(3):
        world.exit(1, 1)
        world.look()
        assert decode_memory(encode_memory(world.memory)) == world.memory
        world.clock.advance(600)
        world.look()


def test_what_has_happened_is_remembered_also_when_it_cannot_be_written(root):
    """A full disk must not make a backoff forgotten; a launch intent must be in the file."""
    memories = Memories(Layout(root))
    memories.recover()
    (root / "runs").rmdir()
    (root / "runs").write_text("in the way")
    with pytest.raises(StorageError):
        memories.put("a", _full())
    assert memories.get("a") == FlowMemory()
    assert not memories.keep("a", _full())
    assert memories.get("a") == _full()
    (root / "runs").unlink()
    assert memories.keep("a", _full())
    again = Memories(Layout(root))
    again.recover()
    assert again.get("a") == _full()
