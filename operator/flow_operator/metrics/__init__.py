"""Metrics for Prometheus: the only place that knows its library, and the names of what is told."""

import flow_operator.metrics.library  # noqa: F401 - before all others: they import it whole

# isort: split
from flow_operator.metrics.counted import Counted
from flow_operator.metrics.exposition import Exposition
from flow_operator.metrics.flows import FlowCollector
from flow_operator.metrics.parts import Parts, Shim

__all__ = ["Counted", "Exposition", "FlowCollector", "Parts", "Shim"]
