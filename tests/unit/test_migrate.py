"""A directory of an older format: made over in a copy, old or new whenever it is killed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flow_operator.errors import FlowError, StorageFullError
from flow_operator.settings import Layout
from flow_operator.store import Store
from flow_operator.store.migrate import Migration, Migrator
from unit.store_support import contents, create, failing, no_checkpoints, opened, opening, script


def _renames(old: str, new: str) -> Migration:
    """Makes each flow's script another one, in files and journals."""

    def migrate(flows: Path) -> None:
        for path in sorted(flows.iterdir()):
            path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))

    return migrate


TABLE = {1: _renames("script: x", "script: two"), 2: _renames("script: two", "script: three")}


def _store(root: Path, current: int, table: dict[int, Migration] | None = None) -> Store:
    layout = Layout(root)
    store = Store(layout, migrator=Migrator(layout, current, TABLE if table is None else table))
    store.recover()
    return store


def _of_format_1(root: Path) -> dict[str, bytes]:
    with opening(root) as store:
        create(store, "a", "b")
    return contents(root)


def _kept(root: Path, name: str = "flows.format-1") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / name).iterdir()}


@pytest.mark.parametrize(("current", "wanted"), [(2, "two"), (3, "three")])
def test_an_older_directory_is_migrated_step_by_step(root, current, wanted):
    """The old one is kept under the name of its format; then it is as if it had always been so."""
    before = _of_format_1(root)
    for _ in range(2):
        store = _store(root, current)
        assert (script(store, "a"), script(store, "b")) == (wanted, wanted)
        store.close()
        assert _kept(root) == before
    assert (root / "format").read_text() == f"{current}\n"
    assert not list(root.glob("flows.migrating*"))


def test_an_older_operator_refuses_what_was_migrated(root):
    """With what to do; nothing is touched."""
    _of_format_1(root)
    _store(root, 2).close()
    after = contents(root)
    with pytest.raises(FlowError, match=r"format 2, this one knows 1.*start that version"):
        opened(root)
    assert contents(root) == after


@pytest.mark.parametrize("marker", ["", "two", "-1", "1.5", "99", "\x00"])
def test_a_format_that_nobody_knows_is_refused(root, marker):
    """It may be newer than this operator, or damaged."""
    _of_format_1(root)
    (root / "format").write_text(marker)
    with pytest.raises(FlowError, match="was written by another version"):
        _store(root, 2)


def test_a_step_that_is_missing_is_told_before_anything_is_done(root):
    """Start a version in between."""
    before = _of_format_1(root)
    with pytest.raises(FlowError, match=r"cannot make format 3 of 2.*in between"):
        _store(root, 3, {1: TABLE[1]})
    assert contents(root) == before
    assert (root / "format").read_text() == "1\n"


def test_journals_are_migrated_with_their_files(root):
    """What a killed operator of the old format has left is not lost."""
    store = opened(root)
    no_checkpoints(store)
    create(store, "a")

    def migrate(flows: Path) -> None:
        [journal] = flows.glob("txn-*")
        assert b'"script":"x"' in journal.read_bytes()

    store = _store(root, 2, {1: migrate})
    assert script(store, "a") == "x"
    store.close()


def test_a_migration_that_fails_leaves_the_old_directory(root, monkeypatch):
    """No space for the copy, or a mistake within it: the old version can go on."""
    before = _of_format_1(root)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.ENOSPC)
        with pytest.raises(StorageFullError):
            _store(root, 2)
    with pytest.raises(ZeroDivisionError):
        _store(root, 2, {1: lambda _flows: 1 // 0})
    assert contents(root) == before
    assert sorted(path.name for path in root.iterdir() if path.name.startswith("flows")) == [
        "flows"
    ]
    opened(root).close()


def test_the_copy_is_durable_before_the_commit(root, monkeypatch):
    """Files, their directory, its name; then the marker, then the swap."""
    _of_format_1(root)
    order: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_fsync(descriptor)

    def rename(old: Path, new: Path, **options: Any) -> None:
        order.append(f"{Path(old).name} -> {Path(new).name}")
        real_rename(old, new, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "rename", rename)
        store = _store(root, 2)
    store.close()
    copy = "flows.migrating-from-1"
    assert sorted(order[:2]) == ["a.yaml", "b.yaml"]
    assert order[2:9] == [
        *(copy, root.name, ".tmp-format", ".tmp-format -> format", root.name),
        *("flows -> flows.format-1", f"{copy} -> flows"),
    ]


def test_an_earlier_backup_is_not_overwritten(root):
    """Of a directory that was put back and is migrated once more."""
    before = _of_format_1(root)
    (root / "flows.format-1").mkdir()
    (root / "flows.format-1" / "mine").write_text("kept")
    _store(root, 2).close()
    assert _kept(root) == {"mine": b"kept"}
    assert _kept(root, "flows.format-1.2") == before


def test_a_commit_is_completed_before_the_next_migration(root):
    """Killed between the two, and followed by an operator of a yet later format."""
    before = _of_format_1(root)
    (root / "flows").rename(root / "flows.format-1")
    copy = root / "flows.migrating-from-1"
    copy.mkdir()
    for name, data in before.items():
        (copy / name).write_bytes(data.replace(b"script: x", b"script: two"))
    (root / "format").write_text("2\n")
    store = _store(root, 3)
    assert script(store, "a") == "three"
    store.close()
    assert _kept(root) == before
    assert b"script: two" in _kept(root, "flows.format-2")["a.yaml"]


CALLS = ("rename", "fsync", "mkdir", "open", "unlink", "write")


def _killed_at(root: Path, number: int) -> bool:
    """Migrate in a forked process that is killed at that call; returns whether it came to it."""
    pid = os.fork()
    if pid == 0:
        left = [number]
        for name in CALLS:
            setattr(os, name, _counting(getattr(os, name), left))
        _store(root, 3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def _counting(real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*arguments, **options)

    return call


def test_killed_anywhere_it_is_old_or_new(root):
    """Killed before each call in turn, and once more as it is completed: the next start is right.

    An operator of the old format meets the old directory whole, or refuses.
    """
    number, refused = 0, 0
    while True:
        here = root / str(number)
        before = _of_format_1(here)
        if not _killed_at(here, number):
            break
        if (here / "format").read_text() == "1\n":
            opened(here).close()
            assert contents(here) == before
        else:
            refused += 1
            with pytest.raises(FlowError, match="format 3"):
                opened(here)
        _killed_at(here, 1)
        _killed_at(here, 0)
        store = _store(here, 3)
        assert (script(store, "a"), script(store, "b")) == ("three", "three")
        store.close()
        assert _kept(here) == before
        assert not list(here.glob("flows.migrating*"))
        number += 1
    assert refused >= 3, "the commit and the swap were not tried"
    assert number >= 15
