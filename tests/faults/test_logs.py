"""Logs that nobody reads: bounded, whole, and never in a step's way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_storage import needs_mount

from support import Flowd, eventually, make_document, program

KIB = 1024


def taken(flowd: Flowd, flow_id: str = "demo") -> int:
    """Bytes of the disk that a flow's logs take."""
    total = 0
    for entry in (flowd.data / "logs" / flow_id).glob("*/*.log*"):
        with contextlib.suppress(FileNotFoundError):  # It was rotated away just now.
            total += entry.stat().st_blocks * 512
    return total


def cpu(pid: int) -> int:
    """Clock ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("files", [1, 2, 5])
def test_a_flow_that_prints_without_end_is_bounded(flowd: Flowd, files: int) -> None:
    """Its log stays within maxSize times maxFiles, and it is never held up."""
    logs = {"maxSize": "4Mi", "maxFiles": files}
    flowd.create(make_document("demo", "exec yes", logs=logs))
    status = flowd.await_status("demo", "running")
    pid = status["steps"][0]["pid"]
    before = cpu(pid)
    written = Path(f"/proc/{pid}/io")

    def printed() -> int:
        return int(written.read_text().split("wchar: ")[1].split()[0])

    eventually(lambda: _assert(printed() > 500 * KIB * KIB), within=60)
    assert cpu(pid) > before
    flowd.command("pause", "demo")

    def small() -> None:
        assert taken(flowd) <= 4 * KIB * KIB * files + 8 * KIB

    eventually(small)
    newest = flowd.client.get("/flows/demo/logs?tail=3").text
    assert newest == "y\ny\ny\n"


def test_300_000_lines_are_all_kept_over_kills_of_the_operator(flowd: Flowd) -> None:
    """Each once and in order, through hundreds of rotations, as read by the API afterwards."""
    logs = {"maxSize": "16Ki", "maxFiles": 1000}
    step = program("lines", "300000", "1")
    flowd.create(make_document("demo", step, logs=logs, restart={"policy": "Never"}))
    for _ in range(3):
        flowd.kill()
        flowd.start()
    flowd.await_status("demo", "completed", within=60)
    got = flowd.client.get("/flows/demo/logs").text.splitlines()
    assert got == [str(number) for number in range(300_000)]
    older = list((flowd.data / "logs" / "demo" / "0").glob("lines.log.0*"))
    assert len(older) > 100


def test_who_follows_sees_every_line_once(flowd: Flowd) -> None:
    """Over rotations."""
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; exec sleep 1000"
    flowd.create(make_document("demo", script, logs={"maxSize": "4Ki", "maxFiles": 1000}))
    got: list[int] = []
    with flowd.client.stream("GET", "/flows/demo/logs?follow=1") as answer:
        for line in answer.iter_lines():
            got.append(int(line))
            if got[-1] == 2999:
                break
    assert got == list(range(3000))
    eventually(lambda: _assert(taken(flowd) <= 40 * KIB))


def test_times_are_told_to_the_second(flowd: Flowd) -> None:
    """By the operator's clock, in the order in which the steps printed."""
    first = "exec 3>&2; while read n; do echo a$n >&3; echo $n; done"
    second = "while read n; do echo b$n; done"
    flowd.create(make_document("demo", "echo 1; sleep 2.5; echo 2; exec sleep 1000", first, second))

    def complete() -> list[str]:
        lines = flowd.client.get("/flows/demo/logs?timestamps=1").text.splitlines()
        assert len(lines) == 4
        return lines

    lines = eventually(complete)
    assert [line.split()[-1] for line in lines] == ["a1", "b1", "a2", "b2"]
    seconds = [line.split()[1] for line in lines]
    assert seconds == sorted(seconds)
    assert seconds[0] != seconds[2]
    newer = flowd.client.get(f"/flows/demo/logs?since={seconds[2]}").text.splitlines()
    assert [line.split()[-1] for line in newer] == ["a2", "b2"]


def test_logs_go_with_their_flow(flowd: Flowd) -> None:
    """A new flow of the same name begins with an empty one."""
    flowd.create(make_document("demo", "echo old; exec sleep 1000"))
    eventually(lambda: _assert("old" in flowd.client.get("/flows/demo/logs").text))
    flowd.client.delete("/flows/demo")
    flowd.await_gone("demo")
    assert not (flowd.data / "logs" / "demo").exists()
    flowd.create(make_document("demo", "echo new; exec sleep 1000"))
    eventually(lambda: _assert(flowd.client.get("/flows/demo/logs").text == "new\n"))


# --- the disk --------------------------------------------------------------------------------


@pytest.fixture
def disk(root: Path) -> Iterator[Path]:
    """A file system that takes a step a second to fill."""
    path = root / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "small", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@needs_mount
def test_logs_never_fill_the_disk(disk: Path, make_flowd: Callable[..., Flowd]) -> None:
    """They leave the reserve, so that writes stand; the flow that was cut is told of it."""
    flowd = make_flowd("--log-reserve", "256Mi")  # what `yes` writes in some 0.5 s
    flowd.data = disk / "data"
    flowd.start()
    logs = {"maxSize": "8Mi", "maxFiles": 1000}
    flowd.create(make_document("demo", "exec yes 0123456789abcdef", logs=logs))
    flowd.await_status("demo", "running")
    done = threading.Event()
    lowest = [disk_free(disk)]

    def watch() -> None:
        while not done.wait(0.02):
            lowest.append(disk_free(disk))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:

        def told() -> None:
            events = flowd.client.get("/flows/demo/events").json()["events"]
            assert any(event["reason"] == "LogsDropped" for event in events)

        eventually(told, within=60)
        for number in range(20):
            flowd.create(make_document(f"other-{number}", "exec sleep 1000"))
        flowd.await_status("other-19", "running")
    finally:
        done.set()
        watcher.join()
    assert min(lowest) > 0
    assert flowd.status("demo")["restarts"] == 0
    flowd.command("pause", "demo")
    eventually(lambda: _assert(disk_free(disk) >= 256 * KIB * KIB))
    flowd.command("stop", type=1)


def disk_free(path: Path) -> int:
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize


def _assert(holds: bool) -> None:
    assert holds
