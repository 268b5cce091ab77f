"""What is told of the limits that steps ask for."""

from __future__ import annotations

import msgspec
import pytest

from flow_operator.model.flow import Limits
from unit.plan_world import running

ALL = {"cpu": "1", "memory": "1Gi", "pids": 10, "openFiles": 64}


def _step(**resources):
    return {"name": "s0", "script": "a", "resources": resources}


def _told(asked, held):
    """What the status tells of a step that asks for limits of which some hold."""
    world = running(_step(limits=asked))
    world.run().steps[0].limits = tuple(held.items())
    world.look()
    return world.status.steps[0].limits, world.status.limits_enforced


@pytest.mark.parametrize(
    ("asked", "held", "told", "enforced"),
    [
        ({}, {}, {}, None),
        ({"memory": "1Gi"}, {"memory": True}, {"memory": True}, True),
        ({"memory": "1Gi"}, {"memory": False}, {"memory": False}, False),
        ({"memory": "1Gi"}, {}, {"memory": False}, False),
        ({"openFiles": 64}, {}, {"openFiles": True}, True),
        (
            {"cpu": "1", "pids": 9},
            {"cpu": True, "pids": False},
            {"cpu": True, "pids": False},
            False,
        ),
        ({"cpu": "1"}, {"cpu": True, "memory": False}, {"cpu": True}, True),
    ],
)
def test_each_limit_that_is_asked_for_tells_whether_it_holds(asked, held, told, enforced):
    """By its name in the manifest; the flow's limits are enforced only if all are."""
    assert _told(asked, held) == (told, enforced)


def test_every_limit_of_the_manifest_is_told():
    """Whoever adds one must say who enforces it: the runner, or setrlimit(2) at the start."""
    assert set(ALL) == {field.encode_name for field in msgspec.structs.fields(Limits)}
    held = {"cpu": True, "memory": True, "pids": True}
    assert _told(ALL, held) == (dict.fromkeys(ALL, True), True)


def test_one_step_of_one_replica_is_enough():
    """To say that not all limits are enforced."""
    world = running(_step(limits={"cpu": "1"}), "b", replicas=2)
    for replica in (0, 1):
        world.run(replica).steps[0].limits = (("cpu", replica == 0),)
    world.look()
    assert [step.limits for step in world.status.steps] == [{"cpu": True}, {}, {"cpu": False}, {}]
    assert world.status.limits_enforced is False


def test_a_step_without_a_process_has_no_limits():
    """Nothing is enforced upon nobody; it is told again once it runs again."""
    world = running(_step(limits={"openFiles": 64}), restart={"backoff": {"jitter": 0}})
    for _ in range(2):
        world.exit(0, 1)
        world.look()
    assert world.phase == "backoff"
    assert (world.status.steps[0].limits, world.status.limits_enforced) == ({}, None)
    world.advance(1)
    assert world.status.limits_enforced is True


def test_rlimits_alone_are_no_limits_that_could_be_missing():
    """A step does not start without them."""
    world = running(_step(rlimits={"core": 0}))
    assert (world.status.steps[0].limits, world.status.limits_enforced) == ({}, None)
