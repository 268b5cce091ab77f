"""``/events``: what has happened lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse

from flow_operator.api.http import json_response
from flow_operator.errors import NotFoundError

if TYPE_CHECKING:
    from flow_operator.api.app import Services


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/events")
    def all_events() -> HTTPResponse:
        return json_response({"events": services.board.events()})

    @app.get("/flows/<flow_id>/events")
    def flow_events(flow_id: str) -> HTTPResponse:
        if services.store.get(flow_id) is None and services.board.get(flow_id) is None:
            raise NotFoundError(flow_id)
        return json_response({"events": services.board.events([flow_id])})
