"""``DATA/audit.log``: who has written what, one JSON line for each record of each write.

The journal that makes a write durable holds all that its lines say, so they need no sync of their
own before the answer: they are written then, and synced before the journal may go. What a crash
has kept from the file is added again from the journals. Space for them is had before the journal
is written, so that a write whose lines would not fit is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from flow_operator.errors import StorageError
from flow_operator.logs.space import allocate
from flow_operator.store.files import storage_errors, sync_directory, write_all
from flow_operator.store.records import Record
from flow_operator.structs import prepared

log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """How much of the audit log is kept.

    Attributes:
        size: bytes of a file, from which on a new one is begun.
        files: how many there are, the present one included.
    """

    size: int = 10 * 2**20
    files: int = 10


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line.

    Attributes:
        version: the resourceVersion that the write gave the flow; tells lines from each other.
        outcome: ``done``; what is refused is no write, and has no line.
        hard: whether processes are killed at once.
    """

    at: str | None
    by: str | None
    action: str | None
    flow_id: str
    generation: int
    version: int
    outcome: str
    hard: bool = False


@prepared
class _Version(msgspec.Struct, frozen=True):
    version: int


class Audit:
    """The audit log; nobody else may write it.

    Args:
        path: of the present file; older ones are ``.1``, ``.2`` and so on.
        limits: how much is kept.
    """

    def __init__(self, path: Path, limits: AuditLimits) -> None:
        self._path = path
        self._limits = limits
        self._synced = 0
        self._tail = bytearray()
        """What follows the first ``_synced`` bytes of the file, and may not survive a power cut."""
        self._doubtful = False
        """Whether the tail may stand otherwise, or not at all, in the file."""
        self._named = False
        """Whether the file's name is durable."""
        self._left: list[Record] = []
        self._known = True
        """Whether the file was read, after :meth:`recover`."""
        self._changing = threading.Lock()
        self._syncing = threading.Lock()

    # --- writing -------------------------------------------------------------------------

    def prepare(self, lines: bytes) -> None:
        """See to it that these can be appended.

        Raises:
            StorageError: they cannot, or earlier ones could not; nothing may be acknowledged.
        """
        with storage_errors(f"cannot write {self._path}, where every write must be told"):
            self._take_up()
            if self._synced + len(self._tail) + len(lines) > self._limits.size:
                self._rotate()
            with self._changing:
                descriptor = self._open()
                try:
                    self._mend(descriptor)
                    end = self._synced + len(self._tail)
                    allocate(descriptor, end, len(lines))
                finally:
                    os.close(descriptor)

    def append(self, lines: bytes) -> None:
        """Write what was prepared; if that fails after all, the next ``prepare`` does it first."""
        with self._changing:
            try:
                descriptor = self._open()
                try:
                    os.lseek(descriptor, self._synced + len(self._tail), os.SEEK_SET)
                    write_all(descriptor, lines)
                finally:
                    os.close(descriptor)
            except OSError as error:
                self._doubtful = True
                log.error("cannot write the audit log; refusing writes", error=str(error))
            self._tail += lines

    def sync(self) -> None:
        """Make durable what was appended so far.

        Raises:
            StorageError: it is not; the journals must stay.
        """
        with self._syncing, storage_errors(f"cannot write {self._path}"):
            self._take_up()
            self._sync()

    def _sync(self) -> None:
        with self._changing:
            length = len(self._tail)
            if not length:
                return
            descriptor = self._open()
        try:
            with self._changing:
                self._mend(descriptor)
            try:
                os.fsync(descriptor)
            except OSError:
                # The kernel takes what it could not write for written: it has to be written again.
                self._doubtful = True
                raise
        finally:
            os.close(descriptor)
        if not self._named:
            sync_directory(self._path.parent)
            self._named = True
        with self._changing:
            del self._tail[:length]
            self._synced += length

    def _open(self) -> int:
        """Open the file, and notice if it is not as it was left."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = os.fstat(descriptor).st_size
        if not self._doubtful and end != self._synced + len(self._tail):
            log.warning("somebody else has changed the audit log", size=end)
            self._synced = end
            self._doubtful = True
            self._named = False
        return descriptor

    def _mend(self, descriptor: int) -> None:
        if self._doubtful:
            os.lseek(descriptor, self._synced, os.SEEK_SET)
            write_all(descriptor, bytes(self._tail))
            os.ftruncate(descriptor, self._synced + len(self._tail))
            self._doubtful = False

    def _rotate(self) -> None:
        """Begin a new file; every line of the old one is durable before it gets its other name."""
        with self._syncing:
            self._sync()
            with self._changing:
                for number in range(self._limits.files - 1, 0, -1):
                    older = self._numbered(number)
                    newer = self._numbered(number - 1) if number > 1 else self._path
                    if newer.exists():
                        newer.rename(older)
                if self._limits.files == 1:
                    self._path.unlink(missing_ok=True)
                self._synced = 0
                self._named = False
                sync_directory(self._path.parent)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    # --- recovery ------------------------------------------------------------------------

    def recover(self, records: Iterable[Record]) -> None:
        """Take up the file: a torn last line goes, and what journals tell and it lacks is added.

        A file that cannot be read is tried again before each write, which is refused until then.

        Args:
            records: of the journals that a crash has left, in their order.
        """
        self._left = list(records)
        self._known = False
        try:
            with storage_errors(f"cannot read {self._path}"):
                self._take_up()
        except StorageError as error:
            log.error("cannot read the audit log; refusing writes", error=str(error))

    def _take_up(self) -> None:
        if self._known:
            return
        end, written = self._whole_lines(), set[int]()
        if self._left:
            written = self._versions(min(record.version for record in self._left))
        missing = [line_of(record) for record in self._left if record.version not in written]
        self._synced, self._tail = end, bytearray(b"".join(missing))
        self._doubtful = True  # What follows the last whole line is cut off by the next write.
        self._known = True
        self._left = []

    def _whole_lines(self) -> int:
        """Bytes up to the end of the last whole line."""
        try:
            return self._path.read_bytes().rfind(b"\n") + 1
        except FileNotFoundError:
            return 0

    def _versions(self, least: int) -> set[int]:
        """The versions of the whole lines, from ``least`` on and perhaps further back."""
        found: set[int] = set()
        for number in range(self._limits.files):
            path = self._numbered(number) if number else self._path
            try:
                here = set(_versions_in(path.read_bytes()))
            except FileNotFoundError:
                continue
            found |= here
            if here and min(here) <= least:
                break
        return found


def _versions_in(data: bytes) -> Iterator[int]:
    # What follows the last end of a line is cut off, even if nothing but that end is missing.
    for line in data.split(b"\n")[:-1]:
        # What somebody else has written there is theirs.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            yield msgspec.json.decode(line, type=_Version).version


def line_of(record: Record) -> bytes:
    """What is told of a record."""
    act = record.wrote
    entry = Entry(
        at=act.at if act else None,
        by=act.by if act else None,
        action=act.action if act else None,
        flow_id=record.flow_id,
        generation=record.generation,
        version=record.version,
        outcome="done",
        hard=record.hard,
    )
    return msgspec.json.encode(entry) + b"\n"
