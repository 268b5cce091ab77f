"""The store: records in memory, and on disk before anybody is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from flow_operator.errors import FlowError, InvalidError, StorageError
from flow_operator.manifest import Document, SourceText, dump_yaml, parse_yaml
from flow_operator.settings import Layout
from flow_operator.store.files import (
    remove_temporaries,
    storage_errors,
    sync_directory,
    write_durably,
    write_quietly,
)
from flow_operator.store.journal import (
    journal_path,
    journal_paths,
    read_journal,
    write_journal,
)
from flow_operator.store.records import Record, StoredFlow, Tombstone, from_document

FORMAT = "1"
"""The version of the layout of the data directory."""

Listener = Callable[[Iterable[str]], None]

log = structlog.get_logger("store")


class Transaction:
    """Changes that become durable together, or not at all; in a dry run, not at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes: dict[str, Record] = {}

    def get(self, flow_id: str) -> StoredFlow | None:
        """The configuration as this transaction sees it."""
        record = self.record(flow_id)
        return record if isinstance(record, StoredFlow) else None

    def record(self, flow_id: str) -> Record | None:
        """The record as this transaction sees it, tombstones included."""
        return self.changes.get(flow_id) or self._store.record(flow_id)

    def flows(self) -> Mapping[str, StoredFlow]:
        """All configurations as this transaction sees them."""
        merged = {**self._store.records(), **self.changes}
        return {key: r for key, r in merged.items() if isinstance(r, StoredFlow)}

    def put(self, record: Record) -> None:
        """Have a record replaced at the end of the transaction."""
        self.changes[record.flow_id] = record

    def next_version(self) -> int:
        """The resourceVersion for the next record of this transaction."""
        return self._store.version + 1 + len(self.changes)


