"""The folder or much of it goes away, for good or for a while: nothing is stopped by accident."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Flowd, always_for, eventually, memory_directory, processes_of

UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""root, who may not read what its mode forbids; for anybody else nothing changes."""

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def manifest(name: str, script: str = "exec sleep 1000", description: str = "") -> str:
    return f"""\
flow_id: {name}
spec:
  description: "{description}"
  steps:
  - name: main
    script: {script}
"""


def drop(folder: Path, name: str, text: str | None = None) -> Path:
    temporary = folder / f".{name}"
    temporary.write_text(manifest(name) if text is None else text)
    return temporary.rename(folder / f"{name}.yaml")


def await_running(flowd: Flowd, *names: str, within: float = 20) -> dict[str, list[int]]:
    """The pids of flows, once they run."""

    def running() -> dict[str, list[int]]:
        statuses = flowd.statuses()
        assert {statuses[name]["status"] for name in names} == {"running"}
        return {name: [step["pid"] for step in statuses[name]["steps"]] for name in names}

    return eventually(running, within)


def folder(flowd: Flowd) -> dict[str, Any]:
    return flowd.client.get("/manifests").json()


def await_held(flowd: Flowd, why: str, *names: str, within: float = 20) -> None:
    def held() -> None:
        told = folder(flowd)
        assert why in (told["held"] or ""), told
        assert told["vanished"] == sorted(names)

    eventually(held, within)


def await_free(flowd: Flowd, within: float = 20) -> None:
    def free() -> None:
        told = folder(flowd)
        assert (told["held"], told["vanished"]) == (None, [])

    eventually(free, within)


