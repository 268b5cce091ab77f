"""``DATA/flows.cache``: what the files of the flows hold, for a start that need not parse them.

A cache and nothing more: each entry stands beside the SHA-256 of the file that it was read from or
written to, and counts only while the file has it. It may be missing, old or damaged at any time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import structlog
from msgspec import Raw, Struct

import flow_operator
from flow_operator.errors import StorageError
from flow_operator.model.flow import Flow, decode_unit, encode_unit
from flow_operator.store.files import storage_errors, write_quietly
from flow_operator.store.records import Book, Record, StoredFlow, restored

LEAST = 64
"""Files that must have changed before the cache is written again."""

_SHARE = 8
"""Or one in so many of the flows: the cache is written as a whole."""

_OF_FREE = 10
"""It takes at most one part in so many of the space that is free."""

log = structlog.get_logger("store")


class _Entry(Struct, frozen=True, array_like=True):
    """A flow as it stands in the cache; ``digest`` is that of its file, in hex."""

    digest: str
    flow: Flow
    body: Raw
    book: Book
    template: str


class RecordCache:
    """Knows what the files of flows hold by what they are.

    Args:
        path: of the cache.
        present: the record of a flow now.
    """

    def __init__(self, path: Path, present: Callable[[str], Record | None]) -> None:
        self._path = path
        self._present = present
        self._known: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._files: dict[str, tuple[int, str]] = {}
        """By flow, the version in its file and the digest of that."""
        self._changed = 0

    def load(self) -> None:
        """Read what an operator of the same program has left."""
        try:
            head, _, rest = self._path.read_bytes().partition(b"\n")
            if head == _head(rest):
                entries = _decoder().decode(rest)
                self._known = {entry.flow.flow_id: entry for entry in entries}
        except (OSError, msgspec.MsgspecError):
            return  # All files are read instead.

    def read(self, flow_id: str, data: bytes) -> StoredFlow | None:
        """What a file of a flow holds, if it is known; ``data`` is all that stands in it."""
        entry = self._known.pop(flow_id, None)
        if entry is None or entry.digest != _digest(data):
            return None
        record = restored(entry.flow, bytes(entry.body), entry.book, entry.template)
        self._files[flow_id] = record.version, entry.digest
        return record

    def note(self, record: Record, data: bytes) -> None:
        """Remember that a record stands in its file, as ``data``."""
        with self._lock:
            self._changed += 1
            self._files[record.flow_id] = record.version, _digest(data)

    def write(self) -> None:
        """Write everything down, if enough has changed; a disk that refuses disturbs nobody."""
        with self._lock:
            if self._changed < max(LEAST, len(self._files) // _SHARE):
                return
            self._changed = 0
            files = {name: f for name, f in self._files.items() if self._present(name) is not None}
            self._files = dict(files)
        kept = [(self._present(flow_id), *file) for flow_id, file in files.items()]
        entries = [
            _encoded(record, digest)
            for record, version, digest in kept
            # One that has changed meanwhile is written once it stands in its file.
            if isinstance(record, StoredFlow) and record.version == version
        ]
        rest = b"[" + b",".join(entries) + b"]"
        try:
            with storage_errors(f"cannot write {self._path}"):
                room = os.statvfs(self._path.parent)
            if len(rest) * _OF_FREE < room.f_bavail * room.f_frsize:
                write_quietly(self._path, _head(rest) + b"\n" + rest)
        except StorageError as error:
            log.debug("the cache of flows is not written", error=str(error))

    def done(self) -> None:
        """Forget what was loaded and not asked for."""
        self._known.clear()


def _encoded(record: StoredFlow, digest: str) -> bytes:
    entry = _Entry(digest, record.flow, Raw(record.body), record.book(), record.template)
    return msgspec.json.encode(entry, enc_hook=encode_unit)


def _decoder() -> msgspec.json.Decoder[list[_Entry]]:
    return msgspec.json.Decoder(list[_Entry], dec_hook=decode_unit)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _head(rest: bytes) -> bytes:
    """The first line: which program has written the rest, and its digest."""
    return f"{_code()} {_digest(rest)}".encode()


@cache
def _code() -> str:
    """Names the program that reads and checks flows, by a digest of its source."""
    digest = hashlib.sha256(flow_operator.__version__.encode())
    root = Path(flow_operator.__file__).parent
    for part in ("model", "manifest", "store"):
        for path in sorted((root / part).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
