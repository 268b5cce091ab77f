"""What the shim reads of a group: plain files, so a directory of them will do."""

from __future__ import annotations

import os
import signal

import pytest

from flow_operator.shim import cgroups
from flow_operator.shim.birth import start_time
from flow_operator.shim.runs import Run


@pytest.mark.parametrize(
    ("files", "held"),
    [
        ({}, {}),
        ({"cpu.max": "max 100000"}, {}),
        ({"cpu.max": "50000 100000", "memory.max": "max", "pids.max": "max"}, {"cpu": True}),
        ({"memory.max": "67108864", "pids.max": "10"}, {"memory": True, "pids": True}),
    ],
)
def test_the_limits_that_hold_are_read_from_the_group(tmp_path, files, held):
    """Where a controller is missing, or says ``max``, there is none."""
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert cgroups.held(str(tmp_path)) == held


def test_an_adopted_step_keeps_its_group(tmp_path, monkeypatch):
    """The next shim tells which of its limits hold, and that one has killed it."""
    leaf = tmp_path / "r1" / "0.2"
    leaf.mkdir(parents=True)
    (leaf / "memory.max").write_text("67108864\n")
    (leaf / "memory.events").write_text("oom 1\noom_kill 1\n")
    monkeypatch.setattr(cgroups, "group_of", lambda _pid, run: str(tmp_path / run))
    run = Run("r1", {"flow": "demo", "replica": 0, "steps": ["s0"]}, 1)
    pid = os.getpid()
    known = {"attempt": 2, "pid": pid, "start": start_time(pid), "ended": False, "exit": None}
    run.adopt([known], None)
    [step] = run.steps
    assert step.limits == {"memory": True}
    step.left("Signaled", None, signal.SIGKILL)
    assert step.exit["reason"] == "OOMKilled"
