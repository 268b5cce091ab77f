"""What processes use, and whether they have ended, as the kernel tells it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self


class Usage(NamedTuple):
    """What processes have used so far: seconds of the processors, and how often they woke up."""

    cpu: float
    wakeups: int

    def since(self, before: Usage) -> Usage:
        """What was used between the two."""
        return Usage(self.cpu - before.cpu, self.wakeups - before.wakeups)


def pss(pids: Iterable[int]) -> float:
    """Proportional memory in MB of processes together."""
    return sum(map(_pss_kb, pids)) / 1024


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def usage(pids: Iterable[int]) -> Usage:
    """What processes have used, in all of their threads that live."""
    cpu, wakeups = 0, 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                cpu += int((task / "schedstat").read_text().split()[0])
                status = (task / "status").read_text()
                wakeups += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return Usage(cpu / 1e9, wakeups)


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / "children").read_text().split())
    return found


class Watched:
    """Processes whose end is waited for, held by descriptors: reused pids do not deceive it."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._poll = select.epoll()
        self._left: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                self._left[descriptor] = pid
                self._poll.register(descriptor, select.EPOLLIN)

    def __enter__(self) -> Self:
        """Use them."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the descriptors."""
        for descriptor in self._left:
            os.close(descriptor)
        self._left.clear()
        self._poll.close()

    def wait(self, within: float) -> float:
        """The time of the monotonic clock at which the last one had ended.

        Raises:
            TimeoutError: some still run.
        """
        end = time.monotonic() + within
        while self._left:
            gone = self._poll.poll(max(0.0, end - time.monotonic()))
            for descriptor, _ in gone:
                self._poll.unregister(descriptor)
                os.close(descriptor)
                del self._left[descriptor]
            if not gone:
                raise TimeoutError(f"{len(self._left)} processes still run after {within:.0f} s")
        return time.monotonic()

    def kill(self) -> None:
        """End those that are left, at once."""
        for descriptor in self._left:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
