"""What local processes and pipes show from outside."""

from __future__ import annotations

import os
from pathlib import Path

from flow_operator.runners.base import PipeView, Usage
from flow_operator.runners.procfs import descendants, open_files, written_bytes

_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage(pid: int, in_flight: int) -> Usage:
    """What a step's process and its descendants use.

    Args:
        pid: of the process; 0 if it has none.
        in_flight: unread bytes in the pipe before it.
    """
    procs = descendants(pid) if pid else []
    return Usage(
        sum(proc.cpu_seconds for proc in procs),
        sum(proc.memory_bytes for proc in procs),
        in_flight,
        sum(open_files(proc.pid) for proc in procs),
    )


def pipe_view(unread: int, capacity: int, waits: bool) -> PipeView:  # noqa: FBT001 - as the shim tells
    """A pipe is full when its writer would have to wait, or nearly: one page may be half filled."""
    return PipeView(unread, capacity > 0 and (waits or unread >= capacity - _PAGE))


def written(pid: int, log: Path) -> int:
    """A number that changes whenever a step's process or one of its descendants writes.

    What they have written, added up. A descendant that ends hands its count to the parent that
    waits for it, or takes it away; either way somebody has moved. Where the count of one may not
    be read, the log's size and time stand for it: what it writes elsewhere is then not seen.
    """
    if not pid:
        return 0
    counts = [written_bytes(proc.pid) for proc in descendants(pid)]
    total = sum(filter(None, counts))
    if None not in counts:
        return total
    try:
        status = log.stat()
    except OSError:
        return total
    return hash((total, status.st_size, status.st_mtime_ns))
