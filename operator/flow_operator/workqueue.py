"""The workqueue: which flows are to be looked at.

Keys, never events. Its contract, as in client-go:

- a key that is added while it waits is handed out once;
- a key is handed to one worker at a time;
- a key that is added while a worker has it is handed out once more after :meth:`done`;
- :meth:`add_after` adds later; of several times for one key the earliest counts.

And three things more. A key that somebody waits for is in a *hurry*. It overtakes the others,
however many they are, each time it is added until its worker finds it *calm*. And a key that comes
by itself, as one whose process has ended, overtakes those that have come as many at once, of which
the last one waits long anyway. One turn in :data:`SHARE` is the others' all the same, so that no
lane starves another. And not every worker may have a slow key, one whose backend may hang.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from flow_operator.clock import Clock
from flow_operator.meter import Meter

SHARE = 4
"""Of so many turns one is that of the keys that are otherwise overtaken."""

FEW = 16
"""Keys that come at once and count as such that come by themselves: somebody may wait for each of
them. More are a storm."""


class Load(NamedTuple):
    """What a queue has to do.

    Attributes:
        hurried: keys that wait to be handed out and are in a hurry.
        normal: all others that wait.
        later: keys that will be added at some moment.
        working: for how many seconds workers have had the keys that they have.
        added: how often a key was added since the queue was made.
    """

    hurried: int
    normal: int
    later: int
    working: tuple[float, ...]
    added: int


class Batch(NamedTuple):
    """Keys that one worker was handed.

    Attributes:
        keys: one at least.
        more: hands out those that may be taken together with them and wait by now, if any; none
            where another key waits for whom there is no other worker.
    """

    keys: list[str]
    more: Callable[[], list[str]]


class WorkQueue:
    """A queue of flow ids for several workers.

    Args:
        clock: for what is added later.
        meter: told how long each key has waited.

    Attributes:
        joins: whether a key is quick, and may be taken together with others, as one of a crowd.
        most_slow: how many workers may have keys at once that do not join, while others wait; None
            is any number.
    """

    def __init__(self, clock: Clock, meter: Meter | None = None) -> None:
        self._clock = clock
        self._meter = meter or Meter()
        self._slow: set[str] = set()
        """Those that workers have and that do not join."""
        self._changed = threading.Condition()
        self._first: deque[str] = deque()
        self._few: deque[str] = deque()
        self._many: deque[str] = deque()
        self._first_slow: deque[str] = deque()
        self._ready: deque[str] = deque()
        self.joins: Callable[[str], bool] = lambda _key: False
        self.most_slow: int | None = None
        self._hurried: set[str] = set()
        self._massed: set[str] = set()
        """Those that wait among the many."""
        self._turns = self._takings = self._crowds = self._idle = 0
        self._dirty: dict[str, float] = {}
        """Each key that was added and not yet handed out, with when that was."""
        self._processing: dict[str, float] = {}
        """Each key that a worker has, with since when."""
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._added = 0
        self._together: set[str] = set()
        """Those that the worker that has a crowd has not yet given back."""
        self._closed = False

    def add(self, key: str) -> None:
        """Have a key handed out as soon as a worker is free."""
        with self._changed:
            self._add(key)

    def add_all(self, keys: Collection[str]) -> None:
        """Have keys handed out, together if they may be."""
        with self._changed:
            for key in keys:
                self._add(key, many=len(keys) > FEW)

    def hurry(self, key: str) -> None:
        """Add a key that somebody waits for."""
        with self._changed:
            waits = key in self._dirty and key not in self._processing
            moves = waits and key not in self._hurried
            self._hurried.add(key)
            if moves:
                self._move(key)
            else:
                self._add(key)

    def _add(self, key: str, *, many: bool = False) -> None:
        if self._closed:
            return
        if key in self._dirty:
            if not many and key in self._massed:
                self._move(key)
            return
        self._added += 1
        self._dirty[key] = self._clock.monotonic()
        if key not in self._processing:
            self._line_up(key, many=many)

    def _move(self, key: str) -> None:
        """Have a key that waits do so in its present lane; where it stood it is passed over."""
        self._massed.discard(key)
        self._line_up(key)

    def _line_up(self, key: str, *, many: bool = False) -> None:
        if key in self._hurried:
            (self._first if self.joins(key) else self._first_slow).append(key)
        elif not self.joins(key):
            self._ready.append(key)
        else:
            (self._many if many else self._few).append(key)
            if many:
                self._massed.add(key)
            if self._together:
                return  # Nobody else could take it now.
        self._changed.notify()

    def add_after(self, key: str, delay: float) -> None:
        """Have a key handed out in ``delay`` seconds, unless it is due earlier anyway."""
        self.add_at(key, self._clock.monotonic() + delay)

    def add_at(self, key: str, moment: float) -> None:
        """Have a key handed out at a moment of the monotonic clock."""
        with self._changed:
            if moment >= self._due.get(key, float("inf")):
                return
            self._due[key] = moment
            heapq.heappush(self._later, (moment, key))
            self._changed.notify()

    def get(self) -> str | None:
        """Wait for a key and take it; None once the queue is closed."""
        batch = self.get_some(1)
        return batch.keys[0] if batch else None

    def get_some(self, most: int) -> Batch | None:
        """Wait for a key and take it; None once the queue is closed.

        Of a crowd so many are taken at once as are there, and at most ``most``; and once more for
        each call of ``more``. One worker at a time has a crowd: those that join it wait for him.
        """
        with self._changed:
            while not self._closed:
                delay = self._promote()
                batch = self._next(most)
                if batch is not None:
                    if delay is not None:
                        self._changed.notify()  # Somebody else must wait for what is due next.
                    return batch
                self._idle += 1
                self._changed.wait(delay)
                self._idle -= 1
            return None

    def _next(self, most: int) -> Batch | None:
        """Take what is in the lane whose turn it is, or in another one."""
        self._turns += 1
        # None is the crowd.
        lanes: list[deque[str] | None] = [self._first, self._first_slow, None, self._ready]
        if self._turns % SHARE == 0:
            lanes = lanes[2:] + lanes[:2]
        for lane in lanes:
            if self._is_slow(lane) and self._slow_enough:
                continue
            if lane is not None:
                batch = Batch(self._taken(lane, 1), list)
            elif not self._together:
                self._crowds += 1
                batch = Batch(self._take_crowd(most), partial(self._more, most, self._crowds))
            else:
                continue
            if batch.keys:
                return batch
        return None

    def _is_slow(self, lane: deque[str] | None) -> bool:
        return lane is self._first_slow or lane is self._ready

    @property
    def _slow_enough(self) -> bool:
        """Whether as many workers have slow keys as may."""
        return self.most_slow is not None and len(self._slow) >= self.most_slow

    def _more(self, most: int, crowd: int) -> list[str]:
        with self._changed:
            self._promote()
            # Once all of a crowd were given back, another worker may have the next one.
            mine = crowd == self._crowds and not self._closed
            slow = not self._slow_enough and (self._first_slow or self._ready)
            wanted = not self._idle and (self._first or slow)
            return self._take_crowd(most) if mine and not wanted else []

    def _take_crowd(self, most: int) -> list[str]:
        self._takings += 1
        lanes = [self._few, self._many]
        if self._takings % SHARE == 0:
            lanes.reverse()
        keys: list[str] = []
        for lane in lanes:
            keys += self._taken(lane, most - len(keys))
        self._together.update(keys)
        return keys

    def _taken(self, lane: deque[str], most: int) -> list[str]:
        keys: list[str] = []
        here = (lane is self._first or lane is self._first_slow, lane is self._many)
        slow = self._is_slow(lane)
        while lane and len(keys) < most:
            key = lane.popleft()
            # Unless it has changed lanes since, and may have been handed out from there.
            waits = key in self._dirty and key not in self._processing
            if waits and (key in self._hurried, key in self._massed) == here:
                self._hand_out(key)
                keys.append(key)
                if slow:
                    self._slow.add(key)
        return keys

    def _hand_out(self, key: str) -> None:
        now = self._clock.monotonic()
        self._processing[key] = now
        self._massed.discard(key)
        waited = now - self._dirty.pop(key)
        self._meter.waited("hurried" if key in self._hurried else "normal", waited)

    def _promote(self) -> float | None:
        """Add what is due; returns seconds until the next is."""
        now = self._clock.monotonic()
        while self._later:
            moment, key = self._later[0]
            if self._due.get(key) != moment:
                heapq.heappop(self._later)  # An earlier moment took its place.
            elif moment <= now:
                heapq.heappop(self._later)
                del self._due[key]
                self._add(key)
            else:
                return moment - now
        return None

    def done(self, key: str, *, calm: bool = False) -> None:
        """Give a key back; ``calm`` when nobody waits for it, unless it was added meanwhile."""
        with self._changed:
            self._processing.pop(key, None)
            self._together.discard(key)
            if key in self._slow:
                self._slow.discard(key)
                if self._first_slow or self._ready:
                    self._changed.notify()  # Another worker may have one of those.
            if (self._few or self._many) and not self._together:
                self._changed.notify()  # The next crowd may go.
            if key in self._dirty:
                self._line_up(key)
            elif calm:
                self._hurried.discard(key)

    def __len__(self) -> int:
        """How many keys wait to be handed out now."""
        return len(self._waiting())

    def _waiting(self) -> set[str]:
        return self._dirty.keys() - self._processing.keys()

    def load(self) -> Load:
        """How much there is to do now."""
        with self._changed:
            now = self._clock.monotonic()
            waiting = self._waiting()
            hurried = len(waiting & self._hurried)
            working = tuple(now - since for since in self._processing.values())
            later = len(self._due)
            return Load(hurried, len(waiting) - hurried, later, working, self._added)

    def close(self) -> None:
        """Hand out nothing any more; workers get None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
