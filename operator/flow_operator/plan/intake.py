"""A pause of the intake: the first step ends, and the others use up what it has written."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from flow_operator.memory import Pausing, RunMemory, StepMemory
from flow_operator.model.flow import Flow
from flow_operator.plan.actions import Action, Note, Seen, SignalSteps, StartStep
from flow_operator.runners.base import Instance, StepView


class Outcome(Struct, frozen=True):
    """What was decided about a run.

    Attributes:
        wake: when to look again even if nothing happens.
    """

    run: RunMemory
    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    wake: float | None = None


def ended_by_pause(run: RunMemory, index: int, view: StepView) -> bool:
    """Whether a step has ended because its pause asked for that.

    What had ended before it was told to has done so of its own accord.
    """
    pause = run.pause
    return (
        pause is not None
        and view.exit is not None
        and (index, view.attempt) == (0, pause.told)
        and view.exit.at >= pause.begun
    )


def after_pause(step: StepMemory, view: StepView, reset_after: float) -> StepMemory:
    """A step whose exit was asked for: no failure, and nothing to restart before the resume."""
    assert view.exit is not None  # noqa: S101 - it was ended by the pause
    if step.judged >= view.attempt:
        return step
    healthy = view.exit.at - step.started_at >= reset_after
    return replace(
        step,
        judged=view.attempt,
        failures=0 if healthy else step.failures,
        retry_at=None,
        term_at=None,
        killed=False,
        trouble="",
    )


def is_ending(run: RunMemory, instance: Instance) -> bool:
    """Whether the first step was told to end, or nearly, and has not ended yet."""
    pause, view = run.pause, instance.steps[0]
    return pause is not None and view.alive and view.attempt == pause.told


def awaited(
    run: RunMemory, instance: Instance, restless: Mapping[str, frozenset[int]]
) -> list[int]:
    """The steps after the first one that are not known to be idle.

    Nobody waits for one that has ended for good: what is before it is read by nobody.
    """
    later = range(1, len(instance.steps))
    busy = restless.get(run.run, frozenset(later))
    return [index for index in later if index in busy and not instance.steps[index].ended]


def end_source(run: RunMemory, instance: Instance, flow: Flow, now: float) -> Outcome:
    """Have the first step end: by the signal of a stop and, when its time is up, by SIGKILL."""
    stop, pause, view = flow.spec.stop, run.pause, instance.steps[0]
    if pause is None or (view.alive and view.attempt != pause.told):
        told = view.attempt if view.alive else 0
        pause = Pausing(now, now + stop.timeout.seconds, told)
        note = Note("Pausing", f"replica {run.replica}: ending the first step, draining the others")
        # Nothing is signalled before this is remembered.
        return Outcome(replace(run, pause=pause), notes=(note,))
    if not view.alive:
        return Outcome(run)
    if not pause.signalled:
        ask = SignalSteps(run.run, (0,), stop.signal)
        run = replace(run, pause=replace(pause, signalled=True))
        return Outcome(run, (ask,), wake=pause.deadline)
    if pause.killed:
        return Outcome(run)
    if pause.deadline > now:
        return Outcome(run, wake=pause.deadline)
    kill = SignalSteps(run.run, (0,), "SIGKILL")
    message = f"replica {run.replica}: the first step did not end in time; killing it"
    note = Note("Forced", message, warning=True)
    return Outcome(replace(run, pause=replace(pause, killed=True)), (kill,), (note,))


def settle(run: RunMemory, instance: Instance, seen: Seen, flow: Flow, now: float) -> Outcome:
    """Find out whether a run whose first step has ended is idle, and tell if that takes long."""
    pause, ended = run.pause, instance.steps[0].exit
    assert pause is not None  # noqa: S101 - the caller has begun it
    if pause.idle or ended is None or instance.frozen or run.verify_at:
        return Outcome(run)
    waits = awaited(run, instance, seen.restless)
    if not waits:
        note = Note("Paused", f"replica {run.replica}: what was written is used up")
        return Outcome(replace(run, pause=replace(pause, idle=True)), notes=(note,))
    due = max(pause.begun, ended.at) + flow.spec.stop.timeout.seconds
    if pause.late:
        return Outcome(run)
    if due > now:
        return Outcome(run, wake=due)
    name = run.flow.spec.steps[waits[0]].name
    message = f"replica {run.replica}: step '{name}' has not come to rest in time; waiting for it"
    note = Note("StillDraining", message, warning=True)
    return Outcome(replace(run, pause=replace(pause, late=True)), notes=(note,))


def start_source(run: RunMemory, instance: Instance, now: float) -> Outcome:
    """Start the first step again, on its old pipe, if it was the pause that has ended it."""
    view, resumed = instance.steps[0], replace(run, pause=None)
    if view.ended or not ended_by_pause(run, 0, view):
        return Outcome(resumed)
    attempt = view.attempt + 1
    first = replace(
        run.steps[0], attempt=attempt, judged=view.attempt, started_at=now, retry_at=None
    )
    start = StartStep(run.run, run, 0, attempt, resumes=True)
    note = Note("Resuming", f"replica {run.replica}: starting the first step again")
    return Outcome(replace(resumed, steps=(first, *run.steps[1:])), (start,), (note,))
