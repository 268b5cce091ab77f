"""What the store makes of damaged files and of a kernel that refuses."""

from __future__ import annotations

import errno

import pytest

from flow_operator.errors import StorageError, StorageFullError
from unit.store_support import (
    contents,
    create,
    edits,
    failing,
    is_directory,
    names,
    no_checkpoints,
    opened,
    opening,
    put,
    script,
)

# --- recovery --------------------------------------------------------------------------------


def test_unfinished_files_are_removed(root):
    """What a killed writer left was never acknowledged."""
    with opening(root) as store:
        create(store, "a")
    (root / "flows" / ".tmp-a.yaml").write_text("torn")
    (root / "flows" / ".tmp-txn-000000000009.yaml").write_text("torn")
    with opening(root) as later:
        assert script(later, "a") == "x"
        assert names(root) == ["a.yaml"]


DAMAGE = [
    b"",
    b"\x00" * 100,
    b"\xff\xfe",
    b"a: [",
    b"- a\n",
    b"flow_id: b\n",
    b"x-operator: {uid: u, generation: 1, version: 1}\nspec: {}\n",
    b"x-operator: 5\nmetadata: {name: b}\nspec: {steps: [{name: a, script: x}]}\n",
    b"kind: Tombstone\nx-operator: {uid: u, generation: 1, version: 1}\n",
    b"kind: Tombstone\nmetadata: []\nx-operator: {uid: u, generation: 1, version: 1}\n",
    b"kind: Tombstone\nmetadata: {name: 5}\nx-operator: {uid: u, generation: 1, version: 1}\n",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unreadable_flow_is_set_aside_and_the_rest_runs(root, damage):
    """It is kept as ``.corrupt``, and says so under its name."""
    with opening(root) as store:
        for flow_id in "abc":
            create(store, flow_id)
    (root / "flows" / "b.yaml").write_bytes(damage)
    with opening(root) as later:
        assert [record.flow_id for record in later.flows()] == ["a", "c"]
        assert list(later.corrupt) == ["b"]
        assert later.corrupt["b"].startswith("StoreError: ")
        assert names(root) == ["a.yaml", "b.corrupt", "c.yaml"]
        assert (root / "flows" / "b.corrupt").read_bytes() == damage


def test_a_file_under_another_flows_name_is_unreadable(root):
    """What it holds belongs to a file of its own name."""
    with opening(root) as store:
        create(store, "a")
        create(store, "b")
    text = (root / "flows" / "a.yaml").read_bytes()
    (root / "flows" / "b.yaml").write_bytes(text)
    with opening(root) as later:
        assert list(later.corrupt) == ["b"]
        assert [record.flow_id for record in later.flows()] == ["a"]


def test_a_flow_that_was_set_aside_is_still_told_by_the_next_operator(root):
    """Else it would count as deleted, and what runs of it would be stopped."""
    with opening(root) as store:
        create(store, "a")
    (root / "flows" / "a.yaml").write_bytes(b"torn")
    opened(root).close()
    with opening(root) as last:
        assert list(last.corrupt) == ["a"]


def test_a_flow_that_was_set_aside_may_be_created_again(root):
    """Writing it heals it."""
    with opening(root) as store:
        create(store, "a")
    (root / "flows" / "a.yaml").write_bytes(b"torn")
    with opening(root) as later:
        create(later, "a")
        assert later.corrupt == {}
    with opening(root) as last:
        assert last.corrupt == {}
        assert script(last, "a") == "x"


def test_a_journal_heals_the_files_that_it_names(root):
    """Its files were half written: one is old, one is new, one is torn, one is not there."""
    with opening(root) as first:
        create(first, "a", "b", "c")
    old = contents(root)["a.yaml"]
    store = opened(root)
    no_checkpoints(store)
    with store.transaction() as transaction:
        put(transaction, "a", "b", "c", "d", script="batch")
    journal = contents(root)["txn-000000000001.yaml"]
    opened(root).close()
    (root / "flows" / "txn-000000000001.yaml").write_bytes(journal)
    (root / "flows" / "a.yaml").write_bytes(old)
    (root / "flows" / "c.yaml").write_bytes(b"kind: Fl")
    (root / "flows" / "d.yaml").unlink()
    with opening(root) as later:
        assert [script(later, name) for name in "abcd"] == ["batch"] * 4
        assert later.corrupt == {}
    with opening(root) as last:
        assert [script(last, name) for name in "abcd"] == ["batch"] * 4
        assert last.corrupt == {}


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "binary", "headless", "count"])
def test_a_damaged_journal_is_set_aside_whole(root, how):
    """None of it is taken, and what stood before stands."""
    with opening(root) as first:
        create(first, "a")
    store = opened(root)
    no_checkpoints(store)
    with store.transaction() as transaction:
        put(transaction, "a", "b", script="batch")
    path = root / "flows" / "txn-000000000001.yaml"
    data = path.read_bytes()
    head, _, body = data.partition(b"\n")
    path.write_bytes(
        {
            "truncated": data[:-20],
            "flipped": data.replace(b"batch", b"botch"),
            "emptied": b"",
            "binary": data[:-30] + b"\xff" * 30,
            "headless": body,
            "count": head.replace(b'"count":2', b'"count":3') + b"\n" + body,
        }[how]
    )
    with opening(root) as later:
        assert (script(later, "a"), script(later, "b")) == ("x", None)
        assert names(root) == ["a.yaml", "txn-000000000001.corrupt"]


