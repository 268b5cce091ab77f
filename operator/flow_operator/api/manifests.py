"""``/manifests``: the watched folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request
from msgspec import Struct

from flow_operator.api.http import body_as, json_body, json_response
from flow_operator.api.operation import Example, Operation
from flow_operator.model.folder import FolderView
from flow_operator.structs import prepared

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class Pruned(Struct, frozen=True, kw_only=True):
    """A prune that was held is done.

    Attributes:
        flows: the ids of the flows that go.
    """

    status: str = "Pruned"
    flows: list[str]


@prepared
class PruneRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which flows are meant.

    Attributes:
        flows: those that `vanished` told.
    """

    flows: list[str]


READ = Operation(
    summary="The watched folder",
    description="File by file, with what is wrong with each and since when. `held` tells why the "
    "flows in `vanished`, whose files have gone, are not removed.",
    tag="Manifests",
    answers=(FolderView,),
    example=Example(
        answer={"folder": None, "watch": None, "held": None, "vanished": [], "files": []}
    ),
)
PRUNE = Operation(
    summary="Remove the flows whose files have vanished",
    description="Confirms a prune that is held. 409 if the folder cannot be read, or if others "
    "than the `flows` of the body are held by now; without a body whatever is held is meant.",
    tag="Manifests",
    body=PruneRequest,
    body_required=False,
    answers=(Pruned,),
    problems=(409,),
    example=Example(body={"flows": []}, answer={"status": "Pruned", "flows": []}),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/manifests", operation=READ)
    def get_folder() -> HTTPResponse:
        return json_response(services.folder())

    @app.post("/manifests/prune", operation=PRUNE)
    def prune() -> HTTPResponse:
        meant = None
        if request.content_length > 0:
            like = '{"flows": ["NAME", ...]}, or left out'
            meant = frozenset(body_as(PruneRequest, json_body(), like).flows)
        return json_response(Pruned(flows=services.prune(meant)))
