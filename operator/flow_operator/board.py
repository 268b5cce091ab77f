"""What is told: the present status and the last events of each flow, for everybody to read."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from msgspec.structs import replace

from flow_operator.clock import Clock, rfc3339
from flow_operator.model.status import Event, FlowStatus

EVENTS_PER_FLOW = 100

Listener = Callable[[str], None]


class Board:
    """Statuses and events by flow id.

    One writer per flow (the worker that holds its key), any number of readers.

    Attributes:
        version: grows with each change of any status.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._statuses: dict[str, FlowStatus] = {}
        self._source_errors: dict[str, str] = {}
        self._events: dict[str, deque[tuple[int, Event]]] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._listeners: list[Listener] = []
        self._source_listeners: list[Listener] = []
        self.version = 0

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called with the id of each flow whose status has changed."""
        self._listeners.append(listener)

    def subscribe_sources(self, listener: Listener) -> None:
        """Have a listener called with the id of each flow whose source error has changed."""
        self._source_listeners.append(listener)

    def get(self, flow_id: str) -> FlowStatus | None:
        """The present status of a flow."""
        return self._statuses.get(flow_id)

    def all(self) -> Mapping[str, FlowStatus]:
        """All statuses as they stand now."""
        return dict(self._statuses)

    def publish(self, status: FlowStatus) -> None:
        """Tell a status."""
        if self._statuses.get(status.flow_id) == status:
            return
        with self._changed:
            self._statuses[status.flow_id] = status
            self.version += 1
            self._changed.notify_all()
        for listener in self._listeners:
            listener(status.flow_id)

    def remove(self, flow_id: str) -> None:
        """A flow is gone for good."""
        with self._changed:
            gone = self._statuses.pop(flow_id, None)
            self.version += 1
            self._events.pop(flow_id, None)
            self._changed.notify_all()
        if gone is not None:
            for listener in self._listeners:
                listener(flow_id)

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

    def wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Wait until a predicate over the board holds, at most ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(reached, timeout)

    def record(self, flow_id: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Add an event; one that says the same as the last only counts up."""
        at = rfc3339(self._clock.wall())
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        with self._changed:
            events = self._events.setdefault(flow_id, deque(maxlen=EVENTS_PER_FLOW))
            last = events[-1][1] if events else None
            event = Event(flow_id, kind, reason, message, at, at)
            if last and (last.reason, last.message) == (reason, message):
                events.pop()
                event = replace(last, at=at, count=last.count + 1)
            events.append((next(self._numbers), event))

    def events(self, flow_ids: Iterable[str] | None = None) -> list[Event]:
        """Events, oldest first, whatever the wall clock said; of all flows if none are named."""
        with self._changed:
            wanted = self._events if flow_ids is None else flow_ids
            found = [entry for flow_id in wanted for entry in self._events.get(flow_id, ())]
        return [event for _, event in sorted(found, key=lambda entry: entry[0])]
