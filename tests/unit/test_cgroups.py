"""What the shim reads of a group: plain files, so a directory of them will do."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import ClassVar

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
        (tmp_path / "cgroup.subtree_control").write_text("")
        self.now = 1000.0
        self.quick = False
        monkeypatch.setattr(cgroups, "SPAWNS_INTO", False)
        monkeypatch.setattr(cgroups, "_enter", lambda _path: None)
        monkeypatch.setattr(cgroups, "_moves_quickly", lambda: self.quick)
        monkeypatch.setattr(cgroups.time, "monotonic", lambda: self.now)
        self.groups = cgroups.Cgroups(str(tmp_path))

    def ways(self, *gaps: float) -> list[str]:
        """How each is started that comes so many seconds after the one before."""
        found = []
        for gap in gaps:
            self.now += gap
            found.append("fork" if self.groups.born_there() else "move")
            if found[-1] == "move":
                self.groups.enter("place")
                self.groups.go_home()
        return found


@pytest.fixture
def moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moves:
    return Moves(tmp_path, monkeypatch)


def test_who_comes_alone_is_forked_into_its_group(moves: Moves) -> None:
    """A move by itself waits for all processors."""
    assert moves.ways(*[0.5] * 20) == ["fork"] * 20


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
    """By a mount option, which may change; and by an old kernel or a filter of system calls."""
    moves.quick, moves.groups.refused = why == "favordynmods", why == "refused"
    assert moves.ways(0.5, 0.5, 0.5) == ["move"] * 3
    moves.quick = False
    assert moves.ways(0.5) == (["fork"] if why == "favordynmods" else ["move"])


class Starts:
    """A run of one step, whose groups are plain directories."""

    SPEC: ClassVar = {"argv": ["true"], "cwd": "/", "nofile": 64, "log": os.devnull, "limits": {}}

    def __init__(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controllers: str = ""
    ) -> None:
        self.root = tmp_path
        self.entered: list[str] = []
        (tmp_path / "cgroup.subtree_control").write_text(controllers)
        monkeypatch.setattr(cgroups, "_enter", self.entered.append)
        self.groups = cgroups.Cgroups(str(tmp_path))
        self.run = Run("r1", {"flow": "demo", "replica": 0, "steps": ["s0"]}, 1)
        self.attempts = 0

    def start(self) -> None:
        """One more attempt, to its end."""
        self.attempts += 1
        env = dict(os.environ)
        assert self.run.launch(0, self.attempts, self.SPEC, env, self.groups, lambda: None)
        [step] = self.run.steps
        os.waitpid(step.pid, 0)
        step.left("Completed", 0, None)


def test_a_run_without_a_group_is_started_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in that of the run before, in which the shim stays while more is to be started."""
    starts = Starts(tmp_path, monkeypatch)
    starts.groups.enter(str(tmp_path / "other"))

    def refused(_run: str) -> str:
        raise OSError(errno.ENOSPC, "too many groups")

    monkeypatch.setattr(starts.groups, "open", refused)
    starts.start()
    assert starts.entered == [str(tmp_path / "other"), str(tmp_path / "shim")]


def test_a_fork_that_is_refused_is_followed_by_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is started all the same; it is not tried again."""
    starts = Starts(tmp_path, monkeypatch)
    monkeypatch.setattr(cgroups, "_moves_quickly", lambda: False)
    starts.start()
    assert starts.entered == [str(tmp_path / "r1")]
    assert starts.groups.refused


def test_the_group_of_an_attempt_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails for days leaves one, unless somebody lives in it."""
    starts = Starts(tmp_path, monkeypatch, "cpu memory pids")
    starts.start()
    (tmp_path / "r1" / "cgroup.freeze").write_text("0\n")
    starts.groups.go_home()
    starts.start()
    assert [path.name for path in (tmp_path / "r1").iterdir() if path.is_dir()] == ["0.2"]
    assert starts.run.steps[0].leaf == str(tmp_path / "r1" / "0.2")


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
