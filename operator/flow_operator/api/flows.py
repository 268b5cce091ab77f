"""``/flows``: the configurations."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from bottle import Bottle, HTTPResponse
from msgspec import Struct

from flow_operator.api.errors import bad_request_if_unknown
from flow_operator.api.http import (
    DryRun,
    caller,
    dry_run_response,
    etag_of,
    if_match,
    json_body,
    json_response,
    tagged_response,
)
from flow_operator.api.lists import PAGES, page, selection, whole
from flow_operator.api.operation import (
    CONFIGURATION,
    LISTED_CONFIGURATION,
    MANIFEST,
    NAMED_MANIFEST,
    Example,
    Operation,
    array_of,
)
from flow_operator.api.parameters import DRY_RUN, FORCE, Choice, dry_run
from flow_operator.api.statuses import Statuses, status_of
from flow_operator.errors import MAX_FAULTS, Fault, InvalidError, NotFoundError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.model.status import Change
from flow_operator.store import Edit, StoredFlow

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class FlowPending(Struct, frozen=True):
    """A flow that was just added; nobody has looked at it yet."""

    flow_id: str
    status: Literal["pending"] = "pending"


class Created(Struct, frozen=True, kw_only=True):
    """Configurations were added."""

    status: str = "Flows created"
    details: tuple[FlowPending, ...]


class Updated(Struct, frozen=True, kw_only=True):
    """A configuration was replaced.

    Attributes:
        change: what that does to the flow's processes.
    """

    status: str = "Flow updated"
    flow_id: str
    generation: int
    change: Change


class Deleted(Struct, frozen=True, kw_only=True):
    """A configuration was removed; its processes are drained or killed behind the answer."""

    status: str = "Flow deleted"
    flow_id: str


EXPAND = Choice("expand", "Adds to each configuration its `status`.", allowed=("status",))
KILL = Choice(
    "type", "0 drains what runs of the flow, 1 kills it.", allowed=("0", "1"), default="0"
)

_SPEC = {"steps": [{"name": "read", "script": "while :; do date; sleep 1; done"}]}
_DOCUMENT = {
    "metadata": {"name": "orders", "labels": {"team": "payments"}},
    "spec": _SPEC,
}
_TOLD = {"flow_id": "orders", **_DOCUMENT}
_NEW = {"flow_id": "hello", "spec": {**_SPEC, "state": "stopped"}}

LIST = Operation(
    summary="All configurations",
    description="An array, by flow_id. With `expand=status` each has its status beside it, if it "
    "is known.",
    tag="Flows",
    answers=(array_of(LISTED_CONFIGURATION),),
    query=(*PAGES, EXPAND),
    headers=("ETag", "Link"),
    asks=("If-None-Match",),
    example=Example(answer=[_TOLD]),
)
READ = Operation(
    summary="A configuration",
    tag="Flows",
    answers=(CONFIGURATION,),
    headers=("ETag",),
    asks=("If-None-Match",),
    problems=(404,),
    example=Example(answer=_TOLD),
)
CREATE = Operation(
    summary="Add configurations",
    description="All of them or none: one that is faulty, exists already or stands twice, and "
    "nothing is added; `errors` names each.",
    tag="Flows",
    status=201,
    body=array_of(NAMED_MANIFEST),
    answers=(Created, DryRun),
    query=(DRY_RUN,),
    example=Example(
        body=[_NEW],
        answer={"details": [{"flow_id": "hello", "status": "pending"}], "status": "Flows created"},
    ),
)
REPLACE = Operation(
    summary="Replace a configuration",
    description="The whole of it. An unknown flow_id is 400; 409 if a manifest file owns the flow.",
    tag="Flows",
    body=MANIFEST,
    answers=(Updated, DryRun),
    query=(FORCE, DRY_RUN),
    headers=("ETag",),
    asks=("If-Match",),
    problems=(409, 412),
    example=Example(
        body={"spec": {**_SPEC, "state": "paused"}},
        answer={
            "flow_id": "orders",
            "generation": 2,
            "change": "inPlace",
            "status": "Flow updated",
        },
    ),
)
DELETE = Operation(
    summary="Delete a configuration",
    description="It is gone at once; its status shows `stopping` until its processes are. An "
    "unknown flow_id is 400; 409 if a manifest file owns the flow.",
    tag="Flows",
    answers=(Deleted, DryRun),
    query=(KILL, FORCE, DRY_RUN),
    asks=("If-Match",),
    problems=(409, 412),
    example=Example(answer={"flow_id": "orders", "status": "Flow deleted"}),
)


def add_routes(app: Bottle, services: Services, statuses: Statuses) -> None:
    """Add this resource's routes."""
    store, desired = services.store, services.desired
    everything = _Everything(services)

    @app.get("/flows", operation=LIST)
    def list_flows() -> HTTPResponse:
        if whole():
            return tagged_response(*everything.encoded())
        part, link = page(_selected(services), lambda record: record.flow_id)
        body = _joined(part) if EXPAND.read() is None else _expanded(part, services, statuses)
        return tagged_response(body, etag_of(body), **link)

    @app.get("/flows/<flow_id>", operation=READ)
    def get_flow(flow_id: str) -> HTTPResponse:
        record = store.get(flow_id)
        if record is None:
            raise NotFoundError(flow_id)
        return tagged_response(record.body, f'"{record.version}"')

    @app.post("/flows", operation=CREATE)
    def create_flows() -> HTTPResponse:
        dry = dry_run()
        edits = desired.create(_manifests(json_body()), by=caller(), dry_run=dry)
        return dry_run_response(edits, 201) if dry else _created(edits)

    @app.put("/flows/<flow_id>", operation=REPLACE)
    def replace_flow(flow_id: str) -> HTTPResponse:
        force, dry = FORCE.given(), dry_run()
        manifest = _manifest_for(flow_id, json_body())
        try:
            edit = desired.replace(
                manifest, force=force, version=if_match(), by=caller(), dry_run=dry
            )
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        return dry_run_response([edit]) if dry else _updated(edit)

    @app.delete("/flows/<flow_id>", operation=DELETE)
    def delete_flow(flow_id: str) -> HTTPResponse:
        hard, force, dry = KILL.read() == "1", FORCE.given(), dry_run()
        try:
            edit = desired.delete(
                flow_id, hard=hard, force=force, version=if_match(), by=caller(), dry_run=dry
            )
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        return dry_run_response([edit]) if dry else json_response(Deleted(flow_id=flow_id))


