"""What an operator finds at its start that it cannot use, or not all of it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Flowd, alive, eventually, make_document

NAMES = ("a", "b", "c")


@pytest.fixture
def left(flowd: Flowd) -> Flowd:
    """An operator that was killed, and left three flows running whose files are written."""
    flowd.create(*(make_document(name) for name in NAMES))
    for name in NAMES:
        flowd.await_status(name, "running")
    eventually(lambda: _assert(not list((flowd.data / "flows").glob("txn-*"))))
    return flowd


def refused(flowd: Flowd) -> str:
    """Start an operator that must end at once; returns what it says, which is no traceback."""
    flowd.log.write_text("")
    with pytest.raises(AssertionError, match="flowd did not start"):
        flowd.start()
    assert flowd.wait() == 1
    said = flowd.log.read_text()
    assert "Traceback" not in said
    return said


def pids_of(flowd: Flowd) -> list[int]:
    return [pid for name in NAMES for pid in flowd.pids(name)]


def take_back(flowd: Flowd, pids: list[int]) -> None:
    """Nothing has happened to what runs; the next operator has it."""
    assert all(alive(pid) for pid in pids)
    flowd.start()
    for name in NAMES:
        flowd.await_status(name, "running")
    assert pids_of(flowd) == pids


def test_a_second_operator_is_told_who_when_and_where(left: Flowd, root: Path) -> None:
    """It ends; the first one does not notice."""
    (root / "second").mkdir()
    second = Flowd(root / "second")
    second.data = left.data
    said = refused(second)
    second.client.close()
    assert re.search(rf"pid {left.pid} on {socket.gethostname()} since 20\d\d-", said), said
    assert "--data" in said
    assert left.client.get("/readyz").status_code == 200


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """As a file system is that has found an error in itself."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    bound = subprocess.run(["mount", "--bind", path, path], check=False, capture_output=True)
    if bound.returncode != 0:
        pytest.skip("this kernel lets nobody mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_read_only_directory_is_refused_and_what_runs_goes_on(left: Flowd) -> None:
    """With what to do; the next operator takes everything back."""
    pids = pids_of(left)
    left.kill()
    with read_only(left.data):
        said = refused(left)
    assert f"cannot lock {left.data}: Read-only file system" in said
    assert "make that file system writable again" in said
    take_back(left, pids)


def test_the_directory_of_a_later_operator_is_refused_untouched(left: Flowd) -> None:
    """It says which format it found; what runs goes on."""
    pids = pids_of(left)
    left.kill()
    marker = left.data / "format"
    own = marker.read_text()
    marker.write_text("99\n")
    before = {path: path.read_bytes() for path in (left.data / "flows").iterdir()}
    said = refused(left)
    assert "format 99" in said
    assert {path: path.read_bytes() for path in (left.data / "flows").iterdir()} == before
    marker.write_text(own)
    take_back(left, pids)


def test_a_flow_that_cannot_be_read_says_so_and_the_rest_runs(left: Flowd) -> None:
    """Its file is kept as it is, what runs of it goes on, and creating it again heals it."""
    pids = pids_of(left)
    left.kill()
    (left.data / "flows" / "b.yaml").write_bytes(b"kind: Fl\x00\xff")
    left.start()
    assert left.await_status("b", "unknown")["message"].startswith("StoreError: ")
    assert (left.data / "flows" / "b.corrupt").read_bytes() == b"kind: Fl\x00\xff"
    for name in ("a", "c"):
        left.await_status(name, "running")
    for _ in range(2):
        left.kill()
        left.start()
        left.await_status("b", "unknown")
    events = left.client.get("/flows/b/events").json()["events"]
    told = [e["message"] for e in events if e["reason"] == "StoreError" and e["count"] == 1]
    assert len(told) == 2, events  # When it was found, and that it still lies there.
    assert left.pids("a") + left.pids("c") == [pids[0], pids[2]]
    assert alive(pids[1])
    assert left.command("pause", "a") == {"a": "paused"}
    left.create(make_document("b"))
    left.await_status("b", "running")
    assert len(left.pids("b")) == 1


def _assert(condition: bool) -> None:
    assert condition
