"""What tests read from /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from flow_operator.board import Board
from flow_operator.model.status import Condition, FlowStatus, Source, StepStatus

Key = tuple[str, frozenset[tuple[str, str]]]


def families(text: str) -> list[Metric]:
    """The families of a scrape in either format."""
    return list((open_metrics if text.endswith("# EOF\n") else plain)(text))


class Scrape:
    """The samples of a scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = families(text)
        self.samples: dict[Key, float] = {}
        for sample in self._samples():
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in self.samples, f"told twice: {key}"
            self.samples[key] = sample.value

    def _samples(self) -> Iterable[object]:
        return (sample for family in self.families for sample in family.samples)

    def value(self, name: str, **labels: str) -> float | None:
        """Of one series; None if there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels, those of the others added up."""
        found: dict[str, float] = {}
        for (known, labels), value in self.samples.items():
            if known == name:
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return found

    def series(self) -> set[Key]:
        """Every name with every set of labels."""
        return set(self.samples)


def condition(kind: str, *, holds: bool) -> Condition:
    """A condition of a status."""
    return Condition(kind, "True" if holds else "False", kind, "", "2024-01-01T00:00:00.000Z")


def make_step(run: str = "a-0-uid-1", name: str = "s0", **changes: object) -> StepStatus:
    """The status of a step."""
    given: dict[str, object] = {
        "replica": 0,
        "state": "running",
        "pid": 100,
        "restarts": 0,
        "ready": True,
        "last_exit": None,
        "cpu_seconds": 0.0,
        "memory_bytes": 0,
        "in_flight_bytes": 0,
    }
    return StepStatus(name=name, run=run, **{**given, **changes})  # type: ignore[arg-type]


def make_status(flow_id: str = "a", **changes: object) -> FlowStatus:
    """The status of a flow that runs and is ready."""
    given: dict[str, object] = {
        "uid": "uid",
        "status": "running",
        "desired": "running",
        "generation": 1,
        "observed_generation": 1,
        "restarts": 0,
        "replicas": 1,
        "ready_replicas": 1,
        "started_at": "2024-01-01T00:00:00.000Z",
        "message": "",
        "source": Source("api"),
        "conditions": (
            condition("Ready", holds=True),
            condition("Reconciling", holds=False),
            condition("Stalled", holds=False),
        ),
        "steps": (make_step(f"{flow_id}-0-uid-1"),),
    }
    return FlowStatus(flow_id=flow_id, **{**given, **changes})  # type: ignore[arg-type]


def publish(board: Board, *flow_ids: str) -> None:
    """Have flows run, as far as the board knows."""
    for flow_id in flow_ids:
        board.publish(make_status(flow_id))
