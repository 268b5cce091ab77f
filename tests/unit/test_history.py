"""The earlier generations: durable with the write that replaces them, ten of them, and no more."""

from __future__ import annotations

import errno

import pytest

from flow_operator.errors import ConflictError, InvalidError, NotFoundError, PreconditionError
from flow_operator.store import Desired, Origin, Store, Transaction
from flow_operator.store.desired import changed, created, tombstone
from support import make_manifest
from unit.store_support import create, edits, failing, no_checkpoints, opened, opening


def _scripts(store: Store, flow_id: str = "a") -> list[tuple[int, str | None]]:
    return [(r.generation, r.flow.spec.steps[0].script) for r in store.history(flow_id)]


def _replace(store: Store, *scripts: str, flow_id: str = "a") -> None:
    for script in scripts:
        edits(store).replace(make_manifest(flow_id, script))


def test_generations_are_kept_the_newest_first(root):
    """At once, after they were written out, and by the next operator."""
    wanted = [(3, "three"), (2, "two"), (1, "x")]
    with opening(root) as store:
        create(store, "a")
        _replace(store, "two", "three")
        assert _scripts(store) == wanted
        store._behind.run()
        assert _scripts(store) == wanted
    with opening(root) as later:
        assert _scripts(later) == wanted
        assert len((root / "history" / "a.jsonl").read_bytes().splitlines()) == 2


def test_a_flow_that_was_never_changed_has_no_file(root):
    """Its one generation is the present one."""
    with opening(root) as store:
        create(store, "a", "b")
        store._behind.run()
        assert _scripts(store) == [(1, "x")]
        assert list((root / "history").iterdir()) == []


def test_ten_are_told_and_one_more_is_kept_to_compare_with(root):
    """However often it is changed, and however many operators come and go."""
    for start in (0, 8, 16):
        with opening(root) as store:
            if start == 0:
                create(store, "a")
            _replace(store, *(f"s{number}" for number in range(start, start + 8)))
    with opening(root) as store:
        assert [number for number, _ in _scripts(store)] == list(range(25, 14, -1))
        assert len((root / "history" / "a.jsonl").read_bytes().splitlines()) == 10


def test_every_acknowledged_generation_outlives_a_kill(root):
    """Between any two writes, wherever the files have been written out so far."""
    wanted = [(1, "x")]
    for round_ in range(6):
        store = opened(root)
        if round_ == 0:
            create(store, "a")
            store.close()
            store = opened(root)
        no_checkpoints(store)
        for number in (0, 1):
            _replace(store, f"r{round_}-{number}")
            wanted.insert(0, (len(wanted) + 1, f"r{round_}-{number}"))
        with opening(root) as later:
            assert _scripts(later) == wanted[:11]


def test_a_flows_file_is_not_replaced_before_its_history_stands(root, monkeypatch):
    """Else the generation that is in it would be nowhere."""
    with opening(root) as first:
        create(first, "a")
    store = opened(root)
    _replace(store, "two")
    with monkeypatch.context() as patch:
        failing(patch, "rename", errno.EIO, when=lambda old, _new: "jsonl" in str(old))
        store.close()
    assert "script: x" in (root / "flows" / "a.yaml").read_text()
    with opening(root) as later:
        assert _scripts(later) == [(2, "two"), (1, "x")]


def test_what_is_replaced_while_files_are_written_is_not_lost(root):
    """A newer generation that comes after the history was written leaves the file to itself."""
    with opening(root) as first:
        create(first, "a")
        _replace(first, "two")
    store = opened(root)
    _replace(store, "three")
    real = store._behind._before

    def meanwhile() -> None:
        real()
        _replace(store, "four")

    store._behind._before = meanwhile
    store._behind.run()
    no_checkpoints(store)
    store._behind._closing = True
    store._behind.wake()
    store._behind._thread.join()
    with opening(root) as later:
        assert [number for number, _ in _scripts(later)] == [4, 3, 2, 1]


def test_it_tells_who_made_each_and_when(root):
    """A later write that changes no configuration takes no generation over."""
    with opening(root) as store:
        desired = edits(store)
        desired.create([make_manifest("a", "one")], by="api:192.0.2.1")
        desired.command("stop", ["a"], by="api:uid=5")
        desired.replace(store_manifest(store), by="api:somebody-else")
    with opening(root) as store:
        newest, oldest = store.history("a")
        assert (newest.made.by, newest.made.action) == ("api:uid=5", "stop")
        assert (newest.wrote.by, newest.wrote.action) == ("api:somebody-else", "replace")
        assert (oldest.made.by, oldest.made.action) == ("api:192.0.2.1", "create")
        assert oldest.made.at.endswith("Z")


def test_it_tells_what_each_did_to_processes(root):
    """As it was foreseen, and over restarts; a write that makes no generation changes none."""
    foreseen = iter(["start", "restart", "none", "stop"])
    with opening(root) as store:
        desired = Desired(store, lambda _before, _after: next(foreseen))
        desired.create([make_manifest("a", "one")])
        desired.replace(make_manifest("a", "two"))
        desired.replace(make_manifest("a", "two"))
        desired.command("stop", ["a"])
        assert _changes(store) == ["stop", "restart", "start"]
    with opening(root) as store:
        assert _changes(store) == ["stop", "restart", "start"]


def _changes(store: Store) -> list[str | None]:
    return [record.made.change for record in store.history("a")]


