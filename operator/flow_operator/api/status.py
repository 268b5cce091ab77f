"""``/flows/status``: what is observed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import problem
from flow_operator.api.http import json_response
from flow_operator.errors import NotFoundError
from flow_operator.figures import MAX_AGE
from flow_operator.model.status import FlowStatus, Source
from flow_operator.store import StoredFlow

if TYPE_CHECKING:
    from flow_operator.api.app import Services


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    whole = _WholeStatus(services)

    @app.route("/flows/status", method=["POST", "PUT", "DELETE", "PATCH", "ANY"])
    def only_get() -> HTTPResponse:
        return problem(405, "this route answers GET", Allow="GET")

    @app.get("/flows/status")
    def all_statuses() -> HTTPResponse:
        return json_response(whole.encoded())

    @app.get("/flows/status/<flow_id>")
    def one_status(flow_id: str) -> HTTPResponse:
        status = status_of(services, flow_id)
        if status is None:
            raise NotFoundError(flow_id)
        return json_response(services.figures.added([status])[0])


class _WholeStatus:
    """The status of all flows, encoded once per change (or once per sample of the figures)."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._key: tuple[int, int] = (-1, -1)
        self._encoded = b""
        self._sampled = 0.0

    def encoded(self) -> bytes:
        services = self._services
        with self._lock:
            now = time.monotonic()
            key = (services.board.version, services.store.version)
            if key != self._key or now - self._sampled > MAX_AGE:
                statuses = dict(services.board.all())
                for record in services.store.flows():
                    if record.flow_id not in statuses:
                        statuses[record.flow_id] = _pending(record)
                listed = services.figures.added(statuses[key] for key in sorted(statuses))
                self._encoded = msgspec.json.encode({s.flow_id: s for s in listed})
                self._key, self._sampled = key, now
            return self._encoded


def status_of(services: Services, flow_id: str) -> FlowStatus | None:
    """The observed status; ``pending`` for a flow that nobody has looked at yet."""
    status = services.board.get(flow_id)
    if status is not None:
        return status
    record = services.store.get(flow_id)
    return _pending(record) if record is not None else None


def _pending(record: StoredFlow) -> FlowStatus:
    file = record.origin.file
    return FlowStatus(
        flow_id=record.flow_id,
        uid=record.uid,
        status="pending",
        desired=record.flow.spec.state,
        generation=record.generation,
        observed_generation=0,
        restarts=0,
        replicas=record.flow.spec.replicas,
        ready_replicas=0,
        started_at=None,
        message="not yet looked at",
        source=Source("file" if file else "api", file),
        conditions=(),
        steps=(),
    )
