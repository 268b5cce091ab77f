"""The store: one write, many writes, and what a later operator finds."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flow_operator.errors import FlowError, LockedError, NotFoundError
from flow_operator.manifest import Document, SourceText, load_manifest, parse_yaml
from flow_operator.store import DataLock, Origin, Tombstone, Transaction
from flow_operator.store.desired import created
from support import eventually, make_document, make_manifest
from unit.store_support import (
    contents,
    create,
    edits,
    names,
    no_checkpoints,
    opened,
    opening,
    put,
    script,
)

# --- one write -------------------------------------------------------------------------------


def test_a_write_is_durable_before_it_is_told(root, monkeypatch):
    """Content, then name, then directory; then memory, then the listeners."""
    order: list[str] = []
    with opening(root) as store:
        no_checkpoints(store)
        _recorded(monkeypatch, order)
        store.subscribe(lambda ids: order.append(f"told {sorted(ids)} of {store.version}"))
        create(store, "a")
        assert order == [
            "fsync .tmp-txn-000000000001.yaml",
            "rename .tmp-txn-000000000001.yaml txn-000000000001.yaml",
            "fsync flows",
            "told ['a'] of 1",
        ]


def test_many_writes_become_durable_by_one_rename(root, monkeypatch):
    """The journal's; nothing else is waited for."""
    order: list[str] = []
    with opening(root) as store:
        no_checkpoints(store)
        _recorded(monkeypatch, order)
        create(store, "a", "b", "c")
        assert order == [
            "fsync .tmp-txn-000000000001.yaml",
            "rename .tmp-txn-000000000001.yaml txn-000000000001.yaml",
            "fsync flows",
        ]
    assert names(root) == ["txn-000000000001.yaml"]


def test_a_new_data_directory_is_durable_before_it_is_used(root, monkeypatch):
    """Its own name first, then the mark that it is in use; then what can be made anew."""
    order: list[str] = []
    (root / "data").mkdir()
    _recorded(monkeypatch, order)
    opened(root / "data").close()
    assert order == [
        f"fsync {root.name}",
        "fsync .tmp-format",
        "rename .tmp-format format",
        "fsync data",
        "fsync data",  # The directory of the history.
    ]


def test_a_version_is_durable_before_the_file_that_holds_it_goes(root, monkeypatch):
    """Else a power cut may leave none that is as large; one writing does for many deleted flows."""
    order: list[str] = []
    with opening(root) as store:
        for flow_id in "ab":
            create(store, flow_id)
        for flow_id in "ab":
            edits(store).delete(flow_id)
        store._behind.run()
        _recorded(monkeypatch, order)
        for flow_id in "ab":
            assert store.purge(store.record(flow_id))
    assert order == [
        "fsync .tmp-version",
        "rename .tmp-version version",
        f"fsync {root.name}",
        *("unlink a.yaml", "unlink a.jsonl"),
        *("unlink b.yaml", "unlink b.jsonl"),
    ]


def _recorded(monkeypatch: pytest.MonkeyPatch, order: list[str]) -> None:
    real_fsync, real_rename, real_unlink = os.fsync, os.rename, os.unlink

    def fsync(descriptor: int) -> None:
        order.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_fsync(descriptor)

    def rename(old: Path, new: Path) -> None:
        order.append(f"rename {Path(old).name} {Path(new).name}")
        real_rename(old, new)

    def unlink(path: Path, **options: object) -> None:
        order.append(f"unlink {Path(path).name}")
        real_unlink(path, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "unlink", unlink)


def test_a_stored_file_is_a_manifest(root):
    """But for the operator's bookkeeping; whoever copies the rest has the same flow."""
    with opening(root) as store:
        create(store, "a", description="ä: #1\n")
        store._behind.run()
        text = (root / "flows" / "a.yaml").read_text()
        (document,) = parse_yaml(SourceText(text))
        del document.data["x-operator"]
        assert load_manifest(document).flow == store.get("a").flow


def test_what_was_written_is_read_by_the_next_operator(root):
    """Every field of the record."""
    with opening(root) as store:
        create(store, "a", "b")
        edits(store).command("restart", ["a"])
        edits(store).command("stop", ["b"], hard=True)
        before = dict(store.records())
    with opening(root) as later:
        assert dict(later.records()) == before
        assert later.version == store.version


