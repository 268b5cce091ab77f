"""Copying a container's log while the engine, the disk, the clock or the copier fails."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flow_operator.clock import SystemClock
from flow_operator.logs import Keeper
from flow_operator.runners import container_logs
from flow_operator.runners.answers import ALONE
from flow_operator.runners.container_logs import ContainerLogs, LogKey
from flow_operator.settings import Layout
from support import FakeClock, always_for, eventually

KEY = LogKey("r1", "demo", 0, "s0", 1)
BEGAN = 1_795_000_000


class Answer:
    """What the engine sends, and then whatever comes, until the connection is closed."""

    def __init__(self, status: int, body: Any, live: socket.socket | None = None) -> None:
        self.status_code = status
        self.raw = self
        self._body = body
        self._live = live

    def json(self) -> Any:
        return self._body

    def iter_content(self, size: None) -> Iterator[bytes]:
        yield from self._body
        while self._live is not None and (data := self._live.recv(65536)):
            yield data

    def fileno(self) -> int:
        if self._live is None:
            raise ValueError("closed")
        return self._live.fileno()

    def close(self) -> None:
        if self._live is not None:
            self._live.close()


class FakeEngine:
    """An engine with one container.

    Attributes:
        faults: what goes wrong with the next requests for the log, in turn: a status, or how many
            bytes are sent before the answer ends, in order ("ends") or not ("breaks").
        follows: whether each request for the log wanted what comes later, too.
    """

    base_url = "http://engine"
    api_version = "1.41"

    def __init__(self) -> None:
        self.kept: list[tuple[int, float, bytes]] = []
        self.running = True
        self.gone = False
        self.faults: list[Any] = []
        self.follows: list[bool] = []
        self.lock = threading.RLock()
        self._live: list[socket.socket] = []

    def prints(self, text: bytes, at: float | None = None, stream: int = 1) -> None:
        with self.lock:
            entry = (stream, BEGAN + len(self.kept) if at is None else at, text)
            self.kept.append(entry)
            for live in self._live:
                with contextlib.suppress(BrokenPipeError):  # Nobody follows there any more.
                    live.send(_frame(entry))

    def ends(self) -> None:
        with self.lock:
            self.running = False
            self.hang_up()

    def hang_up(self) -> None:
        with self.lock:
            for live in self._live:
                live.close()
            self._live.clear()

    def get(self, url: str, **options: Any) -> Answer:
        with self.lock:
            assert url.startswith("http://engine/v1.41/containers/c1/")
            if self.gone:
                return Answer(404, {})
            if url.endswith("/json"):
                status = "running" if self.running else "exited"
                return Answer(200, {"State": {"Running": self.running, "Status": status}})
            assert options["headers"] == ALONE
            return self._log(**options["params"])

    def _log(self, since: int, follow: int, **_: int) -> Answer:
        self.follows.append(bool(follow))
        body = b"".join(_frame(entry) for entry in self.kept if entry[1] >= since)
        # What only tells what is kept is never cut short: that would look like less that is kept.
        spared = not follow and self.faults[:1] and "ends" in str(self.faults[0])
        fault = self.faults.pop(0) if self.faults and not spared else None
        if isinstance(fault, int):
            return Answer(fault, [])
        if fault is not None:
            return Answer(200, _cut(body, *fault))
        if not (follow and self.running):
            return Answer(200, [body])
        ours, theirs = socket.socketpair()
        self._live.append(ours)
        return Answer(200, [body], theirs)


def _cut(body: bytes, how: str, size: int) -> Iterator[bytes]:
    yield body[:size]
    if how == "breaks":
        raise OSError("Connection broken: InvalidChunkLength")


def _frame(entry: tuple[int, float, bytes]) -> bytes:
    stream, at, text = entry
    stamp = datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="microseconds").encode()
    body = stamp + b" " + text
    return struct.pack(">BxxxI", stream, len(body)) + body


class World:
    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.keeper = Keeper(self.layout, SystemClock(), 0, lambda _flow_id, _count: None)
        self.keeper.start()
        self.engine = FakeEngine()
        self.clock = FakeClock()
        self.told: list[LogKey] = []
        self.path = Path(self.layout.log_file(*KEY[1:4]))
        self.cursor = self.path.with_suffix(".cursor")
        self.start()

    def start(self) -> None:
        self.logs = ContainerLogs(self.keeper, self.engine, self.clock, self.told.append)
        self.logs.follow(KEY, "c1")

    def restart(self) -> None:
        self.logs.close()
        self.engine.hang_up()
        self.start()

    def has(self, text: bytes) -> None:
        eventually(lambda: _equal(self.path.read_bytes(), text))

    def whole(self) -> None:
        self.engine.ends()
        eventually(lambda: _assert(self.logs.copied("c1")))


@pytest.fixture
def world(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(container_logs, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(container_logs, "_LAST_DELAY", 0.05)
    made = World(root)
    yield made
    made.logs.close()
    made.engine.hang_up()
    made.keeper.close()


def _equal(one: bytes, other: bytes) -> None:
    assert one == other


def _assert(condition: object) -> None:
    assert condition


def _lines(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def _print(world: World, first: int, last: int) -> None:
    for number in range(first, last + 1):
        world.engine.prints(b"%d\n" % number)


def test_what_was_copied_behind_the_cursor_is_not_copied_again(world: World) -> None:
    """As after a kill: the cursor is old, and the log has more, up to the middle of a line."""
    _print(world, 1, 6)
    world.has(_lines(1, 6))
    world.restart()
    old = world.cursor.with_suffix(".kept")
    assert b'"position":12' in world.cursor.read_bytes()
    shutil.copy(world.cursor, old)
    _print(world, 7, 19)
    world.has(_lines(1, 19))
    world.logs.close()
    shutil.copy(old, world.cursor)
    _print(world, 20, 20)
    with world.path.open("ab") as file:
        file.write(b"2")
    world.restart()
    world.has(_lines(1, 20))
    _print(world, 21, 25)
    world.whole()
    world.has(_lines(1, 25))


def test_a_cursor_is_as_new_as_it_has_to_be(world: World) -> None:
    """Not written for each line; but after some time, some bytes, and in the end."""
    first = eventually(lambda: world.cursor.stat().st_ino)
    _print(world, 1, 50)
    world.has(_lines(1, 50))
    assert world.cursor.stat().st_ino == first
    world.engine.prints(b"x" * 70_000)
    eventually(lambda: _assert(world.cursor.stat().st_ino != first))
    before = world.cursor.read_bytes()
    world.clock.advance(2)
    world.engine.prints(b"late\n")
    eventually(lambda: _assert(world.cursor.read_bytes() != before))


@pytest.mark.parametrize("how", ["breaks", "ends"])
@pytest.mark.parametrize("size", [0, 100, 333])
def test_an_answer_that_ends_too_early_is_asked_for_again(
    world: World, how: str, size: int
) -> None:
    """Broken off or ended in order, within an entry or between two: nothing twice, all of it."""
    world.has(b"")
    _print(world, 1, 20)
    world.has(_lines(1, 20))
    world.logs.close()
    _print(world, 21, 40)
    world.engine.faults = [(how, size)] * 5
    world.restart()
    world.has(_lines(1, 40))
    world.whole()
    world.has(_lines(1, 40))


def test_an_engine_that_fails_is_asked_again(world: World) -> None:
    """What it answered is told once."""
    world.has(b"")
    _print(world, 1, 5)
    world.has(_lines(1, 5))
    world.engine.faults = [500, 500, 503]
    world.engine.hang_up()
    eventually(lambda: _assert(not world.engine.faults))
    _print(world, 6, 9)
    world.has(_lines(1, 9))


@pytest.mark.parametrize("back", [2.5, 3600.0, 86400 * 365.0])
def test_a_wall_clock_that_is_set_back_costs_nothing(world: World, back: float) -> None:
    """The engine's times are then smaller than what was seen; each entry is copied once."""
    _print(world, 1, 10)
    world.engine.prints(b"error\n", stream=2)
    world.has(_lines(1, 10) + b"error\n")
    world.logs.close()
    world.clock.wall_now -= back
    for number in range(11, 31):
        world.engine.prints(b"%d\n" % number, at=BEGAN + 10 - back + number / 10)
    world.restart()
    world.has(_lines(1, 10) + b"error\n" + _lines(11, 30))
    world.restart()
    world.whole()
    world.has(_lines(1, 10) + b"error\n" + _lines(11, 30))


