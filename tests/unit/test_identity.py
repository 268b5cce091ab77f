"""Nothing is done to a process that only has the right pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_operator.runners import procfs
from flow_operator.runners.procfs import Proc, RunIndex, read_proc, run_of, scan, send_signal
from flow_operator.shim.runs import Run
from support import eventually, spawned


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_recycled_pid_is_not_signalled(bystander: subprocess.Popen[bytes]) -> None:
    """Another start time is another process."""
    proc = read_proc(bystander.pid)
    assert proc is not None
    send_signal(proc._replace(start=proc.start + 1), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.2)
    send_signal(proc, signal.SIGKILL)
    assert bystander.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("off", [0, 1])
def test_a_shim_adopts_only_what_started_when_it_should_have(
    bystander: subprocess.Popen[bytes], off: int
) -> None:
    """What it does not adopt it does not signal, and its exit is unknown."""
    proc = read_proc(bystander.pid)
    assert proc is not None
    run = Run("r", {"flow": "a", "replica": 0}, 1)
    known = {"attempt": 1, "ended": False, "exit": None, "pid": proc.pid, "start": proc.start + off}
    run.adopt([known], None)
    [state] = run.state()["steps"]
    assert bool(state["pid"]) == (off == 0)
    run.signal([0], signal.SIGKILL)
    if off:
        assert state["exit"]["reason"] == "ExitUnknown"
        with pytest.raises(subprocess.TimeoutExpired):
            bystander.wait(0.2)
    else:
        assert bystander.wait(10) == -signal.SIGKILL
        os.close(run.steps[0].pidfd)


def test_a_process_that_carries_no_run_is_not_read_again_before_it_executes_another_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A forked child shows its parent's environment, and only its next program its own."""
    read: list[int] = []

    def counted(pid: int, home: str) -> str:
        read.append(pid)
        return run_of(pid, home)

    monkeypatch.setattr(procfs, "run_of", counted)
    index = RunIndex(str(tmp_path))
    become = (
        f"import os, sys; sys.stdin.read(1); env = dict(FLOW_RUN='r', FLOW_OPERATOR='{tmp_path}'); "
        "os.execve('/bin/sleep', ['sleep', '1000'], env)"
    )
    with spawned([sys.executable, "-c", become], stdin=subprocess.PIPE) as process:
        eventually(lambda: _assert(b"execve" in command_line(process.pid)))
        assert [index.runs(scan()).get(process.pid) for _ in range(3)] == [None] * 3
        assert read.count(process.pid) == 1
        process.stdin.write(b"x")
        process.stdin.close()
        eventually(lambda: _assert(b"execve" not in command_line(process.pid)))
        assert [index.runs(scan()).get(process.pid) for _ in range(3)] == ["r"] * 3
        assert read.count(process.pid) == 2


def test_a_process_whose_environment_cannot_be_placed_is_read_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What may not be seen now may be seen later."""
    read: list[int] = []
    monkeypatch.setattr(procfs, "run_of", lambda pid, _home: read.append(pid) or "")
    index = RunIndex(str(tmp_path))
    for _ in range(3):
        index.runs({7: Proc(7, "S", 1, 7, 5, 0, 0)})
    assert read == [7, 7, 7]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _assert(holds: bool) -> None:
    assert holds
