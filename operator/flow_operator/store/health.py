"""How the store does, and how long it takes to make things durable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from flow_operator.clock import Clock
from flow_operator.meter import Meter, Sync


class Health(NamedTuple):
    """How a store does.

    Attributes:
        failing: whether the last write, or the last round behind the journals, was refused.
        reserve: whether there is a reserve; without, only what stops or deletes is written.
        journals: how many wait for the files that they name to be written.
        corrupt: flows whose file could not be read.
    """

    failing: bool
    reserve: bool
    journals: int
    corrupt: int


class SyncTimer:
    """Tells a meter how long what is done within :meth:`of` takes, also if it is refused."""

    def __init__(self, clock: Clock, meter: Meter) -> None:
        self._clock = clock
        self._meter = meter

    @contextlib.contextmanager
    def of(self, kind: Sync) -> Iterator[None]:
        """Something that ends with a sync."""
        begun = self._clock.monotonic()
        try:
            yield
        finally:
            self._meter.synced(kind, self._clock.monotonic() - begun)
