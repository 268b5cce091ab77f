"""Nothing is done to a process that only has the right pid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from flow_operator.runners.procfs import read_proc, send_signal
from flow_operator.shim.runs import Run


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
