"""The workqueue: which flows are to be looked at.

Keys, never events. Its contract, as in client-go:

- a key that is added while it waits is handed out once;
- a key is handed to one worker at a time;
- a key that is added while a worker has it is handed out once more after :meth:`done`;
- :meth:`add_after` adds later; of several times for one key the earliest counts.

And one thing more: a key that somebody waits for is in a *hurry*. It overtakes the others, however
many they are, each time it is added until its worker finds it *calm*. One turn in
:data:`SHARE` is the others' all the same, so that neither lane starves the other.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flow_operator.clock import Clock
from flow_operator.meter import Meter

SHARE = 4
"""Of so many turns one is that of the keys that are in no hurry."""


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


class WorkQueue:
    """A queue of flow ids for several workers.

    Args:
        clock: for what is added later.
        meter: told how long each key has waited.
    """

    def __init__(self, clock: Clock, meter: Meter | None = None) -> None:
        self._clock = clock
        self._meter = meter or Meter()
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._first: deque[str] = deque()
        self._hurried: set[str] = set()
        self._turns = 0
        self._dirty: dict[str, float] = {}
        """Each key that was added and not yet handed out, with when that was."""
        self._processing: dict[str, float] = {}
        """Each key that a worker has, with since when."""
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._added = 0
        self._idle = 0
        """Workers that wait for a key, or are just taking one."""
        self._closed = False

    def add(self, key: str) -> None:
        """Have a key handed out as soon as a worker is free."""
        with self._changed:
            self._add(key)

    def add_all(self, keys: Iterable[str]) -> None:
        """Have keys handed out, together if they may be."""
        with self._changed:
            for key in keys:
                self._add(key)

    def hurry(self, key: str) -> None:
        """Add a key that somebody waits for."""
        with self._changed:
            if key in self._dirty and key not in self._hurried and key not in self._processing:
                self._first.append(key)  # Where it stood it is passed over.
            self._hurried.add(key)
            self._add(key)

    def _add(self, key: str) -> None:
        if key in self._dirty or self._closed:
            return
        self._added += 1
        self._dirty[key] = self._clock.monotonic()
        if key not in self._processing:
            self._line_up(key)

    def _line_up(self, key: str) -> None:
        (self._first if key in self._hurried else self._ready).append(key)
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
        keys = self.get_some(1)
        return keys[0] if keys else None

    def get_some(
        self, most: int, joins: Callable[[str], bool] = lambda _key: True, spare: int = 0
    ) -> list[str]:
        """Wait for a key and take it, with some of those behind it; none once the queue is closed.

        Those workers that have nothing to do share what waits. A key in a hurry is taken alone.

        Args:
            most: how many at once.
            joins: whether a key may be taken together with others.
            spare: so many idle workers take nothing but what is in a hurry.
        """
        with self._changed:
            self._idle += 1
            try:
                return self._wait_for_some(most, joins, spare)
            finally:
                self._idle -= 1

    def _wait_for_some(self, most: int, joins: Callable[[str], bool], spare: int) -> list[str]:
        while not self._closed:
            delay = self._promote()
            sharing = self._idle - spare
            key = self._next() if sharing > 0 else self._first_of(self._first)
            if key is not None:
                alone = key in self._hurried or not joins(key)
                others = 0 if alone else min(most - 1, len(self._ready) // sharing)
                self._hand_out(key)
                keys = [key, *self._taken(others, joins)]
                if delay is not None:
                    self._changed.notify()  # Somebody else must wait for what is due next.
                return keys
            self._changed.wait(delay)
        return []

    def _taken(self, most: int, joins: Callable[[str], bool]) -> list[str]:
        """Take keys that are in no hurry."""
        keys: list[str] = []
        while len(keys) < most and self._ready and joins(self._ready[0]):
            key = self._ready.popleft()
            if self._waits(key) and key not in self._hurried:
                self._hand_out(key)
                keys.append(key)
        return keys

    def _hand_out(self, key: str) -> None:
        now = self._clock.monotonic()
        self._processing[key] = now
        waited = now - self._dirty.pop(key)
        self._meter.waited("hurried" if key in self._hurried else "normal", waited)

    def _next(self) -> str | None:
        """Take a key from the lane whose turn it is, or from the other one."""
        self._turns += 1
        lanes = [self._first, self._ready]
        if self._turns % SHARE == 0:
            lanes.reverse()
        return self._first_of(lanes[0]) or self._first_of(lanes[1])

    def _first_of(self, lane: deque[str]) -> str | None:
        while lane:
            key = lane.popleft()
            if self._waits(key):
                return key
        return None

    def _waits(self, key: str) -> bool:
        """Whether a key is to be handed out: not where it has changed lanes, and already was."""
        return key in self._dirty and key not in self._processing

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
