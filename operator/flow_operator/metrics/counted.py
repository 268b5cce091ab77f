"""What is counted as it happens."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

from flow_operator.meter import Lane, Looked, Meter, Sync
from flow_operator.metrics.instruments import counter, histogram

_WORK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Seconds: a look takes a third of a millisecond, and 30 s when the shim does not answer."""

_SYNCS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: from memory (0.1 ms) to a disk that has a hard time."""

_REQUESTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.5, 60.0)
"""Seconds: commands wait for 10 s unless they are told otherwise."""

_WRITERS = (1, 2, 4, 8, 16, 32, 64)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

NO_ROUTE = "none"
OTHER_METHOD = "other"

ENDS = ("Drained", "DrainTimedOut", "Terminated", "Forced", "Completed", "Failed", "Lost")
EXITS = ("Completed", "Error", "Signaled", "OOMKilled", "SpawnFailed", "ExitUnknown")


def _each(*values: str) -> list[tuple[str, ...]]:
    return [(value,) for value in values]


class Counted(Meter):
    """A meter that keeps what it is told, for scrapes."""

    def __init__(self) -> None:
        self._waited = histogram(
            "flow_operator_workqueue_queue_duration_seconds",
            "How long flows wait for a worker after they were added to the queue.",
            _WORK,
            ("lane",),
            _each("hurried", "normal"),
        )
        self._looked = histogram(
            "flow_operator_reconcile_duration_seconds",
            "How long a worker takes to look at a flow; of several at once the mean.",
            _WORK,
            ("result",),
            _each("ok", "waiting", "retry", "error"),
        )
        self._launched = counter("flow_operator_runs_launched_total", "Runs that were launched.")
        self._ended = counter(
            "flow_operator_runs_ended_total",
            "Runs of which nothing is left.",
            ("outcome",),
            _each(*ENDS),
        )
        self._exited = counter(
            "flow_operator_step_exits_total",
            "Ends of the processes of steps.",
            ("reason",),
            _each(*EXITS),
        )
        self._noted = counter(
            "flow_operator_events_total", "Events that were recorded.", ("type", "reason")
        )
        self._commits = histogram(
            "flow_operator_store_commit_duration_seconds",
            "How long it takes to make a group of transactions durable.",
            _SYNCS,
        )
        self._writers = histogram(
            "flow_operator_store_group_transactions",
            "How many transactions become durable together.",
            _WRITERS,
        )
        self._records = counter(
            "flow_operator_store_records_total",
            "Records that were written; each has a line in the audit log.",
        )
        self._bytes = counter(
            "flow_operator_store_written_bytes_total", "Bytes of records in journals."
        )
        self._synced = histogram(
            "flow_operator_store_sync_duration_seconds",
            "How long it takes to write something and have the disk make it durable.",
            _SYNCS,
            ("kind",),
            _each("journal", "audit", "checkpoint"),
        )
        self._refused = counter(
            "flow_operator_store_refused_writes_total",
            "Transactions that could not be made durable.",
            ("reason",),
            _each("full", "error"),
        )
        self._answered = histogram(
            "flow_operator_http_request_duration_seconds",
            "How long it takes to answer requests; of a stream, to begin it.",
            _REQUESTS,
            ("route", "method", "code"),
        )
        self._in_flight = Gauge(
            "flow_operator_http_requests_in_flight",
            "Requests that are being answered, this one too; streams that have begun are not.",
            registry=None,
        )

        # To look for the one of some labels takes longer than to count; they have few values.
        self._waited_in = cache(self._waited.labels)
        self._looked_with = cache(self._looked.labels)
        self._noted_as = cache(self._noted.labels)
        self._answered_to = cache(self._answered.labels)

    def waited(self, lane: Lane, seconds: float) -> None:
        """Observe it."""
        self._waited_in(lane).observe(seconds)

    def looked(self, result: Looked, seconds: float) -> None:
        """Observe it."""
        self._looked_with(result).observe(seconds)

    def launched(self) -> None:
        """Count it."""
        self._launched.inc()

    def exited(self, reason: str) -> None:
        """Count it."""
        self._exited.labels(reason).inc()

    def ended(self, outcome: str) -> None:
        """Count it."""
        self._ended.labels(outcome).inc()

    def noted(self, reason: str, *, warning: bool) -> None:
        """Count it; reasons are words of the source."""
        self._noted_as("Warning" if warning else "Normal", reason).inc()

    def committed(self, writers: int, records: int, size: int, seconds: float) -> None:
        """Observe it."""
        self._commits.observe(seconds)
        self._writers.observe(writers)
        self._records.inc(records)
        self._bytes.inc(size)

    def synced(self, kind: Sync, seconds: float) -> None:
        """Observe it."""
        self._synced.labels(kind).observe(seconds)

    def refused(self, *, full: bool) -> None:
        """Count it."""
        self._refused.labels("full" if full else "error").inc()

    def asked(self) -> None:
        """Count it."""
        self._in_flight.inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Observe it; whatever a client has written, the labels have few values."""
        self._in_flight.dec()
        known = method if method in _METHODS else OTHER_METHOD
        self._answered_to(route or NO_ROUTE, known, f"{status // 100}xx").observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Everything that was told so far; called by a registry."""
        told: tuple[Counter | Gauge | Histogram, ...] = (
            self._launched,
            self._ended,
            self._exited,
            self._noted,
            self._looked,
            self._waited,
            self._commits,
            self._writers,
            self._records,
            self._bytes,
            self._synced,
            self._refused,
            self._answered,
            self._in_flight,
        )
        return [family for instrument in told for family in instrument.collect()]