def test_only_the_last_seconds_are_read_again(world: World) -> None:
    """A restart must not cost the engine its whole log."""
    asked: list[int] = []
    log = world.engine._log
    world.engine._log = lambda since, follow, **_: (asked.append(since), log(since, follow))[1]
    _print(world, 1, 100)
    world.has(_lines(1, 100))
    world.restart()
    eventually(lambda: _assert(len(asked) >= 2))
    assert BEGAN + 90 < asked[-1] < BEGAN + 100


def test_what_has_an_earlier_time_than_what_stands_before_it_is_copied(world: World) -> None:
    """Each stream has its times before it has its places: the other one may have come between."""
    _print(world, 1, 10)
    world.has(_lines(1, 10))
    world.logs.close()
    world.engine.prints(b"error\n", at=BEGAN + 6, stream=2)
    world.restart()
    world.has(_lines(1, 10) + b"error\n")


def test_what_the_engine_has_not_kept_hides_nothing_of_what_it_has(world: World) -> None:
    """Its log was rotated while nobody copied: what is left is copied from its beginning."""
    _print(world, 1, 10)
    world.has(_lines(1, 10))
    world.logs.close()
    cursor = world.cursor.read_bytes()
    _print(world, 11, 100)
    del world.engine.kept[:50]
    world.cursor.write_bytes(cursor)
    with world.path.open("ab") as file:
        file.write(_lines(11, 12))
    world.restart()
    world.has(_lines(1, 12) + _lines(51, 100))
    world.whole()
    world.has(_lines(1, 12) + _lines(51, 100))


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that could be written in part is completed when there is space."""
    world.has(b"")
    full = threading.Event()
    full.set()
    write, refused = os.write, []

    def refusing(descriptor: int, data: bytes) -> int:
        if full.is_set() and os.readlink(f"/proc/self/fd/{descriptor}") == str(world.path):
            refused.append(data)
            if len(data) < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:2])
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refusing)
    _print(world, 1000, 1030)
    eventually(lambda: _assert(len(refused) > 10))
    full.clear()
    world.has(_lines(1000, 1030))


def test_a_container_that_is_gone_is_whole(world: World) -> None:
    """The engine does not know it any more."""
    _print(world, 1, 5)
    world.has(_lines(1, 5))
    world.engine.gone = True
    world.engine.hang_up()
    eventually(lambda: _assert(world.logs.copied("c1")))
    assert world.told == [KEY]


def test_after_its_end_a_log_is_read_once_more(world: World) -> None:
    """An engine that ends its answer does not say why: only what was asked then is the end."""
    _print(world, 1, 5)
    world.has(_lines(1, 5))
    with world.engine.lock:
        world.engine.hang_up()
        world.engine.running = False
        world.engine.kept.append((1, BEGAN + 5, b"6\n"))
    eventually(lambda: _assert(world.logs.copied("c1")))
    assert world.path.read_bytes() == _lines(1, 6)
    assert world.engine.follows[-1] is False
    assert world.told == [KEY]
    asked = len(world.engine.follows)
    world.restart()
    eventually(lambda: _assert(world.logs.copied("c1")))
    assert len(world.engine.follows) == asked, "a later operator knows it"


def test_nothing_is_asked_while_nothing_is_printed(world: World) -> None:
    """One request waits."""
    _print(world, 1, 5)
    world.has(_lines(1, 5))
    asked = len(world.engine.follows)
    always_for(0.3, lambda: _assert(len(world.engine.follows) == asked))


def test_a_torn_cursor_is_none(world: World) -> None:
    """A power cut may leave one; the container has not survived it either."""
    _print(world, 1, 5)
    world.has(_lines(1, 5))
    world.logs.close()
    world.cursor.write_bytes(world.cursor.read_bytes()[:20])
    world.restart()
    _print(world, 6, 6)
    world.has(_lines(1, 5) + _lines(1, 6))
