"""Many flows that are looked at together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from flow_operator import reconciler, turns
from flow_operator.clock import SystemClock
from flow_operator.errors import RetryableError, StorageError, TerminalError
from flow_operator.model.status import FlowStatus
from flow_operator.reconciler import AHEAD, VOLLEY, Result
from flow_operator.runners.base import Call
from flow_operator.runners.fake import FakeRunner, FakeWorld
from reconcile.test_loop import Loop
from support import make_manifest

NAMES = [f"f{number:02}" for number in range(3 * VOLLEY - 5)]


class Listening(FakeRunner):
    """Remembers what it is told at once, and may refuse some of it."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(world)
        self.volleys: list[list[Call]] = []
        self.finished = 0
        self.troubles: dict[str, list[Exception]] = {}

    def begin(self, calls):
        self.volleys.append(list(calls))
        outcomes = [self._trouble(call) for call in calls]
        for number, call in enumerate(calls):
            if outcomes[number] is None:
                [outcomes[number]] = super().begin([call])()

        def finish():
            self.finished += 1
            return outcomes

        return finish

    def _trouble(self, call: Call) -> Exception | None:
        first = call.arguments[0]
        run = first if isinstance(first, str) else first.run
        troubles = self.troubles.get(run.split("-")[0], [])
        return troubles.pop(0) if troubles else None


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def runner(world: FakeWorld) -> Listening:
    return Listening(world)


@pytest.fixture
def loop(root: Path, world: FakeWorld, runner: Listening) -> Iterator[Loop]:
    """A loop in which nobody looks but the test."""
    made = Loop(root, world, SystemClock(), runner=runner)
    made.controller.take_back()
    made.desired.create([make_manifest(name, "forever") for name in NAMES])
    yield made
    made.close()


def _looking(loop: Loop, names: Sequence[str]) -> Iterator[tuple[str, Result | Exception]]:
    """Look at them as the worker does that has a crowd."""
    volleys = iter([names[start : start + VOLLEY] for start in range(0, len(names), VOLLEY)])
    return loop.reconciler.reconcile_all(next(volleys), lambda: next(volleys, []))


def _look(loop: Loop, names: Sequence[str] = NAMES) -> dict[str, Result | Exception]:
    return dict(_looking(loop, names))


def _when_told(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, note: Callable[[FlowStatus], None]
) -> None:
    """Have each status noted from now on, before it is told."""
    publish = loop.board.publish

    def told(status: FlowStatus) -> None:
        note(status)
        publish(status)

    monkeypatch.setattr(loop.board, "publish", told)


