"""Statuses and events in one place, and who hears of them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Protocol

from flow_operator.board.book import EventBook, event_of
from flow_operator.board.changes import Changes
from flow_operator.clock import Clock, rfc3339
from flow_operator.meter import Meter
from flow_operator.model.status import Event, FlowStatus

Listener = Callable[[str], None]

Events = Callable[[], Iterable[Event]]


class EventKeeper(Protocol):
    """Keeps events for the next operator, as well as it can: nothing here fails or waits for it.

    Its methods are called by one thread at a time, in the order in which things happened.
    """

    def recover(self) -> Iterable[Event]:
        """What was kept, in its order; a later event stands for an earlier one that says the same.

        Called once, before anything else.
        """

    def keep(self, event: Event, living: Events) -> None:
        """Keep an event; ``living`` gives all that have to be kept, this one included."""

    def drop(self, flow_id: str, living: Events) -> None:
        """Forget the events of a flow."""

    def close(self, living: Events) -> None:
        """No more events come."""


class Board:
    """Statuses and events by flow id.

    One writer per flow (the worker that holds its key), any number of readers.

    Args:
        clock: tells when events happened.
        keeper: keeps events over a restart; nobody does if it is left out.
        meter: counts events.

    Attributes:
        version: grows with each change of any status.
        changes: the last changes of statuses and events, in the order in which they became so.
        epoch: tells the revisions of this board from those of an earlier operator.
    """

    def __init__(
        self, clock: Clock, keeper: EventKeeper | None = None, meter: Meter | None = None
    ) -> None:
        self._clock = clock
        self._meter = meter or Meter()
        self._keeper = keeper
        self._statuses: dict[str, FlowStatus] = {}
        self._source_errors: dict[str, str] = {}
        self._book = EventBook()
        self._recording = threading.Lock()
        """Held while events change: what is kept of them is kept in their order, but no reader of
        the board waits for a disk."""
        self._changed = threading.Condition()
        self._listeners: list[Listener] = []
        self._watchers: list[Callable[[], None]] = []
        self._source_listeners: list[Listener] = []
        self.version = 0
        self.changes = Changes()
        self.epoch = secrets.token_hex(4)

    def recover(self, known: Container[str]) -> None:
        """Take up the events that an earlier operator has kept, of those flows that still exist."""
        if self._keeper is None:
            return
        with self._recording:
            for event in self._keeper.recover():
                self._book.restore(event)
            for flow_id in [f for f in self._book.flow_ids() if f not in known]:
                self._book.drop(flow_id)
                self._keeper.drop(flow_id, self._book.all)

    def close(self) -> None:
        """Let go of where events are kept."""
        if self._keeper is not None:
            with self._recording:
                self._keeper.close(self._book.all)

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called with the id of each flow whose status has changed."""
        self._listeners.append(listener)

    def subscribe_changes(self, watcher: Callable[[], None]) -> None:
        """Have it called after each change of a status or an event, from any thread."""
        self._watchers.append(watcher)

    def subscribe_sources(self, listener: Listener) -> None:
        """Have a listener called with the id of each flow whose source error has changed."""
        self._source_listeners.append(listener)

    def get(self, flow_id: str) -> FlowStatus | None:
        """The present status of a flow."""
        return self._statuses.get(flow_id)

    def all(self) -> Mapping[str, FlowStatus]:
        """All statuses as they stand now."""
        return dict(self._statuses)

    def statuses_at(self) -> tuple[int, list[FlowStatus]]:
        """The present revision, and all statuses as they are at it."""
        with self._changed:
            return self.changes.revision, list(self._statuses.values())

    def publish(self, status: FlowStatus) -> None:
        """Tell a status."""
        before = self._statuses.get(status.flow_id)
        if before == status:
            return
        with self._changed:
            self._statuses[status.flow_id] = status
            self.version += 1
            self.changes.add(status.flow_id, before, status)
            self._changed.notify_all()
        for listener in self._listeners:
            listener(status.flow_id)
        self._poke()

    def _poke(self) -> None:
        for watcher in self._watchers:
            watcher()

    def remove(self, flow_id: str) -> None:
        """A flow is gone for good."""
        with self._recording:
            with self._changed:
                gone = self._statuses.pop(flow_id, None)
                self.version += 1
                had_events = self._book.drop(flow_id)
                if gone or had_events:
                    self.changes.add(flow_id, before=gone)
                self._changed.notify_all()
            if had_events and self._keeper is not None:
                self._keeper.drop(flow_id, self._book.all)
        if gone is not None:
            for listener in self._listeners:
                listener(flow_id)
        self._poke()

    def set_source_error(self, flow_id: str, error: str | None) -> None:
        """Tell what is wrong with the file that owns a flow; None takes it back."""
        with self._changed:
            if self._source_errors.get(flow_id) == error:
                return
            if error is None:
                del self._source_errors[flow_id]
            else:
                self._source_errors[flow_id] = error
        for listener in self._source_listeners:
            listener(flow_id)

    def source_error(self, flow_id: str) -> str | None:
        """What is wrong with the file that owns a flow."""
        return self._source_errors.get(flow_id)

    def wait(self, reached: Callable[[], bool], timeout: float, rest: float = 0.0) -> bool:
        """Wait until a predicate over the board holds, at most ``timeout`` seconds.

        Args:
            reached: the predicate; called while nothing changes.
            timeout: seconds.
            rest: seconds to leave between two changes that are looked at. Whoever waits for many
                flows would else take the processor, at each change, from what it waits for.
        """
        end = time.monotonic() + timeout
        while True:
            with self._changed:
                if reached():
                    return True
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return reached()
            if rest:
                time.sleep(rest)

    def record(self, flow_id: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell an event; one that says the same as another that is kept counts that one up."""
        self._meter.noted(reason, warning=warning)
        at = rfc3339(self._clock.wall())
        with self._recording:
            with self._changed:
                event = self._book.add(event_of(flow_id, reason, message, at, warning=warning))
                self.changes.add(flow_id, event=event)
            if self._keeper is not None:
                self._keeper.keep(event, self._book.all)
        self._poke()

    def events(self, flow_ids: Iterable[str] | None = None) -> list[Event]:
        """Events by when they last happened, oldest first, whatever the wall clock said.

        Of all flows if none are named.
        """
        return self.events_at(flow_ids)[1]

    def events_at(self, flow_ids: Iterable[str] | None = None) -> tuple[int, list[Event]]:
        """The present revision, and the events as they are at it."""
        with self._changed:
            found = self._book.all() if flow_ids is None else self._book.of(flow_ids)
            return self.changes.revision, found

    def last_event(self, flow_id: str, *reasons: str) -> Event | None:
        """The newest event of a flow that has one of these reasons."""
        with self._changed:
            return self._book.last_of(flow_id, reasons)
