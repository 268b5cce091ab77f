"""``/metrics``: for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request

from flow_operator.api.operation import TEXT, Operation

if TYPE_CHECKING:
    from flow_operator.api.app import Services


READ = Operation(
    summary="Metrics for Prometheus",
    description="As OpenMetrics where `Accept` asks for it, else as Prometheus' text. It answers "
    "while flows are still being taken back, and while the shim is away.",
    tag="Operator",
    media=(TEXT, "application/openmetrics-text"),
    answers=({"type": "string"},),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/metrics", operation=READ)
    def get_metrics() -> HTTPResponse:
        body, kind = services.scrape(request.environ.get("HTTP_ACCEPT", ""))
        return HTTPResponse(body, 200, **{"Content-Type": kind, "Cache-Control": "no-store"})