def flowctl(flowd: Flowd, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_operator.flowctl.main"]
    url = str(flowd.client.base_url)
    return subprocess.run(
        [*command, "--url", url, *arguments], capture_output=True, text=True, check=False
    )


def works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0


def test_what_is_held_outlives_the_operator_and_is_confirmed_by_flowctl(flowd: Flowd) -> None:
    """Through a crash, an orderly end, and new manifests that make the loss look small."""
    names = [f"f{number}" for number in range(5)]
    text = "---\n".join(map(manifest, names))
    path = drop(flowd.manifests, "five", text)
    drop(flowd.manifests, "company")
    pids = await_running(flowd, *names, "company")
    path.unlink()
    await_held(flowd, "5 of 6 flows have vanished at once", *names)
    for number in range(20):
        drop(flowd.manifests, f"new{number}")
    await_running(flowd, "new19")
    flowd.kill()
    flowd.start()
    await_held(flowd, "5 of 6 flows", *names)
    assert await_running(flowd, *names, "company") == pids
    assert "has gone" in flowd.status("f0")["message"]
    table = flowctl(flowd, "manifests")
    assert "These flows would go: f0, f1, f2, f3, f4" in table.stderr
    assert "Confirm it with: flowctl prune" in table.stderr
    drop(flowd.manifests, "back", manifest("f0"))
    await_held(flowd, "5 of 6 flows", *names[1:])
    assert flowd.end() == 0
    flowd.start()
    await_held(flowd, "5 of 6 flows", *names[1:])
    done = flowctl(flowd, "prune")
    assert done.stdout.split() == [w for n in names[1:] for w in (f"flow/{n}", "pruned")]
    for name in names[1:]:
        flowd.await_gone(name)
    await_free(flowd)
    await_running(flowd, "f0")
    assert "Nothing to prune" in flowctl(flowd, "prune").stderr


def test_prune_always_lets_an_emptied_folder_go(make_flowd: Callable[..., Flowd]) -> None:
    """Whoever says so means it; but a folder that is not there is not empty."""
    flowd = make_flowd("--prune", "always", "--watch", "poll").start()
    names = [f"f{number}" for number in range(5)]
    for name in names:
        drop(flowd.manifests, name)
    pids = await_running(flowd, *names)
    away = flowd.manifests.rename(flowd.manifests.with_name("away"))
    eventually(lambda: _contains(folder(flowd)["held"], "No such file"))
    always_for(1.5, lambda: _equal(await_running(flowd, *names), pids))
    away.rename(flowd.manifests)
    await_free(flowd)
    for name in names:
        (flowd.manifests / f"{name}.yaml").unlink()
    for name in names:
        flowd.await_gone(name)
    assert processes_of(flowd.data) == []


def test_a_removal_file_by_file_is_held_as_one(flowd: Flowd) -> None:
    """A slow rm -rf: each file on its own would be no accident."""
    names = [f"f{number}" for number in range(12)]
    for name in names:
        drop(flowd.manifests, name)
    pids = await_running(flowd, *names)
    for name in names[:8]:
        (flowd.manifests / f"{name}.yaml").unlink()
        always_for(0.15, lambda: None)
    await_held(flowd, "8 of 12 flows have vanished at once", *names[:8])
    assert await_running(flowd, *names) == pids


@pytest.mark.parametrize("mode", ["poll", pytest.param("auto", marks=pytest.mark.soak)])
def test_a_file_system_that_comes_and_goes_holds(
    make_flowd: Callable[..., Flowd], mode: str
) -> None:
    """A real tmpfs is mounted over the folder, and unmounted; and the other way round."""
    if not works(*OWN_MOUNTS):
        pytest.skip("this machine lets nobody make mounts of their own")
    flowd = make_flowd("--watch", mode, within=OWN_MOUNTS).start()

    def inside(*command: str) -> None:
        into = ("nsenter", "--preserve-credentials", "-U", "-m", "-t", str(flowd.pid))
        subprocess.run([*into, *command], check=True, capture_output=True)

    drop(flowd.manifests, "below")
    pids = await_running(flowd, "below")
    inside("mount", "-t", "tmpfs", "-o", "mode=755", "none", str(flowd.manifests))
    await_held(flowd, "the folder is empty", "below", within=40)
    with memory_directory() as ready:
        drop(ready, "above", manifest("above") + "    workingDir: /\n")  # Else it keeps it busy.
        inside("cp", str(ready / "above.yaml"), str(flowd.manifests))
        pids |= await_running(flowd, "above", within=40)
    await_held(flowd, "the folder is empty", "below")
    inside("umount", str(flowd.manifests))
    await_held(flowd, "another file system", "above", within=40)
    assert await_running(flowd, "below", "above") == pids
    flowd.client.post("/manifests/prune")
    flowd.await_gone("above")
    assert await_running(flowd, "below") == {"below": pids["below"]}


def test_what_may_not_be_read_is_not_gone(make_flowd: Callable[..., Flowd]) -> None:
    """A file, a sub-folder, and all of it; each comes back by its mode alone."""
    if os.geteuid() == 0 and not works(*UNPRIVILEGED):
        pytest.skip("root reads everything here")
    flowd = make_flowd(within=UNPRIVILEGED if os.geteuid() == 0 else ()).start()
    sub = flowd.manifests / "sub"
    sub.mkdir()
    paths = [drop(flowd.manifests, "a"), drop(sub, "b"), drop(flowd.manifests, "c")]
    pids = await_running(flowd, "a", "b", "c")
    paths[0].chmod(0)
    sub.chmod(0)

    def told() -> None:
        errors = {entry["file"]: entry["error"] for entry in folder(flowd)["files"]}
        for name in ("a.yaml", "sub/"):
            said = f"{name}: cannot read it: Permission denied; have the operator's user read it"
            assert errors[name] == said

    eventually(told)
    assert "Permission denied" in flowd.status("a")["message"]
    drop(flowd.manifests, "d")
    pids |= await_running(flowd, "d")
    flowd.manifests.chmod(0)
    try:
        eventually(lambda: _contains(folder(flowd)["held"], "Permission denied"))
        refused = flowd.client.post("/manifests/prune")
        if folder(flowd)["vanished"]:
            assert refused.status_code == 409
    finally:
        for path in (flowd.manifests, sub, paths[0]):
            path.chmod(0o755)
    await_free(flowd)
    eventually(lambda: _equal([e["error"] for e in folder(flowd)["files"]], [None] * 4))
    assert await_running(flowd, "a", "b", "c", "d") == pids


def test_config_map_swaps_in_a_loop_delete_and_restart_nothing(flowd: Flowd) -> None:
    """As the kubelet does them, while the folder is read again and again."""
    root, names = flowd.manifests, ("a", "b", "c")

    def generation(number: int) -> None:
        directory = root / f"..gen{number}"
        directory.mkdir()
        for name in names:
            text = manifest(name, description=f"g{number}")
            (directory / f"{name}.yaml").write_text(text)
        (root / "..data_tmp").symlink_to(directory.name)
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / f"..gen{number - 1}", ignore_errors=True)

    generation(0)
    for name in names:
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    pids = await_running(flowd, *names)
    done = threading.Event()
    last = [0]

    def swap() -> None:
        while not done.wait(0.03):
            last[0] += 1
            generation(last[0])

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:

        def undisturbed() -> None:
            told = folder(flowd)
            assert (told["held"], told["vanished"]) == (None, [])
            assert set(flowd.statuses()) == set(names)

        always_for(4, undisturbed)
    finally:
        done.set()
        swapping.join()

    def arrived() -> None:
        said = {flow["spec"]["description"] for flow in flowd.client.get("/flows").json()}
        assert said == {f"g{last[0]}"}

    eventually(arrived)
    assert await_running(flowd, *names) == pids
    assert all(flowd.status(name)["generation"] > 1 for name in names)


