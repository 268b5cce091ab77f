"""The watched folder in figures."""

from __future__ import annotations

from typing import NamedTuple


class Summary(NamedTuple):
    """What a folder looked like when it was last applied.

    Attributes:
        files: how many manifest files there are.
        faulty: how many of them are not applied, or not in full.
        flows: how many flows they hold.
        held: flows that are kept though their file has gone.
        trouble: whether the folder as a whole cannot be read.
        applied: how many looks have changed something.
        looked_at: wall time of the last look that could read the folder; 0 before the first.
    """

    files: int
    faulty: int
    flows: int
    held: int
    trouble: bool
    applied: int
    looked_at: float
