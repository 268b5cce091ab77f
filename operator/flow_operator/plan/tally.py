"""What has happened to the runs of a flow between two memories, to be counted.

Each exit and each end is in exactly one difference, as a memory is always planned from the one
before it. What an operator did not live to remember is counted by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flow_operator.memory import FlowMemory, RunMemory
from flow_operator.plan.actions import Seen


class Tally(NamedTuple):
    """What is to be counted.

    Attributes:
        exits: the reason of each exit that was not remembered before.
        ends: of each run of which nothing is left: Completed or Failed if it has ended by itself,
            else the outcome of its stop (Drained, DrainTimedOut, Terminated or Forced), or Lost.
    """

    exits: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


def tally(before: FlowMemory, seen: Seen, after: FlowMemory | None) -> Tally:
    """Compare what was remembered with what was seen, and with what is remembered now."""
    if not before.runs:
        return Tally()
    left = {run.run for run in after.runs.values()} if after is not None else set()
    ended = [run for run in before.runs.values() if run.run not in left]
    return Tally(tuple(_exits(before, seen)), tuple(_end(run) for run in ended if _was(run)))


def _exits(before: FlowMemory, seen: Seen) -> Iterable[str]:
    runs = {run.run: run for run in before.runs.values()}
    for instance in seen.instances:
        run = runs.get(instance.run)
        if run is None:
            continue
        for step, view in zip(run.steps, instance.steps, strict=True):
            if view.exit is not None and view.attempt > step.exited:
                yield view.exit.reason


def _was(run: RunMemory) -> bool:
    """Whether there ever was such a run."""
    return run.confirmed or run.stop is not None


def _end(run: RunMemory) -> str:
    if run.stop is None:
        return "Lost"
    by_itself = run.stop.reason in ("Completed", "Failed")
    return run.stop.reason if by_itself else run.stop.outcome
