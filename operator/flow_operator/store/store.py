"""The store: records in memory, and on disk before anybody is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from flow_operator.clock import Clock, SystemClock, rfc3339
from flow_operator.errors import InvalidError, StorageError, StorageFullError
from flow_operator.manifest import Document, SourceText, parse_yaml
from flow_operator.meter import Meter
from flow_operator.settings import Layout
from flow_operator.store.audit import Audit, AuditLimits, line_of
from flow_operator.store.cache import RecordCache
from flow_operator.store.checkpoint import Checkpointer
from flow_operator.store.files import (
    contents,
    remove_temporaries,
    storage_errors,
    sync_directory,
    write_durably,
)
from flow_operator.store.group import Door, Group
from flow_operator.store.health import Health, SyncTimer
from flow_operator.store.history import History
from flow_operator.store.journal import (
    journal_part,
    journal_path,
    journal_paths,
    read_journal,
    write_journal,
)
from flow_operator.store.migrate import Migrator
from flow_operator.store.records import Record, StoredFlow, Tombstone, from_document
from flow_operator.store.reserve import Reserve
from flow_operator.store.transaction import Transaction

OPERATOR = "operator"
"""Who makes a change that nobody else has asked for."""

Listener = Callable[[Iterable[str]], None]

log = structlog.get_logger("store")


class Store:
    """The records of one data directory, whose lock the caller holds.

    Construct, then :meth:`recover`, then :meth:`subscribe`.

    Attributes:
        version: the largest resourceVersion so far.
        corrupt: flow id -> why its file could not be read.
    """

    def __init__(
        self,
        layout: Layout,
        clock: Clock | None = None,
        audit: AuditLimits = AuditLimits(),  # noqa: B008 - frozen
        migrator: Migrator | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._meter = meter or Meter()
        self._directory = layout.flows
        self._migrator = migrator or Migrator(layout)
        self._versions = layout.root / "version"
        self._records: dict[str, Record] = {}
        self._dependents: dict[str, set[str]] = {}
        self._showing = threading.Lock()
        self._door = Door(lambda: self.version, self._write)
        self._reserve = Reserve(layout.reserve)
        self._history = History(layout.history)
        self._audit = Audit(layout.audit, audit)
        self._time = SyncTimer(self._clock, self._meter)
        self._cache = RecordCache(layout.cache, self.record)
        self._behind = Checkpointer(
            self._directory, self.record, self._before, self._reserve, self._time, self._cache
        )
        self._listeners: list[Listener] = []
        self._sequence = 0
        self._failing = False
        self._refused: list[Path] = []
        self._kept_version = 0
        self.version = 0
        self.corrupt: dict[str, str] = {}

    # --- reading -------------------------------------------------------------------------

    def record(self, flow_id: str) -> Record | None:
        """A record, tombstones included."""
        return self._records.get(flow_id)

    def records(self) -> Mapping[str, Record]:
        """All records of one moment: of a transaction all, or nothing."""
        with self._showing:
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

    def history(self, flow_id: str) -> list[StoredFlow]:
        """The generations of a flow that are kept, the present one first.

        Raises:
            StorageError: they cannot be read.
        """
        present = self.get(flow_id)
        if present is None:
            return []
        earlier = self._history.earlier(flow_id, present.uid)
        return [present, *(r for r in earlier if r.generation < present.generation)]

    def dependents(self, flow_id: str) -> list[str]:
        """The flows that depend directly on one."""
        return sorted(self._dependents.get(flow_id, ()))

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called with the ids of each committed transaction."""
        self._listeners.append(listener)

    # --- writing -------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(
        self, *, by: str = OPERATOR, frees: bool = False, dry_run: bool = False
    ) -> Iterator[Transaction]:
        """Change records; what is raised inside changes nothing.

        Args:
            by: who changes them.
            frees: whether it only stops or deletes, and so may use what :meth:`make_room` gave.
            dry_run: whether the changes are only seen inside, and dropped in the end.

        Raises:
            StorageError: the changes could not be made durable; nothing was changed.
        """
        with self._counted(dry_run=dry_run), self._door.member() as group:
            if not frees:
                self._reserve.take()
            transaction = Transaction(self, group, by, rfc3339(self._clock.wall()))
            yield transaction
            if dry_run:
                return
            records = list(transaction.changes.values())
            parts = [journal_part(record.to_document()) for record in records]
            group.stage(records, parts, transaction.version)
        if transaction.changes:
            for listener in self._listeners:
                listener(transaction.changes)

    @contextlib.contextmanager
    def _counted(self, *, dry_run: bool) -> Iterator[None]:
        """Tell of a write that is refused."""
        try:
            yield
        except StorageError as error:
            if not dry_run:
                self._meter.refused(full=isinstance(error, StorageFullError))
            raise

    def health(self) -> Health:
        """Whether writes are durable, as far as is known."""
        behind = self._behind
        return Health(
            failing=self._failing or behind.failing,
            reserve=not self._reserve.missing,
            journals=behind.pending,
            corrupt=len(self.corrupt),
        )

    def make_room(self) -> bool:
        """Give the reserve back on a full disk; returns whether there was one to give."""
        given = self._reserve.give_back()
        if given:
            log.warning("the disk is full; only what stops or deletes is written until it is not")
            self._behind.wake()
        return given

    def _write(self, group: Group) -> None:
        """Commit a group, and tell how that has gone."""
        begun, done = self._clock.monotonic(), False
        try:
            self._commit(group)
            done = True
        finally:
            self._failing = not done
        took = self._clock.monotonic() - begun
        self._meter.committed(group.writers, len(group.records), sum(map(len, group.parts)), took)

    def _commit(self, group: Group) -> None:
        """Make a group durable, then known; the door sees to it that nobody else writes.

        Raises:
            StorageError: none of it stands.
        """
        self._settle_refused()
        self._sequence += 1
        journal = journal_path(self._directory, self._sequence)
        lines = b"".join(map(line_of, group.records))
        self._audit.prepare(lines)
        try:
            with self._time.of("journal"):
                write_journal(journal, group.parts)
        except StorageError as error:
            if error.renamed:
                # Should a power cut bring it back, whatever is acknowledged later is newer.
                self.version = max(self.version, group.version)
                self._refused.append(journal)
                with contextlib.suppress(StorageError):
                    self._settle_refused()
            raise
        with self._showing:
            for record in group.records:
                self._keep(record)
            self.version = max(self.version, group.version)
        for record in group.records:
            self._settle_corrupt(record.flow_id)
        self._audit.append(lines)
        self._later(journal, group.records)

    def _before(self) -> None:
        """Make durable what must be so before a journal's files are written and it goes."""
        with self._time.of("audit"):
            self._audit.sync()
        self._history.write()

    def _settle_refused(self) -> None:
        """Remove journals that were refused after their rename: what is told must be what stands.

        Raises:
            StorageError: one is still there, so nothing may be acknowledged over it.
        """
        if not self._refused:
            return
        with storage_errors(f"cannot remove {self._refused[0].name}, which was refused"):
            for journal in self._refused:
                journal.unlink(missing_ok=True)
            sync_directory(self._directory)
        self._refused.clear()

    def _settle_corrupt(self, flow_id: str) -> None:
        """A new record has taken the place of one that could not be read."""
        if self.corrupt.pop(flow_id, None) is not None:
            kept = self._directory / f"{flow_id}.corrupt"
            with contextlib.suppress(OSError):
                kept.rename(kept.with_name(f"{flow_id}.corrupt-{self.version}"))

    def _keep(self, record: Record) -> None:
        """Take a record into memory, and who depends on whom."""
        previous = self._records.get(record.flow_id)
        if isinstance(previous, StoredFlow) and _is_later_generation(record, previous):
            self._history.note(previous)
        for name in _dependencies(previous):
            self._dependents[name].discard(record.flow_id)
        self._records[record.flow_id] = record
        for name in _dependencies(record):
            self._dependents.setdefault(name, set()).add(record.flow_id)

    def _later(self, journal: Path, records: Sequence[Record]) -> None:
        self._behind.later(journal, _ids(records))

    def purge(self, tombstone: Tombstone) -> bool:
        """Remove a tombstone whose flow is gone, unless a new flow has taken its place.

        Raises:
            StorageError: it stands.
        """
        self._behind.run()  # A journal that still names the flow would bring it back.
        with self._door.alone:
            if self._records.get(tombstone.flow_id) != tombstone:
                return False
            self._keep_version(tombstone.version)
            with storage_errors(f"cannot remove {tombstone.flow_id}"):
                (self._directory / f"{tombstone.flow_id}.yaml").unlink(missing_ok=True)
            self._history.drop(tombstone.flow_id)
            del self._records[tombstone.flow_id]
            return True

    def _keep_version(self, version: int) -> None:
        """Before the file that holds a version goes: no later one may be smaller.

        Raises:
            StorageError: it is not kept.
        """
        if version > self._kept_version:
            write_durably(self._versions, f"{self.version}\n".encode())
            self._kept_version = self.version

    def close(self) -> None:
        """Finish what is in the background; the store may not be used afterwards."""
        self._behind.close()

    # --- recovery ------------------------------------------------------------------------

    def recover(self) -> None:
        """Read what is there: check the format, drop leftovers, replay journals.

        Raises:
            FlowError: a later version of the operator has written this directory.
            StorageError: the directory cannot be read or written.
        """
        with storage_errors(f"cannot open {self._directory}"):
            self._migrator.run()
            remove_temporaries(self._versions.parent)
            remove_temporaries(self._directory)
            self._cache.load()
            for name, data in contents(self._directory, ".yaml"):
                if not name.startswith("txn-"):
                    self._read(name, data)
            self._cache.done()
            self._history.recover()
            self._replay()
            self._recover_version()
            self._take_reserve()
            for path in sorted(self._directory.glob("*.corrupt")):
                if path.stem not in self._records and not path.name.startswith("txn-"):
                    said = f"StoreError: it could not be read; kept as {path.name}: send it again"
                    self.corrupt.setdefault(path.stem, said)
            self._history.forget_all_but(self._records.keys() | self.corrupt.keys())
            self._cache.write()

    def _take_reserve(self) -> None:
        try:
            self._reserve.take()
        except StorageError as error:
            log.warning(
                "there is no reserve; only what stops or deletes is written", why=str(error)
            )
            self._behind.wake()

    def _recover_version(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._kept_version = int(self._versions.read_text("ascii", errors="replace"))
        self.version = max(self.version, self._kept_version)

    def _read(self, name: str, data: bytes) -> None:
        known = self._cache.read(name, data)
        if known is not None:
            self._take(known)
            return
        path = self._directory / f"{name}.yaml"
        try:
            documents = parse_yaml(SourceText(data.decode("utf-8"), path.name), trusted=True)
            if len(documents) != 1:
                raise InvalidError(f"{path.name} holds {len(documents)} documents")  # noqa: TRY301
            record = from_document(documents[0])
            if record.flow_id != name:
                raise InvalidError(f"{path.name} holds '{record.flow_id}'")  # noqa: TRY301
            self._take(record)
            self._cache.note(record, data)
        except (InvalidError, UnicodeDecodeError) as error:
            quarantine = path.with_suffix(".corrupt")
            path.rename(quarantine)
            self.corrupt[name] = f"StoreError: {error}; kept as {quarantine.name}"
            log.error("stored flow is unreadable", file=quarantine.name, error=str(error))

    def _take(self, record: Record) -> None:
        present = self._records.get(record.flow_id)
        if present is None or present.version < record.version:
            self._keep(record)
        self.version = max(self.version, record.version)

    def _replay(self) -> None:
        left: dict[Path, list[Record]] = {}
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
            left[path] = records
        self._audit.recover(record for records in left.values() for record in records)
        self._behind.take_up({path: _ids(records) for path, records in left.items()})


def _ids(records: Iterable[Record]) -> list[str]:
    return [record.flow_id for record in records]


def _is_later_generation(record: Record, previous: StoredFlow) -> bool:
    same_flow = isinstance(record, StoredFlow) and record.uid == previous.uid
    return same_flow and record.generation != previous.generation


def _dependencies(record: Record | None) -> list[str]:
    if not isinstance(record, StoredFlow):
        return []
    return [dependency.name for dependency in record.flow.spec.depends_on]
