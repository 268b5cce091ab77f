"""When a step counts as silent, and a pipe as full: samples of the fake runner on a fake clock."""

from __future__ import annotations

import threading

import pytest

from flow_operator.gauges import (
    PRESSURE_PERIOD,
    PRESSURE_SPELL,
    REST_PERIOD,
    REST_SPELL,
    Gauges,
    Reading,
    Watched,
)
from flow_operator.runners.base import Launch
from flow_operator.runners.fake import FakeRunner, FakeWorld
from support import FakeClock, eventually, make_manifest

FULL = 64 * 1024


class Asked(FakeRunner):
    """A fake runner that counts what it is asked."""

    def __init__(self, world):
        super().__init__(world)
        self.outputs: list[list[str]] = []
        self.pipings: list[list[str]] = []

    def output(self, runs):
        self.outputs.append(list(runs))
        return super().output(self.outputs[-1])

    def pipes(self, runs):
        self.pipings.append(list(runs))
        return super().pipes(self.pipings[-1])


class Bench:
    """Gauges whose looks are taken by hand, over one run of two steps."""

    def __init__(self, *scripts: str) -> None:
        self.clock = FakeClock()
        self.world = FakeWorld(self.clock)
        self.runner = Asked(self.world)
        self.told: list[str] = []
        self.gauges = Gauges(self.clock, self.told.append, {"process": self.runner})
        self.launch("r1", *(scripts or ("a", "b")))

    def launch(self, run: str, *scripts: str, flow: str = "demo") -> None:
        self.runner.launch(Launch(run, 0, make_manifest(flow, *scripts).flow))

    def sync(self, *attempts: int, silence: float | None = None) -> None:
        self.gauges.sync("demo", [Watched("r1", attempts or (1, 1), silence)])

    def step(self, index: int):
        return self.world.runs["r1"].steps[index]

    def writes(self, *indexes: int) -> None:
        for index in indexes:
            self.step(index).written += 1

    def after(self, seconds: float) -> Reading:
        """What is shown when time has passed, with the looks that were due meanwhile."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(min(0.25, end - self.clock.now))
            self.gauges.look()
        return self.reading()

    def reading(self) -> Reading:
        return self.gauges.reading("demo")


def _silent(reading: Reading) -> list[int]:
    return sorted(index for _, index, _ in reading.silent)


# --- silence ---------------------------------------------------------------------------------


def test_a_step_is_silent_after_its_timeout_and_not_before():
    """Each on its own: the one that goes on writing is not."""
    bench = Bench()
    bench.sync(silence=20)
    for _ in range(19):
        bench.writes(0)
        assert _silent(bench.after(1)) == []
    for _ in range(12):
        bench.writes(0)
        bench.after(1)
    assert bench.reading().silent == {("r1", 1, 1)}
    assert bench.told == ["demo"]


def test_a_step_that_writes_again_is_no_longer_silent():
    """At the next look; and its time begins anew."""
    bench = Bench()
    bench.sync(silence=20)
    assert _silent(bench.after(40)) == [0, 1]
    bench.writes(1)
    assert _silent(bench.after(5)) == [0]
    assert _silent(bench.after(14)) == [0]
    assert _silent(bench.after(10)) == [0, 1]


def test_a_count_that_goes_down_is_output_too():
    """A child that ended took its count away: somebody has moved."""
    bench = Bench()
    bench.step(0).written = bench.step(1).written = 1000
    bench.sync(silence=20)
    bench.after(19)
    bench.step(0).written = 10
    assert _silent(bench.after(12)) == [1]


@pytest.mark.parametrize(
    ("silence", "period"), [(0.1, 0.5), (1, 0.5), (4, 1), (40, 10), (120, 30), (3600, 30)]
)
def test_it_is_looked_at_four_times_within_the_timeout(silence, period):
    """Twice a second at most, and twice a minute at least."""
    bench = Bench("a")
    bench.sync(1, silence=silence)
    bench.after(120)
    assert len(bench.runner.outputs) == 120 / period


def test_another_attempt_starts_fresh():
    """It is another process; what the one before had not written is none of its business."""
    bench = Bench()
    bench.sync(silence=20)
    assert _silent(bench.after(40)) == [0, 1]
    bench.sync(2, 1, silence=20)
    assert bench.reading().silent == {("r1", 1, 1)}
    assert _silent(bench.after(19)) == [1]
    assert bench.after(12).silent == {("r1", 0, 2), ("r1", 1, 1)}


def test_a_step_without_a_process_is_not_silent():
    """It has ended, or waits for its restart."""
    bench = Bench()
    bench.sync(0, 1, silence=20)
    assert _silent(bench.after(60)) == [1]
    bench.sync(0, 0, silence=20)
    assert _silent(bench.after(60)) == []


def test_time_in_which_a_run_is_not_looked_at_does_not_count():
    """A frozen run is left out; once it goes on, its time begins anew."""
    bench = Bench()
    bench.sync(silence=20)
    bench.after(15)
    bench.gauges.sync("demo", [])
    assert _silent(bench.after(100)) == []
    bench.sync(silence=20)
    assert _silent(bench.after(19)) == []
    assert _silent(bench.after(10)) == [0, 1]


def test_an_edited_timeout_holds_at_once():
    """From the edit on; and null ends it."""
    bench = Bench()
    bench.sync(silence=3600)
    bench.after(100)
    bench.sync(silence=10)
    assert _silent(bench.after(15)) == [0, 1]
    bench.sync(silence=None)
    assert bench.reading() == Reading()


def test_a_step_that_is_held_up_by_the_next_one_is_not_silent():
    """It cannot write; the one that does not read is."""
    bench = Bench()
    bench.sync(silence=4)
    bench.step(1).unread = FULL
    assert _silent(bench.after(30)) == [1]
    bench.step(1).unread = 0
    assert _silent(bench.after(10)) == [0, 1]


# --- pressure --------------------------------------------------------------------------------


def test_a_pipe_that_is_full_at_every_look_for_ten_seconds_is_told_with_its_bytes():
    """Not earlier; and the bytes are those of then, so that the message stays as it is."""
    bench = Bench()
    bench.sync()
    bench.step(1).unread = FULL
    assert bench.after(PRESSURE_SPELL).backpressured == {}
    assert bench.after(PRESSURE_PERIOD).backpressured == {("r1", 1): FULL}
    assert bench.told == ["demo"]
    bench.step(1).unread = FULL + 1
    assert bench.after(60).backpressured == {("r1", 1): FULL}
    assert bench.told == ["demo"]


def test_one_look_at_which_it_had_room_starts_the_time_again():
    """A reader that keeps up in bursts is none that does not."""
    bench = Bench()
    bench.sync()
    for _ in range(6):
        bench.step(1).unread = FULL
        assert bench.after(PRESSURE_SPELL).backpressured == {}
        bench.step(1).unread = FULL - 4097
        bench.after(PRESSURE_PERIOD)
    assert bench.told == []


def test_a_pipe_that_has_moved_is_no_longer_told():
    """At the next look, and the flow hears of it."""
    bench = Bench()
    bench.sync()
    bench.step(1).unread = FULL
    bench.after(20)
    bench.step(1).unread = 0
    assert bench.after(PRESSURE_PERIOD).backpressured == {}
    assert bench.told == ["demo", "demo"]


def test_a_new_attempt_of_a_slow_step_does_not_empty_its_pipe():
    """The pipe outlives the process."""
    bench = Bench()
    bench.sync()
    bench.step(1).unread = FULL
    bench.after(20)
    bench.sync(1, 2)
    assert bench.reading().backpressured


# --- rest ------------------------------------------------------------------------------------

DRAIN = REST_SPELL + 2 * REST_PERIOD


def _rest(bench: Bench, *attempts: int) -> None:
    bench.gauges.sync("demo", [Watched("r1", attempts or (1, 1, 1), drains=True)])


def _restless(bench: Bench, seconds: float) -> list[int]:
    """Those that are not at rest after a while; looks are made ten times as often as needed."""
    end = bench.clock.now + seconds
    while bench.clock.now < end:
        bench.clock.advance(REST_PERIOD / 10)
        bench.gauges.look()
    return sorted(bench.reading().restless["r1"])


def test_steps_are_at_rest_once_nothing_was_seen_of_them_for_a_while():
    """Not at the first look, which cannot know what was before it. The first step is left out."""
    bench = Bench("a", "b", "c")
    assert bench.reading().restless == {}
    _rest(bench)
    assert bench.reading().restless == {"r1": {1, 2}}
    assert _restless(bench, REST_SPELL) == [1, 2]
    assert _restless(bench, 2 * REST_PERIOD) == []
    assert bench.told == ["demo"]


@pytest.mark.parametrize("what", ["unread", "written", "cpu"])
def test_a_step_that_reads_writes_or_computes_is_not_at_rest(what):
    """Each alone is enough; and its time begins anew."""
    bench = Bench("a", "b", "c")
    _rest(bench)
    _restless(bench, DRAIN)
    for _ in range(10):
        setattr(bench.step(2), what, 1000 + getattr(bench.step(2), what))
        assert _restless(bench, 2 * REST_PERIOD) == [2]
    bench.step(2).unread = 0
    assert _restless(bench, DRAIN) == []


def test_input_that_nobody_reads_is_no_rest():
    """However still it is."""
    bench = Bench("a", "b", "c")
    bench.step(1).unread = 1
    _rest(bench)
    assert _restless(bench, 60) == [1]


def test_a_step_that_only_ticks_along_is_at_rest():
    """Timers and collectors of garbage use a little of a CPU, and always will."""
    bench = Bench("a", "b")
    _rest(bench, 1, 1)
    for _ in range(20):
        bench.step(1).cpu += 0.01
        restless = _restless(bench, REST_PERIOD)
    assert restless == []


def test_a_step_that_tells_each_second_that_it_is_there_comes_to_rest():
    """Between two such lines there is time enough."""
    bench = Bench("a", "b")
    _rest(bench, 1, 1)
    rested = False
    for _ in range(3):
        bench.writes(1)
        for _ in range(50):
            rested |= _restless(bench, 0.02) == []
    assert rested


def test_another_attempt_of_a_step_is_not_at_rest():
    """Nobody knows what it will do with what is there."""
    bench = Bench("a", "b", "c")
    _rest(bench)
    _restless(bench, DRAIN)
    _rest(bench, 1, 2, 1)
    assert _restless(bench, REST_PERIOD) == [1]


def test_nothing_is_at_rest_while_the_runner_is_away():
    """What cannot be asked is not known."""
    bench = Bench("a", "b", "c")
    _rest(bench)
    bench.world.away = True
    assert _restless(bench, 60) == [1, 2]
    bench.world.away = False
    assert _restless(bench, REST_SPELL) == [1, 2]


def test_a_run_that_drains_is_looked_at_for_nothing_else_and_again_after_it():
    """Its pipes may be as full as they like; and each drain is looked at from its beginning."""
    bench = Bench("a", "b", "c")
    bench.step(1).unread = FULL
    bench.sync(1, 1, 1, silence=1)
    bench.after(20)
    _rest(bench)
    bench.step(1).unread = 0
    assert _restless(bench, DRAIN) == []
    assert (bench.reading().silent, bench.reading().backpressured) == (frozenset(), {})
    bench.sync(1, 1, 1)
    assert bench.reading() == Reading()
    _rest(bench)
    assert bench.reading().restless == {"r1": {1, 2}}


# --- how much is asked -----------------------------------------------------------------------


def test_a_flow_of_one_step_whose_silence_nobody_asks_for_is_never_looked_at():
    """Nor does anybody wake up for it."""
    bench = Bench("a")
    bench.sync(1)
    bench.after(120)
    assert (bench.runner.outputs, bench.runner.pipings) == ([], [])
    assert bench.gauges._flows == {}


def test_only_pipes_are_looked_at_where_nobody_asks_for_silence():
    """/proc is not read for nothing."""
    bench = Bench()
    bench.sync()
    bench.after(60)
    assert bench.runner.outputs == []
    assert len(bench.runner.pipings) == 60 / PRESSURE_PERIOD


def test_all_flows_are_looked_at_in_one_go():
    """However far apart they were started."""
    bench = Bench()
    for number in range(50):
        bench.launch(f"n{number}", "a", "b", flow=f"f{number}")
        bench.gauges.sync(f"f{number}", [Watched(f"n{number}", (1, 1))])
        bench.clock.advance(0.01)
    bench.runner.pipings.clear()
    bench.after(60)
    assert [len(runs) for runs in bench.runner.pipings] == [50] * int(60 / PRESSURE_PERIOD)


def test_a_runner_that_is_away_makes_nothing_silent():
    """Nor a pipe full. Once it is back, the counts tell of the time between as well."""
    bench = Bench()
    bench.sync(silence=20)
    bench.after(5)
    bench.world.away = True
    bench.step(1).unread = FULL
    assert bench.after(100) == Reading()
    bench.world.away = False
    bench.writes(0)
    assert bench.after(5) == Reading(frozenset({("r1", 1, 1)}))


# --- the thread ------------------------------------------------------------------------------


def test_the_thread_sleeps_while_nobody_needs_it_and_wakes_for_the_first():
    """No time-out at all while there is nothing to look at."""
    bench = Bench()
    waits: list[float | None] = []
    real = bench.gauges._changed.wait
    entered = threading.Event()

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout)
        entered.set()
        return real(timeout)

    bench.gauges._changed.wait = wait
    bench.gauges.start()
    try:
        assert entered.wait(10)
        assert waits == [None]
        bench.sync(silence=1)
        eventually(lambda: _assert(len(waits) > 1 and 0 < waits[1] <= 0.5))
    finally:
        bench.gauges.close()


def test_a_mistake_does_not_end_the_thread():
    """Other flows need it."""
    bench = Bench()
    bench.sync(silence=1)
    calls: list[int] = []

    def output(runs):
        calls.append(1)
        bench.clock.advance(0.5)
        raise ZeroDivisionError

    bench.runner.output = output
    bench.clock.advance(1)
    bench.gauges.start()
    try:
        eventually(lambda: _assert(len(calls) > 2))
    finally:
        bench.gauges.close()


def _assert(holds: object) -> None:
    assert holds
