"""The control loop on the fake runner: what is wanted comes about."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flow_operator import reconciler
from flow_operator.board import Board
from flow_operator.clock import Clock, SystemClock
from flow_operator.controller import WORKERS, Controller
from flow_operator.errors import RetryableError
from flow_operator.gauges import Gauges
from flow_operator.memory import decode_memory
from flow_operator.meter import Meter
from flow_operator.model.status import FlowStatus
from flow_operator.plan import Decision, plan
from flow_operator.prober import Prober
from flow_operator.reconciler import VOLLEY, Reconciler
from flow_operator.runners.base import Call, Finish, Instance, Launch
from flow_operator.runners.fake import FakeRunner, FakeWorld
from flow_operator.settings import Layout
from flow_operator.store import Desired, Memories, Store
from flow_operator.workqueue import FEW, WorkQueue
from support import FakeClock, always_for, eventually, make_manifest


class Loop:
    """An operator without a server, a folder and processes."""

    def __init__(
        self,
        root: Path,
        world: FakeWorld,
        clock: Clock,
        boot: str = "boot",
        runner: FakeRunner | None = None,
        meter: Meter | None = None,
    ) -> None:
        layout = Layout(root)
        self.world = world
        self.store = Store(layout, meter=meter)
        self.store.recover()
        self.memories = Memories(layout)
        self.memories.recover()
        self.board = Board(clock, meter=meter)
        self.queue = WorkQueue(clock, meter)
        self.runner = runner or FakeRunner(world)
        runners = {"process": self.runner}
        self.prober = Prober(clock, self.queue.add, runners)
        self.gauges = Gauges(clock, self.queue.add, runners)
        self.reconciler = Reconciler(
            store=self.store,
            memories=self.memories,
            runners=runners,
            board=self.board,
            prober=self.prober,
            gauges=self.gauges,
            clock=clock,
            boot=boot,
            interrupt=threading.Event(),
            meter=meter,
        )
        self.controller = Controller(
            store=self.store,
            memories=self.memories,
            runners=runners,
            board=self.board,
            reconciler=self.reconciler,
            queue=self.queue,
            clock=clock,
            meter=meter,
            taken_back=self._took_back,
            caught_up=lambda: self.caught_up.append(len(self.board.all())),
        )
        self.taken_back: list[dict[str, str]] = []
        self.caught_up: list[int] = []
        self.desired = Desired(self.store, self.reconciler.foresee)

    def start(self) -> Loop:
        self.controller.take_back()
        self.controller.start()
        return self

    def close(self) -> None:
        self.controller.stop()
        self.prober.close()
        self.gauges.close()
        self.store.close()

    def _took_back(self) -> None:
        self.taken_back.append({name: at.status for name, at in self.board.all().items()})

    def create(self, name: str, *steps: str, **spec: object) -> None:
        self.desired.create([make_manifest(name, *steps, **spec)])

    def status(self, name: str) -> FlowStatus:
        status = self.board.get(name)
        assert status is not None
        return status

    def reach(self, name: str, wanted: str) -> FlowStatus:
        def check() -> FlowStatus:
            status = self.status(name)
            assert status.status == wanted, status
            return status

        return eventually(check)

    def run_of(self, name: str, replica: int = 0) -> str:
        return self.memories.get(name).runs[replica].run


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def loop(root: Path, world: FakeWorld) -> Iterator[Loop]:
    made = Loop(root, world, SystemClock()).start()
    yield made
    made.close()


def test_created_flows_run_and_deleted_ones_are_gone(loop: Loop) -> None:
    """From the store to the runner and back to the board."""
    loop.create("a", "forever", "cat")
    loop.reach("a", "running")
    loop.desired.delete("a")
    eventually(lambda: _assert(loop.board.get("a") is None))
    assert loop.world.runs == {}
    assert loop.store.records() == {}
    assert loop.memories.flow_ids() == frozenset()


def test_it_is_told_when_all_that_was_there_is_looked_at(root: Path, world: FakeWorld) -> None:
    """At once if there was nothing."""
    first = Loop(root, world, SystemClock()).start()
    assert first.caught_up == [0]
    for number in range(50):
        first.create(f"f{number}", "forever")
    for number in range(50):
        first.reach(f"f{number}", "running")
    first.close()
    assert first.caught_up == [0]
    second = Loop(root, world, SystemClock()).start()
    eventually(lambda: _assert(bool(second.caught_up)))
    second.close()
    assert second.caught_up == [50]


def test_it_is_told_when_all_that_runs_is_looked_at(
    root: Path, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That comes before what is to be launched, however much that is and however long it takes.

    Of those that are looked at together with launches, too.
    """
    first = Loop(root, world, SystemClock()).start()
    assert first.taken_back == [{}]
    names = [f"f{number:02}" for number in range(3 * VOLLEY)]
    runs, waits = names[-VOLLEY - 3 :], names[: -VOLLEY - 3]
    for name in runs:
        first.create(name, "forever")
        first.reach(name, "running")
    first.close()
    second = Loop(root, world, SystemClock())
    for name in waits:
        second.create(name, "forever")
    look, launch = threading.Event(), threading.Event()
    observe, begin = second.runner.observe, second.runner.begin

    def observed(flow_id: str) -> tuple[Instance, ...]:
        if flow_id == runs[-1]:
            assert look.wait(10)
        return observe(flow_id)

    def begun(calls: Sequence[Call]) -> Finish:
        """As of local processes: launches go on behind this."""

        def finish() -> list[Exception | None]:
            assert launch.wait(10)
            return begin(calls)()

        return finish if any(call.verb == "launch" for call in calls) else begin(calls)

    monkeypatch.setattr(second.runner, "observe", observed)
    monkeypatch.setattr(second.runner, "begin", begun)
    try:
        second.start()
        always_for(0.1, lambda: _assert(not second.taken_back))
        look.set()
        eventually(lambda: _assert(bool(second.taken_back)))
        assert second.taken_back == [dict.fromkeys(runs, "running")]
    finally:
        look.set()
        launch.set()
        second.close()


