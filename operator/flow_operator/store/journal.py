"""The redo journal: many records become durable by one rename.

``txn-<seq>.yaml`` is a YAML stream: a header with the count of records and the SHA-256 of what
follows it, then one record per document (in YAML's JSON form, which is 200 times faster to write
than the block form that people read). Its rename is the commit point; a journal that is there is
whole, and the files of the flows are written from it afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from flow_operator.errors import InvalidError
from flow_operator.store.files import write_durably
from flow_operator.structs import prepared

_SEPARATOR = b"---\n"


@prepared
class _Header(msgspec.Struct, frozen=True):
    journal: int
    count: int
    sha256: str


def journal_path(directory: Path, sequence: int) -> Path:
    """Names sort in the order in which the journals were written."""
    return directory / f"txn-{sequence:012d}.yaml"


def journal_paths(directory: Path) -> list[Path]:
    """The journals of a directory, oldest first."""
    return sorted(directory.glob("txn-*.yaml"))


def journal_part(document: dict[str, Any]) -> bytes:
    """A document as it stands in a journal."""
    return _SEPARATOR + msgspec.json.encode(document) + b"\n"


def write_journal(path: Path, parts: Sequence[bytes]) -> None:
    """Commit documents together.

    Raises:
        StorageError: none of them stands, unless it ``renamed``: then a power cut or the next
            operator may find them.
    """
    body = b"".join(parts)
    header = _Header(1, len(parts), hashlib.sha256(body).hexdigest())
    write_durably(path, msgspec.json.encode(header) + b"\n" + body)


def read_journal(path: Path) -> Sequence[dict[str, Any]]:
    """The documents of a journal.

    Raises:
        InvalidError: the file was damaged after it was written.
    """
    head, _, body = path.read_bytes().partition(b"\n")
    try:
        header = msgspec.json.decode(head, type=_Header)
        documents = [
            msgspec.json.decode(line)
            for line in body.split(b"\n")
            if line and line + b"\n" != _SEPARATOR
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path.name} is damaged: {error}") from None
    if hashlib.sha256(body).hexdigest() != header.sha256 or len(documents) != header.count:
        raise InvalidError(f"{path.name} is damaged: its checksum does not fit")
    return documents
