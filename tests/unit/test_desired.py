"""Edits of desired state: what the API and the folder may do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as changed

from flow_operator.errors import ConflictError, InvalidError, NotFoundError, PreconditionError
from flow_operator.store import Origin
from flow_operator.store.desired import check_dependencies, created
from support import make_manifest
from unit.store_support import contents, create, edits, opening, put


@pytest.fixture
def store(root):
    """An empty store."""
    with opening(root) as store:
        yield store


@pytest.fixture
def desired(store):
    """Its edits."""
    return edits(store)


def _owned(store, flow_id="a") -> None:
    """A flow that belongs to a manifest file."""
    with store.transaction() as transaction:
        origin = Origin("orders.yaml", "/srv", {"flow_id": flow_id})
        transaction.put(created(transaction, make_manifest(flow_id), origin))


def _replaced(desired, manifest):
    edit = desired.replace(manifest)
    return edit.before, edit.after


def _ids(made):
    return [edit.after.flow_id for edit in made]


# --- create ----------------------------------------------------------------------------------


def test_flows_are_created_together(store):
    """Each with a uid of its own and generation 1."""
    records = create(store, "a", "b", "c")
    assert [record.flow_id for record in records] == ["a", "b", "c"]
    assert len({record.uid for record in records}) == 3
    assert {record.generation for record in records} == {1}
    assert records == store.flows()


def test_one_bad_entry_means_that_none_is_created(store, root):
    """Every entry at fault is named, whether it exists or stands twice."""
    create(store, "b")
    before = contents(root)
    with pytest.raises(InvalidError) as caught:
        create(store, "a", "b", "c", "a")
    assert [fault.pointer for fault in caught.value.faults] == ["/1", "/3"]
    assert [record.flow_id for record in store.flows()] == ["b"]
    assert contents(root) == before


# --- replace ---------------------------------------------------------------------------------


def test_a_replacement_is_a_new_generation_of_the_same_flow(store, desired):
    """The old and the new record come back."""
    create(store, "a")
    old, new = _replaced(desired, make_manifest("a", "other"))
    assert (old.generation, new.generation) == (1, 2)
    assert (old.uid, new.version) == (new.uid, 2)
    assert old.template != new.template
    assert store.get("a") == new


def test_the_same_configuration_is_no_new_generation(store, desired):
    """Nothing is reconciled for it; the version still moves."""
    create(store, "a")
    _, new = _replaced(desired, make_manifest("a", "x"))
    assert (new.generation, new.version) == (1, 2)


def test_a_replacement_keeps_wishes_to_restart(store, desired):
    """Else the flow would restart once more."""
    create(store, "a")
    desired.command("restart", ["a"])
    _, new = _replaced(desired, make_manifest("a", "x", description="d"))
    assert new.token == 1


@pytest.mark.parametrize("edit", ["replace", "delete"])
def test_a_version_that_has_moved_on_is_refused(store, desired, edit):
    """Optimistic concurrency: only the first of two editors wins."""
    create(store, "a")
    desired.command("restart", ["a"])
    with pytest.raises(PreconditionError, match="at version 2, not 1"):
        _edit(desired, edit, version=1)
    _edit(desired, edit, version=2)


@pytest.mark.parametrize("edit", ["replace", "delete"])
def test_a_flow_that_a_file_owns_is_left_to_it(store, desired, edit):
    """Unless it is taken over by force."""
    _owned(store)
    with pytest.raises(ConflictError, match=r"orders\.yaml"):
        _edit(desired, edit)
    _edit(desired, edit, force=True)
    record = store.get("a")
    assert record is None or (record.origin.file, record.origin.base) == (None, "/srv")


@pytest.mark.parametrize("edit", ["replace", "delete"])
def test_a_deleted_flow_does_not_exist(store, desired, edit):
    """Although its tombstone does."""
    create(store, "a")
    desired.delete("a")
    with pytest.raises(NotFoundError):
        _edit(desired, edit)


def _edit(desired, edit, **options) -> None:
    if edit == "replace":
        desired.replace(make_manifest("a", "other"), **options)
    else:
        desired.delete("a", **options)


def test_a_deleted_flow_may_be_created_again(store, desired):
    """As another flow, of a later version."""
    (old,) = create(store, "a")
    desired.delete("a")
    (new,) = create(store, "a")
    assert new.uid != old.uid
    assert new.version == 3


# --- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "state", "token"),
    [
        ("start", "running", 0),
        ("resume", "running", 0),
        ("stop", "stopped", 0),
        ("pause", "paused", 0),
        ("restart", "running", 1),
    ],
)
@pytest.mark.parametrize("before", ["running", "paused", "stopped"])
def test_a_command_edits_the_desired_state(store, desired, before, command, state, token):
    """It survives a restart; only a restart is a wish that can be repeated."""
    create(store, "a", state=before)
    for _ in range(2):
        assert _ids(desired.command(command, ["a"])) == ["a"]
    record = store.get("a")
    assert record.flow.spec.state == state
    assert record.document()["spec"]["state"] == state
    assert record.token == 2 * token
    assert record.generation == (3 if token else 1 + (before != state))


def test_no_ids_mean_all_flows_and_an_empty_list_means_none(store, desired):
    """Whoever filtered down to nothing must not stop everything."""
    create(store, "a", "b")
    assert _ids(desired.command("stop", [])) == []
    assert {record.flow.spec.state for record in store.flows()} == {"running"}
    assert _ids(desired.command("stop", None)) == ["a", "b"]
    assert {record.flow.spec.state for record in store.flows()} == {"stopped"}


def test_one_unknown_id_means_that_nothing_is_done(store, desired):
    """All unknown ones are named; deleted flows are unknown."""
    create(store, "a", "b")
    desired.delete("b")
    before = store.records()
    with pytest.raises(InvalidError) as caught:
        desired.command("stop", ["a", "b", "nope"])
    assert [fault.detail for fault in caught.value.faults] == [
        "There is no flow 'b'. GET /flows lists those that exist.",
        "There is no flow 'nope'. GET /flows lists those that exist.",
    ]
    assert store.records() == before


def test_an_id_that_stands_twice_counts_once(store, desired):
    """One restart, not two."""
    create(store, "a")
    assert _ids(desired.command("restart", ["a", "a"])) == ["a"]
    assert store.get("a").token == 1


def test_a_hard_stop_escalates_and_is_not_taken_back(store, desired):
    """Soft, then hard, then soft: it stays hard until something else is wanted."""
    create(store, "a")
    hards = []
    for hard in (False, True, False, True):
        desired.command("stop", ["a"], hard=hard)
        hards.append(store.get("a").hard)
    assert hards == [False, True, True, True]
    assert store.get("a").generation == 3
    desired.command("start", ["a"])
    assert not store.get("a").hard


@pytest.mark.parametrize(("command", "again"), [("start", 1), ("resume", 1), ("pause", 0)])
def test_a_flow_that_has_ended_is_run_again_by_a_start(store, desired, command, again):
    """Although its desired state is running all the time."""
    create(store, "a", "b")
    desired.command(command, ["a", "b"], ended=frozenset({"a"}))
    assert (store.get("a").token, store.get("b").token) == (again, 0)


def test_commands_work_on_flows_that_a_file_owns(store, desired):
    """And leave them to it."""
    _owned(store)
    desired.command("stop", ["a"])
    record = store.get("a")
    assert (record.flow.spec.state, record.origin.file) == ("stopped", "orders.yaml")


# --- dependencies ----------------------------------------------------------------------------


def _depends(store, **edges: list[str]) -> None:
    manifests = [
        make_manifest(flow_id, "x", dependsOn=[{"name": name} for name in names])
        for flow_id, names in edges.items()
    ]
    edits(store).create(manifests)


@pytest.mark.parametrize(
    ("edges", "circle"),
    [
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "a -> b -> c -> a"),
        ({"z": ["a"], "a": ["y", "b"], "y": [], "b": ["a"]}, "a -> b -> a"),
    ],
)
def test_flows_that_wait_for_each_other_are_refused(store, edges, circle):
    """The circle is told; none of them is created."""
    with pytest.raises(InvalidError, match=circle):
        _depends(store, **edges)
    assert store.flows() == []


def test_a_replacement_must_not_close_a_circle(store, desired):
    """Also over flows that stand already; the old configuration stays."""
    _depends(store, a=["b"], b=["c"], c=[])
    with pytest.raises(InvalidError, match="c -> a -> b -> c"):
        desired.replace(make_manifest("c", "x", dependsOn=[{"name": "a"}]))
    assert store.get("c").flow.spec.depends_on == ()


def test_a_flow_that_waits_for_itself_is_refused(store):
    """However it came in."""
    with store.transaction() as transaction:
        put(transaction, "a")
        record = transaction.get("a")
        waits = make_manifest("a", "x", dependsOn=[{"name": "b"}]).flow.spec.depends_on
        itself = (changed(waits[0], name="a"),)
        spec = changed(record.flow.spec, depends_on=itself)
        transaction.put(changed(record, flow=changed(record.flow, spec=spec)))
        with pytest.raises(InvalidError, match="a -> a"):
            check_dependencies(transaction)
        transaction.changes.clear()


def test_diamonds_and_missing_dependencies_are_fine(store):
    """Nobody waits for themselves."""
    _depends(store, a=["b", "c"], b=["d", "later"], c=["d"], d=[])
    assert len(store.flows()) == 4
