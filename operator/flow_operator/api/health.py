"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import problem
from flow_operator.api.http import json_response

if TYPE_CHECKING:
    from flow_operator.api.app import Services


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/livez")
    def live() -> HTTPResponse:
        return json_response({"status": "ok"})

    @app.get("/readyz")
    def ready() -> HTTPResponse:
        if services.ready():
            return json_response({"status": "ok"})
        return problem(503, "the operator is still taking back its flows")
