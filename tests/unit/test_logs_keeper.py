"""The thread that keeps logs small: it is there when something is printed, and asleep else."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from flow_operator.clock import SystemClock
from flow_operator.logs import Keeper, Limits, keeper, watch
from flow_operator.logs.stream import Stream
from flow_operator.settings import Layout
from support import always_for, eventually

SMALL = Limits(16 * 1024, 3)
KEPT = SMALL.size * SMALL.files + 4096
LINE = b"x" * 99 + b"\n"

Make = Callable[..., Keeper]


@pytest.fixture
def layout(root: Path) -> Layout:
    return Layout(root)


@pytest.fixture
def dropped() -> Counter[str]:
    """Bytes that went for want of space, by flow."""
    return Counter()


@pytest.fixture
def make(layout: Layout, dropped: Counter[str]) -> Iterator[Make]:
    """Makes and starts keepers; all of them are closed."""
    made: list[Keeper] = []

    def make(reserve: int = 0, patience: float = 0.0) -> Keeper:
        def tell(flow_id: str, count: int) -> None:
            dropped[flow_id] += count

        made.append(Keeper(layout, SystemClock(), reserve, tell))
        made[-1].start(patience)
        return made[-1]

    yield make
    for one in made:
        one.close()


def prints(path: str, lines: int) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(LINE * lines)


def taken(layout: Layout, flow_id: str = "demo") -> int:
    """Bytes that a flow's logs take."""
    found = layout.logs.glob(f"{flow_id}/*/*.log*")
    return sum(entry.stat().st_blocks * 512 for entry in found)


def await_small(layout: Layout) -> None:
    def check() -> None:
        assert taken(layout) <= KEPT

    eventually(check)


def await_sleep(one: Keeper) -> None:
    """Wait until it wakes up no more."""

    def check() -> None:
        before = one.wakeups
        always_for(1.5, lambda: _assert(one.wakeups == before), every=0.5)

    eventually(check)


def _assert(holds: bool) -> None:
    assert holds


def test_a_log_that_grows_is_kept_small(make: Make, layout: Layout) -> None:
    """The newest is kept, within the limits of its flow."""
    one = make()
    one.limit("demo", SMALL)
    stream = one.opened("demo", 0, "s0")
    assert one.rotations == 0
    for _ in range(50):
        prints(stream.path, 100)
        always_for(0.02, lambda: None)
    await_small(layout)
    assert stream.end() == 50 * 100 * len(LINE)
    assert stream.end() - stream.first() > 2 * SMALL.size - 4096
    assert one.rotations >= 2
    assert one.lost == 0, "what is too old has not gone for want of space"


def test_nobody_wakes_up_while_nothing_is_printed(make: Make, layout: Layout) -> None:
    """And what is printed then is seen at once."""
    one = make()
    one.limit("demo", SMALL)
    streams = [one.opened("demo", replica, "s0") for replica in range(20)]
    await_sleep(one)
    assert not one._due
    prints(streams[7].path, 5_000)
    await_small(layout)
    assert streams[7].times.last[1] == 5_000 * len(LINE)


