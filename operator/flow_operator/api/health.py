"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse
from msgspec import Struct

from flow_operator.api.errors import problem
from flow_operator.api.http import json_response
from flow_operator.api.operation import Example, Operation

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class Health(Struct, frozen=True):
    """It is well."""

    status: str = "ok"


LIVE = Operation(
    summary="Whether the operator answers",
    tag="Operator",
    answers=(Health,),
    example=Example(answer={"status": "ok"}),
)
READY = Operation(
    summary="Whether every flow is looked after",
    description="503 while flows that ran before a start are still being taken back: from then on, "
    "their statuses are what was observed.",
    tag="Operator",
    answers=(Health,),
    problems=(503,),
    example=Example(answer={"status": "ok"}),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/livez", operation=LIVE)
    def get_live() -> HTTPResponse:
        return json_response(Health())

    @app.get("/readyz", operation=READY)
    def get_ready() -> HTTPResponse:
        if services.ready():
            return json_response(Health())
        return problem(503, "the operator is still taking back its flows")
