"""When what was printed: a sparse index from positions in a stream to seconds."""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
from array import array

_ENTRY = struct.Struct("=QQ")

MOST = 32 * 1024
"""Entries: nine hours of a log that grows each second; 512 KiB. Older ones are thinned."""


class TimeIndex:
    """A file of (seconds since the epoch, position): up to there was printed by then.

    An entry that was torn by a crash is ignored. A lost index loses times, and nothing else.
    Seconds are what the clock said, also where somebody has set it back.

    Attributes:
        last: the last entry; (0, 0) without one.
    """

    __slots__ = ("_count", "_path", "last")

    def __init__(self, path: str) -> None:
        self._path = path
        seconds, ends = self._entries()
        self._count = len(ends)
        self.last = (seconds[-1], ends[-1]) if ends else (0, 0)

    def add(self, second: int, end: int) -> None:
        """Tell that up to ``end`` was printed by that second.

        Raises:
            OSError: it cannot be written.
        """
        again = self._count > 0 and second == self.last[0]
        at = (self._count - again) * _ENTRY.size
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.pwrite(descriptor, _ENTRY.pack(second, end), at)
        finally:
            os.close(descriptor)
        self.last = (second, end)
        self._count += not again

    def trim(self, first: int) -> None:
        """Drop what speaks only of positions before ``first``, and thin what is too much.

        What was thinned out counts as printed by the next second that is left.

        Raises:
            OSError: it cannot be written; the index is as before.
        """
        seconds, ends = self._entries()
        kept = list(zip(seconds, ends, strict=True))[bisect.bisect_right(ends, first) :]
        if len(kept) > MOST:
            half = len(kept) // 2
            kept = kept[1:half:2] + kept[half:]
        if len(kept) == self._count:
            return
        new = f"{self._path}.new"
        with open(new, "wb") as file:
            file.write(b"".join(_ENTRY.pack(*entry) for entry in kept))
        os.replace(new, self._path)
        self._count = len(kept)

    @property
    def full(self) -> bool:
        """Whether there are more entries than there should be."""
        return self._count > MOST

    def seconds_of(self, positions: list[int]) -> list[int | None]:
        """By when what stands at each position was printed; None behind what is known."""
        seconds, ends = self._entries()
        found = (bisect.bisect_right(ends, position) for position in positions)
        return [seconds[at] if at < len(ends) else None for at in found]

    def position_of(self, second: int) -> int:
        """A position before which nothing was printed at that second or later."""
        seconds, ends = self._entries()
        at = next((at for at, known in enumerate(seconds) if known >= second), len(ends))
        return ends[at - 1] if at else 0

    def _entries(self) -> tuple[array[int], array[int]]:
        """All seconds, and all positions."""
        numbers = array("Q")
        with contextlib.suppress(FileNotFoundError):
            with open(self._path, "rb") as file:
                data = file.read()
            numbers.frombytes(data[: len(data) - len(data) % _ENTRY.size])
        return numbers[0::2], numbers[1::2]