@pytest.fixture
def still(root: Path, world: FakeWorld) -> Iterator[Loop]:
    """A loop in which nobody looks but the test."""
    made = Loop(root, world, SystemClock())
    made.controller.take_back()
    yield made
    made.close()


def test_of_a_look_only_its_end_is_told(still: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start a flow takes several plans; making up a status takes longer than a plan."""
    told: list[FlowStatus] = []
    monkeypatch.setattr(still.board, "publish", told.append)
    still.create("a", "forever")
    still.reconciler.reconcile("a")
    assert [status.status for status in told] == ["running"]


def test_a_launch_takes_two_plans(still: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for what to do, and one to take down what was seen of it: that is no reason for more."""
    made: list[Decision] = []

    def counted(*arguments: Any) -> Decision:
        made.append(plan(*arguments))
        return made[-1]

    monkeypatch.setattr(reconciler, "plan", counted)
    still.create("a", "forever")
    still.reconciler.reconcile("a")
    assert [len(decision.actions) for decision in made] == [1, 0]
    still.reconciler.reconcile("a")
    assert len(made) == 3


def test_what_was_done_is_told_where_the_next_plan_fails(
    still: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that ends early, because a runner went away, does not keep what it has done."""
    observe, troubles = still.runner.observe, [RetryableError("the runner is away")]

    def fail_once_launched(flow_id: str) -> tuple[Instance, ...]:
        found = observe(flow_id)
        if found and troubles:
            raise troubles.pop()
        return found

    monkeypatch.setattr(still.runner, "observe", fail_once_launched)
    still.create("a", "forever")
    with pytest.raises(RetryableError):
        still.reconciler.reconcile("a")
    assert still.status("a").status == "running"


def test_a_drain_ends_the_source_first_and_then_each_step_in_order(loop: Loop) -> None:
    """SIGTERM goes to the first step; the end of its output ends the others."""
    loop.create("a", "forever", "cat", "cat")
    loop.reach("a", "running")
    loop.world.verbs.clear()
    loop.desired.command("stop", ["a"])
    status = loop.reach("a", "stopped")
    assert status.condition("Ready").reason == "Drained"
    verbs = [verb for verb, _ in loop.world.verbs]
    assert verbs[0] == "signal SIGTERM"
    assert verbs.count("signal SIGTERM") == 1
    assert verbs.index("end_step") < verbs.index("sweep") < verbs.index("forget")


def test_dependents_start_when_their_dependency_is_ready(loop: Loop) -> None:
    """And say what they wait for until then."""
    loop.create("front", "forever", dependsOn=[{"name": "back", "condition": "Started"}])
    status = loop.reach("front", "pending")
    assert "'back', which does not exist" in status.message
    loop.create("back", "forever")
    loop.reach("front", "running")


def test_completed_dependencies(loop: Loop) -> None:
    """A flow may wait for a job's end."""
    loop.create("next", "forever", dependsOn=[{"name": "job", "condition": "Completed"}])
    loop.create("job", "forever", restart={"policy": "Never"})
    loop.reach("job", "running")
    loop.reach("next", "pending")
    loop.runner.exits(loop.run_of("job"), 0, code=0)
    loop.reach("job", "completed")
    loop.reach("next", "running")


def test_replicas_are_scaled_in_place(loop: Loop) -> None:
    """Up and down; those that stay are not touched."""
    loop.create("a", "forever", replicas=2)
    loop.reach("a", "running")
    first = loop.run_of("a", 0)
    for count in (4, 1):
        loop.desired.replace(make_manifest("a", "forever", replicas=count))

        def scaled(count: int = count) -> None:
            assert loop.status("a").ready_replicas == count
            assert len(loop.world.runs) == count

        eventually(scaled)
        assert loop.run_of("a", 0) == first


def test_of_many_flows_that_stop_all_are_told_to_before_the_first_is_cleared_away(
    loop: Loop,
) -> None:
    """So that the last one has ended soon after the first."""
    names = [f"f{number}" for number in range(FEW + 10)]
    for name in names:
        loop.create(name, "forever")
    for name in names:
        loop.reach(name, "running")
    before = len(loop.world.verbs)
    loop.desired.command("stop", names)
    for name in names:
        loop.reach(name, "stopped")
    verbs = [verb for verb, _run in loop.world.verbs[before:]]
    first = next(at for at, verb in enumerate(verbs) if not verb.startswith("signal"))
    assert verbs[:first].count("signal SIGTERM") >= len(names) - WORKERS


def test_a_runner_that_is_away_is_waited_for(root: Path, loop: Loop) -> None:
    """Unreachable is not exited: nothing is restarted, and all goes on when it is back.

    What was begun is in the file before anything is done about it.
    """
    loop.create("a", "forever")
    loop.reach("a", "running")
    run = loop.run_of("a")
    loop.world.away = True
    loop.desired.command("stop", ["a"])
    eventually(lambda: _assert("ReconcileError" in {e.reason for e in loop.board.events(["a"])}))
    assert loop.world.runs[run].steps[0].pid
    kept = decode_memory((root / "runs" / "a.json").read_bytes()).runs[0].stop
    assert kept is not None
    assert not kept.signalled
    loop.world.away = False
    loop.reach("a", "stopped")


def test_a_crash_loop_backs_off_and_is_told(root: Path, world: FakeWorld) -> None:
    """The first restart is immediate, the next waits; the status says why."""
    clock = world.clock = FakeClock()
    loop = Loop(root, world, clock).start()
    try:
        loop.create("a", "exit 3", restart={"backoff": {"initial": "10s", "jitter": 0}})
        status = loop.reach("a", "backoff")
        assert "exited with code 3" in status.message
        assert status.restarts == 1
        for seconds, restarts in ((10, 2), (20, 3), (40, 4)):
            clock.advance(seconds)
            loop.queue.add("a")

            def again(restarts: int = restarts) -> None:
                assert loop.status("a").restarts == restarts

            eventually(again)
    finally:
        loop.close()


def test_wall_clock_jumps_change_nothing(root: Path, world: FakeWorld) -> None:
    """A year forth and back: no restart, no lost backoff."""
    clock = world.clock = FakeClock()
    loop = Loop(root, world, clock).start()
    try:
        loop.create("a", "forever")
        loop.create("b", "exit 1", restart={"backoff": {"initial": "10s", "jitter": 0}})
        loop.reach("a", "running")
        loop.reach("b", "backoff")
        verbs = len(world.verbs)
        for jump in (365 * 86400.0, -2 * 365 * 86400.0):
            clock.wall_now += jump
            loop.queue.add("a")
            loop.queue.add("b")
            eventually(lambda: _assert(len(loop.queue) == 0))
        assert len(world.verbs) == verbs
        loop.reach("a", "running")
        loop.reach("b", "backoff")
    finally:
        loop.close()


class Jumping(SystemClock):
    """A wall clock that goes a year forth or back each time it is read."""

    def __init__(self) -> None:
        self._reads = 0

    def wall(self) -> float:
        self._reads += 1
        return super().wall() + (-1) ** self._reads * 365 * 86400


def test_no_wait_is_measured_by_the_wall_clock(root: Path) -> None:
    """Probes, backoff, deadlines and silence keep their time while it jumps all the time."""
    world = FakeWorld(Jumping())
    loop = Loop(root, world, world.clock).start()
    check = {"exec": {"command": ["true"]}, "period": "5ms"}
    probed = {"name": "s0", "script": "forever", "livenessProbe": check, "readinessProbe": check}
    try:
        loop.create("probed", probed, progress={"silenceTimeout": "1h", "action": "Restart"})
        loop.create("fails", "exit 1", restart={"backoff": {"initial": "1h", "max": "2h"}})
        loop.create("soon", "exit 1", restart={"backoff": {"initial": "20ms", "max": "20ms"}})
        loop.create("stops", "trap '' TERM; forever", stop={"timeout": "500ms"})
        loop.create("patient", "trap '' TERM; forever", stop={"timeout": "1h"})
        for name in ("probed", "stops", "patient"):
            loop.reach(name, "running")
        loop.desired.command("stop", ["stops", "patient"])

        def timed_out(name: str) -> bool:
            return "DrainTimedOut" in {event.reason for event in loop.board.events([name])}

        always_for(0.3, lambda: _assert(not timed_out("stops")))
        eventually(lambda: _assert(timed_out("stops")))
        eventually(lambda: _assert(loop.status("soon").restarts > 5))
        before = _successes(loop)
        eventually(lambda: _assert(_successes(loop) > before + 5))
        for _ in range(4):
            loop.gauges.look()
        always_for(0.1, lambda: _assert(loop.status("probed").condition("Ready").status == "True"))
        assert (loop.status("probed").restarts, loop.status("fails").restarts) == (0, 1)
        assert not timed_out("patient")
    finally:
        loop.close()


def _successes(loop: Loop) -> int:
    [probes] = loop.prober.results("probed").values()
    return min(probe.successes for probe in probes)


def test_records_of_another_boot_are_never_handed_to_a_runner(
    root: Path, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has those pids now is a stranger: nothing is adopted by them."""
    first = Loop(root, world, FakeClock()).start()
    first.create("a", "forever", replicas=2)
    first.reach("a", "running")
    first.close()
    handed: list[list[str]] = []
    for boot, count in (("boot", 2), ("next boot", 0)):
        second = Loop(root, world, FakeClock(monotonic=1.0), boot=boot)
        monkeypatch.setattr(
            second.runner, "recover", lambda handles: handed.append([h.run for h in handles])
        )
        second.controller.take_back()
        second.close()
        assert len(handed.pop()) == count


def test_another_operator_goes_on_where_the_first_was_killed(root: Path, world: FakeWorld) -> None:
    """Runs, backoff and a stop under way are taken over."""
    clock = world.clock = FakeClock()
    first = Loop(root, world, clock).start()
    first.create("runs", "forever")
    first.create("fails", "exit 1", restart={"backoff": {"initial": "10s", "jitter": 0}})
    first.create("stops", "trap '' TERM; forever", stop={"timeout": "5s"})
    first.reach("runs", "running")
    first.reach("fails", "backoff")
    first.reach("stops", "running")
    first.desired.command("stop", ["stops"])
    first.reach("stops", "stopping")
    run = first.run_of("runs")
    first.close()
    second = Loop(root, world, clock).start()
    try:
        second.reach("runs", "running")
        assert second.run_of("runs") == run
        assert second.reach("fails", "backoff").restarts == 1
        second.reach("stops", "stopping")
        for _ in range(2):
            clock.advance(6)
            second.queue.add("stops")
            eventually(lambda: _assert(len(second.queue) == 0))
        assert second.reach("stops", "stopped").condition("Ready").reason == "Forced"
    finally:
        second.close()


def test_a_reboot_starts_everything_anew(root: Path, world: FakeWorld) -> None:
    """What another boot has started is not looked for."""
    first = Loop(root, world, FakeClock()).start()
    first.create("a", "forever")
    first.reach("a", "running")
    first.close()
    world.runs.clear()
    world.verbs.clear()
    second = Loop(root, world, FakeClock(monotonic=1.0), boot="next boot").start()
    try:
        second.reach("a", "running")
        assert {verb for verb, _ in world.verbs} == {"launch"}
    finally:
        second.close()


def test_the_operators_end_stops_dependents_first_and_keeps_desired_state(loop: Loop) -> None:
    """Ordered shutdown."""
    loop.create("back", "forever")
    loop.create("front", "forever", dependsOn=[{"name": "back"}])
    loop.reach("front", "running")
    loop.world.verbs.clear()
    loop.controller.shut_down("soft")
    eventually(lambda: _assert(loop.controller.left() == []))
    signals = [run for verb, run in loop.world.verbs if verb.startswith("signal")]
    assert [run.split("-")[0] for run in signals] == ["front", "back"]
    assert all(flow.flow.spec.state == "running" for flow in loop.store.flows())


def test_an_unreadable_flow_is_told_and_left_alone(root: Path, world: FakeWorld) -> None:
    """Its processes go on; the others are looked after."""
    first = Loop(root, world, SystemClock()).start()
    first.create("bad", "forever")
    first.create("good", "forever")
    first.reach("bad", "running")
    first.reach("good", "running")
    run = first.run_of("bad")
    first.close()
    (root / "flows" / "bad.yaml").write_text("{broken")
    second = Loop(root, world, SystemClock()).start()
    try:
        second.reach("good", "running")
        assert "StoreError" in second.reach("bad", "unknown").message
        assert world.runs[run].steps[0].pid
    finally:
        second.close()


def _assert(condition: bool) -> None:
    assert condition


def test_a_launch_is_in_the_file_before_it_is_made(loop: Loop, root: Path) -> None:
    """Whoever comes after a killed operator finds what it was about to start."""
    found: list[bool] = []
    launch = loop.runner.launch

    def watched(wanted: Launch) -> None:
        kept = decode_memory((root / "runs" / "a.json").read_bytes())
        found.append(kept.runs[0].run == wanted.run)
        launch(wanted)

    loop.runner.launch = watched
    loop.create("a", "forever")
    loop.reach("a", "running")
    assert found == [True]


def test_a_change_of_few_flows_overtakes_one_of_many(loop: Loop) -> None:
    """Whoever commands one flow need not wait until a thousand others were looked at."""
    order: list[str] = []
    going = threading.Event()
    launch = loop.runner.launch

    def gated(wanted: Launch) -> None:
        assert wanted.flow.flow_id == "single" or going.wait(10)
        order.append(wanted.flow.flow_id)
        launch(wanted)

    loop.runner.launch = gated
    crowd = [make_manifest(f"crowd-{number}", "forever") for number in range(5 * FEW)]
    loop.desired.create(crowd)
    eventually(lambda: _assert(len(loop.queue) == 5 * FEW - VOLLEY))
    loop.create("single", "forever")
    eventually(lambda: _assert(order == ["single"]))
    going.set()
    for manifest in crowd:
        loop.reach(manifest.flow.flow_id, "running")