class Store:
    """The records of one data directory, whose lock the caller holds.

    Construct, then :meth:`recover`, then :meth:`subscribe`.

    Attributes:
        version: the largest resourceVersion so far.
        corrupt: flow id -> why its file could not be read.
    """

    def __init__(self, layout: Layout) -> None:
        self._directory = layout.flows
        self._marker = layout.root / "format"
        self._versions = layout.root / "version"
        self._records: dict[str, Record] = {}
        self._dependents: dict[str, set[str]] = {}
        self._writing = threading.Lock()
        self._listeners: list[Listener] = []
        self._sequence = 0
        self._journals: dict[Path, list[Record]] = {}
        self._journaled = threading.Condition()
        self._closing = False
        self._checkpointer: threading.Thread | None = None
        self.version = 0
        self.corrupt: dict[str, str] = {}

    # --- reading -------------------------------------------------------------------------

    def record(self, flow_id: str) -> Record | None:
        """A record, tombstones included."""
        return self._records.get(flow_id)

    def records(self) -> Mapping[str, Record]:
        """All records as they stand now."""
        return dict(self._records)

    def get(self, flow_id: str) -> StoredFlow | None:
        """A configuration."""
        record = self._records.get(flow_id)
        return record if isinstance(record, StoredFlow) else None

    def flows(self) -> list[StoredFlow]:
        """All configurations, by flow_id."""
        records = self.records()
        found = (records[key] for key in sorted(records))
        return [record for record in found if isinstance(record, StoredFlow)]

    def dependents(self, flow_id: str) -> list[str]:
        """The flows that depend directly on one."""
        return sorted(self._dependents.get(flow_id, ()))

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called with the ids of each committed transaction."""
        self._listeners.append(listener)

    # --- writing -------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, *, dry_run: bool = False) -> Iterator[Transaction]:
        """Change records; what is raised inside changes nothing.

        Args:
            dry_run: whether the changes are only seen inside, and dropped in the end.

        Raises:
            StorageError: the changes could not be made durable; nothing was changed.
        """
        with self._writing:
            transaction = Transaction(self)
            yield transaction
            if dry_run:
                return
            self._commit(list(transaction.changes.values()))
        if transaction.changes:
            for listener in self._listeners:
                listener(transaction.changes)

    def _commit(self, records: list[Record]) -> None:
        if not records:
            return
        self._sequence += len(records) > 1
        journal = journal_path(self._directory, self._sequence)
        try:
            if len(records) == 1:
                self._write(records[0], durable=True)
            else:
                write_journal(journal, (record.to_document() for record in records))
        except StorageError as error:
            if error.renamed:
                self._take_back(records, journal)
            raise
        for record in records:
            self._keep(record)
            self.version = max(self.version, record.version)
            self._settle_corrupt(record.flow_id)
        if len(records) > 1:
            self._later(journal, records)

    def _take_back(self, records: list[Record], journal: Path) -> None:
        """A write was refused after its rename: what is told must be what stands."""
        # Should a power cut bring it back, whatever is acknowledged later is newer.
        self.version = max(self.version, *(record.version for record in records))
        with contextlib.suppress(OSError, StorageError):
            if len(records) > 1:
                journal.unlink(missing_ok=True)
                return
            present = self._records.get(records[0].flow_id)
            if present is None:
                self._path(records[0].flow_id).unlink(missing_ok=True)
            else:
                self._write(present, durable=False)

    def _settle_corrupt(self, flow_id: str) -> None:
        """A new record has taken the place of one that could not be read."""
        if self.corrupt.pop(flow_id, None) is not None:
            kept = self._directory / f"{flow_id}.corrupt"
            with contextlib.suppress(OSError):
                kept.rename(kept.with_name(f"{flow_id}.corrupt-{self.version}"))

    def _keep(self, record: Record) -> None:
        """Take a record into memory, and who depends on whom."""
        for name in _dependencies(self._records.get(record.flow_id)):
            self._dependents[name].discard(record.flow_id)
        self._records[record.flow_id] = record
        for name in _dependencies(record):
            self._dependents.setdefault(name, set()).add(record.flow_id)

    def _path(self, flow_id: str) -> Path:
        return self._directory / f"{flow_id}.yaml"

    def _write(self, record: Record, *, durable: bool) -> None:
        data = dump_yaml([record.to_document()]).encode()
        write = write_durably if durable else write_quietly
        write(self._path(record.flow_id), data)

    def purge(self, tombstone: Tombstone) -> bool:
        """Remove a tombstone whose flow is gone, unless a new flow has taken its place.

        Raises:
            StorageError: it stands.
        """
        self._checkpoint()  # A journal that still names the flow would bring it back.
        with self._writing:
            if self._records.get(tombstone.flow_id) != tombstone:
                return False
            with storage_errors(f"cannot remove {tombstone.flow_id}"):
                self._path(tombstone.flow_id).unlink(missing_ok=True)
            del self._records[tombstone.flow_id]
            # Its version may have been the largest; no later one may be smaller.
            write_quietly(self._versions, f"{self.version}\n".encode())
            return True

    # --- journals ------------------------------------------------------------------------

    def _later(self, path: Path, records: list[Record]) -> None:
        """Have the files of a committed journal written in the background."""
        with self._journaled:
            self._journals[path] = records
            self._journaled.notify_all()
            if self._checkpointer is None:
                self._checkpointer = threading.Thread(
                    target=self._work, name="checkpoint", daemon=True
                )
                self._checkpointer.start()

    def _work(self) -> None:
        delay: float | None = None
        while True:
            with self._journaled:
                self._journaled.wait_for(lambda: self._closing or self._journals, delay)
                if self._closing:
                    return
            try:
                self._checkpoint()
                delay = None
            except StorageError as error:
                log.warning("checkpoint failed", error=str(error))
                delay = 1.0
                with self._journaled:
                    self._journaled.wait_for(lambda: self._closing, delay)

    def _checkpoint(self) -> None:
        """Write the files of all journals, then remove the journals.

        Raises:
            StorageError: the journals stand, so nothing is lost.
        """
        with self._journaled:
            pending = dict(self._journals)
        for path, records in pending.items():
            for record in records:
                with self._writing:
                    # A record that was replaced since has been written by whoever did that.
                    if self._records.get(record.flow_id) is record:
                        self._write(record, durable=True)
            with storage_errors(f"cannot remove {path.name}"):
                path.unlink(missing_ok=True)
            with self._journaled:
                self._journals.pop(path, None)

    def close(self) -> None:
        """Finish what is in the background; the store may not be used afterwards."""
        with self._journaled:
            self._closing = True
            self._journaled.notify_all()
        if self._checkpointer is not None:
            self._checkpointer.join()
        try:
            self._checkpoint()
        except StorageError as error:
            log.warning("checkpoint failed", error=str(error))

    # --- recovery ------------------------------------------------------------------------

    def recover(self) -> None:
        """Read what is there: check the format, drop leftovers, replay journals.

        Raises:
            FlowError: a later version of the operator has written this directory.
            StorageError: the directory cannot be read or written.
        """
        with storage_errors(f"cannot open {self._directory}"):
            if self._marker.exists() and not self._directory.is_dir():
                raise FlowError(
                    f"{self._directory} is missing, though {self._marker.parent} was in use: bring "
                    f"it back, or remove {self._marker} to begin anew"
                )
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_format()
            remove_temporaries(self._directory)
            for path in sorted(self._directory.glob("*.yaml")):
                if not path.name.startswith("txn-"):
                    self._read(path)
            self._replay()
            self._recover_version()
            for path in sorted(self._directory.glob("*.corrupt")):
                if path.stem not in self._records and not path.name.startswith("txn-"):
                    said = f"StoreError: it could not be read; kept as {path.name}"
                    self.corrupt.setdefault(path.stem, said)

    def _recover_version(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            kept = int(self._versions.read_text(encoding="ascii", errors="replace"))
            self.version = max(self.version, kept)

    def _check_format(self) -> None:
        if not self._marker.exists():
            write_durably(self._marker, f"{FORMAT}\n".encode())
            sync_directory(self._directory.parent)
            return
        found = self._marker.read_text(encoding="utf-8").strip()
        if found != FORMAT:
            raise FlowError(
                f"{self._marker.parent} was written by another version (format {found}, this one "
                f"knows {FORMAT}); start that version, or choose another --data directory"
            )

    def _read(self, path: Path) -> None:
        try:
            text = path.read_bytes().decode("utf-8")
            documents = parse_yaml(SourceText(text, path.name), trusted=True)
            if len(documents) != 1:
                raise InvalidError(f"{path.name} holds {len(documents)} documents")  # noqa: TRY301
            record = from_document(documents[0])
            if record.flow_id != path.stem:
                raise InvalidError(f"{path.name} holds '{record.flow_id}'")  # noqa: TRY301
            self._take(record)
        except (InvalidError, UnicodeDecodeError) as error:
            quarantine = path.with_suffix(".corrupt")
            path.rename(quarantine)
            self.corrupt[path.stem] = f"StoreError: {error}; kept as {quarantine.name}"
            log.error("stored flow is unreadable", file=quarantine.name, error=str(error))

    def _take(self, record: Record) -> None:
        present = self._records.get(record.flow_id)
        if present is None or present.version < record.version:
            self._keep(record)
        self.version = max(self.version, record.version)

    def _replay(self) -> None:
        for path in journal_paths(self._directory):
            try:
                records = [from_document(Document(data)) for data in read_journal(path)]
            except InvalidError as error:
                path.rename(path.with_suffix(".corrupt"))
                log.error("journal is unreadable", file=path.name, error=str(error))
                continue
            for record in records:
                self._take(record)
                self.corrupt.pop(record.flow_id, None)
            self._sequence = max(self._sequence, int(path.stem.removeprefix("txn-")))
            self._journals[path] = records
        self._checkpoint()


def _dependencies(record: Record | None) -> list[str]:
    if not isinstance(record, StoredFlow):
        return []
    return [dependency.name for dependency in record.flow.spec.depends_on]
