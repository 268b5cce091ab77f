"""The disk is full: nothing that was acknowledged is lost, and what runs goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Flowd, eventually, make_document, processes_of

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs root and a kernel that lets it mount a small tmpfs",
)


@pytest.fixture
def small(root: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = root / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@needs_mount
def test_a_full_disk_refuses_writes_and_heals(small: Path) -> None:
    """507, the old configuration stands, the flow runs on; with space it works again."""
    flowd = Flowd(small)
    flowd.log = small.parent / "flowd.log"
    try:
        flowd.start()
        flowd.create(make_document("a"))
        flowd.await_status("a", "running")
        pids = flowd.pids("a")
        ballast = small / "ballast"
        fill(ballast)
        before = flowd.client.get("/flows").json()
        answer = flowd.client.post("/flows", json=[make_document("b")])
        assert answer.status_code == 507
        assert "No space left" in answer.json()["detail"]
        body = {"command": "stop", "flow_ids": ["a"]}
        assert flowd.client.patch("/flows/commands", json=body).status_code == 507
        assert flowd.client.get("/flows").json() == before
        assert flowd.pids("a") == pids
        ballast.unlink()
        flowd.create(make_document("b"))
        flowd.await_status("b", "running")
        assert flowd.command("stop", "a") == {"a": "stopped"}
    finally:
        flowd.destroy()
        eventually(lambda: _none(processes_of(flowd.data)))


def _none(pids: list[int]) -> None:
    assert not pids
