"""What a shim that was killed has left is found, whatever its processes are just doing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flow_operator.runners import procfs, remains
from flow_operator.runners.base import Handle, StepView
from flow_operator.runners.procfs import Proc, is_in_exec, read_proc
from flow_operator.runners.remains import Remains
from flow_operator.settings import Layout
from support import eventually, spawned

LOOKS = 300

AGAIN = 'exec sh -c "$0" "$0"'
"""It is in the middle of an exec most of the time."""

UNNAMED = f"exec env -i sh -c {AGAIN!r} {AGAIN!r}"
"""The same, and nothing in its environment tells who it is."""


@pytest.fixture
def layout(root: Path) -> Layout:
    return Layout(root)


@pytest.fixture
def log(layout: Layout) -> Path:
    path = Path(layout.log_file("demo", 0, "s0"))
    path.parent.mkdir(parents=True)
    return path


class Step(NamedTuple):
    """A step that nobody looks after."""

    pid: int
    start: int

    def found(self, layout: Layout, view: StepView, run: str = "demo-1") -> int:
        """The pid that a shim would be told of; 0 for none."""
        handle = Handle(run, "demo", 0, ("s0",), (view,))
        return int(Remains(layout).step(handle, view, "s0")["pid"])


@pytest.fixture
def step(root: Path, log: Path, request: pytest.FixtureRequest) -> Iterator[Step]:
    told = {
        "FLOW_OPERATOR": str(root),
        "FLOW_ID": "demo",
        "FLOW_REPLICA": "0",
        "FLOW_RUN": "demo-1",
        "FLOW_STEP": "s0",
        "FLOW_ATTEMPT": "1",
    }
    command = ["sh", "-c", request.param, request.param]
    options = {"env": {**os.environ, **told}, "start_new_session": True}
    with log.open("a") as output, spawned(command, stdout=output, stderr=output, **options) as one:
        proc = read_proc(one.pid)
        assert proc is not None
        yield Step(proc.pid, proc.start)


@pytest.mark.parametrize("step", [AGAIN], indirect=True)
def test_who_is_in_an_exec_is_found_though_nothing_is_recorded(step: Step, layout: Layout) -> None:
    """It has no environment just then. Taken for gone, it would run twice."""
    for _ in range(LOOKS):
        assert step.found(layout, StepView(attempt=1)) == step.pid


@pytest.mark.parametrize("step", [AGAIN, UNNAMED], indirect=True, ids=["named", "unnamed"])
def test_a_record_is_believed_also_where_the_environment_tells_nothing(
    step: Step, layout: Layout
) -> None:
    """It prints into the log of the step: that is given to nobody else."""
    view = StepView(attempt=1, pid=step.pid, start=step.start)
    for _ in range(LOOKS):
        assert step.found(layout, view) == step.pid


@pytest.mark.parametrize("step", ["exec sleep 1000"], indirect=True)
def test_the_environment_tells_against_a_record(step: Step, layout: Layout, root: Path) -> None:
    """Of another run, or another data directory, it is not ours, whatever it prints into."""
    cmdline = Path(f"/proc/{step.pid}/cmdline")
    eventually(lambda: _assert(cmdline.read_bytes() == b"sleep\0001000\0"))  # In no exec.
    view = StepView(attempt=1, pid=step.pid, start=step.start)
    assert step.found(layout, view) == step.pid
    assert step.found(layout, view, "demo-2") == 0
    other = root / "other"
    (other / "logs").parent.mkdir()
    (other / "logs").symlink_to(root / "logs")
    assert step.found(Layout(other), view) == 0


def test_who_hangs_in_an_exec_is_not_waited_for_for_ever(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that does not answer, say: the other flows are looked after."""
    monkeypatch.setattr(remains, "_EXEC_WITHIN", 0.05)
    monkeypatch.setattr(remains, "environment", lambda _pid: b"")
    monkeypatch.setattr(remains, "is_in_exec", lambda _proc: True)
    begun = time.monotonic()
    view = StepView(attempt=1)
    handle = Handle("demo-1", "demo", 0, ("s0",), (view,))
    assert Remains(layout).step(handle, view, "s0")["pid"] == 0
    assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize("step", [AGAIN], indirect=True)
def test_a_stray_is_found_whatever_it_does(step: Step, layout: Layout) -> None:
    """It is searched but once."""
    for _ in range(LOOKS):
        [stray] = Remains(layout).strays(frozenset(), ())
        assert stray["run"] == "demo-1"
    assert Remains(layout).strays(frozenset(), (step.pid,)) == []
    assert Remains(layout).strays(frozenset({"demo-1"}), ()) == []


def test_steps_are_not_looked_at_when_strays_are_searched(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be ten thousand of them, and the shim has just told who they are."""
    looked: list[int] = []

    def read(pid: int) -> None:
        looked.append(pid)

    monkeypatch.setattr(procfs, "read_proc", read)
    monkeypatch.setattr(procfs, "pids", lambda: [3, 4, 5, 6])
    assert Remains(layout).strays(frozenset(), {4, 5}) == []
    assert looked == [3, 6]


@pytest.mark.parametrize(("flags", "code", "is_so"), [(0, 0, True), (4, 0, False), (0, 1, False)])
def test_who_is_exiting_is_in_no_exec(
    flags: int, code: int, is_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has an environment; an exit may hang on a disk, and is not waited for."""
    fields = [b"0"] * 50
    fields[6], fields[23] = b"%d" % flags, b"%d" % code
    monkeypatch.setattr(procfs, "_stat", lambda _pid: fields)
    assert is_in_exec(Proc(5, "D", 1, 5, 7, 0, 0)) is is_so


def _assert(condition: bool) -> None:
    assert condition
