"""The library's counters and histograms, as they are used here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram, disable_created_metrics

Labels = tuple[str, ...]

# It would double the series of histograms with one of creation times for each, which nobody asks
# for, and which can only be left off for a whole process.
disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(name: str, said: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Counter:
    """A counter.

    Args:
        name: with ``_total``.
        said: what it counts.
        labels: names of its labels.
        known: their values that are told from the start: a rate needs a zero to rise from.
    """
    made = Counter(name, said, labels, registry=None)
    for values in known:
        made.labels(*values)
    return made


def histogram(
    name: str,
    said: str,
    bounds: Sequence[float],
    labels: Labels = (),
    known: Iterable[Labels] = (),
) -> Histogram:
    """A histogram.

    Args:
        name: with its unit.
        said: what it measures.
        bounds: the largest value of each bucket but the last, which has none.
        labels: names of its labels.
        known: their values that are told from the start.
    """
    made = Histogram(name, said, labels, registry=None, buckets=bounds)
    for values in known:
        made.labels(*values)
    return made