def test_whatever_is_named_like_a_manifest_hurts_only_itself(flowd: Flowd) -> None:
    """All at once; the operator stays idle, and others are applied and removed as ever."""
    root = flowd.manifests
    os.mkfifo(root / "pipe.yaml")
    (root / "nothing.yaml").symlink_to("nowhere")
    (root / "itself.yaml").symlink_to("itself.yaml")
    (root / "outside.yaml").symlink_to("/dev/zero")
    (root / "folder.yaml").mkdir()
    (root / "large.yaml").touch()
    os.truncate(root / "large.yaml", 9 * 2**20)
    (root / "bytes.yaml").write_bytes(b"flow_id: bytes\xff\n")
    (root / "nul.yaml").write_bytes(b"flow_id: nul\0\n")
    (root / "tab.yaml").write_text("flow_id: tab\nspec:\n\tsteps: []\n")
    (root / "twice.yaml").write_text("flow_id: twice\nflow_id: twice\n")
    with open(os.fsencode(root) + b"/\xff.yaml", "w") as nameless:
        nameless.write(manifest("nameless"))
    inside, good, other = drop(root / "folder.yaml", "inside"), drop(root, "good"), drop(root, "o")
    await_running(flowd, "inside", "good", "o")
    bad = {
        "pipe",
        "nothing",
        "itself",
        "outside",
        "large",
        "bytes",
        "nul",
        "tab",
        "twice",
        r"\udcff",
    }

    def told() -> None:
        wrong = {entry["file"] for entry in folder(flowd)["files"] if entry["error"]}
        assert wrong == {f"{name}.yaml" for name in bad} | {r"\udcff.yaml"}

    eventually(told)
    before = flowd.log.read_text()
    begun = _processor_seconds(flowd.pid)
    always_for(2, lambda: None)
    assert _processor_seconds(flowd.pid) - begun < 0.3
    good.unlink()
    flowd.await_gone("good")
    inside.unlink()
    flowd.await_gone("inside")
    assert other.exists()
    assert set(flowd.statuses()) == {"o"}
    assert flowd.log.read_text().removeprefix(before).count("manifest not applied") == 0


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _equal(first: object, second: object) -> None:
    assert first == second


def _contains(text: str | None, part: str) -> None:
    assert part in (text or ""), text