def test_what_is_raised_within_a_transaction_changes_nothing(root):
    """Neither in memory nor on the disk, and listeners hear nothing."""
    with opening(root) as store:
        create(store, "a")
        told: list[object] = []
        store.subscribe(told.append)
        before = contents(root)
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            _put_and_fail(transaction)
        assert (script(store, "a"), script(store, "b"), store.version) == ("x", None, 1)
        assert (contents(root), told) == (before, [])


def _put_and_fail(transaction: Transaction) -> None:
    put(transaction, "a", "b", script="new")
    raise ZeroDivisionError


def test_a_transaction_sees_its_own_changes_and_nobody_else_does(root):
    """Until it is committed."""
    with opening(root) as store:
        with store.transaction() as transaction:
            put(transaction, "a")
            assert set(transaction.flows()) == {"a"}
            assert store.get("a") is None
        assert [record.flow_id for record in store.flows()] == ["a"]


def test_versions_grow_over_all_flows_and_operators(root):
    """Also when the flow with the largest one is gone for good."""
    with opening(root) as store:
        create(store, "a")
        create(store, "b", "c")
        assert [store.get(name).version for name in "abc"] == [1, 2, 3]
        edits(store).delete("c")
        assert store.purge(store.record("c"))
    with opening(root) as later:
        (record,) = create(later, "d")
        assert record.version > store.version


def test_a_transaction_is_seen_as_a_whole(root, monkeypatch):
    """Whoever lists flows while a transaction becomes known sees all of it, or nothing."""
    with opening(root) as store:
        seen: list[list[str]] = []
        readers: list[threading.Thread] = []
        real = store._keep

        def keep(record):
            real(record)
            reader = threading.Thread(target=lambda: seen.append(sorted(store.records())))
            reader.start()
            reader.join(timeout=0.2)
            readers.append(reader)

        monkeypatch.setattr(store, "_keep", keep)
        create(store, "a", "b", "c")
        for reader in readers:
            reader.join(timeout=20)
        assert seen == [["a", "b", "c"]] * 3


