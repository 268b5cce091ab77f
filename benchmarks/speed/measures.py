"""What is measured, in which unit, and how good it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """How good a figure should be.

    Attributes:
        limit: the value that should not be exceeded (or, for rates, be exceeded).
        floors: so many times the floor in C is good as well: machines differ. It is what the limit
            was on the machine where it was set, whose floor started 1,000 processes in 0.167 s,
            restarted one in 0.9 ms (p99 3.6), added one in 0.73 ms and stopped all in 0.03 s.
            None: no such rule.
    """

    limit: float
    floors: float | None = None


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    Attributes:
        name: as in samples.
        title: what it is.
        unit: of its values.
        reach: by number of flows; none is asked of other numbers.
        more: more is better.
    """

    name: str
    title: str
    unit: str
    reach: dict[int, Reach]
    more: bool = False


MEASURES = (
    Measure(
        "start",
        "start all: launch to the last process running",
        "s",
        {1000: Reach(0.5, 3), 5000: Reach(2.9, 2)},
    ),
    Measure("restart-p50", "restart after kill -9, p50", "ms", {1000: Reach(1.5, 1.7)}),
    Measure("restart-p99", "restart after kill -9, p99", "ms", {1000: Reach(3, 0.8)}),
    Measure("restart-alone", "the same of one by itself, p50", "ms", {}),
    Measure("restart-cpu", "processor time of one restart", "ms", {}),
    Measure("add", "add one, until it runs", "ms", {1000: Reach(4, 5.5)}),
    Measure("add-file", "the same by a file in the folder", "ms", {1000: Reach(300)}),
    Measure("status-p50", "status of all, one client, p50", "ms", {1000: Reach(1.5)}),
    Measure("status-rate", "status of all, 8 clients", "calls/s", {1000: Reach(1500)}, more=True),
    Measure("status-size", "bytes of that answer", "kB", {}),
    Measure("stop", "stop all, until every process is gone", "s", {1000: Reach(0.15, 5)}),
    Measure("memory", "memory (PSS) of all own processes", "MB", {1000: Reach(45)}),
    Measure("idle-cpu", "processor time in 30 idle seconds", "s", {1000: Reach(0.02)}),
    Measure("idle-wakeups", "wakeups in an idle second", "/s", {1000: Reach(1)}),
)
"""What is measured of every contender, in the order of the table."""

OWN = (
    Measure("post", "POST of all flows, until durable and answered", "s", {}),
    Measure("post-start", "the same, until the last process runs", "s", {1000: Reach(0.5, 3)}),
    Measure("pause", "pause all, until observed", "s", {}),
    Measure("resume", "resume all, until observed", "s", {}),
    Measure("soft-stop", "stop all softly, until observed", "s", {}),
    Measure("start-command", "start all by command, until observed", "s", {}),
    Measure("hard-stop", "stop all hard, until observed", "s", {}),
    Measure("cold-start", "a folder of new manifests: launch to the last running", "s", {}),
    Measure(
        "restart-unchanged",
        "kill -9 and a new launch: until a watch has told that all run",
        "s",
        {10_000: Reach(1)},
    ),
)
"""What only this operator is measured on."""

BY_NAME = {measure.name: measure for measure in (*MEASURES, *OWN)}

OURS, FLOOR, PYTHON_FLOOR = "flow-operator", "floor-c", "floor-python"
PEERS = ("s6", "runit", "circus", "pm2", "supervisord")
SHELL, PARSE = "shell", "csafeloader"
"""Others that single measures are compared with: the same pipeline in a shell, the bare parser."""
