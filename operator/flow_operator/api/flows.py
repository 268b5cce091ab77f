"""``/flows``: the configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import bad_request_if_unknown
from flow_operator.api.http import if_match, json_body, json_response, only_query, query, query_flag
from flow_operator.errors import MAX_FAULTS, Fault, InvalidError, NotFoundError
from flow_operator.manifest import Document, Manifest, change_kind, load_manifest

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
        only_query()
        records = desired.create(_manifests(json_body()))
        details = [{"flow_id": record.flow_id, "status": "pending"} for record in records]
        return json_response({"status": "Flows created", "details": details}, 201)

    @app.put("/flows/<flow_id>")
    def replace_flow(flow_id: str) -> HTTPResponse:
        only_query("force")
        manifest = _manifest_for(flow_id, json_body())
        try:
            old, new = desired.replace(manifest, force=query_flag("force"), version=if_match())
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        body = {
            "status": "Flow updated",
            "flow_id": flow_id,
            "generation": new.generation,
            "change": change_kind(old.flow, new.flow),
        }
        return json_response(body, ETag=f'"{new.version}"')

    @app.delete("/flows/<flow_id>")
    def delete_flow(flow_id: str) -> HTTPResponse:
        only_query("type", "force")
        hard = query("type", ("0", "1"), "0") == "1"
        try:
            desired.delete(flow_id, hard=hard, force=query_flag("force"), version=if_match())
        except NotFoundError as error:
            return bad_request_if_unknown(error)
        return json_response({"status": "Flow deleted", "flow_id": flow_id})


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
