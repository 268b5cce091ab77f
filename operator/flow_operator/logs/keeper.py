"""The thread that keeps all logs within their limits, and the disk from being filled by them.

It sleeps while nothing is printed: a file that is still is watched by inotify, and only one that
grows is looked at, the more often the faster it grows.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import select
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from flow_operator.clock import Clock
from flow_operator.logs.stream import Stream
from flow_operator.logs.watch import Watcher
from flow_operator.model.flow import Logs
from flow_operator.settings import Layout, have_directory

_SLOWEST = 1.0
"""Seconds between two looks at a log that grows: times are told to the second."""

_FASTEST = 0.01

_TELL = 10.0
"""Seconds between two times that flows are told what has gone for want of space."""

_WRITTEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

_LEAST = 64 * 1024
"""Bytes of each log that are left even where the disk is full."""

log = structlog.get_logger("logs")


class Limits(NamedTuple):
    """How much of one log is kept: at most ``size`` bytes in each of ``files`` files."""

    size: int
    files: int


_UNTOLD = Logs()
DEFAULT = Limits(_UNTOLD.max_size.bytes, _UNTOLD.max_files)
"""For logs of flows of which nothing was said."""

Key = tuple[str, int, str]
Dropped = Callable[[str, int], None]


class _Log:
    """One log that is looked after."""

    __slots__ = ("key", "looked", "pace", "scheduled", "stream")

    def __init__(self, key: Key, stream: Stream) -> None:
        self.key = key
        self.stream = stream
        self.pace = _FASTEST
        self.looked = 0.0
        self.scheduled = False


class Keeper:
    """Looks after all logs of a data directory.

    Args:
        layout: where they are.
        clock: tells when something was printed.
        reserve: bytes of the disk that logs leave free.
        dropped: called with a flow's id and the bytes that went for want of space.

    Attributes:
        wakeups: how often the thread has woken up.
        rotations: how often the head of a log was moved away.
        lost: bytes that went for want of space.
    """

    def __init__(self, layout: Layout, clock: Clock, reserve: int, dropped: Dropped) -> None:
        self._layout = layout
        self._clock = clock
        self._reserve = reserve
        self._dropped = dropped
        self._lock = threading.RLock()
        self._logs: dict[Key, _Log] = {}
        self._limits: dict[str, Limits] = {}
        self._due: list[tuple[float, int, _Log]] = []
        self._order = itertools.count()
        self._watcher = Watcher()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False
        self._lost: Counter[str] = Counter()
        self._told = -_TELL
        self._unable: set[Key] = set()
        self._only_watched: list[str] = []
        """Paths of logs of which nothing more is known yet."""
        self._search_by = math.inf
        """Monotonic seconds; when to look after what lies there already."""
        self._thread = threading.Thread(target=self._work, name="logs", daemon=True)
        self.wakeups = 0
        self.rotations = 0
        self.lost = 0

    def start(self, patience: float = 0.0) -> None:
        """Look after what comes, and after what lies there already.

        Args:
            patience: seconds that the latter waits for :meth:`search`, at most.
        """
        self._search_by = self._clock.monotonic() + patience
        self._thread.start()

    def search(self) -> None:
        """Look after what lies there already: whatever else is to be done first, has been."""
        if self._search_by < math.inf:  # Once is enough.
            self._search_by = min(self._search_by, self._clock.monotonic())
            self._wake()

    def limit(self, flow_id: str, limits: Limits) -> None:
        """Set the limits of a flow's logs."""
        with self._lock:
            if self._limits.get(flow_id, DEFAULT) == limits:
                return
            self._limits[flow_id] = limits
            mine = [entry for entry in self._logs.values() if entry.key[0] == flow_id]
        for entry in mine:
            self._schedule(entry)

    def stream(self, flow_id: str, replica: int, step: str) -> Stream:
        """What a step prints; empty if it has never been started.

        Raises:
            OSError: it cannot be read.
        """
        return self._entry((flow_id, replica, step)).stream

    def opened(self, flow_id: str, replica: int, step: str) -> Stream:
        """The same, with a file that can be written; from now on it is looked after.

        Raises:
            OSError: its directory or file cannot be made or read.
        """
        entry = self._entry((flow_id, replica, step))
        _make(entry.stream.path)
        if not entry.scheduled:
            entry.looked = 0.0
            # Whoever writes to it is noticed from now on, and mostly nobody has: then nobody looks.
            if not self._watcher.watch(entry.stream.path) or entry.stream.grown():
                self._schedule(entry)
        return entry.stream

    def _entry(self, key: Key) -> _Log:
        with self._lock:
            entry = self._logs.get(key)
            if entry is None:
                entry = self._logs[key] = _Log(key, Stream(self._layout.log_file(*key)))
            return entry

    def purge(self, flow_id: str) -> None:
        """Remove the logs of a flow that is gone, once nobody rotates one of them."""
        # Our thread may just have been told that something was written to one of them, and take it
        # up once more while its file is still there: what it has made of that goes with the second.
        for _ in range(2):
            self._forget(flow_id)
            shutil.rmtree(self._layout.logs / flow_id, ignore_errors=True)
        self._forget(flow_id)

    def _forget(self, flow_id: str) -> None:
        with self._lock:
            mine = [entry for entry in self._logs.values() if entry.key[0] == flow_id]
            for entry in mine:
                del self._logs[entry.key]
            self._limits.pop(flow_id, None)
        for entry in mine:
            entry.stream.abandon()

    def close(self) -> None:
        """End the thread; what is printed goes on."""
        self._closed = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._watcher.close()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)

    # --- the thread ----------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def _schedule(self, entry: _Log, delay: float = 0.0) -> None:
        with self._lock:
            if entry.scheduled:
                return
            entry.scheduled = True
            moment = self._clock.monotonic() + delay
            heapq.heappush(self._due, (moment, next(self._order), entry))
            sooner = self._due[0][2] is entry
        if sooner and threading.current_thread() is not self._thread:
            self._wake()

    def _look_at_all(self) -> None:
        """Look after what an earlier operator has left, of which mostly nothing is to be done."""
        for flow in _directories(str(self._layout.logs)):
            for replica in _directories(flow.path):
                if replica.name.isdecimal():  # What somebody has put there else is none.
                    try:
                        self._look_around(replica.path)
                    except OSError as error:
                        _tell_unseen(replica.path, error)

    def _look_around(self, directory: str) -> None:
        """Look after the logs of one instance.

        Those to which nothing has come are watched, and nothing more is found out about them
        before it has: there may be ten thousand, while flows are started or taken back.
        """
        steps: dict[str, dict[str, os.stat_result]] = {}
        with os.scandir(directory) as files:
            for file in files:
                step, _, suffix = file.name.partition(".")
                with contextlib.suppress(FileNotFoundError):
                    steps.setdefault(step, {})[suffix] = file.stat()
        limits = self._limits.get(directory.rsplit("/", 2)[1], DEFAULT)
        for step, found in steps.items():
            path = f"{directory}/{step}.log"
            if "log" not in found:
                continue
            if _still(found, limits) and self._watcher.watch(path):
                self._only_watched.append(path)
            else:
                self._schedule_path(path)

    def _schedule_path(self, path: str) -> None:
        flow_id, replica, name = path.rsplit("/", 3)[1:]
        key = flow_id, int(replica), name.removesuffix(".log")
        try:
            with self._lock:
                # Whoever has removed a log has it not come back.
                if key in self._logs or os.path.exists(path):
                    self._schedule(self._entry(key))
        except OSError as error:
            # It must not end the thread; who asks for this log is told the same.
            log.warning("cannot look after a log", path=path, error=str(error))

    def _work(self) -> None:
        poll = select.poll()
        for descriptor in (self._wake_read, self._watcher.descriptor):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while not self._closed:
            poll.poll(self._timeout())
            self.wakeups += 1
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            if self._search_by <= self._clock.monotonic():
                self._search_by = math.inf
                self._look_at_all()
            for path in self._watcher.written():
                self._schedule_path(path)
            for entry in self._due_now():
                try:
                    self._look(entry)
                    self._unable.discard(entry.key)
                except Exception as error:  # noqa: BLE001 - told, and tried again
                    # Also a mistake of ours: it must not end the thread, which all logs need.
                    self._tell_unable(entry, error)
                    self._schedule(entry, _SLOWEST)

    def _timeout(self) -> float | None:
        """Milliseconds until the next look."""
        with self._lock:
            next_at = min(self._due[0][0] if self._due else math.inf, self._search_by)
        if next_at == math.inf:
            return None
        return max(next_at - self._clock.monotonic(), 0.0) * 1000

    def _due_now(self) -> list[_Log]:
        now = self._clock.monotonic()
        found = []
        with self._lock:
            while self._due and self._due[0][0] <= now:
                entry = heapq.heappop(self._due)[2]
                entry.scheduled = False
                if self._logs.get(entry.key) is entry:
                    found.append(entry)
        return found

    def _look(self, entry: _Log) -> None:
        now = self._clock.monotonic()
        stream = entry.stream
        limits = self._limits.get(entry.key[0], DEFAULT)
        grown = stream.look(int(self._clock.wall()))
        self._mind_the_disk()
        before = stream.live_start
        self._lose({entry.key[0]: stream.rotate(*limits)})
        self._tell_lost(now)
        rotated = stream.live_start != before
        self.rotations += rotated
        if rotated and stream.live() > limits.size:
            self._schedule(entry)  # There is more to do, after what else is due.
        elif grown or (entry.looked and entry.pace < _SLOWEST):
            entry.pace = self._pace(entry, grown, now, limits)
            self._schedule(entry, entry.pace)
        elif not self._watcher.watch(stream.path):
            self._schedule(entry, _SLOWEST)
        else:
            entry.pace = _FASTEST
            if stream.look(int(self._clock.wall())):
                # It was written between the look and the watch.
                self._schedule(entry, _FASTEST)
        entry.looked = now

    def _pace(self, entry: _Log, grown: int, now: float, limits: Limits) -> float:
        """Seconds until the next look: a quarter of a file may have come by then.

        Slower only step by step: nobody knows how a log that was still goes on.
        """
        rate = grown / max(now - entry.looked, _FASTEST)
        soon = limits.size / 4 / rate if rate else _SLOWEST
        return max(min(soon, entry.pace * 4, _SLOWEST), _FASTEST)

    def _tell_unable(self, entry: _Log, error: Exception) -> None:
        if entry.key not in self._unable:
            self._unable.add(entry.key)
            log.warning("cannot keep a log small", path=entry.stream.path, exc_info=error)

    # --- the disk ------------------------------------------------------------------------

    def _free(self) -> int:
        told = os.statvfs(self._layout.root)
        return told.f_bavail * told.f_frsize

    def _mind_the_disk(self) -> None:
        """Where less is free than there should be, the oldest of what was printed goes."""
        if self._reserve and self._free() < self._reserve:
            for path in self._only_watched:
                self._schedule_path(path)  # They take space, too.
            self._only_watched.clear()
            self._lose(self._give_up_kept())
            self._lose(self._give_up_live())

    def _lose(self, lost: Mapping[str, int]) -> None:
        for flow_id, count in lost.items():
            if count:  # No entry else: all of them are gone over at each look at any log.
                self._lost[flow_id] += count
                self.lost += count

    def _give_up_kept(self) -> Counter[str]:
        """The oldest file first, whosever it is."""
        lost: Counter[str] = Counter()
        with self._lock:
            entries = list(enumerate(self._logs.values()))
        oldest = [(entry.stream.oldest(), number, entry) for number, entry in entries]
        heapq.heapify(oldest)
        while self._free() < self._reserve and oldest and oldest[0][0] < math.inf:
            _, number, entry = oldest[0]
            lost[entry.key[0]] += entry.stream.shed_kept()
            heapq.heapreplace(oldest, (entry.stream.oldest(), number, entry))
        return lost

    def _give_up_live(self) -> Counter[str]:
        """Where nothing older is left: the largest of those that are written."""
        lost: Counter[str] = Counter()
        with self._lock:
            entries = list(self._logs.values())
        for entry in sorted(entries, key=lambda entry: -entry.stream.live()):
            if self._free() >= self._reserve or entry.stream.live() <= _LEAST:
                break
            lost[entry.key[0]] += entry.stream.shed_live()
        return lost

    def _tell_lost(self, now: float) -> None:
        """Tell flows what has gone, at most every so often: it may be much, again and again."""
        if self._lost and now - self._told >= _TELL:
            self._told = now
            lost, self._lost = self._lost, Counter()
            for flow_id, count in lost.items():
                log.warning("no space: dropped what was printed", flow_id=flow_id, bytes=count)
                self._dropped(flow_id, count)


def _still(found: Mapping[str, os.stat_result], limits: Limits) -> bool:
    """Whether nothing is to be done about a log, by its files: by what follows the step's name.

    When it was printed is known of all of it, no older part is there that may have to go, and
    nothing was begun.
    """
    live, times = found["log"], found.get("times")
    return (
        found.keys() <= {"log", "times"}
        and live.st_size < limits.size
        and (live.st_size == 0 or (times is not None and times.st_mtime_ns >= live.st_mtime_ns))
    )


def _directories(path: str) -> list[os.DirEntry[str]]:
    """Those in a directory; one that cannot be read holds none, and that is told."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        _tell_unseen(path, error)
        return []


def _tell_unseen(path: str, error: OSError) -> None:
    log.warning("cannot look after logs", path=path, error=str(error))


def _make(path: str) -> None:
    """Have a file, and its directory."""
    try:
        descriptor = os.open(path, _WRITTEN, 0o640)
    except FileNotFoundError:
        have_directory(os.path.dirname(path))
        descriptor = os.open(path, _WRITTEN, 0o640)
    os.close(descriptor)
