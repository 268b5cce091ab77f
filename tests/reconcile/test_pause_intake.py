"""A pause of the intake through the control loop: what the gauges see decides when it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_operator.clock import SystemClock
from flow_operator.errors import TerminalError
from flow_operator.gauges import REST_SPELL
from flow_operator.model.status import FlowStatus
from flow_operator.runners.fake import FakeWorld
from reconcile.test_loop import Loop
from support import FakeClock, always_for, eventually, make_manifest

INTAKE = {"mode": "intake"}
TICKS = "while :; do echo x; sleep 0.01; done"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(root: Path, clock: FakeClock) -> Iterator[Loop]:
    made = Loop(root, FakeWorld(clock), clock).start()
    yield made
    made.close()


def _draining(loop: Loop, *steps: str, **spec: object) -> str:
    """The run of a flow whose source has ended for a pause."""
    loop.create("a", *(steps or (TICKS, "cat", "cat")), pause=INTAKE, **spec)
    loop.reach("a", "running")
    loop.desired.command("pause", ["a"])
    run = loop.run_of("a")
    eventually(lambda: _assert(_reason(loop) == "Draining"))
    return run


def _reason(loop: Loop) -> str:
    reconciling = loop.status("a").condition("Reconciling")
    assert reconciling is not None
    return reconciling.reason


def _look(loop: Loop, clock: FakeClock, seconds: float) -> None:
    """Let time pass with frequent looks at the gauges."""
    end = clock.now + seconds
    while clock.now < end:
        clock.advance(0.05)
        loop.gauges.look()


def _come_to_rest(loop: Loop, clock: FakeClock) -> FlowStatus:
    """Let time pass until the flow is told to be paused, however late a worker sees it."""

    def check() -> FlowStatus:
        _look(loop, clock, REST_SPELL)
        status = loop.status("a")
        assert status.status == "paused", status
        return status

    return eventually(check)


def _assert(condition: object) -> None:
    assert condition


def test_an_intake_pause_is_told_when_the_pipes_are_empty_and_a_resume_ends_it(
    loop: Loop, clock: FakeClock
) -> None:
    """The later steps keep their processes; nobody looks at what is idle."""
    run = _draining(loop)
    steps = loop.world.runs[run].steps
    steps[1].unread = 10
    pids = [step.pid for step in steps]
    _look(loop, clock, 60)
    always_for(0.05, lambda: _assert(loop.status("a").status == "running"))
    steps[1].unread = 0
    status = _come_to_rest(loop, clock)
    assert status.settled
    eventually(lambda: _assert(loop.gauges._flows == {}))
    assert [step.state for step in status.steps] == ["waiting", "running", "running"]
    loop.desired.command("resume", ["a"])
    status = loop.reach("a", "running")
    assert status.restarts == 0
    assert [step.attempt for step in steps] == [2, 1, 1]
    assert [step.pid for step in steps][1:] == pids[1:]
    assert [verb for verb, _ in loop.world.verbs if verb.startswith("signal")] == ["signal SIGTERM"]


def test_a_flow_of_one_step_needs_no_look(loop: Loop) -> None:
    """It is paused as soon as its step has ended."""
    loop.create("a", TICKS, pause=INTAKE)
    loop.reach("a", "running")
    loop.desired.command("pause", ["a"])
    loop.reach("a", "paused")
    assert loop.world.runs[loop.run_of("a")].steps[0].pid == 0
    loop.desired.command("resume", ["a"])
    loop.reach("a", "running")


def test_a_later_step_that_was_restarted_is_waited_for(loop: Loop, clock: FakeClock) -> None:
    """It has come to use up what the one before it has left."""
    run = _draining(loop)
    _look(loop, clock, REST_SPELL / 2)
    loop.runner.exits(run, 1, code=1)
    step = loop.world.runs[run].steps[1]
    eventually(lambda: _assert(step.attempt == 2))
    eventually(lambda: _assert(loop.gauges._flows["a"][run].rest.watched.attempts == (1, 2, 1)))
    _look(loop, clock, REST_SPELL / 2)
    always_for(0.05, lambda: _assert(loop.status("a").status == "running"))
    _come_to_rest(loop, clock)
    loop.runner.exits(run, 2, code=1)
    eventually(lambda: _assert(loop.world.runs[run].steps[2].attempt == 2))
    assert loop.status("a").status == "paused", "it is there for the resume, and nothing is left"


def test_a_drain_goes_on_in_the_next_operator(root: Path, clock: FakeClock) -> None:
    """What it sees counts, not what the one before saw; what was idle stays so."""
    world = FakeWorld(clock)
    first = Loop(root, world, clock).start()
    run = _draining(first)
    world.runs[run].steps[2].unread = 10
    first.close()
    second = Loop(root, world, clock).start()
    try:
        second.reach("a", "running")
        _look(second, clock, 60)
        always_for(0.05, lambda: _assert(second.status("a").status == "running"))
        world.runs[run].steps[2].unread = 0
        _look(second, clock, 2 * REST_SPELL)
        second.reach("a", "paused")
    finally:
        second.close()
    third = Loop(root, world, clock).start()
    try:
        third.reach("a", "paused")
        assert third.gauges._flows == {}
        third.desired.command("stop", ["a"])
        ready = third.reach("a", "stopped").condition("Ready")
        assert ready is not None
        assert ready.reason == "Drained"
    finally:
        third.close()


def test_a_runner_that_is_away_makes_nothing_idle(loop: Loop, clock: FakeClock) -> None:
    """Nor does its return, before it was looked at for a while."""
    _draining(loop)
    loop.world.away = True
    _look(loop, clock, 60)
    always_for(0.05, lambda: _assert(loop.status("a").status == "running"))
    loop.world.away = False
    _come_to_rest(loop, clock)


def test_a_source_that_cannot_be_started_again_is_told(loop: Loop, clock: FakeClock) -> None:
    """The resume was refused: it waits, and nothing counts as a restart."""
    _draining(loop)
    _come_to_rest(loop, clock)
    tried = threading.Event()

    def refuse(*_: object) -> None:
        tried.set()
        raise TerminalError("no such user")

    loop.runner.start_step = refuse
    loop.desired.command("resume", ["a"])
    status = loop.reach("a", "backoff")
    assert tried.is_set()
    assert "no such user" in status.message
    assert status.restarts == 0


def test_a_change_of_the_mode_converges(loop: Loop, clock: FakeClock) -> None:
    """Frozen, then drained, then frozen; each is told as what it is."""
    loop.create("a", TICKS, "cat", state="paused")
    loop.desired.command("start", ["a"])
    loop.reach("a", "running")
    loop.desired.command("pause", ["a"])
    loop.reach("a", "paused")
    run = loop.world.runs[loop.run_of("a")]
    assert run.frozen
    loop.desired.replace(make_manifest("a", TICKS, "cat", state="paused", pause=INTAKE))
    eventually(lambda: _assert(_reason(loop) == "Draining"))
    assert not run.frozen
    _come_to_rest(loop, clock)
    loop.desired.replace(make_manifest("a", TICKS, "cat", state="paused"))
    eventually(lambda: _assert(run.frozen))
    loop.reach("a", "paused")
    loop.desired.command("resume", ["a"])
    loop.reach("a", "running")
    assert [step.attempt for step in run.steps] == [2, 1]
    assert not run.frozen


def test_the_thread_of_the_gauges_brings_a_drain_to_its_end(root: Path) -> None:
    """On a clock that goes, nobody has to ask for looks."""
    loop = Loop(root, FakeWorld(), SystemClock())
    loop.gauges.start()
    loop.start()
    try:
        _draining(loop)
        loop.reach("a", "paused")
    finally:
        loop.close()
