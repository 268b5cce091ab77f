"""The earlier generations of each flow: ``DATA/history/FLOW.jsonl``.

The present generation stands in the flow's own document, with who made it and when. When a newer
one takes its place in the durable store, it is noted here, and its line is made durable before the
flow's file, or the journal that names it, may go. So at each moment every generation that was
acknowledged is in a journal, in the flow's file or here; what a crash leaves undone follows again
from replaying the journals.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document
from flow_operator.model.flow import RESERVED_KEY
from flow_operator.store.files import (
    remove_temporaries,
    storage_errors,
    sync_directory,
    write_synced,
)
from flow_operator.store.records import StoredFlow, from_document
from flow_operator.structs import prepared

KEPT = 10
"""Generations before the present one. Ten are told, with the present one; the tenth here is what
the oldest of them is compared with."""

log = structlog.get_logger("store")


class _Mark(msgspec.Struct, frozen=True):
    uid: str
    generation: int


@prepared
class _Line(msgspec.Struct, frozen=True):
    """As much of a line as tells which generation it holds."""

    mark: _Mark = msgspec.field(name=RESERVED_KEY)


class History:
    """What the flows were before they became what they are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changing = threading.Lock()
        self._pending: dict[str, list[StoredFlow]] = {}

    def note(self, record: StoredFlow) -> None:
        """Keep a generation that another one is about to replace; nothing is written yet."""
        with self._changing:
            self._pending.setdefault(record.flow_id, []).append(record)

    def earlier(self, flow_id: str, uid: str) -> list[StoredFlow]:
        """The generations before the present one, newest first.

        Raises:
            StorageError: they cannot be read.
        """
        with self._changing:
            pending = list(self._pending.get(flow_id, ()))
        found = {record.generation: record for record in self._read(flow_id)} | {
            record.generation: record for record in pending
        }
        newest = sorted(found, reverse=True)
        return [found[number] for number in newest if found[number].uid == uid][:KEPT]

    def write(self) -> None:
        """Make durable what was noted so far.

        Raises:
            StorageError: it is still only noted.
        """
        with self._changing:
            pending = {flow_id: list(records) for flow_id, records in self._pending.items()}
        if not pending:
            return
        for flow_id, records in pending.items():
            self._append(flow_id, records)
        with storage_errors(f"cannot write {self._directory}"):
            sync_directory(self._directory)
        with self._changing:
            for flow_id, records in pending.items():
                del self._pending[flow_id][: len(records)]
                if not self._pending[flow_id]:
                    del self._pending[flow_id]

    def _append(self, flow_id: str, records: list[StoredFlow]) -> None:
        uid = records[-1].uid
        lines = {
            mark.generation: line for mark, line in self._lines(flow_id) if mark.uid == uid
        } | {record.generation: _encoded(record) for record in records if record.uid == uid}
        kept = [lines[number] for number in sorted(lines)[-KEPT:]]
        write_synced(self._path(flow_id), b"".join(line + b"\n" for line in kept))

    def _lines(self, flow_id: str) -> Iterable[tuple[_Mark, bytes]]:
        with storage_errors(f"cannot read {self._path(flow_id)}"):
            try:
                data = self._path(flow_id).read_bytes()
            except FileNotFoundError:
                return
        for line in data.splitlines():
            try:
                yield msgspec.json.decode(line, type=_Line).mark, line
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("a generation is unreadable", flow_id=flow_id, error=str(error))

    def _read(self, flow_id: str) -> Iterable[StoredFlow]:
        for mark, line in self._lines(flow_id):
            try:
                record = from_document(Document(msgspec.json.decode(line)))
            except InvalidError as error:
                generation = mark.generation
                log.warning(
                    "a generation is not valid any more",
                    flow_id=flow_id,
                    generation=generation,
                    error=str(error),
                )
                continue
            if isinstance(record, StoredFlow):
                yield record

    def drop(self, flow_id: str) -> None:
        """Forget a flow that is gone.

        Raises:
            StorageError: its file is still there.
        """
        with self._changing:
            self._pending.pop(flow_id, None)
        with storage_errors(f"cannot remove {self._path(flow_id)}"):
            self._path(flow_id).unlink(missing_ok=True)

    def recover(self) -> None:
        """Make the directory, and remove what a killed operator has left unfinished.

        Raises:
            OSError: that cannot be done.
        """
        if not self._directory.is_dir():
            self._directory.mkdir(mode=0o700)
            sync_directory(self._directory.parent)
        remove_temporaries(self._directory)

    def forget_all_but(self, flow_ids: Container[str]) -> None:
        """Forget the flows that went while nobody was there to forget them.

        Raises:
            OSError: that cannot be done.
        """
        for path in self._directory.glob("*.jsonl"):
            if path.stem not in flow_ids:
                path.unlink()

    def _path(self, flow_id: str) -> Path:
        return self._directory / f"{flow_id}.jsonl"


def _encoded(record: StoredFlow) -> bytes:
    # What its file held then is of no use to anybody, and as large again.
    plain = replace(record, origin=replace(record.origin, applied=None))
    return msgspec.json.encode(plain.to_document())