def test_writers_wait_for_each_other(root):
    """From several threads, every write counts."""
    with opening(root) as store:
        create(store, "a")
        desired = edits(store)

        def restart() -> None:
            for _ in range(20):
                desired.command("restart", ["a"])

        threads = [threading.Thread(target=restart) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        record = store.get("a")
        assert (record.token, record.generation, record.version) == (80, 81, 81)


# --- journals --------------------------------------------------------------------------------


def test_journals_are_written_out_and_removed(root):
    """In the background, soon."""
    with opening(root) as store:
        create(store, "a", "b")
        eventually(lambda: _same(names(root), ["a.yaml", "b.yaml"]))


def _same(found: object, wanted: object) -> None:
    assert found == wanted


def test_closing_writes_journals_out(root):
    """A later operator finds the files only."""
    with opening(root) as store:
        create(store, *(f"flow-{n}" for n in range(50)))
    assert len(names(root)) == 50
    assert not any(name.startswith("txn") for name in names(root))


def test_a_journal_goes_after_its_files_are_durable(root, monkeypatch):
    """Contents, then names, then the journal; and that is durable before anybody relies on it."""
    order: list[str] = []
    with opening(root) as store:
        create(store, "a", "b")
        _recorded(monkeypatch, order)
        store._behind.run()
        first = list(order)
        create(store, "c")
        store._behind.run()
    assert first == [
        *("fsync audit.log", f"fsync {root.name}"),
        *("fsync .tmp-a.yaml", "rename .tmp-a.yaml a.yaml"),
        *("fsync .tmp-b.yaml", "rename .tmp-b.yaml b.yaml"),
        *("fsync flows", "unlink txn-000000000001.yaml", "fsync flows"),
    ]
    assert order.count(f"fsync {root.name}") == 1, (
        "the audit log's name is durable once and for all"
    )


def test_a_flow_that_is_written_often_gets_its_file_once(root, monkeypatch):
    """The newest record, whatever journal named it."""
    order: list[str] = []
    with opening(root) as store:
        create(store, "a")
        for _ in range(5):
            edits(store).command("restart", ["a"])
        _recorded(monkeypatch, order)
        store._behind.run()
        assert order.count("rename .tmp-a.yaml a.yaml") == 1
        assert names(root) == ["a.yaml"]
        last = store.get("a")
    with opening(root) as later:
        assert later.get("a") == last


def test_journals_are_replayed_in_their_order(root):
    """The last one wins."""
    store = opened(root)
    no_checkpoints(store)
    for content in ("one", "two", "three"):
        with store.transaction() as transaction:
            put(transaction, "a", "b", script=content)
    assert len(names(root)) == 3
    with opening(root) as later:
        assert (script(later, "a"), script(later, "b")) == ("three", "three")
        assert names(root) == ["a.yaml", "b.yaml"]


def test_a_journal_never_overwrites_what_is_newer(root):
    """A flow that was written alone after the journal keeps that."""
    store = opened(root)
    no_checkpoints(store)
    create(store, "a", "b")
    with store.transaction() as transaction:
        put(transaction, "a", script="newer")
    with opening(root) as later:
        assert (script(later, "a"), script(later, "b")) == ("newer", "x")


def test_journals_after_a_restart_sort_after_those_before_it(root):
    """A sequence number is not used again while its journal is there."""
    store = opened(root)
    no_checkpoints(store)
    create(store, "a", "b")
    later = opened(root)
    no_checkpoints(later)
    with later.transaction() as transaction:
        put(transaction, "a", "b", script="later")
    assert names(root)[-1] > "txn-000000000001.yaml"
    with opening(root) as last:
        assert script(last, "a") == "later"


# --- deleting --------------------------------------------------------------------------------


def test_a_deleted_flow_leaves_a_tombstone_until_it_is_purged(root):
    """So that a later operator still stops what runs of it."""
    with opening(root) as store:
        create(store, "a")
        edits(store).delete("a", hard=True)
        assert store.get("a") is None
    with opening(root) as later:
        tombstone = later.record("a")
        assert isinstance(tombstone, Tombstone)
        assert tombstone.hard
        assert later.purge(tombstone)
    with opening(root) as last:
        assert last.record("a") is None
        assert names(root) == []


def test_a_new_flow_of_the_same_name_is_not_purged(root):
    """The tombstone that is purged must be the one that stands."""
    with opening(root) as store:
        (old,) = create(store, "a")
        edits(store).delete("a")
        tombstone = store.record("a")
        (new,) = create(store, "a")
        assert new.uid != old.uid
        assert not store.purge(tombstone)
        assert store.get("a") == new


def test_a_journal_does_not_bring_back_what_was_purged(root):
    """It is written out first."""
    with opening(root) as store:
        create(store, "a", "b")
        edits(store).delete("a")
        store.purge(store.record("a"))
        assert names(root) == ["b.yaml"]
    with opening(root) as later:
        assert set(later.records()) == {"b"}


# --- the directory ---------------------------------------------------------------------------


def test_a_directory_of_a_later_version_is_refused(root):
    """Its layout is unknown; nothing is touched."""
    opened(root).close()
    (root / "format").write_text("2\n")
    with pytest.raises(FlowError, match=r"format 2.*another --data directory"):
        opened(root)
    assert (root / "format").read_text() == "2\n"


def test_a_second_operator_is_told_who_holds_the_directory(tmp_path):
    """And may have it once the first has let go."""
    first = DataLock(tmp_path / "lock")
    with pytest.raises(LockedError, match=f"pid {os.getpid()} on .* since 20"):
        DataLock(tmp_path / "lock")
    first.release()
    DataLock(tmp_path / "lock").release()


def test_a_missing_flow_is_absent(root):
    """Absence is an answer; deleting it is an error."""
    with opening(root) as store:
        assert store.record("a") is None
        with pytest.raises(NotFoundError):
            edits(store).delete("a")
        with pytest.raises(NotFoundError):
            edits(store).replace(make_manifest("a"))


def test_what_was_accepted_is_read_back_however_deep_the_bookkeeping_makes_it(root):
    """The guard is for what others wrote: a stored document also holds what its file last held."""
    deep: object = "x"
    for _ in range(28):
        deep = [deep]
    document = make_document("a")
    document["metadata"] = {"annotations": {"deep": deep}}
    manifest = load_manifest(Document(document))
    store = opened(root)
    with store.transaction() as transaction:
        origin = Origin("a.yaml", "/", manifest.document)
        transaction.put(created(transaction, manifest, origin))
    store.close()
    again = opened(root)
    assert again.corrupt == {}
    assert again.get("a").origin.applied == manifest.document
    again.close()


def test_a_directory_that_has_lost_its_flows_is_not_begun_anew(root):
    """Starting without them would stop everything that runs."""
    opened(root).close()
    (root / "flows").rename(root / "elsewhere")
    with pytest.raises(FlowError, match="is missing"):
        opened(root)
