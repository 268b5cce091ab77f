"""What is told of the operator's parts: asked at each scrape, so that they pay nothing for it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from flow_operator import __version__
from flow_operator.logs import Keeper
from flow_operator.sources import Summary
from flow_operator.store import Store
from flow_operator.workqueue import WorkQueue


class Shim(Protocol):
    """The line to the shim, as a runner sees it."""

    shims_replaced: int

    @property
    def connected(self) -> bool:
        """Whether it is there."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts that are asked.

    Attributes:
        ready: whether every flow that ran before the start has been taken back and looked at.
        adopted: how many runs were taken back when the operator started.
        streams: how many answers of the API have no end and go on.
        folder: the watched folder in figures; None without one.
    """

    queue: WorkQueue
    store: Store
    logs: Keeper
    shim: Shim
    ready: Callable[[], bool]
    adopted: Callable[[], int]
    streams: Callable[[], int]
    folder: Callable[[], Summary] | None

    def collect(self) -> Iterable[Metric]:
        """Everything that they tell; called by a registry."""
        yield from self._operator()
        yield from self._queue()
        yield from self._store()
        yield from self._rest()
        if self.folder is not None:
            yield from _folder(self.folder())

    def _operator(self) -> Iterable[Metric]:
        build = GaugeMetricFamily(
            "flow_operator_build_info",
            "What the operator is; always 1.",
            labels=["version", "python"],
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield _gauge(
            "flow_operator_ready",
            "Whether every flow that ran before the start has been taken back and looked at.",
            self.ready(),
        )
        yield _gauge(
            "flow_operator_adopted_runs",
            "Runs of an earlier operator that were taken back at the start.",
            self.adopted(),
        )

    def _queue(self) -> Iterable[Metric]:
        load = self.queue.load()
        depth = GaugeMetricFamily(
            "flow_operator_workqueue_depth", "Flows that wait for a worker.", labels=["lane"]
        )
        depth.add_metric(["hurried"], load.hurried)
        depth.add_metric(["normal"], load.normal)
        yield depth
        yield _gauge(
            "flow_operator_workqueue_delayed", "Flows that are to be looked at later.", load.later
        )
        yield _counter(
            "flow_operator_workqueue_adds_total", "Flows that were added to the queue.", load.added
        )
        yield _gauge(
            "flow_operator_workqueue_work_in_progress",
            "Flows that workers are looking at.",
            len(load.working),
        )
        yield _gauge(
            "flow_operator_workqueue_unfinished_work_seconds",
            "For how long workers have been looking at the flows that they look at, added up.",
            sum(load.working),
        )
        yield _gauge(
            "flow_operator_workqueue_longest_running_processor_seconds",
            "For how long the worker that takes longest has been looking at its flow.",
            max(load.working, default=0.0),
        )

    def _store(self) -> Iterable[Metric]:
        health = self.store.health()
        yield _gauge(
            "flow_operator_store_degraded",
            "Whether the last write was refused, or there is no reserve for a full disk.",
            health.failing or not health.reserve,
        )
        yield _gauge(
            "flow_operator_store_reserve_missing",
            "Whether the reserve was given back; only what stops or deletes is written then.",
            not health.reserve,
        )
        yield _gauge(
            "flow_operator_store_pending_journals",
            "Journals that wait for the files that they name to be written.",
            health.journals,
        )
        yield _gauge(
            "flow_operator_store_corrupt_flows",
            "Flows whose stored configuration could not be read.",
            health.corrupt,
        )

    def _rest(self) -> Iterable[Metric]:
        yield _gauge(
            "flow_operator_http_streams",
            "Streams that are open: watches, and logs that are followed.",
            self.streams(),
        )
        yield _counter(
            "flow_operator_log_rotations_total",
            "Times that the head of a log was moved away.",
            self.logs.rotations,
        )
        yield _counter(
            "flow_operator_log_dropped_bytes_total",
            "Bytes of logs that went for want of space.",
            self.logs.lost,
        )
        yield _gauge(
            "flow_operator_shim_connected", "Whether the shim is there.", self.shim.connected
        )
        yield _counter(
            "flow_operator_shim_restarts_total",
            "Times that the shim was lost and another one has taken over.",
            self.shim.shims_replaced,
        )


def _folder(summary: Summary) -> Iterable[Metric]:
    yield _gauge("flow_operator_manifest_files", "Manifest files in the folder.", summary.files)
    yield _gauge(
        "flow_operator_manifest_files_with_errors",
        "Manifest files that are not applied, or not in full.",
        summary.faulty,
    )
    yield _gauge("flow_operator_manifest_flows", "Flows that manifest files hold.", summary.flows)
    yield _gauge(
        "flow_operator_manifest_folder_unreadable",
        "Whether the folder as a whole cannot be read; its flows go on.",
        summary.trouble,
    )
    yield _gauge(
        "flow_operator_manifest_held_flows",
        "Flows that are kept although their file has gone, until somebody confirms.",
        summary.held,
    )
    yield _counter(
        "flow_operator_manifest_applies_total",
        "Looks at the folder that have changed something.",
        summary.applied,
    )
    yield _gauge(
        "flow_operator_manifest_last_look_timestamp_seconds",
        "When the folder could last be looked at, since the epoch.",
        summary.looked_at,
    )


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value)


def _counter(name: str, said: str, value: float) -> Metric:
    return CounterMetricFamily(name, said, value)
