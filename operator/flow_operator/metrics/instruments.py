"""Counters and histograms for hot paths.

Those of prometheus_client take 1.7 us to observe and 2.3 us with a label, these 0.4 and 0.6 (Python
3.11); and it adds a series of creation times to each, which it can only leave off for the whole
process. What is told of them goes through its families all the same.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

Labels = tuple[str, ...]


class Counter:
    """Counts, by labels.

    Args:
        name: of the metric, with ``_total``.
        said: what it counts.
        labels: names of its labels.
        known: values of its labels that are told from the start: a rate needs a zero to rise from.
    """

    def __init__(
        self, name: str, said: str, labels: Labels = (), known: Iterable[Labels] = ()
    ) -> None:
        self._name = name
        self._said = said
        self._labels = labels
        self._changing = threading.Lock()
        self._values: dict[Labels, float] = dict.fromkeys(known if labels else [()], 0.0)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        with self._changing:
            self._values[labels] = self._values.get(labels, 0.0) + by

    def family(self) -> Metric:
        """What was counted so far."""
        family = CounterMetricFamily(self._name, self._said, labels=self._labels)
        with self._changing:
            values = list(self._values.items())
        for labels, value in values:
            family.add_metric(labels, value)
        return family


class Level:
    """Something that goes up and down."""

    def __init__(self, name: str, said: str) -> None:
        self._name = name
        self._said = said
        self._changing = threading.Lock()
        self._value = 0

    def change(self, by: int) -> None:
        """Go up, or down."""
        with self._changing:
            self._value += by

    def family(self) -> Metric:
        """Where it is."""
        return GaugeMetricFamily(self._name, self._said, self._value)


class _Cell:
    """The observations under one set of labels: a count by bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histogram:
    """Observations in buckets, by labels.

    Args:
        name: of the metric, with its unit.
        said: what it measures.
        bounds: the largest value of each bucket but the last, which has none.
        labels: names of its labels.
        known: values of its labels that are told from the start.
    """

    def __init__(
        self,
        name: str,
        said: str,
        bounds: Sequence[float],
        labels: Labels = (),
        known: Iterable[Labels] = (),
    ) -> None:
        self._name = name
        self._said = said
        self._bounds = tuple(bounds)
        self._edges = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._labels = labels
        self._changing = threading.Lock()
        self._cells = {key: self._cell() for key in (known if labels else [()])}

    def _cell(self) -> _Cell:
        return _Cell(len(self._edges))

    def observe(self, value: float, *labels: str) -> None:
        """Add an observation."""
        bucket = bisect_left(self._bounds, value)
        with self._changing:
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._cells[labels] = self._cell()
            cell.counts[bucket] += 1
            cell.total += value

    def family(self) -> Metric:
        """What was observed so far."""
        family = HistogramMetricFamily(self._name, self._said, labels=self._labels)
        with self._changing:
            cells = [(key, list(cell.counts), cell.total) for key, cell in self._cells.items()]
        for labels, counts, total in cells:
            buckets = list(zip(self._edges, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, total)
        return family
