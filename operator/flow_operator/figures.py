"""What changes all the time: what flows use, and what probes show. Added when somebody asks.

None of it goes over the board, where each change is a new version of the status.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from flow_operator.clock import Clock
from flow_operator.errors import RunnerError
from flow_operator.model.status import FlowStatus, ProbeStatus, StepStatus
from flow_operator.runners.base import Runner, Usage

MAX_AGE = 2.0
"""Seconds for which a sample is good enough; looking at a thousand flows takes about 30 ms."""

_NOTHING = Usage()

Probes = Callable[[str], Mapping[tuple[str, int], tuple[ProbeStatus, ...]]]
"""Tells what the probes of a flow have shown, by run and step index."""


class Figures:
    """Adds to statuses what their steps use, and what their probes show now."""

    def __init__(self, runners: Mapping[str, Runner], clock: Clock, probes: Probes) -> None:
        self._runners = runners
        self._clock = clock
        self._probes = probes
        self._lock = threading.Lock()
        self._samples: dict[str, tuple[float, tuple[Usage, ...]]] = {}
        self._cleared = clock.monotonic()

    def added(self, statuses: Iterable[FlowStatus]) -> list[FlowStatus]:
        """The same statuses with figures at most two seconds old."""
        statuses = list(statuses)
        with self._lock:
            self._sample([status.flow_id for status in statuses if self._stale(status)])
            return [self._with_figures(status) for status in statuses]

    def known(self, status: FlowStatus) -> FlowStatus:
        """The same status with the figures that are known, however old; waits for nobody."""
        return self._with_figures(status)

    def _stale(self, status: FlowStatus) -> bool:
        now = self._clock.monotonic()
        return any(
            now - self._samples.get(step.run, (-MAX_AGE, ()))[0] >= MAX_AGE for step in status.steps
        )

    def _sample(self, flow_ids: list[str]) -> None:
        if not flow_ids:
            return
        now = self._clock.monotonic()
        if now - self._cleared >= MAX_AGE:  # And not each time: it takes a look at all of them.
            self._cleared = now
            self._samples = {
                run: sample
                for run, sample in self._samples.items()
                if now - sample[0] <= 2 * MAX_AGE
            }
        for runner in self._runners.values():
            try:
                usage = runner.usage(flow_ids)
            except RunnerError:
                continue  # Old figures, or none, until the runner is back.
            self._samples |= {run: (now, steps) for run, steps in usage.items()}

    def _with_figures(self, status: FlowStatus) -> FlowStatus:
        probed = any(step.probes for step in status.steps)
        results = self._probes(status.flow_id) if probed else {}
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
                    open_files=usage.open_files,
                    probes=_with_results(step.probes, results.get((step.run, index), ())),
                )
            )
        return replace(status, steps=tuple(steps))


def _with_results(
    configured: tuple[ProbeStatus, ...], results: tuple[ProbeStatus, ...]
) -> tuple[ProbeStatus, ...]:
    shown = {result.kind: result for result in results}
    return tuple(shown.get(probe.kind, probe) for probe in configured)
