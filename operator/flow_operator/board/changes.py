"""The last changes of the board, for those who watch it."""

from __future__ import annotations

from msgspec import Struct

from flow_operator.model.status import Event, FlowStatus

CHANGES = 4096
"""A thousand flows that start at once make about so many."""

WEIGHT = 8 * CHANGES
"""Of all that are kept, in units of about 0.4 kB of memory: large flows leave room for fewer."""


class Change(Struct, frozen=True, eq=False):
    """One change: of a status, an event, or that a flow is gone with its events.

    Attributes:
        revision: its number.
        flow_id: which flow.
        before: the status before; None if there was none, and of an event.
        after: the status after; None if the flow is gone, and of an event.
        event: what happened, as it was counted then.
    """

    revision: int
    flow_id: str
    before: FlowStatus | None = None
    after: FlowStatus | None = None
    event: Event | None = None

    @property
    def gone(self) -> bool:
        """Whether the flow is gone for good, and its events with it."""
        return self.after is None and self.event is None

    @property
    def weight(self) -> int:
        """Units of memory; the earlier status may be that of another change, or nowhere else."""
        return 1 + _weight(self.before) + _weight(self.after)


def _weight(status: FlowStatus | None) -> int:
    return 0 if status is None else 2 + len(status.steps)


class Changes:
    """A ring of changes by revision.

    One thread at a time adds; any number read meanwhile without a lock, since a change is in its
    place before its revision is told, and one that was overwritten shows by its revision.

    Attributes:
        revision: of the last change; 0 before the first.
    """

    def __init__(self, most: int = CHANGES, weight: int = WEIGHT) -> None:
        self._slots: list[Change | None] = [None] * most
        self._most = weight
        self._weight = 0
        self._oldest = 1
        self.revision = 0

    def add(
        self,
        flow_id: str,
        before: FlowStatus | None = None,
        after: FlowStatus | None = None,
        event: Event | None = None,
    ) -> None:
        """Number a change and keep it."""
        change = Change(self.revision + 1, flow_id, before, after, event)
        if change.revision - self._oldest == len(self._slots):
            self._drop()
        self._slots[change.revision % len(self._slots)] = change
        self._weight += change.weight
        self.revision = change.revision
        while self._weight > self._most and self._oldest < change.revision:
            self._drop()

    def _drop(self) -> None:
        index = self._oldest % len(self._slots)
        change = self._slots[index]
        self._slots[index] = None
        self._oldest += 1
        self._weight -= change.weight if change else 0

    def next(self, revision: int) -> Change | None:
        """The change after a revision; None if it was dropped. There must have been one."""
        change = self._slots[(revision + 1) % len(self._slots)]
        return change if change is not None and change.revision == revision + 1 else None

    def holds(self, revision: int) -> bool:
        """Whether everything after a revision is still here."""
        return self._oldest - 1 <= revision <= self.revision