class _Everything:
    """All configurations, joined once per change."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._lock = threading.Lock()
        self._version = -1
        self._encoded = (b"[]", "")

    def encoded(self) -> tuple[bytes, str]:
        """The JSON array of all, and its ETag."""
        with self._lock:
            version = self._store.version
            if version != self._version:
                body = _joined(self._store.flows())
                self._encoded = body, etag_of(body)
                self._version = version
            return self._encoded


def _joined(records: list[StoredFlow]) -> bytes:
    return b"[%b]" % b",".join([record.body for record in records])


def _selected(services: Services) -> list[StoredFlow]:
    """Those that the selectors of the request choose."""
    chosen = selection()
    return [
        record
        for record in services.store.flows()
        if chosen.chooses(record.flow.metadata.labels, partial(status_of, services, record.flow_id))
    ]


def _expanded(records: list[StoredFlow], services: Services, statuses: Statuses) -> bytes:
    standing = [status_of(services, record.flow_id) for record in records]
    told = {entry.status.flow_id: entry.body for entry in statuses.of(filter(None, standing))}
    parts = [
        b'%b,"status":%b}' % (record.body[:-1], told[record.flow_id])
        if record.flow_id in told
        else record.body
        for record in records
    ]
    return b"[%b]" % b",".join(parts)


def _created(edits: list[Edit]) -> HTTPResponse:
    details = tuple(FlowPending(edit.after.flow_id) for edit in edits)
    return json_response(Created(details=details), 201)


def _updated(edit: Edit) -> HTTPResponse:
    told = Updated(flow_id=edit.after.flow_id, generation=edit.after.generation, change=edit.change)
    return json_response(told, ETag=f'"{edit.after.version}"')


def _manifests(body: Any) -> list[Manifest]:
    """The entries of a POST; every fault of every entry is told at once.

    Raises:
        InvalidError: the body is no array, or an entry is wrong.
    """
    if not isinstance(body, list):
        raise InvalidError("the body must be a JSON array of configurations: [{...}]")
    faults: list[Fault] = []
    manifests: list[Manifest] = []
    for index, entry in enumerate(body):
        try:
            manifests.append(load_manifest(Document(entry)))
        except InvalidError as error:
            faults += (Fault(f.detail, f"/{index}{f.pointer}") for f in error.faults)
            if len(faults) > MAX_FAULTS:
                break
    if faults:
        raise InvalidError(faults)
    return manifests


def _manifest_for(flow_id: str, body: Any) -> Manifest:
    """The configuration of a PUT; the path names it, so the body need not.

    Raises:
        InvalidError: it is wrong, or names another flow.
    """
    if isinstance(body, dict):
        metadata = body.get("metadata", {})
        if "flow_id" not in body and isinstance(metadata, dict) and "name" not in metadata:
            body = {"flow_id": flow_id, **body}
    manifest = load_manifest(Document(body))
    if manifest.flow.flow_id != flow_id:
        pointer = "/flow_id" if "flow_id" in body else "/metadata/name"
        named = manifest.flow.flow_id
        said = f"the body names '{named}', the path '{flow_id}': make them agree"
        raise InvalidError([Fault(said, pointer)])
    return manifest
