"""Tells of flows: their statuses, and events of what was done about them."""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from flow_operator.board import Board
from flow_operator.clock import Clock, rfc3339
from flow_operator.memory import FlowMemory
from flow_operator.model.status import Condition, FlowStatus, Phase, Source, Truth
from flow_operator.plan import Note, Seen, Want, over, report, transitions
from flow_operator.store import Store, StoredFlow, Tombstone

log = structlog.get_logger("reconciler")


class Teller:
    """Puts on the board what a look at a flow has found.

    Args:
        board: where it is told.
        store: where the configurations are.
        clock: tells when it was.
    """

    def __init__(self, board: Board, store: Store, clock: Clock) -> None:
        self._board = board
        self._store = store
        self._clock = clock

    def note(self, flow_id: str, note: Note) -> None:
        """Record an event, and log it."""
        self._board.record(flow_id, note.reason, note.message, warning=note.warning)
        tell = log.warning if note.warning else log.info
        tell(note.reason, flow_id=flow_id, detail=note.message)

    def tell(
        self,
        flow_id: str,
        record: StoredFlow | Tombstone | None,
        want: Want,
        seen: Seen,
        memory: FlowMemory,
    ) -> None:
        """Tell the status of a flow, and what has changed about it."""
        origin = record.origin if isinstance(record, StoredFlow) else None
        file = origin.file if origin else None
        previous = self._board.get(flow_id)
        error = self._board.source_error(flow_id) if file else None
        source = Source("file" if file else "api", file, error)
        now = (self._clock.monotonic(), self._clock.wall())
        status = report(flow_id, want, seen, memory, previous, source, now)
        for note in transitions(previous, status):
            if previous is not None or not self._told_before(flow_id, note):
                self.note(flow_id, note)
        self._board.publish(status)

    def tell_instead(self, flow_id: str, phase: Phase, message: str) -> None:
        """Tell why nothing more is known of a flow, or why it does not go on."""
        status = self._board.get(flow_id) or self._unseen(flow_id, message)
        value: Truth = "Unknown" if phase == "unknown" else "False"
        reason = "RunnerAway" if phase == "unknown" else "Waiting"
        before = status.condition("Ready")
        same = before is not None and before.status == value
        since = before.last_transition_time if before and same else rfc3339(self._clock.wall())
        ready = Condition("Ready", value, reason, message, since)
        others = (one for one in status.conditions if one.type != "Ready")
        self._board.publish(
            replace(status, status=phase, message=message, conditions=(ready, *others))
        )

    def tell_corrupt(self, flow_id: str) -> None:
        """Tell that the configuration of a flow cannot be read."""
        message = self._store.corrupt[flow_id]
        last = self._board.last_event(flow_id, "StoreError")
        if self._board.get(flow_id) is None and (last is None or last.message != message):
            self._board.record(flow_id, "StoreError", message, warning=True)
        self._board.publish(unknown_status(flow_id, message))

    def gone(self, flow_id: str) -> None:
        """Tell no more of a flow."""
        self._board.remove(flow_id)

    def _told_before(self, flow_id: str, note: Note) -> bool:
        """Whether an earlier operator has told that it is so, and nobody that it is over."""
        last = self._board.last_event(flow_id, note.reason, over(note.reason))
        return last is not None and last.reason == note.reason

    def _unseen(self, flow_id: str, message: str) -> FlowStatus:
        """The status of a flow of which nothing was seen yet."""
        status = unknown_status(flow_id, message)
        record = self._store.get(flow_id)
        if record is None:
            return status
        return replace(
            status,
            uid=record.uid,
            desired=record.flow.spec.state,
            generation=record.generation,
            observed_generation=record.generation,
            replicas=record.flow.spec.replicas,
            labels=record.flow.metadata.labels,
        )


def unknown_status(flow_id: str, message: str) -> FlowStatus:
    """The status of a flow whose configuration cannot be read."""
    return FlowStatus(
        flow_id=flow_id,
        uid="",
        status="unknown",
        desired="stopped",
        generation=0,
        observed_generation=0,
        restarts=0,
        replicas=0,
        ready_replicas=0,
        started_at=None,
        message=message,
        source=Source("api"),
        conditions=(),
        steps=(),
    )