# --- a kernel that refuses -------------------------------------------------------------------

REFUSALS = [
    ("open", errno.ENOSPC, StorageFullError),
    ("write", errno.ENOSPC, StorageFullError),
    ("write", errno.EDQUOT, StorageFullError),
    ("write", errno.EIO, StorageError),
    ("fsync", errno.EIO, StorageError),
    ("open", errno.EROFS, StorageError),
    ("open", errno.EACCES, StorageError),
    ("rename", errno.EIO, StorageError),
]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("function", "number", "error"), REFUSALS)
def test_a_write_that_is_refused_changes_nothing(root, monkeypatch, function, number, error, batch):
    """Neither memory nor disk, and the next one succeeds."""
    ids = ["a", "b"] if batch else ["a"]
    with opening(root) as store:
        create(store, "a")
        store._behind.run()
        before, version = contents(root), store.version
        told: list[object] = []
        store.subscribe(told.append)
        with monkeypatch.context() as patch:
            count = failing(patch, function, number)
            with pytest.raises(error) as caught, store.transaction() as transaction:
                put(transaction, *ids, script="new")
            assert count
        assert type(caught.value) is error
        assert "nothing was changed" in str(caught.value)
        assert (contents(root), store.version, told) == (before, version, [])
        assert script(store, "a") == "x"
        with store.transaction() as transaction:
            put(transaction, *ids, script="newer")
        assert script(store, "a") == "newer"
    with opening(root) as later:
        assert script(later, "a") == "newer"


@pytest.mark.parametrize("batch", [False, True])
def test_a_name_that_could_not_be_made_durable_is_taken_back(root, monkeypatch, batch):
    """The rename was done, its sync was refused: who was told of the failure may rely on it."""
    ids = ["a", "b"] if batch else ["a"]
    with opening(root) as first:
        create(first, "a")
    store = opened(root)
    no_checkpoints(store)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO, when=is_directory)
        with pytest.raises(StorageError), store.transaction() as transaction:
            put(transaction, *ids, script="refused")
    assert script(store, "a") == "x"
    with opening(root) as later:
        assert script(later, "a") == "x"
        assert later.get("b") is None


def test_what_was_acknowledged_stands_over_a_batch_that_was_refused(root, monkeypatch):
    """Also after a crash right afterwards."""
    store = opened(root)
    no_checkpoints(store)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO, when=is_directory)
        with pytest.raises(StorageError), store.transaction() as transaction:
            put(transaction, "a", "b", script="refused")
    with store.transaction() as transaction:
        put(transaction, "a", "c", script="acknowledged")
    with opening(root) as later:
        assert (script(later, "a"), script(later, "c")) == ("acknowledged", "acknowledged")


def test_a_checkpoint_that_is_refused_loses_nothing(root, monkeypatch):
    """The journal stands until its files are written."""
    store = opened(root)
    create(store, "a", "b")
    with monkeypatch.context() as patch:
        count = failing(patch, "write", errno.ENOSPC)
        store.close()
        assert count
    assert names(root) == ["txn-000000000001.yaml"]
    with opening(root) as later:
        assert (script(later, "a"), script(later, "b")) == ("x", "x")


def test_a_purge_that_is_refused_leaves_the_tombstone(root, monkeypatch):
    """It is tried again later."""
    with opening(root) as store:
        create(store, "a")
        edits(store).delete("a")
        tombstone = store.record("a")
        with monkeypatch.context() as patch:
            failing(patch, "unlink", errno.EROFS)
            with pytest.raises(StorageError):
                store.purge(tombstone)
        assert store.record("a") == tombstone
        assert store.purge(tombstone)


def test_a_directory_that_cannot_be_made_is_a_storage_error(root):
    """A sentence, not a traceback."""
    (root / "flows").write_text("a file")
    with pytest.raises(StorageError, match="cannot open"):
        opened(root)
