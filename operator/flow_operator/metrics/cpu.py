"""CPU time of flows as a counter: it must never fall, and what processes tell does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flow_operator.model.status import FlowStatus, StepStatus


class _Last(NamedTuple):
    pid: int | None
    cpu_seconds: float


Key = tuple[str, str]
"""Run and step."""


class CpuTotals:
    """Adds up what is seen from one scrape to the next.

    What processes have used that are older than the operator is not counted until they have been
    seen once: a counter that begins high is a leap after each of its restarts. Nor is what one has
    used between the last scrape and its end: nobody saw it.

    Args:
        since: RFC 3339; when the operator was started.
    """

    def __init__(self, since: str) -> None:
        self._since = since
        self._last: dict[Key, _Last] = {}
        self._totals: dict[str, float] = {}

    def of(self, statuses: Sequence[FlowStatus]) -> list[float]:
        """Seconds of each flow so far; those that are not there are forgotten."""
        last: dict[Key, _Last] = {}
        totals: dict[str, float] = {}
        for status in statuses:
            total = self._totals.get(status.flow_id, 0.0)
            for step in status.steps:
                key = (step.run, step.name)
                before = self._last.get(key)
                total += self._grown(status, before, step)
                last[key] = _seen(before, step)
            totals[status.flow_id] = total
        self._last, self._totals = last, totals
        return list(totals.values())

    def _grown(self, status: FlowStatus, before: _Last | None, step: StepStatus) -> float:
        if before is None:
            adopted = status.started_at is not None and status.started_at < self._since
            return 0.0 if adopted else step.cpu_seconds
        if step.cpu_seconds >= before.cpu_seconds:
            return step.cpu_seconds - before.cpu_seconds
        # It has fallen: another process, or a descendant is gone without anybody's waiting for it.
        return step.cpu_seconds if step.pid != before.pid else 0.0


def _seen(before: _Last | None, step: StepStatus) -> _Last:
    """What to compare with next time.

    A status tells of a new process before the figures do: until they fall they are the old one's.
    """
    new = before is None or not before.cpu_seconds or step.cpu_seconds < before.cpu_seconds
    return _Last(step.pid if new or before is None else before.pid, step.cpu_seconds)
