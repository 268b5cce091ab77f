"""From what is seen to the status that is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from flow_operator.clock import rfc3339
from flow_operator.memory import FlowMemory, RunMemory, StepMemory
from flow_operator.model.flow import Flow
from flow_operator.model.status import (
    TERMINAL,
    Condition,
    FlowStatus,
    LastExit,
    Phase,
    ProbeStatus,
    Source,
    StepStatus,
)
from flow_operator.plan.actions import Seen, Want
from flow_operator.plan.gauged import findings
from flow_operator.plan.intake import awaited
from flow_operator.plan.limited import limits_enforced, limits_told
from flow_operator.runners.base import Exit, Instance, StepView, signal_name


class _Told(Struct, frozen=True):
    phase: Phase
    reason: str
    message: str


def report(
    flow_id: str,
    want: Want,
    seen: Seen,
    memory: FlowMemory,
    previous: FlowStatus | None,
    source: Source,
    now: tuple[float, float],
) -> FlowStatus:
    """The status of a flow.

    Args:
        flow_id: which flow.
        want: what is wanted.
        seen: what is observed.
        memory: what was remembered when it was observed.
        previous: the last status, whose transition times go on where nothing changed.
        source: where the configuration comes from.
        now: (monotonic seconds, seconds since the epoch).
    """
    monotonic, wall = now
    at = rfc3339(wall)
    instances = {instance.run: instance for instance in seen.instances}
    told = _phase(want, seen, memory, instances)
    runs = [memory.runs[replica] for replica in sorted(memory.runs)]
    ready = sum(_ready(run, instances.get(run.run), seen) for run in runs)
    launched = min((run.launched_at for run in runs), default=None)
    replicas = want.flow.spec.replicas if want.flow else 0
    steps = _steps(want, memory, instances, seen)
    return FlowStatus(
        flow_id=flow_id,
        uid=want.uid or memory.uid,
        status=told.phase,
        desired="deleted" if want.flow is None else want.flow.spec.state,
        generation=want.generation,
        observed_generation=want.generation,
        restarts=memory.restarts,
        replicas=replicas,
        ready_replicas=ready,
        started_at=None if launched is None else rfc3339(wall - (monotonic - launched)),
        message="; ".join(filter(None, (told.message, _first_line(source.error)))),
        source=source,
        conditions=(
            *_conditions(want, seen, told, ready >= replicas, previous, at),
            *_gauged(want, seen, memory, previous, at),
        ),
        steps=steps,
        limits_enforced=limits_enforced(steps),
        labels=_labels(want, previous),
    )


def _labels(want: Want, previous: FlowStatus | None) -> dict[str, str]:
    if want.flow is not None:
        return want.flow.metadata.labels
    return previous.labels if previous is not None else {}


def _first_line(error: str | None) -> str:
    return f"file not applied: {error.splitlines()[0]}" if error else ""


# --- the phase -------------------------------------------------------------------------------


def _phase(  # noqa: PLR0911 - one per phase
    want: Want, seen: Seen, memory: FlowMemory, instances: dict[str, Instance]
) -> _Told:
    runs = list(memory.runs.values())
    strays = instances.keys() - {run.run for run in runs}
    if strays:
        return _Told("stopping", "Stray", f"killing what nobody knows: {', '.join(strays)}")
    if not runs:
        return _without_runs(want, memory)
    stopping = next((run for run in runs if run.stop is not None), None)
    if stopping is not None:
        return _stopping(want, stopping, instances.get(stopping.run))
    if want.state == "stopped" and not want.hold:
        return _Told("stopping", "Stopping", "a stop is about to begin")
    shown = [instances.get(run.run) for run in runs]
    if any(instance is None for instance in shown):
        return _Told("starting", "Starting", "not every instance has been started yet")
    waiting = _waiting_step(runs, instances)
    if all(_held(want, run, instances[run.run]) for run in runs):
        return _paused(want, runs, instances, waiting)
    if waiting is not None:
        return waiting
    pausing = next((run for run in runs if run.pause is not None), None)
    if pausing is not None:
        return _pausing(want, seen, pausing, instances[pausing.run])
    return _missing(want, memory) or _running(want, seen, runs)


def _held(want: Want, run: RunMemory, instance: Instance) -> bool:
    """Whether a run holds still, in the way that is wanted if it is to."""
    idle = run.pause is not None and run.pause.idle
    mode = want.flow.spec.pause.mode if want.paused and want.flow is not None else None
    return (instance.frozen and mode != "intake") or (idle and mode != "freeze")


def _paused(
    want: Want, runs: list[RunMemory], instances: dict[str, Instance], waiting: _Told | None
) -> _Told:
    shown = [instances[run.run] for run in runs]
    if any(instance.frozen for instance in shown):
        return _frozen(want, shown)
    told = any(run.pause is not None and run.pause.told for run in runs)
    if want.state == "paused" and not told and not any(instance.alive for instance in shown):
        return _Told("stopped", "Paused", _HAD_EXITED)
    said = "the first step has ended, and what it wrote is used up"
    return _Told("paused", "Paused", f"{said}; {waiting.message}" if waiting else said)


_HAD_EXITED = "it had exited before it was paused; resume starts it"


def _frozen(want: Want, instances: list[Instance]) -> _Told:
    if want.state != "paused" or any(instance.alive for instance in instances):
        return _Told("paused", "Paused", "every process is stopped where it is")
    left = ", ".join(str(pid) for instance in instances for pid in instance.survivors)
    if left:
        return _Told("paused", "Paused", f"{_HAD_EXITED}; stopped where they are: {left}")
    return _Told("stopped", "Paused", _HAD_EXITED)


def _pausing(want: Want, seen: Seen, run: RunMemory, instance: Instance) -> _Told:
    """What is told of a run whose first step was told to end, and which is not idle yet."""
    if not want.paused:
        return _Told("starting", "Resuming", "waits for the first step to end, to start it again")
    if instance.steps[0].alive:
        return _Told("running", "Pausing", "the first step was told to end; waiting for it")
    waits = [run.flow.spec.steps[i].name for i in awaited(run, instance, seen.restless)]
    named = ", ".join(f"'{name}'" for name in waits)
    said = f"waiting for {named} to use up what it wrote" if named else "about to be idle"
    return _Told("running", "Draining", f"the first step has ended; {said}")


def _running(want: Want, seen: Seen, runs: list[RunMemory]) -> _Told:
    if seen.not_started:
        return _Told("starting", "Starting", "a startup probe has not yet succeeded")
    if want.flow is not None and any(
        run.template != want.template for run in runs if run.uid == want.uid
    ):
        return _Told(
            "running", "UpdatePending", "runs an older configuration until it is restarted"
        )
    return _Told("running", "Running", "")


def _missing(want: Want, memory: FlowMemory) -> _Told | None:
    """What is to be told of replicas that should run beside those that do."""
    replicas = want.flow.spec.replicas if want.flow is not None and want.state == "running" else 0
    absent = [r for r in range(replicas) if r not in memory.runs and r not in memory.finished]
    if not absent:
        failed = any(end.outcome == "Failed" for r, end in memory.finished.items() if r < replicas)
        return _Told("failed", "Failed", _why_failed(memory)) if failed else None
    waiting = next((memory.relaunches[r] for r in absent if r in memory.relaunches), None)
    if waiting is not None:
        return _Told("backoff", "BackOff", waiting.trouble)
    return _Told("starting", "Starting", "not every instance has been started yet")


def _without_runs(want: Want, memory: FlowMemory) -> _Told:  # noqa: PLR0911 - one per phase
    if want.flow is None or want.state == "stopped":
        kept = want.flow is not None and want.flow.spec.state != "stopped"
        message = "the operator is ending; its next start brings the flow back" if kept else ""
        return _Told("stopped", memory.last_stop or "Stopped", message)
    replicas = range(want.flow.spec.replicas)
    if all(replica in memory.finished for replica in replicas):
        if all(memory.finished[replica].outcome == "Completed" for replica in replicas):
            return _Told("completed", "Completed", "every step has ended well")
        return _Told("failed", "Failed", _why_failed(memory))
    if want.state == "paused":
        return _Told("stopped", "Paused", "paused before it was started; resume starts it")
    if want.blocked:
        return _Told("pending", "Waiting", "; ".join(want.blocked))
    relaunch = next(iter(memory.relaunches.values()), None)
    if relaunch is not None:
        return _Told("backoff", "BackOff", relaunch.trouble)
    return _Told("pending", "Pending", "about to be started")


def _stopping(want: Want, run: RunMemory, instance: Instance | None) -> _Told:
    assert run.stop is not None  # noqa: S101 - the caller chose it for its stop
    if run.stop.reason in ("Completed", "Failed") and want.state == "running":
        # It has ended by itself; only what it left behind is still looked for.
        word = "completed" if run.stop.reason == "Completed" else "failed"
        return _Told("stopping", run.stop.reason, f"has {word}; looking for leftovers")
    reason, how = _STAGES[run.stop.stage]
    left = (
        f"; still there: {', '.join(map(str, instance.survivors))}"
        if (instance and instance.survivors)
        else ""
    )
    return _Told("stopping", reason, f"{how}{left} ({run.stop.reason})")


_STAGES = {
    "drain": ("Draining", "the source was told to end; waiting for its output to be used up"),
    "term": ("Terminating", "every step was told to end; waiting for them"),
    "kill": ("Killing", "killing what is left"),
}
"""By stage of a stop: a reason and a message."""


def _waiting_step(runs: list[RunMemory], instances: dict[str, Instance]) -> _Told | None:
    for run in runs:
        for index, step in enumerate(run.steps):
            view = instances[run.run].steps[index]
            held = index == 0 and run.pause is not None
            if view.alive or view.ended or step.retry_at is None or held:
                continue
            name = run.flow.spec.steps[index].name
            why = step.trouble or (_last_words(view.exit) if view.exit else "")
            return _Told("backoff", "BackOff", f"step '{name}' {why}; waiting to restart it")
    return None


def _why_failed(memory: FlowMemory) -> str:
    for end in memory.finished.values():
        for step in end.steps:
            if step.last_exit is not None and step.last_exit.reason != "Completed":
                return f"a step {_last_words(step.last_exit)}; start runs it again"
    return "start runs it again"


def _last_words(ended: Exit) -> str:
    if ended.detail:
        return ended.detail
    if ended.reason == "OOMKilled":
        return "was killed for want of memory: give it more in resources.limits.memory"
    if ended.signal is not None:
        return f"was ended by {signal_name(ended.signal)}"
    return f"exited with code {ended.code}"


# --- conditions ------------------------------------------------------------------------------


def _conditions(
    want: Want,
    seen: Seen,
    told: _Told,
    all_ready: bool,  # noqa: FBT001 - one of a handful of facts
    previous: FlowStatus | None,
    at: str,
) -> tuple[Condition, ...]:
    ready = told.phase == "running" and all_ready
    not_ready = "; ".join(sorted(set(seen.not_ready.values()))) or told.message
    settled = _settled(want, told)
    stalled = told.phase == "failed"
    listed = (
        ("Ready", ready, "Ready" if ready else _unready_reason(told), "" if ready else not_ready),
        ("Reconciling", not settled, told.reason, "" if settled else told.message),
        (
            "Stalled",
            stalled,
            told.reason if stalled else "NotStalled",
            told.message if stalled else "",
        ),
    )
    return tuple(
        _condition(kind, "True" if holds else "False", reason, message, previous, at)
        for kind, holds, reason, message in listed
    )


def _gauged(
    want: Want, seen: Seen, memory: FlowMemory, previous: FlowStatus | None, at: str
) -> Iterable[Condition]:
    for found in findings(want, seen, memory):
        status: Literal["True", "False"] = "True" if found.holds else "False"
        yield _condition(found.kind, status, found.reason, found.message, previous, at)


def _unready_reason(told: _Told) -> str:
    pausing = told.reason in ("Pausing", "Draining")
    return "NotReady" if told.phase == "running" and not pausing else told.reason


def _settled(want: Want, told: _Told) -> bool:
    if told.phase in TERMINAL:
        return True
    if want.flow is None:
        return told.phase == "stopped"
    match want.flow.spec.state:
        case "running":
            return told.phase == "running"
        case "paused":
            return told.phase in ("paused", "stopped")
        case _:
            return told.phase == "stopped"


def _condition(
    kind: str,
    status: Literal["True", "False"],
    reason: str,
    message: str,
    previous: FlowStatus | None,
    at: str,
) -> Condition:
    before = previous.condition(kind) if previous is not None else None
    since = before.last_transition_time if before and before.status == status else at
    return Condition(kind, status, reason, message, since)


# --- steps -----------------------------------------------------------------------------------


def _ready(run: RunMemory, instance: Instance | None, seen: Seen) -> bool:
    if instance is None or instance.frozen or run.stop is not None or run.pause is not None:
        return False
    steps = range(len(run.steps))
    return all(
        (instance.steps[index].alive or instance.steps[index].ended)
        and (run.run, index) not in seen.not_ready
        and (run.run, index) not in seen.not_started
        for index in steps
    )


def _steps(
    want: Want, memory: FlowMemory, instances: dict[str, Instance], seen: Seen
) -> tuple[StepStatus, ...]:
    rows: list[StepStatus] = []
    for replica in sorted(memory.runs):
        run = memory.runs[replica]
        instance = instances.get(run.run)
        if instance is not None:
            flow = want.flow_of(run)
            rows += (_step(run, flow, index, instance, seen) for index in range(len(run.steps)))
    return tuple(rows)


def _step(run: RunMemory, flow: Flow, index: int, instance: Instance, seen: Seen) -> StepStatus:
    view, step = instance.steps[index], run.steps[index]
    waits = {(run.run, index)} & (seen.not_ready.keys() | seen.not_started)
    return StepStatus(
        name=run.flow.spec.steps[index].name,
        replica=run.replica,
        run=run.run,
        state=_step_state(view, step, instance, held=index == 0 and run.pause is not None),
        pid=view.pid or None,
        restarts=step.restarts,
        ready=view.alive and not instance.frozen and not waits,
        last_exit=_last_exit(view.exit or step.last_exit),
        cpu_seconds=0.0,
        memory_bytes=0,
        in_flight_bytes=0,
        limits=limits_told(flow.spec.steps[index], view),
        probes=tuple(
            ProbeStatus(kind, ok=None, message="not checked")
            for kind in flow.spec.steps[index].probes
        ),
    )


def _step_state(
    view: StepView, step: StepMemory, instance: Instance, *, held: bool
) -> Literal["running", "frozen", "waiting", "exited"]:
    if view.alive:
        return "frozen" if instance.frozen else "running"
    return "waiting" if step.retry_at is not None or (held and not view.ended) else "exited"


def _last_exit(ended: Exit | None) -> LastExit | None:
    if ended is None:
        return None
    return LastExit(ended.code, ended.signal, ended.reason, ended.detail, rfc3339(ended.wall))
