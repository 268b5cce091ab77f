"""The disk refuses: nothing that was acknowledged is lost, what runs goes on, and it heals."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support import Flowd, always_for, eventually, injected, make_document, processes_of

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


@pytest.fixture
def crammed(small: Path) -> Iterator[Flowd]:
    """An operator on that file system; what is outside of it does not fill it."""
    operator = Flowd(small)
    operator.log = small.parent / "flowd.log"
    try:
        yield operator.start()
    finally:
        operator.destroy()
        eventually(lambda: _none(processes_of(operator.data)))


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def _none(pids: list[int]) -> None:
    assert not pids


@needs_mount
def test_a_full_disk_refuses_writes_and_heals(small: Path, crammed: Flowd) -> None:
    """507, the old configuration stands, the flow runs on; with space it works again."""
    crammed.create(make_document("a"))
    crammed.await_status("a", "running")
    pids = crammed.pids("a")
    ballast = small / "ballast"
    fill(ballast)
    before = crammed.client.get("/flows").json()
    answer = crammed.client.post("/flows", json=[make_document("b")])
    assert answer.status_code == 507
    assert "No space left" in answer.json()["detail"]
    assert "free space" in answer.json()["detail"]
    assert crammed.client.get("/flows").json() == before
    assert crammed.pids("a") == pids
    ballast.unlink()
    crammed.create(make_document("b"))
    crammed.await_status("b", "running")
    assert crammed.command("stop", "a") == {"a": "stopped"}


@needs_mount
def test_a_full_disk_still_lets_flows_be_stopped_and_deleted(small: Path, crammed: Flowd) -> None:
    """In the room that was reserved for it, which nothing else gets and which is made anew."""
    reserve = crammed.data / "reserve"
    crammed.create(*(make_document(name) for name in "abc"))
    for name in "abc":
        crammed.await_status(name, "running")
    size = reserve.stat().st_size
    assert reserve.stat().st_blocks * 512 >= size > 32 * 1024
    ballast = small / "ballast"
    fill(ballast)
    assert crammed.command("stop", "a") == {"a": "stopped"}
    assert not reserve.exists()
    assert crammed.client.delete("/flows/b").status_code == 200
    crammed.await_gone("b")
    assert crammed.command("pause", "c") == {"c": "paused"}
    for answer in (
        crammed.client.post("/flows", json=[make_document("d")]),
        crammed.client.put("/flows/c", json=make_document("c", "exec sleep 9")),
        crammed.client.patch("/flows/commands", json={"command": "start", "flow_ids": ["a"]}),
    ):
        assert answer.status_code == 507, answer.text
        assert "free space" in answer.json()["detail"]
    crammed.kill()
    crammed.start()
    crammed.await_status("c", "paused")
    assert [flow["flow_id"] for flow in crammed.client.get("/flows").json()] == ["a", "c"]
    assert crammed.client.post("/flows", json=[make_document("d")]).status_code == 507
    assert crammed.client.delete("/flows/c?type=1").status_code == 200
    crammed.await_gone("c")
    ballast.unlink()
    eventually(lambda: _same(reserve.stat().st_size if reserve.exists() else 0, size))
    crammed.create(make_document("d"))
    assert crammed.command("start", "a") == {"a": "running"}


# --- every other refusal ---------------------------------------------------------------------


@contextlib.contextmanager
def read_only(flowd: Flowd) -> Iterator[None]:
    """Remounted read-only, as ext4 does to itself after an error."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    flows = str(flowd.data / "flows")
    bound = subprocess.run(["mount", "--bind", flows, flows], check=False, capture_output=True)
    if bound.returncode != 0:
        pytest.skip("this kernel lets nobody mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", flows], check=True)
        yield
    finally:
        subprocess.run(["umount", flows], check=True)


