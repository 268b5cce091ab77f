"""``/flows``: the configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import bad_request_if_unknown
from flow_operator.api.http import (
    caller,
    dry_run,
    dry_run_response,
    if_match,
    json_body,
    json_response,
    only_query,
    query,
    query_flag,
)
from flow_operator.errors import MAX_FAULTS, Fault, InvalidError, NotFoundError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.store import Edit

if TYPE_CHECKING:
    from flow_operator.api.app import Services


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    store, desired = services.store, services.desired

    @app.get("/flows")
    def list_flows() -> HTTPResponse:
        return json_response(b"[" + b",".join(flow.body for flow in store.flows()) + b"]")

    @app.get("/flows/<flow_id>")
    def get_flow(flow_id: str) -> HTTPResponse:
        record = store.get(flow_id)
        if record is None:
            raise NotFoundError(flow_id)
        return json_response(record.body, ETag=f'"{record.version}"')

    @app.post("/flows")
    def create_flows() -> HTTPResponse:
        only_query("dryRun")
        dry = dry_run()
        edits = desired.create(_manifests(json_body()), by=caller(), dry_run=dry)
        return dry_run_response(edits, 201) if dry else _created(edits)

    @app.put("/flows/<flow_id>")
    def replace_flow(flow_id: str) -> HTTPResponse:
        only_query("force", "dryRun")
        force, dry = query_flag("force"), dry_run()
        manifest = _manifest_for(flow_id, json_body())
        try:
            edit = desired.replace(
                manifest, force=force, version=if_match(), by=caller(), dry_run=dry
            )
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        return dry_run_response([edit]) if dry else _updated(edit)

    @app.delete("/flows/<flow_id>")
    def delete_flow(flow_id: str) -> HTTPResponse:
        only_query("type", "force", "dryRun")
        hard, dry = query("type", ("0", "1"), "0") == "1", dry_run()
        force = query_flag("force")
        try:
            edit = desired.delete(
                flow_id, hard=hard, force=force, version=if_match(), by=caller(), dry_run=dry
            )
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        deleted = {"status": "Flow deleted", "flow_id": flow_id}
        return dry_run_response([edit]) if dry else json_response(deleted)


def _created(edits: list[Edit]) -> HTTPResponse:
    details = [{"flow_id": edit.after.flow_id, "status": "pending"} for edit in edits]
    return json_response({"status": "Flows created", "details": details}, 201)


def _updated(edit: Edit) -> HTTPResponse:
    body = {
        "status": "Flow updated",
        "flow_id": edit.after.flow_id,
        "generation": edit.after.generation,
        "change": edit.change,
    }
    return json_response(body, ETag=f'"{edit.after.version}"')


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
        said = f"the body names '{manifest.flow.flow_id}', the path '{flow_id}'"
        raise InvalidError([Fault(said, pointer)])
    return manifest
