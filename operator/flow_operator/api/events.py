"""``/events``: what has happened lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse
from msgspec import Struct

from flow_operator.api.http import json_response
from flow_operator.api.operation import Example, Operation
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
    description="Of all flows, oldest first; 100 of each flow at most.",
    tag="Events",
    answers=(EventList,),
    example=Example(answer=_EXAMPLE),
)
LIST_OF_FLOW = Operation(
    summary="What has happened to a flow lately",
    description="Oldest first; the last 100.",
    tag="Events",
    answers=(EventList,),
    problems=(404,),
    example=Example(answer=_EXAMPLE),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/events", operation=LIST)
    def list_events() -> HTTPResponse:
        return json_response(EventList(services.board.events()))

    @app.get("/flows/<flow_id>/events", operation=LIST_OF_FLOW)
    def list_flow_events(flow_id: str) -> HTTPResponse:
        if services.store.get(flow_id) is None and services.board.get(flow_id) is None:
            raise NotFoundError(flow_id)
        return json_response(EventList(services.board.events([flow_id])))