def test_nobody_looks_at_a_log_to_which_nobody_writes(
    make: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most flows print nothing when they start; a thousand of them start at once, and again."""
    looks: Counter[str] = Counter()
    rotate = Stream.rotate

    def counted(stream: Stream, size: int, files: int) -> int:
        looks[stream.path] += 1
        return rotate(stream, size, files)

    monkeypatch.setattr(Stream, "rotate", counted)
    one = make()
    for _ in range(2):
        paths = [one.opened("demo", replica, "s0").path for replica in range(20)]
        await_sleep(one)
        assert not looks
    prints(paths[7], 5_000)
    await_sleep(one)
    assert list(looks) == [paths[7]]


def test_a_log_that_somebody_has_removed_is_looked_after_again(make: Make, layout: Layout) -> None:
    """Also while what a step has left behind still writes to the one that is gone."""
    one = make()
    one.limit("demo", SMALL)
    path = one.opened("demo", 0, "s0").path
    with open(path, "ab") as survivor:
        os.unlink(path)
        assert one.opened("demo", 0, "s0").path == path
        prints(path, 5_000)
        await_small(layout)
        survivor.write(LINE)


def test_what_was_printed_before_a_step_starts_again_is_seen(make: Make, layout: Layout) -> None:
    """An earlier operator may have seen none of it."""
    path = layout.log_file("demo", 0, "s0")
    os.makedirs(os.path.dirname(path))
    one = make()
    one.limit("demo", SMALL)
    prints(path, 5_000)
    one.opened("demo", 0, "s0")
    await_small(layout)


def test_flows_that_have_lost_nothing_are_no_work_for_each_look(
    make: Make, dropped: Counter[str]
) -> None:
    """What is gone over at each look at one log must not grow with the number of flows."""
    one = make()
    for number in range(20):
        one.opened(f"demo-{number}", 0, "s0")
    await_sleep(one)
    assert not one._lost
    assert not dropped


def test_what_is_printed_between_the_last_look_and_the_watch_is_seen(
    make: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no moment in which a log is neither looked at nor watched."""
    one = make()
    one.limit("demo", SMALL)
    path = Path(layout.log_file("demo", 0, "s0"))
    real, printed = one._watcher.watch, threading.Event()

    def late(watched: Path) -> bool:
        if not printed.is_set():
            printed.set()
            prints(path, 5_000)
        return real(watched)

    monkeypatch.setattr(one._watcher, "watch", late)
    one.opened("demo", 0, "s0")
    assert printed.wait(20)
    await_small(layout)


def test_logs_of_an_earlier_operator_are_looked_after(make: Make, layout: Layout) -> None:
    """Nobody has to start their steps again for it."""
    path = Path(layout.log_file("demo", 0, "s0"))
    path.parent.mkdir(parents=True)
    prints(path, 200_000)  # 20 MB: more than one file of the default size
    make()
    eventually(lambda: _assert(len(list(path.parent.glob("s0.log.0*"))) == 1))


@pytest.mark.parametrize("told", [True, False])
def test_logs_of_an_earlier_operator_wait_for_what_is_to_be_done_first(
    make: Make, layout: Layout, told: bool
) -> None:
    """Until that is told to be over, or for as long as they may; what comes does not wait."""
    old = layout.log_file("old", 0, "s0")
    os.makedirs(os.path.dirname(old))
    prints(old, 50_000)
    one = make(patience=1000.0 if told else 1.5)
    one.limit("demo", SMALL)
    prints(one.opened("demo", 0, "s0").path, 50_000)
    await_small(layout)
    assert taken(layout, "old") >= 50_000 * len(LINE)
    one.limit("old", SMALL)
    if told:
        always_for(0.5, lambda: _assert(taken(layout, "old") > KEPT))
        one.search()
    eventually(lambda: _assert(taken(layout, "old") <= KEPT))


def test_what_somebody_has_put_beside_the_logs_is_left_alone(make: Make, layout: Layout) -> None:
    """A copy of a replica's directory is none, whatever it is called, and disturbs no other log."""
    path = layout.log_file("demo", 0, "s0")
    copy = layout.logs / "demo" / "0-before" / "s0.log"
    for directory in (copy.parent, Path(path).parent):
        directory.mkdir(parents=True)
    prints(str(copy), 5_000)
    one = make()
    one.limit("demo", SMALL)
    prints(path, 5_000)
    one.opened("demo", 0, "s0")
    eventually(lambda: _assert(one.rotations > 0))
    assert copy.stat().st_size == 5_000 * len(LINE)


def test_new_limits_hold_at_once(make: Make, layout: Layout) -> None:
    """Also for what was printed before, and is not followed by more."""
    one = make()
    prints(one.opened("demo", 0, "s0").path, 50_000)
    prints(one.opened("other", 0, "s0").path, 50_000)
    await_sleep(one)
    one.limit("demo", SMALL)
    await_small(layout)
    assert taken(layout, "other") >= 50_000 * len(LINE)


def test_without_inotify_one_has_to_look(
    make: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a second; nothing grows beyond its limits."""
    monkeypatch.setattr(watch._libc, "inotify_init1", lambda _flags: -1)
    monkeypatch.setattr(keeper, "_SLOWEST", 0.05)
    one = make()
    one.limit("demo", SMALL)
    path = one.opened("demo", 0, "s0").path
    before = one.wakeups
    eventually(lambda: _assert(one.wakeups > before + 6))
    prints(path, 5_000)
    await_small(layout)


def test_lost_events_are_made_up_for(make: Make, layout: Layout) -> None:
    """When the kernel's queue overflows, every watched log is looked at."""
    one = make()
    one.limit("demo", SMALL)
    path = one.opened("demo", 0, "s0").path
    await_sleep(one)
    watcher = one._watcher
    assert list(watcher._watched.values()) == [path]
    overflow = watch._EVENT.pack(-1, watch._IN_Q_OVERFLOW, 0, 0)
    assert watcher._told(overflow) == {path}
    assert not watcher._watched


def test_a_log_that_cannot_be_kept_small_is_told_once_and_hurts_no_other(
    make: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again: the cause may go."""
    monkeypatch.setattr(keeper, "_SLOWEST", 0.05)
    one = make()
    for flow_id in ("bad", "demo"):
        one.limit(flow_id, SMALL)
    bad, good = one.opened("bad", 0, "s0"), one.opened("demo", 0, "s0")
    tries, rotate = [], Stream.rotate

    def refuse(stream: Stream, *limits: int) -> int:
        if stream is not bad:
            return rotate(stream, *limits)
        tries.append(limits)
        raise OSError("not supported")

    with structlog.testing.capture_logs() as told:
        monkeypatch.setattr(Stream, "rotate", refuse)
        prints(bad.path, 5_000)
        prints(good.path, 5_000)
        await_small(layout)
        eventually(lambda: _assert(len(tries) > 3))
    assert [entry["path"] for entry in told if "cannot keep" in entry["event"]] == [bad.path]
    monkeypatch.undo()
    eventually(lambda: _assert(taken(layout, "bad") <= KEPT))


def test_a_limit_below_what_can_be_taken_away_makes_nobody_busy(make: Make, layout: Layout) -> None:
    """Bytes go in whole blocks."""
    one = make()
    one.limit("demo", Limits(100, 3))
    stream = one.opened("demo", 0, "s0")
    prints(stream.path, 30)
    await_sleep(one)
    assert stream.end() - stream.first() == 3000


def test_a_purge_leaves_nothing(make: Make, layout: Layout) -> None:
    """Neither files nor somebody who looks after them; a new flow of the name begins anew."""
    one = make()
    stream = one.opened("demo", 0, "s0")
    prints(stream.path, 10)
    other = one.opened("demo-2", 0, "s0")
    one.purge("demo")
    assert not (layout.logs / "demo").exists()
    assert os.path.exists(other.path)
    assert one.opened("demo", 0, "s0").end() == 0


def test_a_log_that_is_noticed_while_it_is_purged_is_gone_all_the_same(
    make: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks after it learns late of what was printed last, and notes that it is gone."""
    one = make()
    first = one.opened("demo", 0, "s0")
    path = first.path
    prints(path, 10)
    assert first.end() == 1000
    remove, held = shutil.rmtree, []

    def noticed(*given: Any, **named: Any) -> None:
        if held:
            remove(*given, **named)
            return
        held.append(one.stream("demo", 0, "s0"))
        assert held[0].end() == 1000
        os.unlink(path)
        held[0].end()  # Beside the log, so that its directory cannot be removed.
        assert os.listdir(os.path.dirname(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", noticed)
        one.purge("demo")
    assert not (layout.logs / "demo").exists()
    assert one.opened("demo", 0, "s0").end() == 0
    # Whoever has either of them still does not meddle with what is begun anew.
    first.end()
    prints(path, 300)
    assert held[0].look(1) == held[0].rotate(8192, 3) == held[0].shed_live() == 0
    assert set(os.listdir(os.path.dirname(path))) <= {"s0.log", "s0.times"}
    assert one.stream("demo", 0, "s0").end() == 30_000


def test_reading_makes_no_files(make: Make, layout: Layout) -> None:
    """A step that was never started has printed nothing."""
    assert make().stream("demo", 0, "s0").end() == 0
    assert not layout.logs.exists()


# --- the disk --------------------------------------------------------------------------------


def free(one: Keeper, monkeypatch: pytest.MonkeyPatch, layout: Layout, disk: int) -> None:
    """Have the disk be so large, with nothing on it but logs."""

    def left() -> int:
        return disk - sum(e.stat().st_blocks * 512 for e in layout.logs.glob("*/*/*.log*"))

    monkeypatch.setattr(one, "_free", left)


def test_logs_leave_the_disk_its_reserve(
    make: Make, layout: Layout, dropped: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first, whosever it is; what has gone is told to its flow."""
    one = make(reserve=2**20)
    free(one, monkeypatch, layout, 3 * 2**20)
    limits = Limits(128 * 1024, 1000)
    streams = {}
    for flow_id in ("old", "young"):
        one.limit(flow_id, limits)
        streams[flow_id] = one.opened(flow_id, 0, "s0")
        prints(streams[flow_id].path, 8_000)
        eventually(lambda f=flow_id: _assert(streams[f].live() <= limits.size))
    assert not dropped
    prints(streams["young"].path, 7_000)
    eventually(lambda: _assert(one._free() >= 2**20))
    eventually(lambda: _assert(dropped["old"] > 0))
    assert streams["young"].first() == 0
    assert one.lost == dropped["old"] == streams["old"].first()


def test_where_nothing_old_is_left_the_largest_log_gives_way(
    make: Make, layout: Layout, dropped: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones are left alone: they fill no disk."""
    one = make(reserve=2**20)
    large, small = one.opened("large", 0, "s0"), one.opened("small", 0, "s0")
    free(one, monkeypatch, layout, 3 * 2**20)
    prints(small.path, 100)
    prints(large.path, 30_000)
    eventually(lambda: _assert(one._free() >= 2**20))
    eventually(lambda: _assert(dropped["large"] > 0))
    assert set(dropped) == {"large"}
    assert large.end() == 30_000 * len(LINE)
    assert small.first() == 0


def test_logs_of_an_earlier_operator_give_way_too(
    make: Make, layout: Layout, dropped: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that nobody has looked at, as nothing has come to them since."""
    before = Keeper(layout, SystemClock(), 0, lambda _flow_id, _count: None)
    before.start()
    large = before.opened("large", 0, "s0")
    prints(large.path, 30_000)
    eventually(lambda: _assert(large.times.last[1] == 30_000 * len(LINE)))
    before.close()
    one = make(reserve=2**20)
    eventually(lambda: _assert(one._only_watched == [large.path]))
    free(one, monkeypatch, layout, 3 * 2**20)
    prints(one.opened("small", 0, "s0").path, 100)
    eventually(lambda: _assert(dropped["large"] > 0))
    assert one._free() >= 2**20


def test_a_log_that_cannot_be_looked_after_at_a_start_is_none_of_the_others(
    layout: Layout, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told; the thread goes on, and the log after it is kept small."""
    for step in ("bad", "good"):
        path = Path(layout.log_file("demo", 0, step))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LINE)

    def failing(path: str) -> Stream:
        if path.endswith("/bad.log"):
            raise PermissionError("not yours")
        return Stream(path)

    monkeypatch.setattr(keeper, "Stream", failing)
    with structlog.testing.capture_logs() as logs:
        one = make()
        eventually(lambda: _keeps(one, "good"))
    assert [entry["path"] for entry in logs] == [layout.log_file("demo", 0, "bad")]
    one.limit("demo", SMALL)
    prints(layout.log_file("demo", 0, "good"), 4 * SMALL.size // len(LINE))
    await_small(layout)


def _keeps(one: Keeper, step: str) -> None:
    assert ("demo", 0, step) in one._logs
    assert one._thread.is_alive()
