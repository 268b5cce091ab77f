"""What is remembered when an action did not succeed for a reason that time or the user may mend."""

from __future__ import annotations

from msgspec.structs import replace

from flow_operator.backoff import restart_delay
from flow_operator.memory import FlowMemory, Relaunch
from flow_operator.plan.actions import StartStep


def launch_failed(memory: FlowMemory, run_id: str, trouble: str, now: float) -> FlowMemory:
    """An instance could not be started: nothing of it exists, and it is tried again later."""
    run = next(run for run in memory.runs.values() if run.run == run_id)
    failures = run.failures + 1
    delay = restart_delay(run.flow.spec.restart.backoff, failures + 1, run.flow.flow_id)
    runs = {replica: other for replica, other in memory.runs.items() if other.run != run_id}
    relaunch = Relaunch(failures, now + delay, trouble)
    return replace(memory, runs=runs, relaunches={**memory.relaunches, run.replica: relaunch})


def start_failed(memory: FlowMemory, start: StartStep, trouble: str, now: float) -> FlowMemory:
    """A step could not be started again: it is tried once more later, under the same attempt."""
    run = next(run for run in memory.runs.values() if run.run == start.run)
    index, counted = start.index, not start.resumes
    step = run.steps[index]
    failures = max(step.failures, 1) + 1  # What was just refused is not asked for again at once.
    delay = restart_delay(run.flow.spec.restart.backoff, failures, f"{start.run}/{index}")
    step = replace(
        step,
        attempt=step.attempt - 1,
        restarts=step.restarts - counted,
        failures=failures,
        retry_at=now + delay,
        trouble=trouble,
    )
    steps = (*run.steps[:index], step, *run.steps[index + 1 :])
    runs = {**memory.runs, run.replica: replace(run, steps=steps)}
    return replace(memory, runs=runs, restarts=memory.restarts - counted)
