"""What a pass over /proc concludes, on processes that are made up."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import signal
import threading
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import pytest

from flow_operator.errors import RetryableError
from flow_operator.runners import census as module
from flow_operator.runners import procfs
from flow_operator.runners.census import Besides, Census, Change, Job
from flow_operator.runners.procfs import Proc, environment, read_proc, scan, send_signal
from support import always_for, eventually


def proc(pid: int, state: str = "S", ppid: int = 1) -> Proc:
    return Proc(pid, state, ppid, 10, 7, 0, 0)


class World:
    """Looks that are handed out one after the other; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: list[Proc]) -> None:
        self.sent: list[tuple[int, signal.Signals]] = []
        self.seen = 0
        self._looks = itertools.chain(looks, itertools.repeat(looks[-1]))
        self.done: list[tuple[str, str]] = []
        monkeypatch.setattr(module, "scan", self._scan)
        monkeypatch.setattr(
            module, "send_signal", lambda p, number: self.sent.append((p.pid, number))
        )
        monkeypatch.setattr(module.RunIndex, "runs", lambda _self, procs: dict.fromkeys(procs, "r"))

    def _scan(self, _besides: Container[int] = ()) -> dict[int, Proc]:
        self.seen += 1
        return {p.pid: p for p in next(self._looks)}

    @contextlib.contextmanager
    def census(
        self, besides: Besides = lambda _runs: (), change: Change = lambda changes: changes
    ) -> Iterator[Census]:
        """One that tells us what is done; nobody else is told of anything."""
        census = Census(
            "/home", lambda: 1, besides, lambda *each: self.done.append(each), _ignore, change
        )
        try:
            yield census
        finally:
            census.close()

    def run(self, job: Job) -> None:
        with self.census() as census:
            census.want("r", job)
            eventually(self._finished)

    def _finished(self) -> None:
        assert self.done


def _ignore(_run: str, _what: object) -> None:
    pass


def _assert(condition: bool) -> None:
    assert condition


def test_gone_takes_two_empty_looks_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What forks while it is looked for hides from one look, not from two."""
    world = World(monkeypatch, [], [proc(5)], [], [proc(6)], [], [])
    world.run(Job("sweep", {}, signal.SIGKILL))
    assert world.seen == 6
    assert world.sent == [(5, signal.SIGKILL), (6, signal.SIGKILL)]


def test_a_parent_that_waits_for_a_stopped_child_counts_as_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vfork: the parent sleeps uninterruptibly until its child, stopped before exec, goes on."""
    world = World(monkeypatch, [proc(5), proc(6, ppid=5)], [proc(5, "D"), proc(6, "T", ppid=5)])
    world.run(Job("freeze", {}))
    assert world.sent == [(5, signal.SIGSTOP), (6, signal.SIGSTOP)]


def test_one_that_sleeps_uninterruptibly_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """It will run on as soon as its disk has answered."""
    world = World(monkeypatch, [proc(5, "D")], [proc(5, "D")], [proc(5, "T")])
    world.run(Job("freeze", {}))
    assert world.seen == 3


def test_a_thaw_reaches_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that do not show as stopped: a SIGSTOP may be pending."""
    world = World(monkeypatch, [proc(5, "D"), proc(6, "T", ppid=5)], [proc(5), proc(6, ppid=5)])
    world.run(Job("thaw", {}))
    assert sorted(world.sent) == [(5, signal.SIGCONT), (6, signal.SIGCONT)]


def test_groups_are_changed_all_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One call for all of them; what goes wrong with one is tried again, and not the others'."""
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    (tmp_path / "cgroup.procs").write_text("")
    asked: list[list[tuple[str, str]]] = []
    ready = threading.Event()

    def change(changes: Sequence[tuple[str, str]]) -> list[object]:
        ready.wait(10)
        asked.append(sorted(changes))
        bad = RetryableError("the shim is away")
        return [bad if run == "b" and len(asked) < 4 else True for run, _ in changes]

    world = World(monkeypatch, [])
    with world.census(change=change) as census:
        census.want("a", Job("freeze", {}, group=str(tmp_path)))
        eventually(lambda: _assert(world.seen == 1))
        for run in "bc":
            census.want(run, Job("freeze", {}, group=str(tmp_path)))
        ready.set()
        eventually(lambda: _assert(len(world.done) == 3))
    assert asked[:2] == [[("a", "freeze")], [("b", "freeze"), ("c", "freeze")]]
    assert asked[2:] == [[("b", "freeze")]] * 2
    assert world.done == [("a", "freeze"), ("c", "freeze"), ("b", "freeze")]


