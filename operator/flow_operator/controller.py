"""The control loop: a workqueue of flow ids and a few workers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping

import structlog

from flow_operator.backoff import requeue_delay
from flow_operator.board import Board
from flow_operator.clock import Clock, SystemClock
from flow_operator.errors import AwayError, FlowError, RetryableError, StorageError, WaitingError
from flow_operator.meter import Looked, Meter
from flow_operator.reconciler import VOLLEY, Reconciler, Result, Shutdown
from flow_operator.runners.base import Runner
from flow_operator.store import Memories, Store
from flow_operator.workqueue import FEW, Batch, WorkQueue

WORKERS = 4

_MEAN_OF = 1024
"""Looks at most of which the mean time is counted: a worker may have a crowd for half a minute."""

log = structlog.get_logger("controller")


class Controller:
    """Owns the loop: :meth:`take_back`, :meth:`start`, :meth:`shut_down`, :meth:`stop`.

    Args:
        store: whose changes are looked at.
        memories: what earlier operators have left.
        runners: by name; their notifications are looked at.
        board: where statuses are told; a change wakes the flows that depend on it.
        reconciler: does the looking.
        queue: what is to be looked at.
        clock: for what is measured.
        meter: told of each look.
        taken_back: called when each flow that ran at the start was looked at, so that its status
            is what was observed. Others are not waited for: to launch takes long.
        caught_up: called when each flow that was there at the start was looked at.
    """

    def __init__(  # noqa: PLR0913 - all parts of the loop, given once
        self,
        *,
        store: Store,
        memories: Memories,
        runners: Mapping[str, Runner],
        board: Board,
        reconciler: Reconciler,
        queue: WorkQueue,
        clock: Clock | None = None,
        meter: Meter | None = None,
        taken_back: Callable[[], None] = lambda: None,
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._memories = memories
        self._runners = runners
        self._board = board
        self._reconciler = reconciler
        self._queue = queue
        self._clock = clock or SystemClock()
        self._meter = meter or Meter()
        self._taken_back = taken_back
        self._caught_up = caught_up
        self._unseen: list[tuple[set[str], Callable[[], None]]] = []
        """Flows that were there at the start and not looked at since, with whom to tell after."""
        self._seeing = threading.Lock()
        queue.joins = reconciler.is_quick
        # An engine may hang: somebody must be left for all flows that do not need it.
        queue.most_slow = WORKERS - 1
        self._failures: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def take_back(self) -> None:
        """Connect the runners, and have them take back what still runs."""
        for name, runner in self._runners.items():
            runner.start(self._queue.add)
            runner.recover(
                run.handle()
                for flow_id in self._memories.flow_ids()
                for run in self._memories.get(flow_id).runs.values()
                if run.flow.spec.runner == name
                and self._memories.get(flow_id).boot == self._reconciler.boot
            )

    def start(self) -> None:
        """Look at every flow, and go on looking; after :meth:`take_back`."""
        self._store.subscribe(self._changed)
        self._board.subscribe(self._told)
        self._board.subscribe_sources(self._queue.add)
        running = self._running()
        known = self.flow_ids() | running
        # What runs comes first: a look at it is short, and others may depend on it.
        due = sorted(known, key=lambda flow_id: (flow_id not in running, flow_id))
        self._unseen = [(running, self._taken_back), (known, self._caught_up)]
        self._tell_what_was_seen()
        self._queue.add_all(due)
        for number in range(WORKERS):
            thread = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def flow_ids(self) -> set[str]:
        """Every flow that is wanted, remembered or seen."""
        ids = set(self._store.records()) | set(self._store.corrupt) | self._memories.flow_ids()
        return ids | self._running()

    def _running(self) -> set[str]:
        return {flow_id for runner in self._runners.values() for flow_id in runner.flow_ids()}

    def adopted(self) -> int:
        """How many instances the runners have now; of one that is away nobody knows."""
        count = 0
        for runner in self._runners.values():
            with contextlib.suppress(AwayError):
                count += sum(len(runner.observe(flow_id)) for flow_id in runner.flow_ids())
        return count

    def _changed(self, flow_ids: Iterable[str]) -> None:
        changed = list(flow_ids)
        if len(changed) <= FEW:
            for flow_id in changed:
                self._queue.hurry(flow_id)
        else:
            self._queue.add_all(changed)
        self._queue.add_all([name for one in changed for name in self._store.dependents(one)])

    def _told(self, flow_id: str) -> None:
        for dependent in self._store.dependents(flow_id):
            self._queue.add(dependent)
        if self._reconciler.shutdown != "no":
            record = self._store.get(flow_id)
            for dependency in record.flow.spec.depends_on if record else ():
                self._queue.add(dependency.name)

    def _work(self) -> None:
        while batch := self._queue.get_some(VOLLEY):
            self._look(batch)

    def _look(self, batch: Batch) -> None:
        """Look at flows together, and give each back to the queue as soon as it is told of."""
        begun, left = self._clock.monotonic(), set(batch.keys)
        results: list[Looked] = []

        def more() -> list[str]:
            keys = batch.more()
            left.update(keys)
            return keys

        try:
            for flow_id, outcome in self._reconciler.reconcile_all(batch.keys, more):
                results.append(self._settle(flow_id, outcome))
                calm = self._calm(flow_id)
                left.remove(flow_id)
                self._give_back(flow_id, calm=calm)
                if len(results) == _MEAN_OF:
                    begun = self._count(results, begun)
        except Exception as error:
            # A mistake of ours must not end the worker: other flows need it.
            log.exception("reconcile failed", flows=len(left))
            for flow_id in left:
                results.append("error")
                self._retry(flow_id, f"internal error: {error}")
                self._give_back(flow_id)
        self._count(results, begun)

    def _give_back(self, flow_id: str, *, calm: bool = False) -> None:
        self._queue.done(flow_id, calm=calm)
        if self._unseen:
            self._tell_what_was_seen(flow_id)

    def _tell_what_was_seen(self, *flow_ids: str) -> None:
        with self._seeing:
            for unseen, _ in self._unseen:
                unseen.difference_update(flow_ids)
            over = [tell for unseen, tell in self._unseen if not unseen]
            self._unseen = [(unseen, tell) for unseen, tell in self._unseen if unseen]
        for tell in over:
            tell()

    def _count(self, results: list[Looked], begun: float) -> float:
        """Have looks counted, and begin to count anew; returns when."""
        now = self._clock.monotonic()
        for result in results:
            self._meter.looked(result, (now - begun) / len(results))
        results.clear()
        return now

    def _calm(self, flow_id: str) -> bool:
        """Whether nothing more will happen to a flow by itself."""
        status = self._board.get(flow_id)
        return status is None or status.settled

    def _settle(self, flow_id: str, outcome: Result | Exception) -> Looked:
        """See to the next look at a flow, by what the last one has come to."""
        if isinstance(outcome, Result):
            self._failures.pop(flow_id, None)
            if outcome.wake is not None:
                self._queue.add_at(flow_id, outcome.wake)
            return "ok"
        if isinstance(outcome, WaitingError):
            self._queue.add_after(flow_id, outcome.delay)
            return "waiting"
        if isinstance(outcome, RetryableError | StorageError):
            self._retry(flow_id, str(outcome))
            return "retry"
        if isinstance(outcome, FlowError):
            log.error("cannot reconcile", flow_id=flow_id, error=str(outcome))
            self._retry(flow_id, str(outcome))
        else:
            log.error("reconcile failed", flow_id=flow_id, exc_info=outcome)
            self._retry(flow_id, f"internal error: {outcome}")
        return "error"

    def _retry(self, flow_id: str, message: str) -> None:
        failures = self._failures[flow_id] = self._failures.get(flow_id, 0) + 1
        delay = requeue_delay(failures)
        log.warning("will try again", flow_id=flow_id, error=message, delay=round(delay, 3))
        self._board.record(flow_id, "ReconcileError", message, warning=True)
        self._queue.add_after(flow_id, delay)

    def shut_down(self, how: Shutdown) -> None:
        """Begin to stop everything; desired state is left alone.

        Args:
            how: ``soft`` drains, ``term`` tells every step to end, ``hard`` kills; each also after
                those before it.
        """
        self._reconciler.shutdown = how
        self._queue.add_all(self.flow_ids())

    def left(self) -> list[str]:
        """The flows that still have an instance."""
        return sorted(
            self._running() | {f for f in self._memories.flow_ids() if self._memories.get(f).runs}
        )

    def stop(self) -> None:
        """End the loop; what runs goes on."""
        self._queue.close()
        for thread in self._threads:
            thread.join()
