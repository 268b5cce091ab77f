"""What the control loop has watched of the steps that run, on the fake runner and clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_operator.clock import Clock, SystemClock
from flow_operator.figures import Figures
from flow_operator.manifest import Manifest
from flow_operator.model.status import StepStatus
from flow_operator.runners.fake import FakeWorld
from reconcile.test_loop import Loop
from support import FakeClock, always_for, eventually, make_manifest

READY = {"logLine": {"pattern": "^ready$"}, "period": "5ms"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(root: Path, clock: FakeClock) -> Iterator[Loop]:
    made = Loop(root, FakeWorld(clock), clock).start()
    yield made
    made.close()


@pytest.fixture
def ticking(root: Path) -> Iterator[Loop]:
    """The same on a clock that goes, for probes, whose thread waits for it."""
    made = Loop(root, FakeWorld(), SystemClock()).start()
    yield made
    made.close()


def _pass(loop: Loop, clock: Clock, seconds: int) -> None:
    """Let time pass with a look at the gauges each second."""
    assert isinstance(clock, FakeClock)
    for _ in range(seconds):
        clock.advance(1)
        loop.gauges.look()


def _condition(loop: Loop, name: str, kind: str) -> str:
    condition = loop.status(name).condition(kind)
    assert condition is not None
    return condition.status


def _reaches(loop: Loop, name: str, kind: str, status: str) -> None:
    eventually(lambda: _assert(_condition(loop, name, kind) == status))


def _reasons(loop: Loop, name: str) -> list[str]:
    return [event.reason for event in loop.board.events([name])]


# --- silence ---------------------------------------------------------------------------------


def test_a_silent_flow_is_reported_with_one_event(loop: Loop, clock: FakeClock) -> None:
    """And again once it writes; nothing is done to it."""
    loop.create("a", "forever", progress={"silenceTimeout": "20s"})
    loop.reach("a", "running")
    _pass(loop, clock, 30)
    _reaches(loop, "a", "Silent", "True")
    _pass(loop, clock, 30)
    loop.world.runs[loop.run_of("a")].steps[0].written += 1
    _pass(loop, clock, 5)
    _reaches(loop, "a", "Silent", "False")
    eventually(lambda: _assert(_reasons(loop, "a").count("NotSilent") == 1))
    assert _reasons(loop, "a").count("Silent") == 1
    assert loop.world.runs[loop.run_of("a")].steps[0].attempt == 1


def test_a_silent_step_is_started_again_where_that_is_asked_for(
    loop: Loop, clock: FakeClock
) -> None:
    """Its new attempt starts fresh; one that waits for its restart is not silent."""
    loop.create("a", "forever", progress={"silenceTimeout": "20s", "action": "Restart"})
    loop.reach("a", "running")
    step = loop.world.runs[loop.run_of("a")].steps[0]
    _pass(loop, clock, 26)
    eventually(lambda: _assert(step.attempt == 2))
    _reaches(loop, "a", "Silent", "False")
    _pass(loop, clock, 19)
    always_for(0.05, lambda: _assert(step.attempt == 2))
    _pass(loop, clock, 8)
    status = loop.reach("a", "backoff")
    assert "has written nothing for 20s and was ended" in status.message
    assert loop.gauges._flows["a"][loop.run_of("a")].silence.watched.attempts == (0,)


def test_paused_time_is_no_silence(loop: Loop, clock: FakeClock) -> None:
    """What is frozen cannot write; once it goes on, its time begins anew."""
    loop.create("a", "forever", progress={"silenceTimeout": "20s", "action": "Restart"})
    loop.reach("a", "running")
    _pass(loop, clock, 15)
    loop.desired.command("pause", ["a"])
    loop.reach("a", "paused")
    assert loop.gauges._flows == {}
    _pass(loop, clock, 600)
    loop.desired.command("resume", ["a"])
    loop.reach("a", "running")
    eventually(lambda: _assert(loop.gauges._flows))
    _pass(loop, clock, 19)
    always_for(0.05, lambda: _assert(_condition(loop, "a", "Silent") == "False"))
    assert loop.world.runs[loop.run_of("a")].steps[0].attempt == 1
    assert loop.gauges._flows


def test_what_was_resumed_is_watched_only_once_it_was_seen_to_go_on(loop: Loop) -> None:
    """Until then it is frozen, whatever is wanted."""
    loop.create("a", "forever", progress={"silenceTimeout": "20s", "action": "Restart"})
    loop.reach("a", "running")
    loop.desired.command("pause", ["a"])
    loop.reach("a", "paused")
    thaw, tried = loop.runner.thaw, threading.Event()
    loop.runner.thaw = lambda _run: tried.set()  # type: ignore[method-assign]
    loop.desired.command("resume", ["a"])
    assert tried.wait(10)
    always_for(0.05, lambda: _assert(loop.gauges._flows == {}))
    # Nor is it forgotten that it may have to be asked for again.
    assert loop.memories.get("a").runs[0].verify_at > 0
    loop.runner.thaw = thaw  # type: ignore[method-assign]
    thaw(loop.run_of("a"))
    eventually(lambda: _assert(loop.gauges._flows))
    assert loop.memories.get("a").runs[0].verify_at == 0


def test_nothing_is_watched_once_a_flow_has_stopped_or_is_deleted(
    loop: Loop, clock: FakeClock
) -> None:
    """Nobody wakes up for it."""
    loop.create("a", "forever", "cat", progress={"silenceTimeout": "20s"})
    loop.reach("a", "running")
    assert loop.gauges._flows
    loop.desired.command("stop", ["a"])
    loop.reach("a", "stopped")
    assert loop.gauges._flows == {}
    loop.desired.command("start", ["a"])
    loop.reach("a", "running")
    loop.desired.delete("a")
    eventually(lambda: _assert(loop.board.get("a") is None))
    assert loop.gauges._flows == {}


# --- pipes -----------------------------------------------------------------------------------


def test_a_full_pipe_is_told_while_it_lasts(loop: Loop, clock: FakeClock) -> None:
    """One event for each transition."""
    loop.create("a", "exec yes", "forever")
    loop.reach("a", "running")
    _pass(loop, clock, 16)
    _reaches(loop, "a", "Backpressured", "True")
    said = loop.status("a").condition("Backpressured")
    assert said is not None
    assert "step 's1' does not keep up" in said.message
    assert "65536 unread bytes" in said.message
    loop.world.runs[loop.run_of("a")].steps[1].unread = 0
    _pass(loop, clock, 5)
    _reaches(loop, "a", "Backpressured", "False")
    eventually(lambda: _assert(_reasons(loop, "a").count("NotBackpressured") == 1))
    assert _reasons(loop, "a").count("Backpressured") == 1


# --- lines -----------------------------------------------------------------------------------


def _create_line(loop: Loop, script: str) -> None:
    loop.desired.create([_line_manifest(script)])


def _line_manifest(script: str) -> Manifest:
    return make_manifest("a", {"name": "s0", "script": script, "readinessProbe": READY})


def test_a_flow_is_ready_once_its_line_was_printed_and_again_after_each_start(
    ticking: Loop,
) -> None:
    """A line of the attempt before does not count."""
    _create_line(ticking, "forever")
    ticking.reach("a", "running")
    step = ticking.world.runs[ticking.run_of("a")].steps[0]
    always_for(0.05, lambda: _assert(_condition(ticking, "a", "Ready") == "False"))
    step.prints("ready")
    _reaches(ticking, "a", "Ready", "True")
    ticking.runner.exits(ticking.run_of("a"), 0, code=1)
    eventually(lambda: _assert(step.attempt == 2))
    _reaches(ticking, "a", "Ready", "False")
    always_for(0.05, lambda: _assert(_condition(ticking, "a", "Ready") == "False"))
    step.prints("ready")
    _reaches(ticking, "a", "Ready", "True")


def test_a_line_that_was_found_is_known_to_the_next_operator(root: Path, ticking: Loop) -> None:
    """Also when the log that held it is gone."""
    _create_line(ticking, "echo ready; forever")
    ticking.reach("a", "running")
    _reaches(ticking, "a", "Ready", "True")
    ticking.close()
    step = ticking.world.runs[ticking.run_of("a")].steps[0]
    step.log, step.log_from = b"", 0
    second = Loop(root, ticking.world, SystemClock()).start()
    try:
        eventually(lambda: _assert(second.board.get("a") is not None))
        _reaches(second, "a", "Ready", "True")
        assert step.attempt == 1
    finally:
        second.close()


# --- what is added when a status is read -----------------------------------------------------


def _read(loop: Loop) -> StepStatus:
    """The first step as ``GET /flows/status/a`` tells it."""
    figures = Figures({"process": loop.runner}, SystemClock(), loop.prober.results)
    [status] = figures.added([loop.status("a")])
    return status.steps[0]


def test_results_of_probes_are_told_without_a_new_version_of_the_status(ticking: Loop) -> None:
    """They come each period; the board hears of changes of the verdict alone."""
    check = {"exec": {"command": ["true"]}, "period": "5ms"}
    probes = {"livenessProbe": check, "readinessProbe": {"exec": {"command": ["false"]}}}
    ticking.desired.create([make_manifest("a", {"name": "s0", "script": "forever", **probes})])
    ticking.reach("a", "running")
    eventually(lambda: _assert(_read(ticking).probes[1].successes > 2))
    version, before = ticking.board.version, _read(ticking).probes[1]
    eventually(lambda: _assert(_read(ticking).probes[1].successes > before.successes + 5))
    assert ticking.board.version == version
    readiness, liveness = _read(ticking).probes
    assert (readiness.kind, readiness.ok, readiness.message) == ("readiness", False, "false")
    assert (liveness.kind, liveness.ok, liveness.failures) == ("liveness", True, 0)
    assert liveness.checked_at is not None
    published = ticking.status("a").steps[0].probes
    assert [(probe.kind, probe.ok) for probe in published] == [
        ("readiness", None),
        ("liveness", None),
    ]


def test_probes_of_a_step_that_is_not_checked_say_so(ticking: Loop) -> None:
    """A paused step is asked nothing."""
    check = {"exec": {"command": ["true"]}, "period": "5ms"}
    step = {"name": "s0", "script": "forever", "livenessProbe": check}
    ticking.desired.create([make_manifest("a", step)])
    ticking.reach("a", "running")
    eventually(lambda: _assert(_read(ticking).probes[0].ok))
    ticking.desired.command("pause", ["a"])
    ticking.reach("a", "paused")
    [probe] = _read(ticking).probes
    assert (probe.kind, probe.ok, probe.message) == ("liveness", None, "not checked")


def _assert(holds: object) -> None:
    assert holds
