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

    Attributes:
        joins: whether a key may be taken together with others, as one of a crowd.
    """

    def __init__(self, clock: Clock, meter: Meter | None = None) -> None:
        self._clock = clock
        self._meter = meter or Meter()
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._crowd: deque[str] = deque()
        self._first: deque[str] = deque()
        self.joins: Callable[[str], bool] = lambda _key: False
        self._hurried: set[str] = set()
        self._turns = 0
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
        normal = self._crowd if self.joins(key) else self._ready
        lane = self._first if key in self._hurried else normal
        lane.append(key)
        if lane is not self._crowd or not self._together:  # Else nobody could take it now.
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

    def get_some(self, most: int) -> list[str]:
        """Wait for a key and take it; none once the queue is closed.

        Of a crowd so many are taken at once as are there, and at most ``most``. One worker at a
        time has a crowd: those that join it meanwhile wait for the next one.
        """
        with self._changed:
            while not self._closed:
                delay = self._promote()
                keys = self._next(most)
                if keys:
                    if delay is not None:
                        self._changed.notify()  # Somebody else must wait for what is due next.
                    return keys
                self._changed.wait(delay)
            return []

    def _next(self, most: int) -> list[str]:
        """Take what is in the lane whose turn it is, or in another one."""
        self._turns += 1
        lanes = [(self._first, 1), (self._crowd, 0 if self._together else most), (self._ready, 1)]
        if self._turns % SHARE == 0:
            lanes.append(lanes.pop(0))
        for lane, many in lanes:
            keys = self._taken(lane, many)
            if keys:
                if lane is self._crowd:
                    self._together.update(keys)
                return keys
        return []

    def _taken(self, lane: deque[str], most: int) -> list[str]:
        keys: list[str] = []
        while lane and len(keys) < most:
            key = lane.popleft()
            # Unless it has changed lanes since, and may have been handed out from there.
            waits = key in self._dirty and key not in self._processing
            if waits and (key in self._hurried) == (lane is self._first):
                self._hand_out(key)
                keys.append(key)
        return keys

    def _hand_out(self, key: str) -> None:
        now = self._clock.monotonic()
        self._processing[key] = now
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
            if self._crowd and not self._together:
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
