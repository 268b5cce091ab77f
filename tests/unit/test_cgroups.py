"""What the shim reads of a group: plain files, so a directory of them will do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

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


# --- how a step gets into its group ----------------------------------------------------------


class Moves:
    """Groups whose starts are counted, at times of our own."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("cgroup.subtree_control", "cgroup.freeze"):
            (tmp_path / name).write_text("0\n" if name.endswith("freeze") else "\n")
        self.now = 1000.0
        self.place = str(tmp_path)
        self.quick = False
        self.tried = 0
        self.forks = True
        monkeypatch.setattr(cgroups, "_enter", lambda _path: None)
        monkeypatch.setattr(cgroups, "_moves_quickly", lambda: self.quick)
        monkeypatch.setattr(cgroups, "can_fork_into", self._try)
        monkeypatch.setattr(cgroups.time, "monotonic", lambda: self.now)
        self.groups = cgroups.Cgroups(str(tmp_path))

    def _try(self, _place: str) -> bool:
        self.tried += 1
        return self.forks

    def ways(self, *gaps: float) -> list[str]:
        """How each is started that comes so many seconds after the one before."""
        found = []
        for gap in gaps:
            self.now += gap
            found.append(
                "move" if self.groups.enter(self.groups.place(self.place, "0.1")) else "fork"
            )
            self.groups.go_home()
        return found


@pytest.fixture
def moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moves:
    return Moves(tmp_path, monkeypatch)


def test_who_comes_alone_is_forked_into_its_group(moves: Moves) -> None:
    """A move by itself waits for all processors; whether a fork works is tried once."""
    assert moves.ways(*[0.5] * 20) == ["fork"] * 20
    assert moves.tried == 1


def test_starts_in_a_row_are_by_moves(moves: Moves) -> None:
    """The first of them waits, the others do not; a pause ends the row."""
    assert moves.ways(*[0.005] * 8) == ["fork"] * 4 + ["move"] * 4
    assert moves.ways(0.5) == ["fork"]


def test_who_is_followed_at_once_moves(moves: Moves) -> None:
    """And who comes soon after a move does too: that does not wait."""
    moves.groups.more_follow = True
    assert moves.ways(0.5) == ["move"]
    moves.groups.more_follow = False
    assert moves.ways(0.001, 0.5) == ["move", "fork"]


@pytest.mark.parametrize("why", ["favordynmods", "refused"])
def test_all_move_where_that_is_quick_or_forks_are_refused(moves: Moves, why: str) -> None:
    """By a mount option, and by an old kernel or a filter of system calls."""
    moves.quick, moves.forks = why == "favordynmods", why != "refused"
    assert moves.ways(0.5, 0.5, 0.5) == ["move"] * 3
    assert moves.tried == (why == "refused")


@pytest.mark.parametrize(
    ("options", "quick"),
    [
        ("rw", False),
        ("rw,nsdelegate", False),
        ("rw,favordynmods", True),
        ("rw,xfavordynmods", False),
    ],
)
def test_the_mount_option_is_read(options: str, quick: bool, tmp_path: Path) -> None:
    """It stands among those of the file system, the last of the line."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "30 24 0:26 / /sys rw,relatime - sysfs sysfs rw\n"
        f"42 32 0:39 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 {options}\n"
    )
    assert cgroups._moves_quickly(str(table)) is quick
