"""The reserve: space that is there for stopping and deleting, and for nothing else."""

from __future__ import annotations

import errno
import os

import pytest

from flow_operator.errors import StorageFullError
from flow_operator.store.reserve import SIZE
from support import eventually
from unit.store_support import create, edits, failing, opening, put


def test_the_reserve_is_really_allocated(root):
    """A hole would take up nothing; its size follows the disk's."""
    with opening(root):
        told = (root / "reserve").stat()
        assert told.st_blocks * 512 >= told.st_size
        disk = os.statvfs(root)
        assert told.st_size == min(SIZE, disk.f_blocks * disk.f_frsize // 20 // 4096 * 4096)


def test_what_could_not_be_had_whole_is_left_to_others(root, monkeypatch):
    """Half of a reserve would only take space away from the stop that needs it."""
    with monkeypatch.context() as patch:
        failing(patch, "posix_fallocate", errno.ENOSPC)
        with opening(root) as store:
            assert not (root / "reserve").exists()
            with pytest.raises(StorageFullError):
                create(store, "a")
    with opening(root) as store:
        create(store, "a")
        assert (root / "reserve").exists()


@pytest.mark.parametrize("edit", ["stop", "pause", "delete"])
def test_what_stops_or_deletes_is_tried_again_in_the_room_of_the_reserve(root, monkeypatch, edit):
    """Once; and it says nothing of a first try that was refused."""
    with opening(root) as store:
        create(store, "a")
        desired = edits(store)
        told: list[object] = []
        store.subscribe(told.extend)
        with monkeypatch.context() as patch:
            failing(patch, "write", errno.ENOSPC, when=lambda *_: (root / "reserve").exists())
            if edit == "delete":
                desired.delete("a")
            else:
                desired.command(edit, ["a"])
        assert told == ["a"]
        assert (edit == "delete") == (store.get("a") is None)
        eventually(lambda: _assert((root / "reserve").exists()))


def test_a_start_does_not_use_the_reserve(root, monkeypatch):
    """Nor does anything else that makes more of what fills the disk."""
    with opening(root) as store:
        create(store, "a", state="stopped")
        given = failing(monkeypatch, "unlink", errno.EIO, when=_is_reserve)
        with monkeypatch.context() as patch:
            failing(patch, "write", errno.ENOSPC)
            for command in ("start", "resume", "restart"):
                with pytest.raises(StorageFullError):
                    edits(store).command(command, ["a"])
            with pytest.raises(StorageFullError), store.transaction() as transaction:
                put(transaction, "b")
        assert given == []


def test_without_space_for_a_second_try_the_first_refusal_counts(root, monkeypatch):
    """The reserve was given; what came of it is told."""
    with opening(root) as store:
        create(store, "a")
        with monkeypatch.context() as patch:
            failing(patch, "write", errno.ENOSPC)
            with pytest.raises(StorageFullError, match="nothing was changed"):
                edits(store).command("stop", ["a"])
        assert store.get("a").flow.spec.state == "running"


def _is_reserve(path: object, *_: object) -> bool:
    return str(path).endswith("/reserve")


def _assert(value: bool) -> None:
    assert value
