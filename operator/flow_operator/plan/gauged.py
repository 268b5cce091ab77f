"""What is told of flows whose steps write nothing, or do not read, or whose pipes nobody holds."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from flow_operator.memory import FlowMemory, RunMemory
from flow_operator.model.flow import Flow
from flow_operator.model.status import FlowStatus
from flow_operator.plan.actions import Note, Seen, Want


class Finding(Struct, frozen=True):
    """One condition that is abnormal when it is True."""

    kind: str
    holds: bool
    reason: str
    message: str


def silence(flow: Flow) -> str:
    """What is said of a silent step, after its name."""
    limit = flow.spec.progress.silence_timeout
    return f"has written nothing for {limit.text if limit else 'too long'}"


def findings(want: Want, seen: Seen, memory: FlowMemory) -> tuple[Finding, ...]:
    """The conditions beside those that every flow has, for flows that can have them."""
    if want.flow is None:
        return ()
    spec = want.flow.spec
    runs = {run.run: run for run in memory.runs.values()}
    told: list[Finding] = []
    if spec.progress.silence_timeout is not None:
        silent = (
            f"{_named(runs[run], index)} {silence(want.flow)}"
            for run, index, attempt in seen.silent
            if run in runs and runs[run].steps[index].attempt == attempt
        )
        told.append(_finding("Silent", "SilenceTimeout", silent))
    if len(spec.steps) > 1:
        full = (
            f"{_named(runs[run], index)} does not keep up: the pipe before it is full, with "
            f"{unread} unread bytes"
            for (run, index), unread in seen.backpressured.items()
            if run in runs
        )
        told.append(_finding("Backpressured", "PipeFull", full))
        unheld = (
            f"the pipe between {_named(runs[instance.run], index)} and "
            f"{_named(runs[instance.run], index + 1)} is no longer held: if one of them exits it "
            "breaks, and what is in it is lost; restart the flow when convenient"
            for instance in seen.instances
            for index in instance.unheld
            if instance.run in runs and runs[instance.run].stop is None
        )
        told.append(_finding("PipeUnheld", "ShimLost", unheld))
    return tuple(told)


def _named(run: RunMemory, index: int) -> str:
    replica = f" of replica {run.replica}" if run.flow.spec.replicas > 1 else ""
    return f"step '{run.flow.spec.steps[index].name}'{replica}"


def _finding(kind: str, reason: str, messages: Iterable[str]) -> Finding:
    listed = sorted(messages)
    return Finding(kind, bool(listed), reason if listed else over(kind), "; ".join(listed))


_OVER = {
    "Silent": "no step is silent any more",
    "Backpressured": "no pipe is full any more",
    "PipeUnheld": "every pipe is held again",
}
"""By kind of condition: what is said once it no longer holds."""


def over(kind: str) -> str:
    """The reason of the event that tells that a condition no longer holds."""
    return f"Not{kind}"


def transitions(before: FlowStatus | None, after: FlowStatus) -> tuple[Note, ...]:
    """Events for those of these conditions that have begun or ceased to hold."""
    notes: list[Note] = []
    for kind, message in _OVER.items():
        now, earlier = after.condition(kind), before.condition(kind) if before else None
        held = earlier is not None and earlier.status == "True"
        holds = now is not None and now.status == "True"
        if now is not None and holds and not held:
            notes.append(Note(kind, now.message, warning=True))
        elif held and not holds:
            notes.append(Note(over(kind), message))
    return tuple(notes)
