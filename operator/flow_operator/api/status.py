"""``/flows/status``: what is observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import problem
from flow_operator.api.http import etag_of, tagged_response
from flow_operator.api.lists import PAGES, page, selected_fields, selected_labels
from flow_operator.api.operation import Example, Operation
from flow_operator.api.statuses import Statuses, status_of
from flow_operator.errors import NotFoundError
from flow_operator.model.status import FlowStatus

if TYPE_CHECKING:
    from flow_operator.api.app import Services

_EXAMPLE: dict[str, Any] = {
    "flow_id": "orders",
    "uid": "0b51b8f1a2c34f0c8f0f5e0d6c1a9e77",
    "status": "running",
    "desired": "running",
    "generation": 1,
    "observedGeneration": 1,
    "restarts": 0,
    "replicas": 1,
    "readyReplicas": 1,
    "startedAt": "2026-01-31T08:00:00Z",
    "message": "",
    "source": {"kind": "api", "file": None, "error": None},
    "conditions": [],
    "steps": [],
    "limitsEnforced": None,
    "labels": {"team": "payments"},
}

LIST = Operation(
    summary="The status of all flows",
    description="An object keyed by flow_id, in its order; with those that are deleted and still "
    "stop. Figures of steps are at most two seconds old.",
    tag="Status",
    answers=(dict[str, FlowStatus],),
    query=PAGES,
    headers=("ETag", "Link"),
    asks=("If-None-Match",),
    example=Example(answer={"orders": _EXAMPLE}),
)
READ = Operation(
    summary="The status of a flow",
    tag="Status",
    answers=(FlowStatus,),
    headers=("ETag",),
    asks=("If-None-Match",),
    problems=(404,),
    example=Example(answer=_EXAMPLE),
)


def add_routes(app: Bottle, services: Services, statuses: Statuses) -> None:
    """Add this resource's routes."""

    @app.route("/flows/status", method=["POST", "PUT", "DELETE", "PATCH", "ANY"])
    def only_get() -> HTTPResponse:
        return problem(405, "this route answers GET", Allow="GET")

    @app.get("/flows/status", operation=LIST)
    def list_statuses() -> HTTPResponse:
        labels, fields = selected_labels(), selected_fields()
        snapshot = statuses.now()
        found = [
            entry
            for entry in snapshot.told
            if (labels is None or labels.labels(entry.status.labels))
            and (fields is None or fields.fields(entry.status))
        ]
        part, link = page(found, lambda entry: entry.status.flow_id)
        if len(part) == len(snapshot.told):
            return tagged_response(snapshot.whole(), snapshot.etag)
        body = b"{%b}" % b",".join([entry.keyed for entry in part])
        return tagged_response(body, etag_of(body), **link)

    @app.get("/flows/status/<flow_id>", operation=READ)
    def get_status(flow_id: str) -> HTTPResponse:
        status = status_of(services, flow_id)
        if status is None:
            raise NotFoundError(flow_id)
        body = msgspec.json.encode(services.figures.added([status])[0])
        return tagged_response(body, etag_of(body))