def test_the_steps_of_other_runs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands, and they are nobody else's; those of a run that is swept are."""
    looked: list[int] = []

    def read(pid: int) -> Proc:
        looked.append(pid)
        return proc(pid)

    world = World(monkeypatch, [])
    monkeypatch.setattr(module, "scan", scan)
    monkeypatch.setattr(procfs, "pids", lambda: [3, 4, 5, 6] if not looked else [])
    monkeypatch.setattr(procfs, "read_proc", read)
    steps = {"r": {4}, "other": {5, 6}}

    def others(runs: Container[str]) -> set[int]:
        return {pid for run in steps if run not in runs for pid in steps[run]}

    with world.census(besides=others) as census:
        census.want("r", Job("sweep", {}, signal.SIGKILL))
        eventually(world._finished)
    assert looked == [3, 4]


def test_what_cannot_be_looked_at_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that fails counts for nothing; the census lives on and looks again."""
    world = World(monkeypatch, [], [proc(5)], [], [])
    looks = itertools.count()
    look = world._scan

    def fails_twice(_besides: Container[int]) -> dict[int, Proc]:
        if next(looks) in (1, 2):
            raise OSError(errno.EMFILE, "no descriptor left")
        return look()

    monkeypatch.setattr(module, "scan", fails_twice)
    world.run(Job("sweep", {}, signal.SIGKILL))
    assert world.sent == [(5, signal.SIGKILL)]
    assert next(looks) == 6


def test_without_descriptors_nobody_counts_as_gone() -> None:
    """A process that cannot be read is an error, and not an absence."""
    with without_descriptors():
        for look in (scan, lambda: read_proc(os.getpid()), lambda: environment(os.getpid())):
            with pytest.raises(OSError) as caught:
                look()
            assert caught.value.errno == errno.EMFILE
        with pytest.raises(OSError):
            send_signal(Proc(os.getpid(), "S", 1, 1, 1, 0, 0), signal.SIGCONT)
    assert read_proc(os.getpid()) is not None
    assert read_proc(2**22 + 1) is None


@contextlib.contextmanager
def without_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_looks_that_meet_nobody_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask: else a thousand flows that stop would have /proc looked at all the time."""
    world = World(monkeypatch, [])
    slow = 0.01
    monkeypatch.setattr(module, "scan", lambda _besides: (time.sleep(slow), world._scan())[1])
    with world.census() as census:
        begun = time.monotonic()
        for number in range(40):
            census.want(f"r{number}", Job("sweep", {}, signal.SIGTERM))
            time.sleep(slow / 2)
        eventually(lambda: _assert(len(world.done) == 40))
        taken = time.monotonic() - begun
    assert world.seen <= taken / (slow * 3) + 2  # each with a rest of three times as long


def test_who_is_alone_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual stop, of one flow: two looks one after the other tell that it is gone."""
    world = World(monkeypatch, [])
    monkeypatch.setattr(module, "scan", lambda _besides: (time.sleep(0.01), world._scan())[1])
    monkeypatch.setattr(module, "_REST", 10_000)
    monkeypatch.setattr(module, "_LAST_DELAY", 60)
    world.run(Job("sweep", {}, signal.SIGKILL))
    assert world.seen == 2


def test_a_group_in_which_nobody_is_met_is_looked_at_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of another namespace, say: it is not gone, and does not take the processor until it is."""
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (tmp_path / "cgroup.procs").write_text("0\n")
    world = World(monkeypatch, [])
    monkeypatch.setattr(module, "_LAST_DELAY", 60)
    with world.census() as census:
        census.want("r", Job("sweep", {}, signal.SIGTERM, str(tmp_path)))
        always_for(0.5, lambda: _assert(not world.done and world.seen < 12))


def test_looks_that_meet_somebody_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What forks all the time is hunted all the time."""
    looks = [[proc(number)] for number in range(5, 15)]
    world = World(monkeypatch, *looks, [], [])
    monkeypatch.setattr(module, "_REST", 10_000)
    monkeypatch.setattr(module, "_LAST_DELAY", 1.0)
    begun = time.monotonic()
    world.run(Job("sweep", {}, signal.SIGKILL))
    assert len(world.sent) == 10
    assert time.monotonic() - begun < 3  # two rests at most, after the looks that met nobody
