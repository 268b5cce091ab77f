"""What the control loop counts: each launch, exit and end of a run once, as what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_operator.clock import SystemClock
from flow_operator.errors import FlowError, StorageError, WaitingError
from flow_operator.meter import Meter
from flow_operator.runners.fake import FakeRunner, FakeWorld
from reconcile.test_loop import Loop
from support import always_for, eventually


class Counts(Meter):
    """A meter that counts by word."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.looks: list[tuple[str, float]] = []

    def launched(self) -> None:
        self.found["launched"] += 1

    def exited(self, reason: str) -> None:
        self.found[f"exit {reason}"] += 1

    def ended(self, outcome: str) -> None:
        self.found[f"end {outcome}"] += 1

    def looked(self, result: str, seconds: float) -> None:
        self.looks.append((result, seconds))


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def loop(root: Path, world: FakeWorld, counts: Counts) -> Iterator[Loop]:
    made = Loop(root, world, SystemClock(), meter=counts).start()
    yield made
    made.close()


def _gone(loop: Loop, flow_id: str) -> None:
    eventually(lambda: _assert(loop.board.get(flow_id) is None))


def _assert(holds: bool) -> None:
    assert holds


def test_a_drained_stop_is_one_end_and_an_exit_of_each_step(loop: Loop, counts: Counts) -> None:
    """However many looks and notes it takes."""
    loop.create("a", "forever", "cat", "cat")
    loop.reach("a", "running")
    assert counts.found == {"launched": 1}
    loop.desired.command("stop", ["a"])
    loop.reach("a", "stopped")
    assert counts.found == {
        "launched": 1,
        "exit Signaled": 1,
        "exit Completed": 2,
        "end Drained": 1,
    }


@pytest.mark.parametrize(
    ("script", "stop", "hard", "outcome"),
    [
        ("trap '' TERM; forever", {"timeout": "50ms", "mode": "signal"}, False, "Forced"),
        ("forever", {"mode": "signal"}, False, "Terminated"),
        ("forever", {}, True, "Forced"),
    ],
)
def test_a_stop_is_counted_as_what_it_came_to(loop, counts, script, stop, hard, outcome):
    """Also one that was noted before it had come to its end."""
    loop.create("a", script, stop=stop)
    loop.reach("a", "running")
    loop.desired.command("stop", ["a"], hard=hard)
    loop.reach("a", "stopped")
    assert counts.found == {"launched": 1, "exit Signaled": 1, f"end {outcome}": 1}


def test_a_drain_that_times_out_is_one_end(loop: Loop, counts: Counts) -> None:
    """A second step that ignores the end of its input, and TERM at first."""
    loop.create("a", "forever", "deaf", stop={"timeout": "50ms"})
    loop.reach("a", "running")
    loop.desired.command("stop", ["a"])
    loop.reach("a", "stopped")
    assert counts.found == {"launched": 1, "exit Signaled": 2, "end DrainTimedOut": 1}


@pytest.mark.parametrize("hard", [False, True])
def test_the_end_of_a_deleted_flow_is_counted(loop, counts, hard):
    """Its memory goes with it, in the look that counts."""
    loop.create("a", "forever")
    loop.reach("a", "running")
    loop.desired.delete("a", hard=hard)
    _gone(loop, "a")
    outcome = "Forced" if hard else "Drained"
    assert counts.found == {"launched": 1, "exit Signaled": 1, f"end {outcome}": 1}


def test_runs_that_end_by_themselves_are_told_from_stops(loop, counts):
    """By how they have ended; the sweep that follows is no stop."""
    loop.create("good", "exit 0", restart={"policy": "OnFailure"})
    loop.create("bad", "exit 3", restart={"policy": "Never"})
    loop.reach("good", "completed")
    loop.reach("bad", "failed")
    eventually(lambda: _assert(not loop.world.runs))
    assert counts.found == {
        "launched": 2,
        "exit Completed": 1,
        "exit Error": 1,
        "end Completed": 1,
        "end Failed": 1,
    }


def test_each_restart_of_a_step_is_an_exit_and_no_end(loop, counts):
    """The run goes on."""
    loop.create("a", "forever", restart={"backoff": {"initial": "1ms", "max": "2ms"}})
    loop.reach("a", "running")
    for number in range(1, 4):
        loop.runner.exits(loop.run_of("a"), 0, code=1)

        def restarted(number: int = number) -> None:
            assert loop.status("a").restarts == number

        eventually(restarted)
    assert counts.found == {"launched": 1, "exit Error": 3}


def test_a_run_that_the_runner_no_longer_knows_is_lost(loop, counts, world):
    """Nobody has seen its end."""
    loop.create("a", "forever")
    loop.reach("a", "running")
    world.runs.clear()
    loop.queue.add("a")
    eventually(lambda: _assert(counts.found["launched"] == 2))
    assert counts.found["end Lost"] == 1


def test_nothing_is_counted_twice_by_the_operator_that_comes_next(root, world, counts):
    """It remembers what this one has seen."""
    first = Loop(root, world, SystemClock(), meter=counts).start()
    first.create("a", "forever", "forever", restart={"backoff": {"initial": "1h", "max": "1h"}})
    first.reach("a", "running")
    for code in (1, 2):  # The first restart is immediate.
        first.runner.exits(first.run_of("a"), 0, code=code)
        eventually(lambda code=code: _assert(counts.found["exit Error"] == code))
    first.close()
    later = Counts()
    second = Loop(root, world, SystemClock(), meter=later).start()
    second.reach("a", "backoff")
    always_for(0.1, lambda: _assert(not later.found))
    second.close()


def test_what_is_tried_again_is_counted_once(loop, counts, world):
    """A launch that the runner could not make is still the same run."""
    world.away = True
    loop.create("a", "forever")
    eventually(lambda: _assert("retry" in dict(counts.looks)))
    world.away = False
    loop.reach("a", "running")
    assert counts.found == {"launched": 1}


class _Troubled(FakeRunner):
    """A runner that cannot be observed."""

    def __init__(self, world: FakeWorld, trouble: Exception) -> None:
        super().__init__(world)
        self.trouble: Exception | None = trouble

    def observe(self, flow_id):
        if self.trouble is not None:
            raise self.trouble
        return super().observe(flow_id)


@pytest.mark.parametrize(
    ("trouble", "result"),
    [
        (WaitingError("x", 0.01), "waiting"),
        (StorageError("x"), "retry"),
        (FlowError("x"), "error"),
        (ZeroDivisionError(), "error"),
    ],
)
def test_looks_are_told_by_how_they_have_ended(root, world, counts, trouble, result):
    """And how long they have taken."""
    runner = _Troubled(world, trouble)
    loop = Loop(root, world, SystemClock(), runner=runner, meter=counts).start()
    loop.create("a", "forever")
    eventually(lambda: _assert(result in dict(counts.looks)))
    assert {told for told, _ in counts.looks} == {result}
    runner.trouble = None
    loop.reach("a", "running")
    eventually(lambda: _assert("ok" in dict(counts.looks)))
    assert all(seconds >= 0 for _, seconds in counts.looks)
    loop.close()
