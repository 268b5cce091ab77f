"""When processes start: with its pid, what tells one from a later one that has got the same pid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from flow_operator.shim.kernel import read_all

_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of the unit in which the kernel tells it, by proc_pid_stat(5)."""


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (field 22 of its stat); 0 if gone."""
    try:
        return int(read_all(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


class Births:
    """Tells when processes start that are started here, mostly without asking for it.

    To have the kernel write a whole stat for one number takes half as long as to start the process.
    What it writes is CLOCK_BOOTTIME, of which a start takes a small part of a tick: what the clock
    said before and after is mostly the same, and then the answer is known. The first answer is
    asked for all the same, and if this kernel counts otherwise, so are all others.
    """

    def __init__(self) -> None:
        self._agrees: bool | None = None

    def tell(self, start: Callable[[], int]) -> tuple[int, int]:
        """Start a process; returns its pid and its :func:`start_time`."""
        before = _now()
        pid = start()
        after = _now()
        if self._agrees and before == after:
            return pid, after
        told = start_time(pid)
        if self._agrees is not False and told:
            self._agrees = before <= told <= after
        return pid, told


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK
