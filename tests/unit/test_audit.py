"""The audit log: no acknowledged write without its line, and no line lost or doubled."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flow_operator.errors import StorageError, StorageFullError
from flow_operator.settings import Layout
from flow_operator.store import AuditLimits, Desired, Origin, Store
from flow_operator.store.desired import created, tombstone
from support import make_manifest
from unit.store_support import create, edits, failing, no_checkpoints, opened, opening


def _entries(root: Path) -> list[dict[str, Any]]:
    """The whole lines of all files, oldest first."""
    older = sorted(root.glob("audit.log.*"), key=lambda path: -int(path.suffix[1:]))
    files = [*older, root / "audit.log"]
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def _versions(root: Path) -> list[int]:
    return [entry["version"] for entry in _entries(root)]


# --- what is told ----------------------------------------------------------------------------


def test_each_write_is_told_with_who_did_what(root):
    """One line for each flow, there before the writer goes on."""
    with opening(root) as store:
        desired = edits(store)
        desired.create([make_manifest("a", "one"), make_manifest("b", "one")], by="api:192.0.2.1")
        desired.replace(make_manifest("a", "two"), by="api:uid=7")
        desired.command("stop", ["a"], hard=True, by="api:x")
        desired.rollback("a", 1, by="api:x")
        desired.delete("a", by="api:x")
        found = _entries(root)
    assert [(e["by"], e["action"], e["flow_id"], e["generation"], e["version"]) for e in found] == [
        ("api:192.0.2.1", "create", "a", 1, 1),
        ("api:192.0.2.1", "create", "b", 1, 2),
        ("api:uid=7", "replace", "a", 2, 3),
        ("api:x", "stop", "a", 3, 4),
        ("api:x", "rollback", "a", 4, 5),
        ("api:x", "delete", "a", 5, 6),
    ]
    assert [entry.get("hard", False) for entry in found] == [False] * 3 + [True] + [False] * 2
    assert {entry["outcome"] for entry in found} == {"done"}
    assert all(entry["at"].endswith("Z") for entry in found)


def test_files_are_told_by_their_names(root):
    """What they create and what they prune."""
    with opening(root) as store:
        with store.transaction() as transaction:
            transaction.put(
                created(transaction, make_manifest("a"), Origin("orders.yaml", "/", {}))
            )
        with store.transaction() as transaction:
            act = transaction.act("prune", "orders.yaml")
            transaction.put(tombstone(transaction, transaction.get("a"), act=act))
        assert [(e["by"], e["action"]) for e in _entries(root)] == [
            ("file:orders.yaml", "create"),
            ("file:orders.yaml", "prune"),
        ]


def test_what_writes_nothing_is_not_told(root):
    """Neither what is refused, nor a command that finds everything done, nor a dry run."""
    with opening(root) as store:
        create(store, "a", state="stopped")
        edits(store).command("stop", ["a"])
        edits(store).replace(make_manifest("a", "two"), dry_run=True)
        edits(store).command("start", ["a"], dry_run=True)
        edits(store).delete("a", dry_run=True)
        with pytest.raises(Exception, match="exists"):
            create(store, "a")
        assert len(_entries(root)) == 1


# --- kills and power cuts --------------------------------------------------------------------


def test_a_line_that_a_kill_has_kept_from_the_file_is_added(root, monkeypatch):
    """The journal stood, so the write does; it is told once."""
    store = opened(root)
    no_checkpoints(store)
    create(store, "a")
    store._audit.append = lambda _lines: None
    create(store, "b", "c")
    assert _versions(root) == [1]
    with opening(root) as later:
        assert _versions(root) == [1, 2, 3]
        create(later, "d")
    assert _versions(root) == [1, 2, 3, 4]


@pytest.mark.parametrize("torn", [b'{"at":"2024', b'{"version":99}', b"\x00" * 20, b"\xff"])
def test_a_torn_last_line_is_neither_told_nor_appended_to(root, torn):
    """A line without its end was never acknowledged, or is in a journal."""
    with opening(root) as store:
        create(store, "a")
    with (root / "audit.log").open("ab") as file:
        file.write(torn)
    with opening(root) as store:
        create(store, "b")
        assert _versions(root) == [1, 2]
    assert (root / "audit.log").read_bytes().endswith(b"\n")


def test_lines_that_were_not_synced_are_added_again(root):
    """A power cut may leave any part of them; the journals go only after they are synced."""
    data = root / "data"
    with opening(data) as store:
        create(store, "a")
    synced = (data / "audit.log").stat().st_size
    store = opened(data)
    no_checkpoints(store)
    create(store, "b", "c")
    create(store, "d")
    for kept in range(synced, (data / "audit.log").stat().st_size):
        left = root / str(kept)
        shutil.copytree(data, left)
        os.truncate(left / "audit.log", kept)
        with opening(left):
            assert _versions(left) == [1, 2, 3, 4], f"{kept - synced} bytes of them were left"


def test_a_journal_stays_until_its_lines_are_synced(root, monkeypatch):
    """And as the kernel forgets what it could not write, they are written again."""
    store = opened(root)
    create(store, "a")
    store._behind.run()
    create(store, "b")
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO, when=_is_audit)
        with pytest.raises(StorageError, match=r"audit\.log"):
            store._behind.run()
    assert list((root / "flows").glob("txn-*"))
    line = (root / "audit.log").read_bytes().splitlines()[1]
    with (root / "audit.log").open("r+b") as file:  # As if the page had been dropped.
        file.seek(-len(line) - 1, os.SEEK_END)
        file.write(b"\x00" * (len(line) + 1))
    store.close()
    assert not list((root / "flows").glob("txn-*"))
    assert _versions(root) == [1, 2]


def _is_audit(descriptor: int, *_: object) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").endswith("audit.log")


# --- it cannot be written --------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
def test_without_the_audit_log_nothing_is_written(root, restarted):
    """Refused, and nothing was changed; it heals by itself, and loses no line."""
    store = opened(root)
    create(store, "a")
    store._behind.run()
    (root / "audit.log").rename(root / "elsewhere")
    (root / "audit.log").mkdir()
    if restarted:
        store.close()
        store = opened(root)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"audit\.log"):
            create(store, "b")
    assert store.get("b") is None
    (root / "audit.log").rmdir()
    (root / "elsewhere").rename(root / "audit.log")
    create(store, "b")
    store.close()
    assert [entry["flow_id"] for entry in _entries(root)] == ["a", "b"]


def test_space_is_had_before_anything_is_written(root, monkeypatch):
    """A write whose line would not fit is refused as on any full disk."""
    with opening(root) as store:
        create(store, "a")
        monkeypatch.setattr("flow_operator.store.audit.allocate", _full)
        with pytest.raises(StorageFullError, match=r"audit\.log"):
            create(store, "b")
        assert not list((root / "flows").glob("*b*"))
        assert _versions(root) == [1]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_line_that_fails_after_all_comes_before_the_next_write(root, monkeypatch):
    """The journal holds it meanwhile; nothing else is acknowledged until it stands."""
    with opening(root) as store:
        no_checkpoints(store)
        create(store, "a")
        with monkeypatch.context() as patch:
            failing(patch, "write", errno.EIO, when=_is_audit)
            create(store, "b")
            with pytest.raises(StorageError, match=r"audit\.log"):
                create(store, "c")
        create(store, "d")
        assert [entry["flow_id"] for entry in _entries(root)] == ["a", "b", "d"]


def test_what_somebody_else_does_to_the_file_loses_no_line(root):
    """Renamed away or emptied: what may not be durable there is written again."""
    with opening(root) as store:
        create(store, "a")
        (root / "audit.log").rename(root / "saved")
        create(store, "b")
        assert [entry["flow_id"] for entry in _entries(root)] == ["a", "b"]
        store._behind.run()
        os.truncate(root / "audit.log", 0)
        create(store, "c")
        assert [entry["flow_id"] for entry in _entries(root)] == ["c"]


# --- rotation --------------------------------------------------------------------------------


def _small(root: Path, files: int = 1000) -> Store:
    store = Store(Layout(root), audit=AuditLimits(size=2000, files=files))
    store.recover()
    return store


def test_no_line_is_lost_or_doubled_by_rotation(root):
    """With writers at once, kills in between, and files behind it all the while."""
    told = 0
    for _ in range(3):
        store = _small(root)
        desired = edits(store)
        threads = [threading.Thread(target=_write, args=(desired, store, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = store.version
        store._behind._closing = True  # As a kill: nothing more is written out.
        store._behind.wake()
        store._behind._thread.join()
    _small(root).close()
    assert Counter(_versions(root)) == Counter(range(1, told + 1))
    assert len(list(root.glob("audit.log.*"))) > 10
    assert all(path.stat().st_size <= 2000 for path in root.glob("audit.log*"))


def _write(desired: Desired, store: Store, number: int) -> None:
    name = f"flow-{number}"
    if store.get(name) is None:
        desired.create([make_manifest(name)])
    for _ in range(20):
        desired.command("restart", [name])


@pytest.mark.parametrize("files", [1, 2, 4])
def test_the_number_of_files_is_bounded(root, files):
    """The oldest goes; the newest lines are there."""
    store = _small(root, files)
    create(store, "a")
    for _ in range(80):
        edits(store).command("restart", ["a"])
    store.close()
    assert len(list(root.glob("audit.log*"))) == files
    versions = _versions(root)
    assert versions == list(range(versions[0], 82))


def test_a_rotation_that_is_refused_refuses_the_write(root, monkeypatch):
    """And loses nothing; the next one rotates."""
    store = _small(root)
    create(store, "a")
    refused = 0
    with monkeypatch.context() as patch:
        failing(patch, "rename", errno.EIO, when=lambda old, _new: str(old).endswith("audit.log"))
        while not refused:
            try:
                edits(store).command("restart", ["a"])
            except StorageError:
                refused = store.version + 1
    edits(store).command("restart", ["a"])
    store.close()
    assert _versions(root) == list(range(1, refused + 1))
    assert (root / "audit.log.1").exists()
