"""What flows use: CPU, memory and unread bytes, sampled when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from flow_operator.clock import Clock
from flow_operator.errors import RunnerError
from flow_operator.model.status import FlowStatus, StepStatus
from flow_operator.runners.base import Runner, Usage

MAX_AGE = 2.0
"""Seconds for which a sample is good enough; looking at a thousand flows takes about 30 ms."""

_NOTHING = Usage()


class Figures:
    """Adds to statuses what their steps use."""

    def __init__(self, runners: Mapping[str, Runner], clock: Clock) -> None:
        self._runners = runners
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: dict[str, tuple[float, tuple[Usage, ...]]] = {}

    def added(self, statuses: Iterable[FlowStatus]) -> list[FlowStatus]:
        """The same statuses with figures at most two seconds old."""
        statuses = list(statuses)
        with self._lock:
            self._sample([status.flow_id for status in statuses if self._stale(status)])
            self._samples = {
                run: sample
                for run, sample in self._samples.items()
                if self._clock.monotonic() - sample[0] <= 2 * MAX_AGE
            }
            return [self._with_figures(status) for status in statuses]

    def _stale(self, status: FlowStatus) -> bool:
        now = self._clock.monotonic()
        return any(
            now - self._samples.get(step.run, (-MAX_AGE, ()))[0] >= MAX_AGE for step in status.steps
        )

    def _sample(self, flow_ids: list[str]) -> None:
        if not flow_ids:
            return
        now = self._clock.monotonic()
        for runner in self._runners.values():
            try:
                usage = runner.usage(flow_ids)
            except RunnerError:
                continue  # Old figures, or none, until the runner is back.
            self._samples |= {run: (now, steps) for run, steps in usage.items()}

    def _with_figures(self, status: FlowStatus) -> FlowStatus:
        names: dict[str, int] = {}
        steps: list[StepStatus] = []
        for step in status.steps:
            index = names.get(step.run, 0)
            names[step.run] = index + 1
            usages = self._samples.get(step.run, (0.0, ()))[1]
            usage = usages[index] if index < len(usages) else _NOTHING
            steps.append(
                replace(
                    step,
                    cpu_seconds=round(usage.cpu_seconds, 2),
                    memory_bytes=usage.memory_bytes,
                    in_flight_bytes=usage.in_flight_bytes,
                )
            )
        return replace(status, steps=tuple(steps))
