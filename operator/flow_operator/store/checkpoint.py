"""What is done behind the journals: the files that people read, and then their removal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from flow_operator.errors import StorageError
from flow_operator.manifest import dump_yaml
from flow_operator.store.cache import RecordCache
from flow_operator.store.files import storage_errors, sync_directory, write_synced
from flow_operator.store.health import SyncTimer
from flow_operator.store.records import Record
from flow_operator.store.reserve import Reserve

DELAY = 2.0
"""Seconds that a journal waits for company: a flow that is written many times meanwhile gets its
file once, and what a batch has started or stopped is not kept from the processor by it."""

RETRY = 1.0
"""Seconds until what the disk refused is tried again."""

log = structlog.get_logger("store")


class Checkpointer:
    """Writes the files of the flows that journals name, then removes the journals.

    Args:
        directory: of the flows.
        present: the newest durable record of a flow.
        before: makes durable what must be so before a file is replaced.
        reserve: is taken again as soon as there is space for it.
        timer: tells how long it takes.
        cache: told what stands in each file.

    Attributes:
        failing: whether the disk has refused the last round.
    """

    def __init__(
        self,
        directory: Path,
        present: Callable[[str], Record | None],
        before: Callable[[], None],
        reserve: Reserve,
        timer: SyncTimer,
        cache: RecordCache,
    ) -> None:
        self._directory = directory
        self._present = present
        self._before = before
        self._reserve = reserve
        self._pending: dict[Path, list[str]] = {}
        self._changed = threading.Condition()
        self._running = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._timer = timer
        self._cache = cache
        self.failing = False

    @property
    def pending(self) -> int:
        """How many journals wait."""
        return len(self._pending)

    def later(self, journal: Path, flow_ids: list[str]) -> None:
        """Have the files of a committed journal written in the background."""
        self._note(journal, flow_ids)
        self.wake()

    def take_up(self, left: Mapping[Path, list[str]]) -> None:
        """Finish what an earlier operator has left, at once, or in the background if it fails."""
        for journal, flow_ids in left.items():
            self._note(journal, flow_ids)
        try:
            self.run()
        except StorageError as error:
            log.warning("checkpoint failed; will try again", error=str(error))
            self.wake()

    def _note(self, journal: Path, flow_ids: list[str]) -> None:
        with self._changed:
            self._pending[journal] = flow_ids

    def wake(self) -> None:
        """Have the background look at what there is to do."""
        with self._changed:
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        delay, told = DELAY, ""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._pending or self._reserve.missing
                )
                self._changed.wait_for(lambda: self._closing, delay)
                if self._closing:
                    return
            try:
                self.run()
                self._reserve.take()
                delay, told = DELAY, ""
                self.failing = False
            except StorageError as error:
                delay = RETRY
                self.failing = True
                if str(error) != told:
                    log.warning("the disk refuses; trying again every second", error=str(error))
                    told = str(error)

    def run(self) -> None:
        """Write everything out that was committed before.

        Raises:
            StorageError: the journals stand, so nothing is lost.
        """
        with self._running:
            with self._changed:
                pending = dict(self._pending)
            if not pending:
                return
            with self._timer.of("checkpoint"):
                self._write_files(pending)
            with storage_errors("cannot remove a journal"):
                for journal in pending:
                    journal.unlink(missing_ok=True)
                # Before anything that a journal names may be removed: it must not come back.
                sync_directory(self._directory)
            with self._changed:
                for journal in pending:
                    del self._pending[journal]
            self._cache.write()

    def _write_files(self, pending: Mapping[Path, list[str]]) -> None:
        named = {flow_id for journal in pending.values() for flow_id in journal}
        # First: whatever is replaced from now on is not yet in `before`, so it must not be written.
        records = {flow_id: self._present(flow_id) for flow_id in sorted(named)}
        self._before()
        for flow_id, record in records.items():
            if record is not None:
                data = dump_yaml([record.to_document()]).encode()
                write_synced(self._directory / f"{flow_id}.yaml", data)
                self._cache.note(record, data)
        with storage_errors(f"cannot write {self._directory}"):
            sync_directory(self._directory)

    def close(self) -> None:
        """Finish what is in the background."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        try:
            self.run()
        except StorageError as error:
            log.warning("checkpoint failed; the next start goes on", error=str(error))
