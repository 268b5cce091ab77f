"""``/flows/status``: what is observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import problem
from flow_operator.api.frames import STREAMED
from flow_operator.api.http import etag_of, tagged_response
from flow_operator.api.lists import PAGES, page, selection, whole
from flow_operator.api.operation import JSON, Example, Operation
from flow_operator.api.statuses import Statuses, status_of
from flow_operator.api.watching import (
    VERSION,
    WATCHING,
    Matches,
    Message,
    statuses_watched,
    version_of,
    watched_instead,
)
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
    media=(JSON, *STREAMED),
    streams=Message,
    query=(*PAGES, *WATCHING),
    headers=("ETag", "Link", VERSION),
    asks=("If-None-Match", "Last-Event-ID"),
    problems=(410, 503),
    example=Example(answer={"orders": _EXAMPLE}),
)
READ = Operation(
    summary="The status of a flow",
    tag="Status",
    answers=(FlowStatus,),
    media=(JSON, *STREAMED),
    streams=Message,
    query=WATCHING,
    headers=("ETag", VERSION),
    asks=("If-None-Match", "Last-Event-ID"),
    problems=(404, 410, 503),
    example=Example(answer=_EXAMPLE),
)


def add_routes(app: Bottle, services: Services, statuses: Statuses) -> None:
    """Add this resource's routes."""
    watched = statuses_watched(services.board, services.figures)

    @app.route("/flows/status", method=["POST", "PUT", "DELETE", "PATCH", "ANY"])
    def only_get() -> HTTPResponse:
        return problem(405, "this route answers GET", Allow="GET")

    @app.get("/flows/status", operation=LIST)
    def list_statuses() -> HTTPResponse:
        matches = _matches()
        stream = watched_instead(services, lambda: watched(None, matches))
        if stream is not None:
            return stream
        version = version_of(services.board, services.board.changes.revision)
        if whole():
            snapshot = statuses.now()
            return tagged_response(snapshot.whole(), snapshot.etag, Resource_Version=version)
        found = [s for s in statuses.standing().values() if matches is None or matches(s)]
        part, link = page(sorted(found, key=_flow_id), _flow_id)
        body = b"{%b}" % b",".join([entry.keyed for entry in statuses.of(part)])
        return tagged_response(body, etag_of(body), **link, Resource_Version=version)

    @app.get("/flows/status/<flow_id>", operation=READ)
    def get_status(flow_id: str) -> HTTPResponse:
        version = version_of(services.board, services.board.changes.revision)
        status = status_of(services, flow_id)
        if status is None:
            raise NotFoundError(flow_id)
        stream = watched_instead(services, lambda: watched(flow_id, None))
        if stream is not None:
            return stream
        body = msgspec.json.encode(services.figures.added([status])[0])
        return tagged_response(body, etag_of(body), Resource_Version=version)


def _flow_id(status: FlowStatus) -> str:
    return status.flow_id


def _matches() -> Matches | None:
    """Whether a status is asked for; None if all are."""
    chosen = selection()
    if chosen.everything:
        return None
    return lambda status: chosen.chooses(status.labels, lambda: status)
