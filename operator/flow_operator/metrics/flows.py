"""What is told of flows: collected at each scrape from what stands on the board."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.samples import Sample

from flow_operator.board import Board
from flow_operator.figures import Figures
from flow_operator.metrics.cpu import CpuTotals
from flow_operator.metrics.patience import PatientFigures
from flow_operator.model.status import FlowStatus, Phase
from flow_operator.store import Store

DESIRED = ("running", "paused", "stopped", "deleted")

Labels = dict[str, str]


class _Row(NamedTuple):
    """One metric of a flow; None is told of no flow that has none."""

    kind: type[GaugeMetricFamily | CounterMetricFamily]
    name: str
    said: str
    value: Callable[[FlowStatus], float | None]


def _started(status: FlowStatus) -> float | None:
    text = status.started_at
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _in_flight(status: FlowStatus) -> float | None:
    """None where there is no pipe."""
    piped = len({step.name for step in status.steps}) > 1
    return sum(step.in_flight_bytes for step in status.steps) if piped else None


_ROWS = (
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_ready",
        "Whether the flow is running and all of its replicas are ready.",
        lambda status: _holds(status, "Ready"),
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_replicas",
        "Replicas that the flow is to have while it runs.",
        lambda status: status.replicas,
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_ready_replicas",
        "Replicas that are ready.",
        lambda status: status.ready_replicas,
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_generation",
        "Generation of the configuration.",
        lambda status: status.generation,
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_observed_generation",
        "Generation of the configuration that the operator has acted upon.",
        lambda status: status.observed_generation,
    ),
    _Row(
        CounterMetricFamily,
        "flow_operator_flow_restarts_total",
        "Restarts of steps and replicas, also those that earlier operators have made.",
        lambda status: status.restarts,
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_start_time_seconds",
        "When the oldest replica that runs was launched, since the epoch.",
        _started,
    ),
)

_FIGURES = (
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_memory_bytes",
        "Resident memory of all processes.",
        lambda status: sum(step.memory_bytes for step in status.steps),
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_open_files",
        "Descriptors that all processes hold.",
        lambda status: sum(step.open_files for step in status.steps),
    ),
    _Row(
        GaugeMetricFamily,
        "flow_operator_flow_in_flight_bytes",
        "Unread bytes in the pipes between the steps.",
        _in_flight,
    ),
)


def _holds(status: FlowStatus, kind: str) -> bool:
    found = status.condition(kind)
    return found is not None and found.status == "True"


class FlowCollector:
    """Tells of all flows in one pass, and keeps nothing of them but what CPU they have used.

    Args:
        board: the statuses.
        store: the flows that nobody has looked at yet.
        figures: adds what they use, at most two seconds old. While it does not answer, nothing is
            told of that.
        since: RFC 3339; when the operator was started.
    """

    def __init__(self, board: Board, store: Store, figures: Figures, since: str) -> None:
        self._board = board
        self._store = store
        self._figures = PatientFigures(figures)
        self._cpu = CpuTotals(since)
        self._collecting = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Everything that is told of flows; called by a registry."""
        with self._collecting:
            told = self._board.all()
            seen = [told[key] for key in sorted(told)]
            figured = self._figures.added(seen)
            spent = None if figured is None else self._cpu.of(figured)
        statuses = seen if figured is None else figured
        unseen = sum(record.flow_id not in told for record in self._store.flows())
        labels: list[Labels] = [{"flow": status.flow_id} for status in statuses]
        return [
            *_counts(statuses, unseen),
            _states(statuses),
            _conditions(statuses),
            *(_rows(row, statuses, labels) for row in _ROWS),
            *(_rows(row, figured or (), labels) for row in _FIGURES),
            _cpu(spent or (), labels),
        ]


def _counts(statuses: Sequence[FlowStatus], unseen: int) -> Iterable[Metric]:
    phases = Counter[str](status.status for status in statuses)
    phases["pending"] += unseen
    by_status = GaugeMetricFamily(
        "flow_operator_flows", "Flows by their status.", labels=["status"]
    )
    for phase in get_args(Phase):
        by_status.add_metric([phase], phases[phase])
    wanted = Counter[str](status.desired for status in statuses)
    by_desired = GaugeMetricFamily(
        "flow_operator_flows_desired",
        "Flows by what is desired of them.",
        labels=["desired"],
    )
    for desired in DESIRED:
        by_desired.add_metric([desired], wanted[desired])
    return by_status, by_desired


def _states(statuses: Sequence[FlowStatus]) -> Metric:
    name = "flow_operator_flow_status"
    family = GaugeMetricFamily(
        name, "1 for the status that the flow has, and what is desired of it."
    )
    family.samples = [
        Sample(
            name,
            {"flow": status.flow_id, "status": status.status, "desired": status.desired},
            1,
        )
        for status in statuses
    ]
    return family


def _conditions(statuses: Sequence[FlowStatus]) -> Metric:
    name = "flow_operator_flow_condition"
    family = GaugeMetricFamily(name, "Whether a condition of the flow is True.")
    family.samples = [
        Sample(name, {"flow": status.flow_id, "condition": found.type}, found.status == "True")
        for status in statuses
        for found in status.conditions
        if found.type != "Ready"
    ]
    return family


def _rows(row: _Row, statuses: Sequence[FlowStatus], labels: Sequence[Labels]) -> Metric:
    family = row.kind(row.name, row.said)
    values = map(row.value, statuses)
    family.samples = [
        Sample(row.name, label, value)
        for label, value in zip(labels, values, strict=False)
        if value is not None
    ]
    return family


def _cpu(spent: Sequence[float], labels: Sequence[Labels]) -> Metric:
    name = "flow_operator_flow_cpu_seconds_total"
    said = "CPU time of all processes, as far as scrapes of this operator have seen it."
    family = CounterMetricFamily(name, said)
    family.samples = [Sample(name, *pair) for pair in zip(labels, spent, strict=False)]
    return family
