"""The last events of all flows, in the order in which they last happened."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Literal

from msgspec.structs import replace

from flow_operator.model.status import Event

EVENTS_PER_FLOW = 100

EVENTS = 10_000
"""Of all flows; about 0.4 kB each."""


class EventBook:
    """Events by flow; one that says the same as another that is kept counts that one up.

    Adding takes the same time however many flows there are. Not for several threads at once.
    """

    def __init__(self, per_flow: int = EVENTS_PER_FLOW, overall: int = EVENTS) -> None:
        self._per_flow = per_flow
        self._overall = overall
        self._events: dict[int, Event] = {}
        """By number, which grows; so the first is the oldest."""
        self._numbers: dict[str, list[int]] = {}
        """By flow, the oldest first."""
        self._first = 0
        """No event has a lower number."""
        self._next = 0

    def add(self, event: Event) -> Event:
        """Keep an event as the newest; returns it as it stands now, counted up."""
        earlier = self._take(event)
        if earlier is not None:
            event = replace(earlier, at=event.at, count=earlier.count + 1)
        self._append(event)
        return event

    def restore(self, event: Event) -> None:
        """Keep an event as it was written down, in the place of one that says the same."""
        self._take(event)
        self._append(_lean(event))

    def _take(self, event: Event) -> Event | None:
        """Take out the event that says the same."""
        numbers = self._numbers.get(event.flow_id, [])
        for number in numbers:
            if _alike(self._events[number], event):
                numbers.remove(number)
                return self._events.pop(number)
        return None

    def _append(self, event: Event) -> None:
        numbers = self._numbers.setdefault(event.flow_id, [])
        numbers.append(self._next)
        self._events[self._next] = event
        self._next += 1
        if len(numbers) > self._per_flow:
            del self._events[numbers.pop(0)]
        elif len(self._events) > self._overall:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        # A loop over numbers, and not over the dict: that would begin at all the gaps each time.
        while self._first not in self._events:
            self._first += 1
        flow_id = self._events.pop(self._first).flow_id
        numbers = self._numbers[flow_id]
        del numbers[0]
        if not numbers:
            del self._numbers[flow_id]

    def drop(self, flow_id: str) -> bool:
        """Forget a flow; returns whether there was anything to forget."""
        numbers = self._numbers.pop(flow_id, ())
        for number in numbers:
            del self._events[number]
        return bool(numbers)

    def flow_ids(self) -> set[str]:
        """The flows of which an event is kept."""
        return set(self._numbers)

    def all(self) -> list[Event]:
        """Every event, oldest first."""
        return list(self._events.values())

    def of(self, flow_ids: Iterable[str]) -> list[Event]:
        """The events of some flows, oldest first."""
        numbers = (n for flow_id in flow_ids for n in self._numbers.get(flow_id, ()))
        return [self._events[number] for number in sorted(numbers)]

    def last_of(self, flow_id: str, reasons: Iterable[str]) -> Event | None:
        """The newest event of a flow that has one of some reasons."""
        newest_first = reversed(self._numbers.get(flow_id, ()))
        found = (self._events[number] for number in newest_first)
        return next((event for event in found if event.reason in reasons), None)


def event_of(flow_id: str, reason: str, message: str, at: str, *, warning: bool) -> Event:
    """Something that has just happened for the first time."""
    kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
    return Event(sys.intern(flow_id), kind, sys.intern(reason), message, at, at)


def _alike(one: Event, other: Event) -> bool:
    return (one.reason, one.message, one.type) == (other.reason, other.message, other.type)


def _lean(event: Event) -> Event:
    """The same, sharing with others what many have."""
    once = event.first_at == event.at
    return Event(
        flow_id=sys.intern(event.flow_id),
        type="Warning" if event.type == "Warning" else "Normal",
        reason=sys.intern(event.reason),
        message=event.message,
        at=event.at,
        first_at=event.at if once else event.first_at,
        count=event.count,
    )
