"""``/manifests``: the watched folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse

from flow_operator.api.http import json_response

if TYPE_CHECKING:
    from flow_operator.api.app import Services


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/manifests")
    def describe_folder() -> HTTPResponse:
        return json_response(services.folder())

    @app.post("/manifests/prune")
    def confirm_prune() -> HTTPResponse:
        return json_response({"status": "Pruned", "flows": services.prune()})
