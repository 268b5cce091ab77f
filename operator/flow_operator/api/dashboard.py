"""``/ui/``: the dashboard, which asks the API as everybody else does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse

from flow_operator.api.operation import Operation
from flow_operator.api.pages import Page

if TYPE_CHECKING:
    from flow_operator.api.app import Services

PATH = "/ui/"

PAGE = Operation(
    summary="The dashboard",
    description="It needs nothing from other machines.",
    tag="Operator",
    media=("text/html",),
    answers=({"type": "string"},),
)


def from_browser(environ: dict[str, Any]) -> bool:
    """Whether somebody has typed the address, and is to be sent on to the page."""
    return "text/html" in environ.get("HTTP_ACCEPT", "")


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    page = Page("flow_operator", "web", PATH)

    @app.get(PATH, operation=PAGE)
    def get_dashboard() -> HTTPResponse:
        return page.file("index.html")

    @app.get("/ui")
    def get_dashboard_by_name() -> HTTPResponse:
        return HTTPResponse(status=308, Location=f"{services.prefix}{PATH}")

    @app.get("/ui/<name>")
    def get_dashboard_file(name: str) -> HTTPResponse:
        return page.file(name)
