"""What steps print, as a stream of bytes: the one place that knows how it is kept.

A position is an offset into that stream: opaque to everybody else, and it only grows. Now it is
the offset in the step's log file.
"""

from __future__ import annotations

from pathlib import Path

from flow_operator.runners.base import LogPart

PART = 256 * 1024
"""Bytes of one read."""


def log_end(path: Path) -> int:
    """The position behind what has been printed so far."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_log(path: Path, position: int | None) -> LogPart:
    """A part of what was printed from a position on; from the oldest that is kept if None.

    Where the position lies beyond the end, somebody has emptied the file, and what stands there
    now was printed since: it is read from its beginning. A file that was emptied and has grown
    past the position again cannot be told from one that was not.

    Raises:
        OSError: it cannot be read.
    """
    start = position or 0
    try:
        with path.open("rb") as file:
            if start > file.seek(0, 2):
                start = 0
            file.seek(start)
            return LogPart(start, file.read(PART))
    except FileNotFoundError:
        return LogPart(0)
