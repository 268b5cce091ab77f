"""Who a process is, told by the clock, is what the kernel would have told."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from flow_operator.shim import birth
from flow_operator.shim.birth import Births, start_time

TICK = 10**9 // os.sysconf("SC_CLK_TCK")


@pytest.fixture
def clock(monkeypatch):
    """What CLOCK_BOOTTIME says from one look to the next, and what the kernel is asked for."""
    told = SimpleNamespace(ticks=(7,), asked=[], kernel=7, looks=0)

    def now(_which: int) -> int:
        told.looks += 1
        return told.ticks[told.looks % len(told.ticks) - 1] * TICK + TICK // 2

    def start_time_of(pid: int) -> int:
        told.asked.append(pid)
        return told.kernel

    monkeypatch.setattr(birth.time, "clock_gettime_ns", now)
    monkeypatch.setattr(birth, "start_time", start_time_of)
    return told


def test_what_the_clock_tells_is_what_the_kernel_tells() -> None:
    """Of real processes: a later shim compares it, and would take ours for others."""
    births = Births()
    pids = []
    try:
        for _ in range(100):
            pid, start = births.tell(lambda: os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
            pids.append(pid)
            assert start == start_time(pid)
    finally:
        for pid in pids:
            os.kill(pid, 9)
        for pid in pids:
            os.waitpid(pid, 0)


def test_the_kernel_is_asked_for_the_first_only(clock) -> None:
    births = Births()
    assert [births.tell(lambda n=n: n) for n in (11, 12, 13)] == [(11, 7), (12, 7), (13, 7)]
    assert clock.asked == [11]


def test_the_kernel_is_asked_where_the_tick_has_changed_meanwhile(clock) -> None:
    births = Births()
    births.tell(lambda: 11)
    clock.ticks, clock.kernel, clock.looks = (7, 8), 8, 0
    assert births.tell(lambda: 12) == (12, 8)
    assert clock.asked == [11, 12]


def test_a_kernel_that_counts_otherwise_is_always_asked(clock) -> None:
    """As where only one of both knows that time stood still."""
    births, clock.kernel = Births(), 5
    for pid in (11, 12, 13):
        assert births.tell(lambda pid=pid: pid) == (pid, 5)
    assert clock.asked == [11, 12, 13]


def test_one_that_is_gone_at_once_says_nothing_about_the_clock(clock) -> None:
    births, clock.kernel = Births(), 0
    assert births.tell(lambda: 11) == (11, 0)
    clock.kernel = 7
    births.tell(lambda: 12)
    births.tell(lambda: 13)
    assert clock.asked == [11, 12]
