"""All that one step has ever printed, as far as it is kept.

A position is an offset into that stream; it only grows, whatever becomes of the files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flow_operator.logs import space
from flow_operator.logs.times import TimeIndex

PART = 256 * 1024
"""Bytes of one read."""

_DIGITS = 20


class Part(NamedTuple):
    """Bytes of a stream, and the position of the first of them."""

    start: int
    data: bytes


class _Kept(NamedTuple):
    """A file of older bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Stream:
    """One step's log: the file that it writes, older files beside it, and when it was.

    One lock holds readers and the rotation apart; who writes knows nothing of either.

    Attributes:
        path: of the file that the step writes.
        times: when what it wrote was written.
    """

    __slots__ = (
        "_abandoned",
        "_able",
        "_hole",
        "_kept",
        "_lock",
        "_noted",
        "_seen",
        "path",
        "times",
    )

    def __init__(self, path: str | Path) -> None:
        # Text, as there is one of these for every step: paths are large, and slow to make.
        self.path = os.fspath(path)
        self._lock = threading.RLock()
        self.times = TimeIndex(self._beside(".times"))
        self._kept: list[_Kept] = []
        self._hole = 0
        self._seen = 0
        self._noted = self.times.last[1]
        self._able = self._abandoned = False
        with self._lock:
            self._recover()

    def _beside(self, suffix: str) -> str:
        return os.path.splitext(self.path)[0] + suffix

    @property
    def _mark(self) -> str:
        return self._beside(".rotating")

    @property
    def _new(self) -> str:
        return self._beside(".new")

    # --- where it is ---------------------------------------------------------------------

    @property
    def live_start(self) -> int:
        """The position at which the file that is written begins."""
        return self._kept[-1].end if self._kept else 0

    def _size(self) -> int:
        """Bytes of the file that is written; one that somebody has emptied goes on where it was."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = self._hole
        if size < self._seen:
            self._keep_place(self.live_start + self._seen - self._hole)
            self._hole = self._data_start() if self._hole else 0
        self._seen = size
        return size - self._hole

    def _data_start(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return space.data_start(descriptor)
        finally:
            os.close(descriptor)

    def _keep_place(self, position: int) -> None:
        """Have the file that is written begin at a position, by an empty file of that name."""
        if not self._abandoned:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            os.close(os.open(self._kept_path(position), flags, 0o640))
        self._kept.append(_Kept(position, 0))

    def _kept_path(self, start: int) -> str:
        return f"{self.path}.{start:0{_DIGITS}}"

    def first(self) -> int:
        """The position of the oldest byte that is kept."""
        with self._lock:
            return next((kept.start for kept in self._kept if kept.size), self.live_start)

    def end(self) -> int:
        """The position behind what has been printed so far."""
        with self._lock:
            size = self._size()
            return self.live_start + size

    def total(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return self._size() + sum(kept.size for kept in self._kept)

    def live(self) -> int:
        """Bytes in the file that is written."""
        with self._lock:
            return self._size()

    def oldest(self) -> float:
        """When the oldest file besides the one that is written was last written; inf without one.

        Seconds since the epoch.
        """
        with self._lock:
            for kept in self._kept:
                if kept.size:
                    with contextlib.suppress(FileNotFoundError):
                        return os.stat(self._kept_path(kept.start)).st_mtime
        return float("inf")

    # --- reading -------------------------------------------------------------------------

    def read(self, position: int | None, most: int = PART) -> Part:
        """Bytes from a position on, or from the oldest that is kept after it.

        Empty at the end. Where the bytes are no longer kept, ``start`` is not what was asked for.

        Raises:
            OSError: they cannot be read.
        """
        with self._lock:
            size = self._size()
            wanted = 0 if position is None else position
            for kept in self._kept:
                if kept.size and wanted < kept.end:
                    start = max(wanted, kept.start)
                    try:
                        return Part(
                            start, _bytes(self._kept_path(kept.start), start - kept.start, most)
                        )
                    except FileNotFoundError:
                        continue  # Somebody has removed it; what follows is still there.
            start = min(max(wanted, self.live_start), self.live_start + size)
            try:
                return Part(start, _bytes(self.path, start - self.live_start + self._hole, most))
            except FileNotFoundError:
                return Part(start, b"")

    def abandon(self) -> None:
        """Write nothing any more, whoever still has this: it is removed, and maybe begun anew."""
        with self._lock:
            self._abandoned = True

    # --- keeping it small ----------------------------------------------------------------

    def grown(self) -> int:
        """Bytes that have come since the last look."""
        with self._lock:
            return max(self.end() - self._noted, 0)

    def look(self, second: int) -> int:
        """Note that what is new was printed by now, in ``second``; returns its bytes.

        Where that cannot be written down, the next look does it: times are less than space.
        """
        with self._lock:
            grown = 0 if self._abandoned else self.grown()
            if grown:
                self._noted += grown
                with contextlib.suppress(OSError):
                    self.times.add(second, self._noted)
                    if self.times.full:
                        self.times.trim(self.first())
            return grown

    def rotate(self, max_size: int, max_files: int) -> int:
        """Keep the stream within ``max_size`` times ``max_files`` bytes.

        One file at most is made: whoever calls sees to the disk and to other logs before the next.
        What is too old to be kept is not even copied. Returns the bytes that went although there
        was room for them: no space was left to move them.

        Raises:
            OSError: the file system lets nobody take bytes away from a file, or fails.
        """
        with self._lock:
            if self._abandoned:
                return 0
            if self._size() < max_size:
                self._drop_kept((max_files - 1) * max_size)
                return 0
            with self._shortened() as descriptor:
                return self._rotate(descriptor, max_size, max_files)

    @contextlib.contextmanager
    def _shortened(self) -> Iterator[int]:
        """The file that is written, to take bytes away from.

        Raises:
            OSError: this file system lets nobody do that.
        """
        if not self._able:
            space.require(self._new)
            self._able = True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _rotate(self, descriptor: int, max_size: int, max_files: int) -> int:
        block = space.block_size(descriptor)
        piece = max(max_size // block, 1) * block
        most = max_files * max_size if max_files > 1 else max_size // 2
        excess = (self._size() - most) // block * block
        if excess > 0:
            self._drop(descriptor, excess)
        # Collapsing may not reach the end of the file: there must be a byte more than the piece.
        if max_files == 1 or self._size() <= piece:
            return 0
        self._drop_kept((max_files - 2) * max_size)
        try:
            self._move(descriptor, piece)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _remove(self._new)
            _remove(self._mark)
            self._drop(descriptor, piece)
            return piece
        return 0

    def _move(self, descriptor: int, length: int) -> None:
        """Give the head of the file that is written a file of its own."""
        target = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            space.copy(descriptor, self._hole, length, target)
            # Else a power cut could take what has long been on the disk where it stood before.
            os.fdatasync(target)
        finally:
            os.close(target)
        start = self.live_start
        self._announce(descriptor, start)
        os.rename(self._new, self._kept_path(start))
        self._take_away(descriptor, length)
        if self._kept and self._kept[-1].start == start:
            self._kept.pop()  # It was empty, and only told where the file that is written begins.
        self._kept.append(_Kept(start, length))
        os.unlink(self._mark)

    def _drop(self, descriptor: int, length: int) -> None:
        """Give the head of the file that is written up, and all that is older.

        It takes no space, for it has to work where there is none. After a crash in its midst the
        head is still there, at a wrong position: it was to be lost to nobody.
        """
        start = self.live_start
        self._drop_kept(0)
        self._keep_place(start + length)
        self._take_away(descriptor, length)

    def _take_away(self, descriptor: int, length: int) -> None:
        before = self._hole
        self._hole = space.take_away(descriptor, before, length)
        if self._hole == before:
            self._seen -= length

    def _announce(self, descriptor: int, start: int) -> None:
        """Write down what is about to happen, for whoever comes after a crash in its midst."""
        size = os.fstat(descriptor).st_size
        with open(self._mark, "w", encoding="ascii") as file:
            file.write(json.dumps({"start": start, "size": size, "hole": self._hole}))

    def _drop_kept(self, most: int) -> None:
        """Remove older files until they hold at most so many bytes; the newest name stays."""
        total = sum(kept.size for kept in self._kept)
        while total > most:
            oldest = self._kept[0]
            total -= oldest.size
            if len(self._kept) == 1:
                # It also tells where the file that is written begins.
                self._keep_place(oldest.end)
            _remove(self._kept_path(oldest.start))
            del self._kept[0]
        while len(self._kept) > 1 and not self._kept[0].size:
            _remove(self._kept_path(self._kept[0].start))
            del self._kept[0]

    def shed_kept(self) -> int:
        """Give up the oldest file besides the one that is written; returns its bytes."""
        with self._lock:
            if self._abandoned:
                return 0
            oldest = next((kept for kept in self._kept if kept.size), None)
            if oldest is None:
                return 0
            self._drop_kept(sum(kept.size for kept in self._kept) - oldest.size)
            return oldest.size

    def shed_live(self) -> int:
        """Give up all but the last blocks of the file that is written; returns the bytes.

        Raises:
            OSError: that is not possible here.
        """
        with self._lock:
            return 0 if self._abandoned else self._shed_live()

    def _shed_live(self) -> int:
        with self._shortened() as descriptor:
            block = space.block_size(descriptor)
            length = (self._size() - 1) // block * block - block
            if length <= 0:
                return 0
            self._drop(descriptor, length)
            return length

    # --- after a crash -------------------------------------------------------------------

    def _recover(self) -> None:
        try:
            self._kept = self._listed()
        except (FileNotFoundError, NotADirectoryError):
            return  # Nothing was ever started.
        _remove(self._new)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            _remove(self._mark)
            return
        try:
            self._hole = space.data_start(descriptor)
            self._undo(descriptor)
        finally:
            os.close(descriptor)
        # What was printed while nobody looked is new.
        self._seen = self._hole + max(self.times.last[1] - self.live_start, 0)

    def _listed(self) -> list[_Kept]:
        directory, name = os.path.split(self.path)
        prefix = f"{name}."
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                digits = entry.name.removeprefix(prefix)
                if entry.name.startswith(prefix) and len(digits) == _DIGITS and digits.isdecimal():
                    found.append(_Kept(int(digits), entry.stat().st_size))
        return sorted(found)

    def _undo(self, descriptor: int) -> None:
        """Undo what was announced: the copy of a head is given up, if the head still is there.

        It is gone if the file is shorter than it was, or begins with a hole further on. Else its
        writer may have written as much again meanwhile, and the bytes have to tell. Only where
        they are the same over and over can they not, and then a part of them counts once.
        """
        try:
            with open(self._mark, "rb") as file:
                mark = json.load(file)
        except FileNotFoundError:
            return
        except ValueError:
            mark = {"start": -1}  # Torn: nothing was done yet.
        if self._kept and self._kept[-1].start == mark["start"]:
            there = (
                os.fstat(descriptor).st_size >= mark["size"]
                and self._hole == mark["hole"]
                and self._same(descriptor, self._kept[-1])
            )
            if there:
                os.truncate(self._kept_path(mark["start"]), 0)
                self._kept[-1] = _Kept(mark["start"], 0)
        os.unlink(self._mark)

    def _same(self, descriptor: int, kept: _Kept) -> bool:
        with open(self._kept_path(kept.start), "rb") as file:
            at = self._hole
            while block := file.read(PART):
                if os.pread(descriptor, len(block), at) != block:
                    return False
                at += len(block)
        return True


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _bytes(path: str, offset: int, most: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return file.read(most) or b""
