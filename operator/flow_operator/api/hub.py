"""One thread that serves all bodies without an end.

It asks sources for what is new and hands it to their connections; the server's loop sends it. It
never waits for a client: a source is left alone while its connection has much unsent, and the loop
wakes the hub when that is sent.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from flow_operator.api.stream import Source
from flow_operator.clock import Clock

HEARTBEAT = 15.0
"""Seconds of silence after which a heartbeat is sent: half of what most proxies allow."""

_GAP = 0.01
"""Seconds in which all pokes are answered by one look, so that a storm of them takes no more than
a hundred looks a second."""

_LAST = 1.0
"""Seconds in which streams are still served when the server ends."""

log = structlog.get_logger("server")


class Outlet(Protocol):
    """Where a stream goes: its connection. Each call returns at once, from any thread."""

    def is_open(self) -> bool:
        """Whether the client is still there."""

    def has_room(self) -> bool:
        """Whether little is unsent; if not, :meth:`Hub.wake` is called once it is sent."""

    def push(self, data: bytes) -> None:
        """Have bytes sent after those before."""

    def finish(self) -> None:
        """The body is whole; hang up when all is sent."""

    def abort(self) -> None:
        """Hang up so that the client sees that the body is not whole."""


class Stream:
    """A source and where it goes. Only the hub's thread looks into it."""

    def __init__(self, source: Source, outlet: Outlet) -> None:
        self.source = source
        self.outlet = outlet
        self.look_at = -math.inf  # monotonic seconds
        self.beat_at = -math.inf
        self.rests = False  # nothing was new when it was last looked at

    def due(self) -> float:
        """When something is next to be done without being woken."""
        return min(self.look_at, self.beat_at)

    def sent(self, now: float) -> None:
        """Something was new; there may be more."""
        self.rests = False
        self.beat(now)

    def beat(self, now: float) -> None:
        """Count the time of silence anew."""
        self.beat_at = now + HEARTBEAT if self.source.heartbeat else math.inf

    def rest(self, now: float) -> None:
        """Nothing is new: look again when the period is over, or the time of the source.

        All streams of one period are looked at together, whenever they were begun.
        """
        self.rests = True
        period = self.source.period
        self.look_at = math.inf if period is None else (now // period + 1) * period
        if self.source.ends_at > now:
            self.look_at = min(self.look_at, self.source.ends_at)


class Hub:
    """All streams of a server.

    Args:
        pull: wakes the server's loop, so that it sends.
        clock: tells the time.
        most: streams at once; each has a connection and a few hundred bytes.
    """

    def __init__(self, pull: Callable[[], None], clock: Clock, most: int) -> None:
        self._pull = pull
        self._clock = clock
        self._most = most
        self._changed = threading.Condition(threading.Lock())
        self._admitted = 0
        self._added: list[Stream] = []
        self._woken: set[Stream] = set()
        self._poked = False
        self._closing = False
        self._poked_at = -math.inf
        self._streams: set[Stream] = set()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)

    # --- from any thread -----------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def admit(self) -> bool:
        """Whether there is room for one more stream, which is then kept for it."""
        with self._changed:
            if self._closing or self._admitted >= self._most:
                return False
            self._admitted += 1
            return True

    def add(self, source: Source, outlet: Outlet) -> Stream:
        """Serve a source that was admitted."""
        stream = Stream(source, outlet)
        with self._changed:
            if not self._closing:
                self._added.append(stream)
                self._changed.notify()
                return stream
        outlet.abort()
        self.abandon(source)
        return stream

    def abandon(self, source: Source) -> None:
        """Close a source that was admitted, and make room."""
        try:
            source.close()
        except Exception as error:
            log.error("a stream cannot be closed", exc_info=error)
        with self._changed:
            self._admitted -= 1

    def wake(self, stream: Stream) -> None:
        """Look at a stream: its connection has room again, or has gone."""
        with self._changed:
            self._woken.add(stream)
            self._changed.notify()

    def poke(self) -> None:
        """Look at every stream without a period."""
        with self._changed:
            if self._admitted and not self._poked:
                self._poked = True
                self._changed.notify()

    def count(self) -> int:
        """Streams that are open."""
        with self._changed:
            return self._admitted

    def close(self) -> None:
        """End every stream, and admit none any more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    # --- in the hub's thread -------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self.look()
        self._look_for_the_last_time()
        for stream in self._streams:
            # A body of which more is known must not look as if it were whole.
            end = stream.outlet.finish if stream.rests else stream.outlet.abort
            end()
            self.abandon(stream.source)
        self._pull()

    def _look_for_the_last_time(self) -> None:
        """Send what is new, as far as clients keep up."""
        until = self._clock.monotonic() + _LAST
        self._poked, self._poked_at = True, -math.inf
        self.look()
        while any(s.look_at == -math.inf for s in self._streams):
            if self._clock.monotonic() >= until:
                return
            self.look()

    def _wait(self) -> bool:
        """Wait for something to do; False if the server ends."""
        with self._changed:
            while not self._closing:
                now = self._clock.monotonic()
                due = min((stream.due() for stream in self._streams), default=math.inf)
                if self._poked:
                    due = min(due, self._poked_at + _GAP)
                if self._added or self._woken or due <= now:
                    return True
                self._changed.wait(None if due == math.inf else due - now)
        return False

    def look(self) -> None:
        """One round: take what is new from every source that is due."""
        now = self._clock.monotonic()
        for stream in self._collect(now):
            stream.look_at = -math.inf
        sent = [self._serve(stream, now) for stream in tuple(self._streams)]
        if any(sent):
            self._pull()

    def _collect(self, now: float) -> Iterable[Stream]:
        """Streams that are due for other reasons than the time."""
        with self._changed:
            added, self._added = self._added, []
            woken, self._woken = self._woken, set()
            self._streams.update(added)
            for stream in added:
                stream.beat(now)
            if not self._poked or now < self._poked_at + _GAP:
                return woken
            self._poked, self._poked_at = False, now
            return woken.union(s for s in self._streams if s.source.period is None)

    def _serve(self, stream: Stream, now: float) -> bool:
        """Do what is due; returns whether there is something to send."""
        outlet = stream.outlet
        if not outlet.is_open():
            return self._drop(stream)
        if stream.look_at <= now:
            return self._take(stream, now)
        if stream.beat_at <= now:
            stream.beat(now)
            if outlet.has_room():
                outlet.push(stream.source.heartbeat)
                return True
        return False

    def _take(self, stream: Stream, now: float) -> bool:
        if not stream.outlet.has_room():
            stream.look_at, stream.rests = math.inf, False
            return False
        try:
            data = stream.source.take()
        except Exception as error:
            log.error("a stream failed", exc_info=error)
            stream.outlet.abort()
            return self._drop(stream)
        if data is None:
            stream.outlet.finish()
            self._drop(stream)
            return True
        if not data:
            stream.rest(now)
            return False
        stream.outlet.push(data)
        stream.sent(now)
        return True

    def _drop(self, stream: Stream) -> bool:
        self._streams.discard(stream)
        self.abandon(stream.source)
        return False