@contextlib.contextmanager
def forbidden(flowd: Flowd) -> Iterator[None]:
    """The directory may not be written: by its mode, or for root, whom modes do not stop, its i."""
    flows = flowd.data / "flows"
    if os.geteuid() != 0:
        flows.chmod(0o500)
        yield
        flows.chmod(0o700)
        return
    if subprocess.run(["chattr", "+i", flows], check=False, capture_output=True).returncode != 0:
        pytest.skip("this file system knows no immutable directories, and root may write any other")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", flows], check=True)


@contextlib.contextmanager
def no_descriptors(flowd: Flowd) -> Iterator[None]:
    """The lowest free descriptor is one too many."""
    before = resource.prlimit(flowd.pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{flowd.pid}/fd")}
    free = next(number for number in range(1000) if number not in used)
    resource.prlimit(flowd.pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(flowd.pid, resource.RLIMIT_NOFILE, before)


def refused(call: str, error: str) -> Callable[[Flowd], AbstractContextManager[None]]:
    """The kernel's answer to a system call is an error, in every thread of the operator."""
    return lambda flowd: injected(flowd.pid, call, f"error={error}")


FAULTS = {
    "read-only": (read_only, 503, "Read-only file system", "writable again"),
    "forbidden": (forbidden, 503, "ermi", "let the operator's user write there"),
    "descriptors": (no_descriptors, 503, "Too many open files", "LimitNOFILE"),
    "sync fails": (refused("fsync", "EIO"), 503, "Input/output error", "that disk"),
    "quota": (refused("fsync", "EDQUOT"), 507, "quota", "raise the quota"),
    "no space when synced": (refused("fsync", "ENOSPC"), 507, "No space left", "free space"),
    "rename fails": (refused("rename", "EIO"), 503, "Input/output error", "that disk"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_refusal_changes_nothing_and_heals(flowd: Flowd, name: str) -> None:
    """Writes are refused with what to do, what runs goes on, and the next one needs no restart."""
    fault, status, why, advice = FAULTS[name]
    flowd.create(make_document("a"))
    flowd.await_status("a", "running")
    pids, before = flowd.pids("a"), flowd.client.get("/flows").json()
    with fault(flowd):
        stop = {"command": "stop", "flow_ids": ["a"]}
        for answer in (
            flowd.client.post("/flows", json=[make_document("b")]),
            flowd.client.put("/flows/a", json=make_document("a", "exec sleep 9")),
            flowd.client.patch("/flows/commands", json=stop),
            flowd.client.delete("/flows/a"),
            flowd.client.post("/flows", json=[make_document("b"), make_document("c")]),
        ):
            assert answer.status_code == status, answer.text
            detail = answer.json()["detail"]
            assert why in detail
            assert advice in detail
        assert flowd.client.get("/flows").json() == before
        always_for(0.3, lambda: _same(flowd.pids("a"), pids))
    flowd.create(make_document("b"))
    flowd.await_status("b", "running")
    assert flowd.pids("a") == pids
    flowd.kill()
    flowd.start()
    assert [flow["flow_id"] for flow in flowd.client.get("/flows").json()] == ["a", "b"]
    flowd.await_status("a", "running")
    assert flowd.pids("a") == pids


def test_a_prune_that_cannot_be_written_is_refused(flowd: Flowd) -> None:
    """It stays held, and can be confirmed again."""
    manifest = flowd.manifests / "a.yaml"
    manifest.write_text("flow_id: a\nspec: {steps: [{name: s, script: exec sleep 1000}]}\n")
    flowd.await_status("a", "running")
    manifest.unlink()
    eventually(lambda: _same(flowd.client.get("/manifests").json()["vanished"], ["a"]))
    with forbidden(flowd):
        assert flowd.client.post("/manifests/prune").status_code == 503
        assert flowd.client.get("/flows/a").status_code == 200
    assert flowd.client.post("/manifests/prune").json()["flows"] == ["a"]
    flowd.await_gone("a")


def _same(found: object, wanted: object) -> None:
    assert found == wanted
