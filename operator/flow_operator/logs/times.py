"""When what was printed: a sparse index from positions in a stream to seconds."""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
from pathlib import Path

_ENTRY = struct.Struct("<QQ")

MOST = 32 * 1024
"""Entries: nine hours of a log that grows each second; 512 KiB. Older ones are thinned."""


class TimeIndex:
    """A file of (seconds since the epoch, position): from there on was printed from then on.

    An entry that was torn by a crash is ignored. A lost index loses times, and nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        entries = self._entries()
        self._count = len(entries)
        self.last = entries[-1] if entries else (0, 0)

    def add(self, second: int, position: int) -> None:
        """Add an entry, unless there is one for that second.

        Raises:
            OSError: it cannot be written.
        """
        if second <= self.last[0]:
            return
        with self._path.open("ab") as file:
            torn = file.tell() % _ENTRY.size
            if torn:
                file.truncate(file.tell() - torn)
            file.write(_ENTRY.pack(second, position))
        self.last = (second, position)
        self._count += 1

    def trim(self, first: int) -> None:
        """Drop what speaks of positions before ``first``, and thin what is too much.

        Raises:
            OSError: it cannot be written; the index is as before.
        """
        entries = self._entries()
        kept = entries[max(bisect.bisect_right(entries, first, key=_position) - 1, 0) :]
        if len(kept) > MOST:
            half = len(kept) // 2
            kept = kept[:half:2] + kept[half:]
        if len(kept) == len(entries):
            return
        new = self._path.with_suffix(".times.new")
        new.write_bytes(b"".join(_ENTRY.pack(*entry) for entry in kept))
        os.replace(new, self._path)
        self._count = len(kept)

    @property
    def full(self) -> bool:
        """Whether there are more entries than there should be."""
        return self._count > MOST

    def second_of(self, position: int) -> int | None:
        """When what stands at a position was printed, at the earliest; None if nobody knows."""
        entries = self._entries()
        at = bisect.bisect_right(entries, position, key=_position)
        return entries[at - 1][0] if at else None

    def seconds_of(self, positions: list[int]) -> list[int | None]:
        """The same for many positions by one look at the file."""
        entries = self._entries()
        found = (bisect.bisect_right(entries, position, key=_position) for position in positions)
        return [entries[at - 1][0] if at else None for at in found]

    def position_of(self, second: int) -> int | None:
        """From where on everything was printed at that second or later; None if nothing was."""
        entries = self._entries()
        at = bisect.bisect_left(entries, second, key=_second)
        return entries[at][1] if at < len(entries) else None

    def _entries(self) -> list[tuple[int, int]]:
        with contextlib.suppress(FileNotFoundError):
            data = self._path.read_bytes()
            whole = len(data) - len(data) % _ENTRY.size
            return list(_ENTRY.iter_unpack(data[:whole]))
        return []


def _position(entry: tuple[int, int]) -> int:
    return entry[1]


def _second(entry: tuple[int, int]) -> int:
    return entry[0]
