"""Gauges: whether the steps that run still write, and how full the pipes between them are.

Only runs that need it are sampled, all that are due at a time in one go: moments are multiples of
a period, so that a thousand flows are one wakeup. What follows is decided by the plan.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog
from msgspec import Struct

from flow_operator.clock import Clock
from flow_operator.errors import RunnerError
from flow_operator.runners.base import PipeView, Runner, Usage

PRESSURE_PERIOD = 5.0
"""Seconds between two looks at the pipes of a flow."""

PRESSURE_SPELL = 10.0
"""Seconds for which a pipe must have been full at every look."""

REST_PERIOD = 0.2
"""Seconds between two looks at a flow that comes to rest because its first step has ended."""

REST_SPELL = 0.75
"""Seconds for which a step must have been at rest at every look: longer than most of what a step
does to a record takes, shorter than the second after which many tell that they are still there."""

_BUSY = 0.1
"""Share of a CPU above which a step computes, and does not only tick along."""

_SHORTEST, _LONGEST = 0.5, 30.0
"""Seconds between two looks at what a step writes; else a quarter of its timeout."""

T = TypeVar("T")

log = structlog.get_logger("gauges")


class Watched(Struct, frozen=True):
    """A run that is to be looked at.

    Attributes:
        attempts: by step; 0 for a step that has no process now.
        silence: seconds without output after which a step counts as silent; None: nobody asks.
        drains: whether all that is to be found out is when the steps after the first are at rest.
    """

    run: str
    attempts: tuple[int, ...]
    silence: float | None = None
    drains: bool = False


class Reading(Struct, frozen=True):
    """What the gauges of a flow show, as the plan takes it.

    Attributes:
        silent: (run, step index, attempt) that have written nothing for too long.
        backpressured: (run, step index) whose pipe is not emptied, with its unread bytes when
            that was found.
        restless: by run that drains, the steps after the first that were not at rest lately.
    """

    silent: frozenset[tuple[str, int, int]] = frozenset()
    backpressured: Mapping[tuple[str, int], int] = {}
    restless: Mapping[str, frozenset[int]] = {}


_NO_READING = Reading()


class _Sample(Struct, frozen=True):
    """What was seen of a run; None where nobody could be asked."""

    output: tuple[int, ...] | None
    pipes: tuple[PipeView, ...] | None
    usage: tuple[Usage, ...] | None = None


class _Silence:
    """What the steps of one run write."""

    def __init__(self, watched: Watched, limit: float, now: float) -> None:
        self.watched = watched
        self.limit = limit
        self.period = min(max(limit / 4, _SHORTEST), _LONGEST)
        self.due = _next_moment(now, self.period)
        self.silent: frozenset[tuple[int, int]] = frozenset()
        self._moved: dict[tuple[int, int], tuple[int, float]] = {}

    def follow(self, watched: Watched) -> None:
        """Go on with the attempts that run now; what is known of the same ones is kept."""
        self.watched = watched
        present = set(enumerate(watched.attempts))
        self._moved = {step: seen for step, seen in self._moved.items() if step in present}
        self.silent &= present

    def take(self, sample: _Sample, now: float) -> bool:
        """Returns whether the verdict has changed."""
        if sample.output is None:
            return False
        before, silent = self.silent, set()
        for index, (attempt, mark) in enumerate(
            zip(self.watched.attempts, sample.output, strict=True)
        ):
            step = (index, attempt)
            seen = self._moved.get(step)
            if attempt == 0:
                continue
            if seen is None or seen[0] != mark or _held_up(sample.pipes, index):
                self._moved[step] = (mark, now)
            elif now - seen[1] >= self.limit:
                silent.add(step)
        self.silent = frozenset(silent)
        return self.silent != before


def _held_up(pipes: tuple[PipeView, ...] | None, index: int) -> bool:
    """Whether a step cannot write because the one after it does not read."""
    following = index + 1
    return pipes is not None and following < len(pipes) and pipes[following].full


class _Pressure:
    """The pipes of one run."""

    period = PRESSURE_PERIOD

    def __init__(self, now: float) -> None:
        self.due = _next_moment(now, self.period)
        self._full_since: dict[int, float] = {}
        self.high: dict[int, int] = {}

    def take(self, sample: _Sample, now: float) -> bool:
        """Returns whether the verdict has changed."""
        if sample.pipes is None:
            return False
        before = self.high
        full = {index: pipe for index, pipe in enumerate(sample.pipes) if pipe.full}
        self._full_since = {index: self._full_since.get(index, now) for index in full}
        self.high = {
            index: before.get(index, pipe.unread_bytes)
            for index, pipe in full.items()
            if now - self._full_since[index] >= PRESSURE_SPELL
        }
        return self.high != before


class _Rest:
    """Whether the steps of one run still do something, but for the first, which has ended.

    A step is at rest once it had nothing to read, wrote nothing and computed nothing at each look
    for a while. One that waits for somebody else, with a record in its hands, cannot be told from
    it.
    """

    period = REST_PERIOD

    def __init__(self, watched: Watched, now: float) -> None:
        self.watched = watched
        self.due = _next_moment(now, self.period)
        self.restless = frozenset(range(1, len(watched.attempts)))
        self._looked = now
        self._marks: dict[int, tuple[int, int]] = {}
        self._cpu: dict[int, float] = {}
        self._moved: dict[int, float] = {}

    def take(self, sample: _Sample, now: float) -> bool:
        """Returns whether the verdict has changed."""
        if sample.output is None or sample.usage is None:
            return False
        before, elapsed = self.restless, max(now - self._looked, self.period)
        self._looked = now
        for index in range(1, len(self.watched.attempts)):
            used = sample.usage[index]
            mark = (self.watched.attempts[index], sample.output[index])
            computed = used.cpu_seconds - self._cpu.get(index, 0.0) >= _BUSY * elapsed
            # At the first look there is no mark: nobody knows what was before.
            if used.in_flight_bytes or self._marks.get(index) != mark or computed:
                self._moved[index] = now
            self._marks[index], self._cpu[index] = mark, used.cpu_seconds
        self.restless = frozenset(i for i, at in self._moved.items() if now - at < REST_SPELL)
        return self.restless != before


_Gauge = _Silence | _Pressure | _Rest


@dataclass(slots=True)
class _Run:
    """The gauges of one run."""

    flow_id: str
    steps: int
    silence: _Silence | None = None
    pressure: _Pressure | None = None
    rest: _Rest | None = None

    def due(self, now: float) -> list[_Gauge]:
        """Those that are due."""
        return [gauge for gauge in self.gauges() if gauge.due <= now]

    def gauges(self) -> list[_Gauge]:
        """Those that it has."""
        listed = (self.silence, self.pressure, self.rest)
        return [gauge for gauge in listed if gauge is not None]

    def follow(self, watched: Watched, now: float) -> None:
        """Have the gauges that are asked for."""
        if watched.drains:
            self.silence = self.pressure = None
            self.rest = self.rest or _Rest(watched, now)
            self.rest.watched = watched
            return
        self.rest = None
        limit = watched.silence
        if limit is None:
            self.silence = None
        elif self.silence is None or self.silence.limit != limit:
            self.silence = _Silence(watched, limit, now)
        else:
            self.silence.follow(watched)
        if self.steps > 1 and self.pressure is None:
            self.pressure = _Pressure(now)


def _next_moment(now: float, period: float) -> float:
    """The next multiple of a period, so that what has the same one is due together."""
    return (now // period + 1) * period


class Gauges:
    """Looks at the runs of all flows when they are due.

    Args:
        clock: when they are due.
        notify: called with a flow's id when a verdict about it has changed.
        runners: who can be asked.
    """

    def __init__(
        self, clock: Clock, notify: Callable[[str], None], runners: Mapping[str, Runner]
    ) -> None:
        self._clock = clock
        self._notify = notify
        self._runners = runners
        self._changed = threading.Condition()
        self._flows: dict[str, dict[str, _Run]] = {}
        self._until = float("inf")
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="gauges", daemon=True)

    def start(self) -> None:
        """Look by itself from now on, in a thread that sleeps while nothing is due."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def sync(self, flow_id: str, watched: Iterable[Watched]) -> None:
        """Look at exactly these runs of a flow; what is known of the same ones is kept.

        Those that need no look are left out: of one step, and with nobody who asks for silence.
        """
        watched = list(watched)
        if not watched and flow_id not in self._flows:
            return
        now = self._clock.monotonic()
        with self._changed:
            present = self._flows.get(flow_id, {})
            runs: dict[str, _Run] = {}
            for one in watched:
                run = present.get(one.run) or _Run(flow_id, len(one.attempts))
                run.follow(one, now)
                if run.gauges():
                    runs[one.run] = run
            if runs:
                self._flows[flow_id] = runs
                if min(gauge.due for run in runs.values() for gauge in run.gauges()) < self._until:
                    self._changed.notify()
            else:
                self._flows.pop(flow_id, None)

    def reading(self, flow_id: str) -> Reading:
        """What the gauges of a flow show now."""
        if flow_id not in self._flows:
            return _NO_READING
        silent: set[tuple[str, int, int]] = set()
        restless: dict[str, frozenset[int]] = {}
        backpressured: dict[tuple[str, int], int] = {}
        with self._changed:
            for name, run in self._flows.get(flow_id, {}).items():
                if run.silence is not None:
                    silent |= {(name, index, attempt) for index, attempt in run.silence.silent}
                if run.pressure is not None:
                    backpressured |= {
                        (name, index): unread for index, unread in run.pressure.high.items()
                    }
                if run.rest is not None:
                    restless[name] = run.rest.restless
        return Reading(frozenset(silent), backpressured, restless)

    def look(self) -> None:
        """Sample everything that is due, and tell of the flows whose verdict has changed."""
        begun = self._clock.monotonic()
        with self._changed:
            runs = {n: run for flow in self._flows.values() for n, run in flow.items()}
            due = {name: gauges for name, run in runs.items() if (gauges := run.due(begun))}
            for gauge in itertools.chain.from_iterable(due.values()):
                gauge.due = _next_moment(begun, gauge.period)
        draining = [name for name in due if runs[name].rest is not None]
        writers = [name for name in due if runs[name].silence in due[name]] + draining
        piped = [name for name in due if runs[name].steps > 1 and name not in draining]
        flows = {runs[name].flow_id for name in draining}
        output = self._ask(lambda runner: runner.output(writers)) if writers else {}
        pipes = self._ask(lambda runner: runner.pipes(piped)) if piped else {}
        usage = self._ask(lambda runner: runner.usage(flows)) if flows else {}
        now = self._clock.monotonic()
        changed: set[str] = set()
        with self._changed:
            for name, gauges in due.items():
                sample = _Sample(output.get(name), pipes.get(name), usage.get(name))
                if True in [gauge.take(sample, now) for gauge in gauges]:
                    changed.add(runs[name].flow_id)
        for flow_id in changed:
            self._notify(flow_id)

    def _ask(self, question: Callable[[Runner], dict[str, T]]) -> dict[str, T]:
        """What the runners say, each of its own runs."""
        answers: dict[str, T] = {}
        for runner in self._runners.values():
            try:
                answers |= question(runner)
            except RunnerError as error:
                log.debug("cannot be asked", error=str(error))  # The next look may be luckier.
        return answers

    def _work(self) -> None:
        while self._wait():
            try:
                self.look()
            except Exception:
                # A mistake of ours must not end the thread: other flows need it.
                log.exception("a look at the gauges failed")

    def _wait(self) -> bool:
        """Wait until something is due; False once closed."""
        with self._changed:
            while not self._closed:
                dues = [
                    gauge.due
                    for runs in self._flows.values()
                    for run in runs.values()
                    for gauge in run.gauges()
                ]
                self._until = min(dues, default=float("inf"))
                left = self._until - self._clock.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left if dues else None)
        return False
