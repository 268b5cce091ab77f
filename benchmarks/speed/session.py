"""One run of one contender with one number of flows: everything that is measured of all alike."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from speed.contender import Contender, Work
from speed.figures import percentile
from speed.processes import Watched, pss, usage
from speed.register import Register

_SETTLES = 10
"""So many times it is waited for that; who never comes to rest is measured all the same."""

_CALM = 0.1
"""Of one processor; those who look at their flows every second take 0.02."""

_QUIET = 0.3
"""Seconds of quiet before a flow is killed by itself."""

Record = Callable[[str, float], None]
"""Takes the name of a measure and its value."""


@dataclass(frozen=True)
class Effort:
    """How much is measured, and how long may be waited for it: seconds.

    Attributes:
        kills: how many flows are killed and awaited.
        alone: how many are killed after nothing has happened for a while.
        adds: how many flows are added in each way.
        adding: for how long that goes on at most in each way.
        load: for how long statuses are asked for.
        idle: for how long nothing is done; 0 leaves that measure out.
        settle: for how long a contender must have had little to do before it is measured.
        patience: after which nothing more is waited for.
    """

    kills: int = 100
    alone: int = 5
    adds: int = 10
    adding: float = 5.0
    load: float = 2.0
    idle: float = 0.0
    settle: float = 1.0
    patience: float = 60.0


@contextlib.contextmanager
def workplace(worker: Path, flows: int) -> Iterator[tuple[Path, Work, Register]]:
    """A directory in memory, and what flows do in it."""
    with tempfile.TemporaryDirectory(prefix="flow-bench-", dir="/dev/shm") as name:
        root = Path(name)
        with Register(root / "register", 4 * flows + 4096) as register:
            yield root, Work(worker, root / "register"), register


@dataclass(frozen=True)
class Session:
    """A contender on its own workplace."""

    contender: Contender
    register: Register
    flows: int
    effort: Effort
    record: Record

    def run(self) -> None:
        """Measure everything, and leave no process behind.

        Raises:
            TimeoutError: something did not happen; what was measured before it is recorded.
        """
        try:
            self.contender.prepare(self.flows)
            self._start()
            self._settle()
            self.record("memory", pss(self.contender.own_pids()))
            self._restart()
            self._restart_alone()
            self._add()
            self._load()
            self._idle()
            self._stop()
        finally:
            self.contender.close()
            end_workers(self.register)

    def _start(self) -> None:
        before = self.register.count()
        begun = time.monotonic()
        self.contender.start()
        started = self.register.wait(before + self.flows, self.effort.patience)[before:]
        self.record("start", max(start.at for start in started) - begun)

    def _settle(self) -> None:
        """Wait until a contender has nothing left to do for now, as far as its processors tell."""
        end = time.monotonic() + _SETTLES * self.effort.settle
        while time.monotonic() < end:
            before = usage(self.contender.own_pids())
            time.sleep(self.effort.settle)
            if usage(self.contender.own_pids()).since(before).cpu < _CALM * self.effort.settle:
                return

    def _restart(self) -> None:
        """Kill flows, each once, one by one; after 50 ms the next one is not kept waiting."""
        kills = min(self.effort.kills, self.flows - self.effort.alone)
        pids = sorted(self.register.pids().items())[:kills]
        killed = {}
        first, before = self.register.count(), usage(self.contender.own_pids())
        for number, pid in pids:
            killed[number] = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            self.register.wait_for(number, first, within=0.05)
            time.sleep(0.002)
        again = self.register.wait(first + len(pids), self.effort.patience)[first:]
        used = usage(self.contender.own_pids()).since(before)
        took = sorted(start.at - killed[start.number] for start in again)
        self.record("restart-p50", percentile(took, 0.5) * 1e3)
        self.record("restart-p99", percentile(took, 0.99) * 1e3)
        self.record("restart-cpu", used.cpu / len(pids) * 1e3)

    def _restart_alone(self) -> None:
        """What most restarts are: of one flow, not killed before, while nothing else happens."""
        for number, pid in sorted(self.register.pids().items())[-self.effort.alone :]:
            time.sleep(_QUIET)
            first, killed = self.register.count(), time.monotonic()
            os.kill(pid, signal.SIGKILL)
            start = self.register.wait_for(number, first, self.effort.patience)
            if start is None:
                raise TimeoutError(f"flow {number} was killed and did not start again")
            self.record("restart-alone", (start.at - killed) * 1e3)

    def _add(self) -> None:
        number = self.flows
        for measure, add in self.contender.adds().items():
            end = time.monotonic() + self.effort.adding
            for _ in range(self.effort.adds):
                first, begun = self.register.count(), time.monotonic()
                if begun > end:
                    break
                add(number)
                start = self.register.wait_for(number, first, self.effort.patience)
                if start is None:
                    raise TimeoutError(f"flow {number} was added and did not start")
                self.record(measure, (start.at - begun) * 1e3)
                number += 1
                time.sleep(0.02)

    def _load(self) -> None:
        alone = self.contender.load(1, self.effort.load)
        if alone is None:
            return
        self.record("status-p50", alone.p50 * 1e3)
        together = self.contender.load(8, self.effort.load)
        assert together is not None
        self.record("status-rate", together.rate)
        self.record("status-size", together.size / 1e3)

    def _idle(self) -> None:
        if not self.effort.idle:
            return
        time.sleep(2 * self.effort.settle)
        pids = self.contender.own_pids()
        before, begun = usage(pids), time.monotonic()
        time.sleep(self.effort.idle)
        used, took = usage(pids).since(before), time.monotonic() - begun
        self.record("idle-cpu", used.cpu * 30 / took)
        self.record("idle-wakeups", used.wakeups / took)

    def _stop(self) -> None:
        pids = self.register.pids().values()
        with Watched(pids) as watched, ThreadPoolExecutor(1) as pool:
            begun = time.monotonic()
            asked = pool.submit(self.contender.stop_all)
            self.record("stop", watched.wait(self.effort.patience) - begun)
            asked.result()


def end_workers(register: Register) -> None:
    """End every worker that still runs: those of this register, as their command line tells."""
    mark = str(register.path).encode()
    pids = []
    for start in register.read():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{start.pid}/cmdline").read_bytes().split(b"\0"):
                pids.append(start.pid)
    with Watched(set(pids)) as watched:
        watched.kill()
        watched.wait(30)
