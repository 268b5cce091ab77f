"""Which threads answer a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waitress.task import ThreadedTaskDispatcher

from flow_operator.api.caps import Caps

if TYPE_CHECKING:
    from flow_operator.api.channel import Channel

THREADS = 96
"""At most; three times the commands that may wait at once (32). They are started as they are
needed: an idle one costs about 30 kB."""

_FIRST = 32
"""Of the start: as many as commands may wait at once, so that others seldom need a further one. To
start one under load holds the loop up for a switch of threads, so a burst that needs many waits."""

LARGE_THREADS = 1
"""Large bodies that are worked on at once: see docs/design.md for what one takes."""

_HEALTH = ("/livez", "/readyz")


class Lanes:
    """Threads in three lanes, so that no kind of request keeps another waiting.

    Who asks whether the operator is alive is answered while all others wait. Large bodies wait for
    each other, for each takes many times its size of memory while it is read.

    Args:
        caps: how many may wait.
        prefix: the path under which everything is served.
    """

    def __init__(self, caps: Caps, prefix: str) -> None:
        self._caps = caps
        self._health_paths = frozenset(prefix + path for path in _HEALTH)
        self._work = _lane(_FIRST)
        self._large = _lane(LARGE_THREADS)
        self._health = _lane(1)

    def add_task(self, channel: Channel) -> None:
        """Have the next request of a connection answered, or refuse it if too many wait."""
        lane = self._lane_of(channel.requests[0])
        if _waiting(lane) >= self._caps.waiting:
            channel.refuse(503, "too many requests are waiting; try again later", retry_after=1)
        else:
            lane.add_task(channel)
            if lane is self._work:
                _grow(lane)

    def _lane_of(self, request: Any) -> ThreadedTaskDispatcher:
        if request.error is not None:
            return self._work
        if request.path in self._health_paths and request.command in ("GET", "HEAD"):
            return self._health
        return self._large if request.body_bytes_received >= self._caps.large else self._work

    def shutdown(self, timeout: float) -> None:
        """End all threads; those that are busy for longer than ``timeout`` are left behind."""
        for lane in (self._health, self._large, self._work):
            lane.shutdown(timeout=timeout)


def _lane(threads: int) -> ThreadedTaskDispatcher:
    lane = ThreadedTaskDispatcher()
    lane.set_thread_count(threads)
    return lane


def _waiting(lane: ThreadedTaskDispatcher) -> int:
    """Who queues without a thread that is just waking up for him."""
    with lane.lock:
        return len(lane.queue) - (len(lane.threads) - int(lane.active_count))


def _grow(lane: ThreadedTaskDispatcher) -> None:
    """Have one thread more where somebody would wait for one. In the loop only."""
    running = set(lane.threads)
    if len(running) < THREADS and _waiting(lane) > 0:
        try:
            lane.set_thread_count(len(running) + 1)
        except RuntimeError:  # The system has none to give: those that run will come to it.
            with lane.lock:
                lane.threads.intersection_update(running)