def test_a_dry_run_makes_no_generation(root):
    """Whatever it tries; it tells what a rollback would do."""
    with opening(root) as store:
        create(store, "a")
        _replace(store, "two")
        kept = store.history("a")
        desired = Desired(store, lambda _before, _after: "restart")
        desired.create([make_manifest("b")], dry_run=True)
        desired.replace(make_manifest("a", "three"), dry_run=True)
        desired.command("stop", ["a"], dry_run=True)
        edit, to = desired.rollback("a", dry_run=True)
        desired.delete("a", dry_run=True)
        assert (edit.before, edit.after.generation, edit.change, to) == (kept[0], 3, "restart", 1)
        assert store.history("a") == kept
        assert store.history("b") == []


def store_manifest(store: Store, flow_id: str = "a"):
    """What stands, as a manifest."""
    return make_manifest(flow_id, "one", state=store.get(flow_id).flow.spec.state)


def _by_file(transaction: Transaction, flow_id: str, script: str) -> None:
    origin = Origin("orders.yaml", "/srv", {"flow_id": flow_id})
    present = transaction.get(flow_id)
    manifest = make_manifest(flow_id, script)
    if present is None:
        transaction.put(created(transaction, manifest, origin))
    else:
        transaction.put(changed(transaction, present, manifest, origin))


def test_a_file_makes_generations_of_its_own_name(root):
    """What it held then is not kept beside what came of it."""
    with opening(root) as store:
        for script in ("one", "two"):
            with store.transaction() as transaction:
                _by_file(transaction, "a", script)
        store._behind.run()
        newest, oldest = store.history("a")
        assert (newest.made.by, oldest.made.by) == ("file:orders.yaml", "file:orders.yaml")
        assert (newest.made.action, oldest.made.action) == ("replace", "create")
        assert oldest.origin == Origin("orders.yaml", "/srv")
        with store.transaction() as transaction:
            act = transaction.act("prune", "orders.yaml")
            transaction.put(tombstone(transaction, store.get("a"), act=act))
        assert store.record("a").wrote.by == "file:orders.yaml"


def test_history_goes_with_its_flow(root):
    """Also if the operator is killed before it was forgotten; a new flow of that name has none."""
    with opening(root) as store:
        create(store, "a", "b")
        _replace(store, *(f"s{number}" for number in range(12)))
        _replace(store, "two", flow_id="b")
        store._behind.run()
        edits(store).delete("a")
        create(store, "a")
        assert _scripts(store) == [(1, "x")]
        _replace(store, "new", "newer")
        assert _scripts(store) == [(3, "newer"), (2, "new"), (1, "x")]
        store._behind.run()
        assert _scripts(store) == [(3, "newer"), (2, "new"), (1, "x")]
        edits(store).delete("a")
        assert store.history("a") == []
        assert store.purge(store.record("a"))
        assert [path.name for path in (root / "history").iterdir()] == ["b.jsonl"]
    (root / "history" / "stray.jsonl").write_text("{}\n")
    with opening(root):
        assert [path.name for path in (root / "history").iterdir()] == ["b.jsonl"]


def test_a_damaged_line_is_left_out(root):
    """The other generations are told."""
    with opening(root) as store:
        create(store, "a")
        _replace(store, "two", "three")
    path = root / "history" / "a.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first[:50] + b"\n\xff\xff\n{}\n" + second + b"\n")
    with opening(root) as store:
        assert _scripts(store) == [(3, "three"), (2, "two")]
        _replace(store, "four")
        assert _scripts(store) == [(4, "four"), (3, "three"), (2, "two")]


# --- rollback --------------------------------------------------------------------------------


def test_a_rollback_is_a_new_generation(root):
    """With the configuration of an earlier one, state included."""
    with opening(root) as store:
        create(store, "a")
        _replace(store, "two", "three")
        edits(store).command("stop", ["a"])
        edit, to = edits(store).rollback("a", 2, by="api:x")
        old, new = edit.before, edit.after
        assert (old.generation, new.generation, to) == (4, 5, 2)
        assert new.flow == store.history("a")[3].flow
        assert new.flow.spec.state == "running"
        assert (new.made.action, new.made.by) == ("rollback", "api:x")
        assert store.get("a") == new


def test_without_a_generation_it_is_the_last_that_differs(root):
    """A restart in between is no configuration to go back to; twice is there and back."""
    with opening(root) as store:
        create(store, "a")
        _replace(store, "two")
        edits(store).command("restart", ["a"])
        assert edits(store).rollback("a")[1] == 1
        assert _scripts(store)[0] == (4, "x")
        edits(store).rollback("a")
        assert _scripts(store)[0] == (5, "two")


def test_what_rollback_refuses(root):
    """Nothing is changed by any of it."""
    with opening(root) as store:
        desired = edits(store)
        create(store, "a")
        with pytest.raises(NotFoundError):
            desired.rollback("nobody")
        with pytest.raises(InvalidError, match="no other configuration"):
            desired.rollback("a")
        with pytest.raises(InvalidError, match="generation 7 of 'a' is not kept; choose one of"):
            desired.rollback("a", 7)
        with pytest.raises(InvalidError):
            desired.rollback("a", 1)
        _replace(store, "two")
        with pytest.raises(PreconditionError):
            desired.rollback("a", 1, version=1)
        with store.transaction() as transaction:
            _by_file(transaction, "a", "three")
        with pytest.raises(ConflictError, match=r"orders\.yaml"):
            desired.rollback("a", 1)
        assert _scripts(store)[0] == (3, "three")
        desired.rollback("a", 1, force=True)
        assert store.get("a").origin.file is None


def test_a_rollback_closes_no_circle(root):
    """What an earlier configuration waited for may wait for this flow now."""
    with opening(root) as store:
        edits(store).create([make_manifest("a", dependsOn=[{"name": "b"}])])
        _replace(store, "two")
        edits(store).create([make_manifest("b", dependsOn=[{"name": "a"}])])
        with pytest.raises(InvalidError, match="depend on each other"):
            edits(store).rollback("a", 1)
