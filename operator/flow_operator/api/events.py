"""``/events``: what has happened lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse
from msgspec import Struct

from flow_operator.api.frames import STREAMED
from flow_operator.api.http import json_response
from flow_operator.api.operation import JSON, Example, Operation
from flow_operator.api.watching import (
    VERSION,
    WATCHING,
    Message,
    events_watched,
    version_of,
    watched_instead,
)
from flow_operator.errors import NotFoundError
from flow_operator.model.status import Event

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class EventList(Struct, frozen=True):
    """What has happened, oldest first."""

    events: list[Event]


_EXAMPLE: dict[str, Any] = {
    "events": [
        {
            "flow_id": "orders",
            "type": "Normal",
            "reason": "Started",
            "message": "replica 0",
            "at": "2026-01-31T08:00:00Z",
            "firstAt": "2026-01-31T08:00:00Z",
            "count": 1,
        }
    ]
}

LIST = Operation(
    summary="What has happened lately",
    description="Of all flows, oldest first; 100 of each flow at most, 10,000 in all.",
    tag="Events",
    answers=(EventList,),
    media=(JSON, *STREAMED),
    streams=Message,
    query=WATCHING,
    headers=(VERSION,),
    asks=("Last-Event-ID",),
    problems=(410, 503),
    example=Example(answer=_EXAMPLE),
)
LIST_OF_FLOW = Operation(
    summary="What has happened to a flow lately",
    description="Oldest first; the last 100.",
    tag="Events",
    answers=(EventList,),
    media=(JSON, *STREAMED),
    streams=Message,
    query=WATCHING,
    headers=(VERSION,),
    asks=("Last-Event-ID",),
    problems=(404, 410, 503),
    example=Example(answer=_EXAMPLE),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    watched = events_watched(services.board)

    def answer(flow_id: str | None) -> HTTPResponse:
        stream = watched_instead(services, lambda: watched(flow_id))
        if stream is not None:
            return stream
        revision, events = services.board.events_at(None if flow_id is None else [flow_id])
        version = version_of(services.board, revision)
        return json_response(EventList(events), Resource_Version=version)

    @app.get("/events", operation=LIST)
    def list_events() -> HTTPResponse:
        return answer(None)

    @app.get("/flows/<flow_id>/events", operation=LIST_OF_FLOW)
    def list_flow_events(flow_id: str) -> HTTPResponse:
        if services.store.get(flow_id) is None and services.board.get(flow_id) is None:
            raise NotFoundError(flow_id)
        return answer(flow_id)
