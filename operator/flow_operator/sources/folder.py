"""The watched folder: an event is only a hint; what counts is the next look.

inotify loses events when its queue overflows, and goes deaf when the folder is replaced, without
saying so. Hence every hint leads to a look at the whole folder, and so does the passing of time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from flow_operator.board import Board
from flow_operator.clock import Clock
from flow_operator.errors import StorageError
from flow_operator.sources.apply import Applied, Apply, FileRecord, Prune
from flow_operator.sources.scan import SETTLE, Look, Scanner
from flow_operator.store import Foresee, Store, write_durably

DEBOUNCE = 0.05
"""Seconds between a hint and the look, so that a burst of hints costs one look."""

RESCAN = 15.0
RESCAN_DEAF = 1.0
"""Seconds between looks without a hint: as a rule, and while there is no watcher."""

_HINTS = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Not: opened, and closed after reading, which our own looks cause."""

log = structlog.get_logger("folder")


class _Handler(FileSystemEventHandler):
    def __init__(self, hint: threading.Event) -> None:
        self._hint = hint

    def on_any_event(self, _event: FileSystemEvent) -> None:
        self._hint.set()


class FolderSource:
    """Keeps the store like the folder.

    Args:
        folder: what to watch; it may come and go.
        store: what to change.
        board: where flows are told that their file is wrong.
        state: the file that keeps what was last applied.
        prune: what becomes of flows whose file has gone.
        foresee: tells what a change does to processes.
        clock: for settling.
    """

    def __init__(
        self,
        *,
        folder: Path,
        store: Store,
        board: Board,
        state: Path,
        prune: Prune,
        foresee: Foresee,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._store = store
        self._board = board
        self._state = state
        self._prune = prune
        self._foresee = foresee
        self._scanner = Scanner(folder, clock)
        self._known = _load(state)
        self._look = Look({})
        self._applied = Applied({}, {})
        self._told: dict[str, list[str]] = {}
        self._told_held: str | None = None
        self._scanning = threading.Lock()
        self._hint = threading.Event()
        self._closed = threading.Event()
        self._observer: BaseObserver | None = None
        self._watched_inode = 0
        self._thread = threading.Thread(target=self._work, name="folder", daemon=True)

    def start(self) -> None:
        """Apply the folder as it is, then watch it.

        What is being written just now is waited for, a second at most.
        """
        self._watch()
        for _ in range(10):
            self.scan()
            if not self._look.unsettled or self._closed.wait(SETTLE):
                break
        self._store.subscribe(self._changed_elsewhere)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._hint.set()
        self._thread.join()
        self._unwatch()

    def _work(self) -> None:
        while not self._closed.is_set():
            if self._look.unsettled:
                timeout = SETTLE
            else:
                timeout = RESCAN if self._observer is not None else RESCAN_DEAF
            if self._hint.wait(timeout) and self._closed.wait(DEBOUNCE):
                return
            self._hint.clear()
            try:
                self._watch()
                self.scan()
            except Exception:
                # A mistake of ours must not end the watching.
                log.exception("cannot look at the folder; will try again")

    def _changed_elsewhere(self, flow_ids: Iterable[str]) -> None:
        """Look again when somebody else has changed a flow that a file holds."""
        held = {flow_id for record in self._known.values() for flow_id in record.flows}
        if not held.isdisjoint(flow_ids):
            self._hint.set()

    # --- watching ------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have an observer on the folder that is there now."""
        try:
            inode = self._folder.stat().st_ino
        except OSError:
            inode = 0
        observer = self._observer
        alive = observer is not None and observer.is_alive() and inode == self._watched_inode
        if alive or (observer is None and inode == 0):
            return
        self._unwatch()
        if inode == 0:
            return
        observer = Observer()
        try:
            observer.schedule(
                _Handler(self._hint), str(self._folder), recursive=True, event_filter=_HINTS
            )
            observer.start()
        except OSError as error:
            log.warning("cannot watch; looking every second instead", error=str(error))
            return
        self._observer, self._watched_inode = observer, inode

    def _unwatch(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    # --- looking -------------------------------------------------------------------------

    def scan(self, *, confirmed: bool = False) -> Applied:
        """Look at the folder and apply it as one transaction."""
        with self._scanning:
            look = self._scanner.look()
            if look.trouble is not None:
                self._in_trouble(look)
                return self._applied
            try:
                with self._store.transaction() as transaction:
                    applied = Apply(
                        transaction,
                        look,
                        self._known,
                        self._prune,
                        self._foresee,
                        confirmed=confirmed,
                    ).run()
                self._keep(applied.records)
            except StorageError as error:
                if confirmed:
                    raise  # Somebody waits for the answer.
                log.warning("cannot apply the folder; will try again", error=str(error))
                return self._applied
            self._look, self._applied = look, applied
            self._tell(applied)
            return applied

    def _in_trouble(self, look: Look) -> None:
        """The folder as a whole cannot be read: its flows go on as they are."""
        if look.trouble != self._look.trouble:
            log.error("manifest folder unusable; its flows go on", error=look.trouble)
        self._look = look
        self._applied = Applied({}, {}, (), f"{look.trouble}; its flows go on as they are")

    def _keep(self, records: dict[str, FileRecord]) -> None:
        """Durably: a flow that the API has deleted is told by this from one that is new."""
        if records != self._known:
            write_durably(self._state, msgspec.json.encode(records))
            self._known = records

    def _tell(self, applied: Applied) -> None:
        """Tell what is new in the log, and what is wrong in the status of the flows it is about."""
        self._log(applied)
        for record in self._store.flows():
            if record.origin.file is not None:
                errors = list(applied.errors.get(record.origin.file, []))
                if record.flow_id in applied.vanished:
                    errors.append(f"{record.origin.file} has gone; {applied.held}")
                self._board.set_source_error(record.flow_id, "\n".join(errors) or None)

    def _log(self, applied: Applied) -> None:
        for file, errors in applied.errors.items():
            if self._told.get(file) != errors:
                log.error("manifest not applied", file=file, error="; ".join(errors))
        for file in self._told.keys() - applied.errors.keys():
            log.info("manifest is right again", file=file)
        self._told = applied.errors
        if applied.held is not None and applied.held != self._told_held:
            log.warning("pruning is held", why=applied.held, flows=list(applied.vanished))
        self._told_held = applied.held
        if applied.pruned:
            log.info("pruned", flows=list(applied.pruned))

    # --- for the API ---------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The folder, file by file."""
        look, applied = self._look, self._applied
        return {
            "folder": str(self._folder),
            "held": applied.held,
            "vanished": list(applied.vanished),
            "files": [
                {
                    "file": name,
                    "sha256": look.files[name].sha256,
                    "flows": [m.flow.flow_id for m in look.files[name].manifests]
                    or list(applied.records.get(name, FileRecord("", ())).flows),
                    "error": "\n".join(applied.errors.get(name, [])) or None,
                }
                for name in sorted(look.files)
            ],
        }

    def confirm_prune(self) -> list[str]:
        """Remove what is held back; returns the ids of the flows that go.

        Raises:
            StorageError: it could not be made durable; it is still held.
        """
        return list(self.scan(confirmed=True).pruned)


def _load(state: Path) -> dict[str, FileRecord]:
    try:
        return msgspec.json.decode(state.read_bytes(), type=dict[str, FileRecord])
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        log.warning("cannot read what was last applied; applying anew", error=str(error))
        return {}