def _told(loop: Loop, runner: Listening, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens from now on: verbs, and statuses."""
    order: list[str] = []
    begin = runner.begin

    def asked(calls):
        order.extend(call.verb for call in calls)
        return begin(calls)

    _when_told(loop, monkeypatch, lambda _status: order.append("told"))
    monkeypatch.setattr(runner, "begin", asked)
    return order


def _told_names(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of whom is told from now on."""
    names: list[str] = []
    _when_told(loop, monkeypatch, lambda status: names.append(status.flow_id))
    return names


def test_a_runner_is_told_in_volleys(loop: Loop, runner: Listening) -> None:
    """Not flow by flow, and of a launch before the next look is made."""
    outcomes = _look(loop)
    assert list(outcomes) == NAMES
    assert [len(calls) for calls in runner.volleys] == [VOLLEY, VOLLEY, VOLLEY - 5]
    assert {loop.status(name).status for name in NAMES} == {"running"}


def test_all_are_signalled_before_any_is_told_of(loop, runner, monkeypatch) -> None:
    """The last one of many ends about as soon as the first."""
    _look(loop)
    loop.desired.command("stop", NAMES)
    order = _told(loop, runner, monkeypatch)
    _look(loop)
    assert order[: len(NAMES)] == ["signal"] * len(NAMES)
    assert order[len(NAMES) :] == ["told"] * len(NAMES)


def test_launches_are_told_of_while_the_runner_has_others(loop, runner, monkeypatch) -> None:
    """It is never without work, and never has all of it: who is in a hurry comes through."""
    names = [f"g{number:02}" for number in range(6 * VOLLEY)]
    loop.desired.create([make_manifest(name, "forever") for name in names])
    order = _told(loop, runner, monkeypatch)
    for _ in _looking(loop, names):
        volleys = sum(calls[0].verb == "launch" for calls in runner.volleys)
        assert volleys == 6 or volleys - runner.finished == AHEAD
    first = (AHEAD + 1) * VOLLEY
    assert order[: first + VOLLEY] == ["launch"] * first + ["told"] * VOLLEY


def test_the_processor_is_offered_to_others_between_two(loop, runner, monkeypatch) -> None:
    """While they are planned, while the rest is done, and while they are told of."""
    yields: list[str] = []
    monkeypatch.setattr(turns.os, "sched_yield", lambda: yields.append("yield"))
    monkeypatch.setattr(loop.board, "publish", lambda _status: yields.append("told"))
    _look(loop, NAMES[:1])
    assert yields == ["told"], "one by itself offers it to nobody"
    yields.clear()
    _look(loop, NAMES[1:3])
    assert yields[-3:] == ["told", "yield", "told"]
    assert yields[:-3] == ["yield"] * len(yields[:-3])
    assert yields[:-3], "while they are planned"


def test_so_many_at_most_are_not_told_of(loop, runner, monkeypatch) -> None:
    """What is held of them takes memory."""
    monkeypatch.setattr(reconciler, "MOST_SAID", 2)
    _look(loop)
    loop.desired.command("stop", NAMES)
    order = _told(loop, runner, monkeypatch)
    _look(loop)
    one, rest = VOLLEY, len(NAMES) - 2 * VOLLEY
    assert order == [
        *2 * one * ["signal"],
        *one * ["told"],
        *rest * ["signal"],
        *one * ["told"],
        *rest * ["told"],
    ]


def test_those_that_were_signalled_are_told_of_when_others_are_launched(
    loop, runner, monkeypatch
) -> None:
    """They do not wait for all launches, of which there may be thousands."""
    _look(loop)
    loop.desired.command("stop", NAMES[:VOLLEY])
    names = [f"g{number:02}" for number in range(2 * VOLLEY)]
    loop.desired.create([make_manifest(name, "forever") for name in names])
    order = _told(loop, runner, monkeypatch)
    _look(loop, [*NAMES[:VOLLEY], *names])
    assert order[: 3 * VOLLEY] == [
        *VOLLEY * ["signal"],
        *VOLLEY * ["launch"],
        *VOLLEY * ["told"],
    ]


def test_of_whom_nothing_is_begun_is_told_at_once(loop, runner, monkeypatch) -> None:
    """They are not signalled before, and nobody waits for them."""
    _look(loop)
    loop.desired.command("stop", NAMES[VOLLEY:])
    order = _told(loop, runner, monkeypatch)
    _look(loop)
    stopped = len(NAMES) - VOLLEY
    assert order == [*VOLLEY * ["told"], *stopped * ["signal"], *stopped * ["told"]]


@pytest.mark.parametrize("begun", ["launched", "signalled"])
def test_what_was_begun_is_told_of_before_all_those_that_rest(loop, monkeypatch, begun) -> None:
    """There may be thousands of them, and more to be done for the ones that wait."""
    _look(loop)
    first = [f"g{number:02}" for number in range(VOLLEY)]
    loop.desired.create([make_manifest(name, "forever") for name in first])
    if begun == "signalled":
        _look(loop, first)
        loop.desired.command("stop", first)
    names = _told_names(loop, monkeypatch)
    _look(loop, [*first, *NAMES])
    assert names == [*NAMES[:VOLLEY], *first, *NAMES[VOLLEY:]]


def test_what_was_launched_is_told_of_before_all_those_that_end(loop, monkeypatch) -> None:
    """A flow has its next replica launched only then."""
    _look(loop)
    first = [f"g{number:02}" for number in range(VOLLEY)]
    loop.desired.create([make_manifest(name, "forever") for name in first])
    loop.desired.command("stop", NAMES)
    told = _told_names(loop, monkeypatch)
    looking = _looking(loop, [*first, *NAMES])
    assert next(looking)[0] == first[0]
    assert loop.memories.get(NAMES[-1]).runs[0].stop is None, "all others come first"
    list(looking)
    assert told == [*first, *NAMES]


def test_who_comes_while_others_are_told_of_need_not_wait(loop, runner, monkeypatch) -> None:
    """There may be thousands of them."""
    _look(loop)
    loop.desired.command("stop", NAMES)
    order = _told(loop, runner, monkeypatch)
    volleys = iter([NAMES[:VOLLEY], NAMES[VOLLEY : 2 * VOLLEY], [], NAMES[2 * VOLLEY :]])
    dict(loop.reconciler.reconcile_all(next(volleys), lambda: next(volleys, [])))
    late = len(NAMES) - 2 * VOLLEY
    assert order == [
        *2 * VOLLEY * ["signal"],
        *VOLLEY * ["told"],
        *late * ["signal"],
        *VOLLEY * ["told"],
        *late * ["told"],
    ]


def test_a_step_that_ends_is_started_again_while_others_start(loop, runner, monkeypatch) -> None:
    """Not after all of them, of which there may be thousands."""
    _look(loop)
    names = [f"g{number:03}" for number in range(9 * VOLLEY)]
    loop.desired.create([make_manifest(name, "forever") for name in names])
    begin, victim = runner.begin, NAMES[0]

    def with_an_accident(calls):
        if len(runner.volleys) == volleys + 3:
            loop.world.exit(loop.run_of(victim), 0, number=9)
            loop.queue.add(victim)
        return begin(calls)

    volleys = len(runner.volleys)
    monkeypatch.setattr(runner, "begin", with_an_accident)
    loop.queue.add_all(names)
    batch = loop.queue.get_some(VOLLEY)
    assert batch is not None
    loop.controller._look(batch)
    begun = [{call.verb for call in calls} for calls in runner.volleys[volleys:]]
    again = next(number for number, verbs in enumerate(begun) if "start_step" in verbs)
    assert again <= 3 + AHEAD < len(begun) - AHEAD, begun
    assert loop.status(victim).restarts == 1
    assert {loop.status(name).status for name in names} == {"running"}


def test_a_stop_is_remembered_before_it_is_begun_and_told_of_after(loop, runner) -> None:
    """An operator that is killed between the two goes on with it."""
    _look(loop)
    loop.desired.command("stop", NAMES)
    looking = _looking(loop, NAMES)
    next(looking)
    left = [loop.memories.get(name).runs[0].stop for name in NAMES]
    assert all(stop is not None and stop.signalled for stop in left), "it would be signalled twice"
    assert loop.status(NAMES[-1]).status == "running"
    list(looking)
    assert loop.status(NAMES[-1]).status == "stopping"


def test_what_goes_wrong_with_one_is_none_of_the_others(loop, runner, monkeypatch) -> None:
    """Whether it cannot be written, is refused, or is a mistake of ours."""
    unwritten, refused, mistaken, waiting = NAMES[3], NAMES[4], NAMES[5], NAMES[6]
    runner.troubles = {
        refused: [TerminalError("no such program")],
        mistaken: [ZeroDivisionError()],
        waiting: [RetryableError("just now")],
    }
    put = loop.memories.put

    def failing(flow_id, memory):
        if flow_id == unwritten:
            raise StorageError("the disk is full")
        put(flow_id, memory)

    monkeypatch.setattr(loop.memories, "put", failing)
    outcomes = _look(loop)
    assert isinstance(outcomes[unwritten], StorageError)
    assert isinstance(outcomes[mistaken], ZeroDivisionError)
    assert loop.status(refused).status == "backoff"
    others = set(NAMES) - {unwritten, refused, mistaken}
    assert {loop.status(name).status for name in others} == {"running"}
    assert all(isinstance(outcomes[name], Result) for name in others)
    launched = [run.flow_id for run in loop.world.runs.values()]
    assert sorted(launched) == sorted(others)


def test_only_what_cannot_be_done_now_is_asked_for_again(loop, runner) -> None:
    """Once more, together."""
    again = NAMES[2:5]
    runner.troubles = {name: [RetryableError("just now")] for name in again}
    _look(loop)
    sizes = [len(calls) for calls in runner.volleys]
    assert sizes == [VOLLEY, VOLLEY, VOLLEY - 5, len(again)]
    assert {loop.status(name).status for name in NAMES} == {"running"}


def test_a_mistake_of_ours_ends_no_worker(loop, runner, monkeypatch) -> None:
    """Not even one that none of the flows is to blame for: all are looked at again."""
    begin, mistakes = runner.begin, [ZeroDivisionError("oh")]

    def failing(calls):
        if mistakes:
            raise mistakes.pop()
        return begin(calls)

    monkeypatch.setattr(runner, "begin", failing)
    loop.controller.start()
    for name in NAMES:
        loop.reach(name, "running")
    events = [event for event in loop.board.events() if event.reason == "ReconcileError"]
    assert {event.message for event in events} == {"internal error: oh"}


class Slow(FakeRunner):
    """A runner for which one has to wait."""

    quick = False


def test_flows_of_a_slow_runner_are_looked_at_alone(root, world, monkeypatch) -> None:
    """Nobody waits for an engine but those whose containers it has."""
    loop = Loop(root, world, SystemClock(), runner=Slow(world))
    loop.controller.take_back()
    loop.desired.create([make_manifest("a", "forever")])
    assert not loop.reconciler.is_quick("a")
    assert loop.reconciler.is_quick("nobody")
    loop.reconciler.reconcile("a")
    loop.desired.delete("a")
    assert not loop.reconciler.is_quick("a"), "what still runs counts"
    loop.close()
