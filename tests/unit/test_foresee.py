"""What an edit does to the processes of a flow, told before it is made; that it then does so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from flow_operator.manifest import Document, load_manifest
from flow_operator.memory import FlowMemory
from flow_operator.model.flow import Flow, Metadata, Spec, Step, template_hash
from flow_operator.plan import Want, foresee
from support import make_manifest
from unit.plan_world import World, running

PROBE = {"tcpSocket": {"port": 80}}


def _want(flow: Flow, **more: Any) -> Want:
    template = template_hash(flow, None)
    return Want(flow, uid="u", state=flow.spec.state, template=template, **more)


def _kind(before: Flow, after: Flow) -> str:
    """Of a flow that is about to be launched, which counts as running."""
    return foresee(_want(before), _want(after), FlowMemory())


# --- what a change of each field costs -------------------------------------------------------

BEFORE = {
    "steps": [
        {"name": "a", "command": ["x"], "env": [{"name": "A", "value": "1"}]},
        {"name": "b", "script": "y"},
    ]
}

SPEC = {
    "steps": (BEFORE["steps"][:1], "restart"),
    "state": ("paused", "inPlace"),
    "description": ("other", "inPlace"),
    "runner": (None, "restart"),  # Needs more than itself: see below.
    "container": ({"image": "x"}, "inPlace"),  # Of no meaning to local processes: see below.
    "replicas": (2, "inPlace"),
    "depends_on": ([{"name": "db"}], "inPlace"),
    "restart": ({"policy": "Never"}, "inPlace"),
    "stop": ({"timeout": "1m"}, "inPlace"),
    "pause": ({"mode": "intake"}, "inPlace"),
    "update": ({"strategy": "OnDelete"}, "inPlace"),
    "progress": ({"silenceTimeout": "1m"}, "inPlace"),
    "logs": ({"maxFiles": 2}, "inPlace"),
}
"""Each field of a Spec: another value, and what it costs a running flow."""

STEP = {
    "name": ("other", "restart"),
    "command": (["x", "y"], "restart"),
    "script": ("z", "restart"),
    "working_dir": ("/tmp", "restart"),
    "env": ([{"name": "A", "value": "2"}], "restart"),
    "env_from": ([{"file": "f"}], "restart"),
    "user": ("nobody", "restart"),
    "umask": ("077", "restart"),
    "image": ("x", "inPlace"),
    "resources": ({"limits": {"openFiles": 64}}, "restart"),
    "startup_probe": (PROBE, "inPlace"),
    "readiness_probe": (PROBE, "inPlace"),
    "liveness_probe": (PROBE, "inPlace"),
    "success_exit_codes": ([0, 3], "inPlace"),
}
"""The same for a Step."""


def _flow(document: dict[str, Any]) -> Flow:
    return load_manifest(Document({"flow_id": "demo", **document})).flow


@pytest.mark.parametrize(("struct", "table"), [(Spec, SPEC), (Step, STEP)])
def test_every_field_has_a_row(struct, table):
    """Whoever adds a field must say what its change costs."""
    assert set(table) == set(struct.__struct_fields__), "add a row to the table in this file"


@pytest.mark.parametrize("name", [name for name, (value, _) in SPEC.items() if value is not None])
def test_a_change_of_the_spec_costs(name):
    """Only what a process was started from costs a restart."""
    value, cost = SPEC[name]
    key = next(f.encode_name for f in msgspec.structs.fields(Spec) if f.name == name)
    assert _kind(_flow({"spec": BEFORE}), _flow({"spec": {**BEFORE, key: value}})) == cost


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ({"container": {"image": "y"}}, "restart"),
        ({"container": {"image": "x", "readOnly": True}}, "restart"),
        ({"container": {"image": "x", "pullPolicy": "Always"}}, "inPlace"),
        ({"steps": [{**step, "image": "y"} for step in BEFORE["steps"]]}, "restart"),
        ({"runner": "process"}, "restart"),
    ],
)
def test_what_containers_are_made_of_costs_a_restart(change, cost):
    """But for when their image is fetched; and to another runner, in either direction."""
    contained = {**BEFORE, "runner": "container", "container": {"image": "x"}}
    before, after = _flow({"spec": contained}), _flow({"spec": {**contained, **change}})
    assert _kind(before, after) == cost
    assert _kind(after, before) == cost


@pytest.mark.parametrize("name", STEP)
def test_a_change_of_a_step_costs(name):
    """Arguments and surroundings cost a restart; how it is watched does not."""
    value, cost = STEP[name]
    key = next(f.encode_name for f in msgspec.structs.fields(Step) if f.name == name)
    index = 1 if name == "script" else 0
    steps = [dict(step) for step in BEFORE["steps"]]
    steps[index][key] = value
    before, after = _flow({"spec": BEFORE}), _flow({"spec": {"steps": steps}})
    assert _kind(before, after) == cost
    assert _kind(after, before) == cost


def test_no_change_costs_nothing():
    """Nor does another way to write the same."""
    flow = make_manifest("demo", "a", stop={"timeout": "60s"}).flow
    assert _kind(flow, make_manifest("demo", "a", stop={"timeout": "1m"}).flow) == "none"
    assert _kind(flow, flow) == "none"


def test_labels_and_annotations_change_in_place():
    """No process knows them."""
    assert set(Metadata.__struct_fields__) == {"name", "labels", "annotations"}
    for metadata in ({"labels": {"a": "b"}}, {"annotations": {"a": 1}}):
        assert _kind(_flow({"spec": BEFORE}), _flow({"spec": BEFORE, "metadata": metadata})) == (
            "inPlace"
        )


def test_steps_that_are_added_moved_or_removed_cost_a_restart():
    """The pipes are laid when an instance is launched."""
    flows = [make_manifest("demo", *steps).flow for steps in (("a",), ("a", "b"), ("b", "a"))]
    for before in flows:
        for after in flows:
            assert _kind(before, after) == ("none" if before is after else "restart")


# --- what runs, and what is asked for --------------------------------------------------------


def _paused() -> World:
    world = running("a")
    world.ask("paused")
    world.carry_out()
    assert world.phase == "paused"
    return world


def _stopped() -> World:
    world = World("a", state="stopped")
    world.look()
    return world


def _held() -> World:
    """Paused before it was ever started."""
    world = World("a", state="paused")
    world.look()
    return world


def _stopping() -> World:
    world = running("a")
    world.ask("stopped")
    world.look()
    assert world.phase == "stopping"
    return world


def _completed() -> World:
    world = running("a", restart={"policy": "Never"})
    world.exit(0, 0)
    world.carry_out()
    assert world.phase == "completed"
    return world


def _waiting() -> World:
    """For another flow."""
    world = World("a", dependsOn=[{"name": "db"}])
    world.edit(blocked=("waits for 'db'",))
    world.look()
    assert world.phase == "pending"
    return world


def _backing_off() -> World:
    """The whole flow, of which nothing runs until its next launch."""
    world = running("a", restart={"scope": "flow"})
    for _ in range(2):
        world.exit(0, 1)
        world.look()
        world.finish_jobs()
        world.look()
    assert (world.phase, world.memory.runs) == ("backoff", {})
    return world


def _updating() -> World:
    """It drains, to be started anew."""
    world = running("a")
    world.apply("b")
    world.look()
    assert world.phase == "stopping"
    return world


def _edited(**more: Any) -> World:
    """The steps were changed, and that waits."""
    world = running("a", **more)
    world.apply("b", **more)
    world.look()
    return world


OTHER = {"script": "b"}

CASES = {
    "stopped, other steps": (_stopped, {**OTHER, "state": "stopped"}, "none"),
    "stopped, more replicas": (_stopped, {"replicas": 3, "state": "stopped"}, "none"),
    "stopped, to run": (_stopped, {}, "start"),
    "stopped, to pause": (_stopped, {"state": "paused"}, "none"),
    "running, same": (lambda: running("a"), {}, "none"),
    "running, described": (lambda: running("a"), {"description": "d"}, "inPlace"),
    "running, to stop": (lambda: running("a"), {"state": "stopped"}, "stop"),
    "running, to stop with other steps": (
        lambda: running("a"),
        {**OTHER, "state": "stopped"},
        "stop",
    ),
    "running, to pause": (lambda: running("a"), {"state": "paused"}, "inPlace"),
    "running, other steps": (lambda: running("a"), OTHER, "restart"),
    "running, other steps on delete": (
        lambda: running("a"),
        {**OTHER, "update": {"strategy": "OnDelete"}},
        "inPlace",
    ),
    "running, more replicas": (lambda: running("a"), {"replicas": 3}, "inPlace"),
    "running, fewer replicas": (lambda: running("a", replicas=3), {}, "inPlace"),
    "running, fewer replicas and other steps": (
        lambda: running("a", replicas=3),
        OTHER,
        "restart",
    ),
    "paused, other steps": (_paused, {**OTHER, "state": "paused"}, "inPlace"),
    "paused, to run": (_paused, {}, "inPlace"),
    "paused, to run other steps": (_paused, OTHER, "restart"),
    "paused, to stop": (_paused, {"state": "stopped"}, "stop"),
    "held, to run": (_held, {}, "start"),
    "stopping, to run": (_stopping, {}, "start"),
    "stopping, described": (_stopping, {"state": "stopped", "description": "d"}, "none"),
    "completed, described": (
        _completed,
        {"restart": {"policy": "Never"}, "description": "d"},
        "none",
    ),
    "completed, other steps": (_completed, {**OTHER, "restart": {"policy": "Never"}}, "start"),
    "completed, to stop": (_completed, {"state": "stopped"}, "none"),
    "waiting, other steps": (_waiting, {**OTHER, "dependsOn": [{"name": "db"}]}, "none"),
    "waiting, to stop": (_waiting, {"state": "stopped"}, "none"),
    "backing off, other steps": (
        _backing_off,
        {**OTHER, "restart": {"scope": "flow"}},
        "none",
    ),
    "backing off, to stop": (_backing_off, {"state": "stopped"}, "none"),
    "updating, described": (_updating, {**OTHER, "description": "d"}, "none"),
    "pending update, now to be made": (
        lambda: _edited(update={"strategy": "OnDelete"}),
        OTHER,
        "restart",
    ),
    "pending update, taken back": (
        lambda: _edited(update={"strategy": "OnDelete"}),
        {"update": {"strategy": "OnDelete"}},
        "inPlace",
    ),
}


def _pids(world: World) -> set[int]:
    steps = (step for run in world.runs.values() if not run.gone for step in run.steps)
    return {step.pid for step in steps if step.alive}


def _happened(before: set[int], world: World) -> set[str]:
    """What may be said of what has become of the processes."""
    after = _pids(world)
    if before and not after:
        return {"stop"}
    if not before & after:
        return {"restart"} if before else ({"start"} if after else {"none"})
    return {"none", "inPlace"}


@pytest.mark.parametrize(("make", "given", "change"), CASES.values(), ids=CASES)
def test_what_is_foreseen_is_what_the_plan_then_does(make, given, change):
    """By what runs and what is asked for; the pids tell whether it was true."""
    world = make()
    before, was = world.want, set() if world.phase == "stopping" else _pids(world)
    draining = world.phase == "stopping" and before.state == "running"
    world.apply(given.get("script", "a"), **{k: v for k, v in given.items() if k != "script"})
    world.edit(blocked=before.blocked)
    assert foresee(before, world.want, world.memory) == change
    for _ in range(8):
        world.look()
        for run in world.runs.values():
            for index, step in enumerate(run.steps):
                if step.alive and step.signals:
                    world.end(run, index, 0)
        world.finish_jobs()
    assert draining or change in _happened(was, world)


def test_a_deletion_ends_what_runs():
    """And does nothing to what does not."""
    gone = Want(None)
    for make, change in ((lambda: running("a"), "stop"), (_paused, "stop"), (_stopped, "none")):
        world = make()
        assert foresee(world.want, gone, world.memory) == change


def test_an_update_that_is_called_off_for_a_stop_is_a_stop():
    """What drains does not come back."""
    world = _updating()
    assert foresee(world.want, Want(None), world.memory) == "stop"
    assert foresee(world.want, replace(world.want, state="stopped"), world.memory) == "stop"


def test_a_new_flow_is_started_if_it_is_to_run():
    """Whatever is remembered of one of its name before it."""
    new, old = _want(make_manifest("demo", "a").flow), running("a")
    assert foresee(Want(None), new, FlowMemory()) == "start"
    assert foresee(Want(None), replace(new, state="paused"), FlowMemory()) == "none"
    assert foresee(Want(None), new, old.memory) == "start"
    assert foresee(Want(None), replace(new, uid="v"), _completed().memory) == "start"


def test_a_hard_stop_of_what_drains_ends_it():
    """A soft one changes nothing."""
    world = _stopping()
    assert foresee(world.want, replace(world.want, hard=False), world.memory) == "none"
    assert foresee(world.want, replace(world.want, hard=True), world.memory) == "stop"
    assert foresee(world.want, Want(None), world.memory) == "none"


def test_a_wish_to_restart_is_a_restart():
    """Where it runs; else a start."""
    for make, change in ((lambda: running("a"), "restart"), (_completed, "start")):
        world = make()
        again = replace(world.want, token=world.want.token + 1)
        assert foresee(world.want, again, world.memory) == change
