"""What an edit does to the processes of a flow, told before it is made."""

from __future__ import annotations

from collections.abc import Mapping

from flow_operator.memory import FlowMemory, RunMemory
from flow_operator.model.status import Change
from flow_operator.plan.actions import Want
from flow_operator.plan.decide import reason_to_stop, still_ended

_STARTED_AGAIN = frozenset({"Replaced", "Restarted", "Updated"})
"""Reasons to stop an instance after which another one takes its place."""


def foresee(before: Want, after: Want, memory: FlowMemory) -> Change:
    """What it means for the processes that ``after`` is wanted instead of ``before``.

    A step that waits for its restart counts as running, and so does an instance that is about to
    be launched; one that is being stopped does not.

    Args:
        before: what is wanted now; without a flow if there is none.
        after: what is to be wanted; without a flow if it is to be deleted.
        memory: what is remembered of the flow now.
    """
    instances = _instances(before, after, memory)
    if not instances:
        return _without_instances(before, after, memory)
    reasons = [reason_to_stop(after, replica, was) for replica, was in instances.items()]
    if not _STARTED_AGAIN.isdisjoint(reasons):
        return "restart"
    if all(reasons):
        return "stop"
    return "none" if before.flow == after.flow else "inPlace"


def _instances(before: Want, after: Want, memory: FlowMemory) -> Mapping[int, Want | RunMemory]:
    """By replica, what runs, or is about to, and what it is launched from."""
    due = _wanted(before, memory) - memory.runs.keys() - memory.relaunches.keys()
    runs = {
        replica: run
        for replica, run in memory.runs.items()
        if run.stop is None and (after.flow is None or run.uid == after.uid)
    }
    return {**dict.fromkeys(() if before.blocked else due, before), **runs}


def _wanted(want: Want, memory: FlowMemory) -> set[int]:
    """The replicas that are to run: all that have not ended for good."""
    if want.flow is None or want.state != "running":
        return set()
    ended = memory.finished if memory.uid == want.uid else {}
    return {
        replica
        for replica in range(want.flow.spec.replicas)
        if replica not in ended or not still_ended(want, ended[replica])
    }


def _without_instances(before: Want, after: Want, memory: FlowMemory) -> Change:
    if after.flow is not None and after.state != "stopped":
        return "start" if _wanted(after, memory) - _wanted(before, memory) else "none"
    # It may be on its way down already: to come back, or more gently.
    matters = before.state == "running" or after.hard > before.hard
    return "stop" if memory.runs and matters else "none"
