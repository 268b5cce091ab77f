"""Hints about the folder fail, are lost or refused: everything is found all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Flowd, always_for, eventually

FRAGILE = Path(__file__).parent / "fragile_flowd.py"
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


def manifest(name: str) -> str:
    return f"flow_id: {name}\nspec: {{state: stopped, steps: [{{name: s, script: x}}]}}\n"


def drop(folder: Path, name: str) -> None:
    temporary = folder / f".{name}"
    temporary.write_text(manifest(name))
    temporary.rename(folder / f"{name}.yaml")


def await_flow(flowd: Flowd, name: str, within: float = 20) -> None:
    def there() -> None:
        assert flowd.client.get(f"/flows/{name}").status_code == 200

    eventually(there, within)


def watch(flowd: Flowd) -> dict[str, Any]:
    return flowd.client.get("/manifests").json()["watch"]


def watches(pid: int, folder: Path) -> bool:
    """Whether a process has an inotify watch on a folder."""
    mark = f" ino:{folder.stat().st_ino:x} "
    return any(mark in info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir())


def processor_seconds(pid: int) -> float:
    """What a process has used up so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limited(name: str, limit: int) -> tuple[str, ...]:
    """Runs a command in a user namespace of its own, with a limit of its own."""
    shell = f'echo {limit} > /proc/sys/user/{name}; exec "$@"'
    within = ("unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh")
    if shutil.which("unshare") is None or subprocess.run([*within, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody make user namespaces")
    return within


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("max_inotify_instances", "inotify instance limit reached"),
        ("max_inotify_watches", "inotify watch limit reached"),
    ],
)
def test_where_the_kernel_refuses_to_watch_the_folder_is_looked_at(
    make_flowd: Callable[..., Flowd], name: str, said: str
) -> None:
    """Every second; that and why stands at /manifests and once in the log."""
    flowd = make_flowd(within=limited(name, 0)).start()
    for number in range(3):
        drop(flowd.manifests, f"f{number}")
        await_flow(flowd, f"f{number}")
    assert watch(flowd) == {"mode": "poll", "every": 1.0, "why": said}
    assert flowd.log.read_text().count("cannot watch; looking every second instead") == 1
    assert "folder:" not in flowd.log.read_text()


@pytest.mark.soak
def test_a_sub_folder_beyond_the_limit_of_watches_is_found_out(
    make_flowd: Callable[..., Flowd],
) -> None:
    """The library says nothing of it: two finds without a hint do."""
    flowd = make_flowd(within=limited("max_inotify_watches", 1)).start()
    assert watch(flowd)["mode"] == "inotify"
    (flowd.manifests / "sub").mkdir()
    for number in range(4):  # Some may be found by the hint of another change.
        drop(flowd.manifests / "sub", f"f{number}")
        await_flow(flowd, f"f{number}")
        always_for(2, lambda: flowd.client.get("/livez").raise_for_status(), every=0.5)
    eventually(lambda: _equal(watch(flowd)["mode"], "poll"))
    assert watch(flowd)["why"] == "changes came without an event"


def test_polling_can_be_asked_for(make_flowd: Callable[..., Flowd]) -> None:
    """--watch=poll: for file systems that tell nothing, and say nothing of that either."""
    flowd = make_flowd("--watch", "poll").start()
    drop(flowd.manifests, "a")
    await_flow(flowd, "a", within=5)
    assert watch(flowd) == {"mode": "poll", "every": 1.0, "why": "as told by --watch"}
    assert not watches(flowd.pid, flowd.manifests)


def test_a_descriptor_that_breaks_is_replaced(make_flowd: Callable[..., Flowd]) -> None:
    """What comes meanwhile is found, and no thread is left that reads it without a pause."""
    flowd = make_flowd(within=(sys.executable, str(FRAGILE))).start()
    assert watches(flowd.pid, flowd.manifests)
    drop(flowd.manifests, "before")
    await_flow(flowd, "before")
    os.kill(flowd.pid, signal.SIGUSR1)
    eventually(lambda: _equal(watches(flowd.pid, flowd.manifests), second=False))
    drop(flowd.manifests, "missed")
    await_flow(flowd, "missed")
    eventually(lambda: _contains(flowd.log.read_text(), "a change came without an event"))

    begun = processor_seconds(flowd.pid)
    always_for(3, lambda: None)
    assert processor_seconds(flowd.pid) - begun < 0.2
    drop(flowd.manifests, "after")
    await_flow(flowd, "after")
    assert watch(flowd)["mode"] == "inotify"
    assert flowd.end() == 0


@pytest.mark.parametrize("count", [None, pytest.param(9000, marks=pytest.mark.soak)])
def test_an_overflowing_queue_loses_no_file(flowd: Flowd, count: int | None) -> None:
    """More events than the kernel keeps, while nobody reads them; sub-folders included."""
    queue = int(QUEUE.read_text())
    count = count or queue // 4 + 200
    if count > 9000:
        pytest.skip(f"the kernel keeps {queue} events here, which is too many to overflow")
    folders = [flowd.manifests / f"sub{number}" for number in range(7)]
    for folder in folders:
        folder.mkdir()
        eventually(lambda folder=folder: _equal(watches(flowd.pid, folder), second=True))
    os.kill(flowd.pid, signal.SIGSTOP)
    try:
        for number in range(count):  # Created, modified, closed, renamed.
            drop(folders[number % 7], f"f{number}")
    finally:
        os.kill(flowd.pid, signal.SIGCONT)

    def found() -> None:
        assert len(flowd.client.get("/flows").json()) == count

    eventually(found, within=120, every=0.5)
    eventually(lambda: _contains(flowd.log.read_text(), "overflow"))
    for number, folder in enumerate(folders):
        drop(folder, f"later{number}")
        await_flow(flowd, f"later{number}", within=5)


def _equal(first: object, second: object) -> None:
    assert first == second


def _contains(text: str, part: str) -> None:
    assert part in text
