"""``/flows/<id>/history`` and ``/flows/<id>/rollback``: what a flow was, and making it so again."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from bottle import Bottle, HTTPResponse
from msgspec import Meta, Struct

from flow_operator.api.errors import problem
from flow_operator.api.http import (
    DryRun,
    body_as,
    caller,
    dry_run_response,
    if_match,
    json_body,
    json_response,
)
from flow_operator.api.operation import CONFIGURATION, Example, Operation
from flow_operator.api.parameters import DRY_RUN, FORCE, dry_run
from flow_operator.errors import NotFoundError
from flow_operator.manifest import dump_yaml
from flow_operator.model.status import Change
from flow_operator.store import Edit, StoredFlow
from flow_operator.structs import prepared

if TYPE_CHECKING:
    from flow_operator.api.app import Services

TOLD = 10
"""Generations; one more is kept, which the oldest of them is compared with."""


@prepared
class RollbackRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a rollback.

    Attributes:
        generation: left out means the last one that differs from the present one.
    """

    generation: Annotated[int, Meta(ge=1)] | None = None


class Generation(Struct, frozen=True):
    """One generation of a flow's configuration.

    Attributes:
        at: RFC 3339; when it was made.
        by: who made it: `api:ADDRESS`, `file:NAME` or `operator`.
        action: `create`, `replace`, `rollback` or a command.
        change: what it did to processes, as it looked before it was written; null if nobody looked.
        diff: a unified diff of the YAML from the generation before; null if that is not kept.
    """

    generation: int
    at: str | None
    by: str | None
    action: str | None
    change: Change | None
    diff: str | None


class HistoryList(Struct, frozen=True):
    """The last ten generations of a flow, newest first."""

    flow_id: str
    history: list[Generation]


class RolledBack(Struct, frozen=True, kw_only=True):
    """An earlier configuration is the present one again.

    Attributes:
        to: the generation that it is again.
        generation: the new one.
        change: what that does to the flow's processes.
    """

    status: str = "Flow rolled back"
    flow_id: str
    to: int
    generation: int
    change: Change


LIST = Operation(
    summary="What a flow was",
    description="The last ten generations, newest first.",
    tag="History",
    answers=(HistoryList,),
    problems=(404,),
    example=Example(
        answer={
            "flow_id": "orders",
            "history": [
                {
                    "generation": 1,
                    "at": "2026-01-31T08:00:00Z",
                    "by": "api:127.0.0.1",
                    "action": "create",
                    "change": "start",
                    "diff": "--- generation 0\n+++ generation 1\n@@ -0,0 +1,2 @@\n…",
                }
            ],
        }
    ),
)
READ = Operation(
    summary="A configuration as it was then",
    tag="History",
    answers=(CONFIGURATION,),
    problems=(404,),
)
ROLLBACK = Operation(
    summary="Make an earlier configuration the present one",
    description="As a new generation, `spec.state` included. 400 if that generation is not kept.",
    tag="History",
    body=RollbackRequest,
    answers=(RolledBack, DryRun),
    query=(FORCE, DRY_RUN),
    headers=("ETag",),
    asks=("If-Match",),
    problems=(404, 409, 412),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    store, desired = services.store, services.desired

    def kept(flow_id: str) -> list[StoredFlow]:
        found = store.history(flow_id)
        if not found:
            raise NotFoundError(flow_id)
        return found

    @app.get("/flows/<flow_id>/history", operation=LIST)
    def list_generations(flow_id: str) -> HTTPResponse:
        return json_response(HistoryList(flow_id, _told(kept(flow_id))))

    @app.get("/flows/<flow_id>/history/<generation:int>", operation=READ)
    def get_generation(flow_id: str, generation: int) -> HTTPResponse:
        records = kept(flow_id)[:TOLD]
        for record in records:
            if record.generation == generation:
                return json_response(record.body)
        there = ", ".join(str(record.generation) for record in records)
        said = f"generation {generation} of '{flow_id}' is not kept; these are: {there}"
        return problem(404, said)

    @app.post("/flows/<flow_id>/rollback", operation=ROLLBACK)
    def roll_back(flow_id: str) -> HTTPResponse:
        force, dry = FORCE.given(), dry_run()
        asked = body_as(RollbackRequest, json_body(), '{"generation": N} or {}')
        edit, to = desired.rollback(
            flow_id, asked.generation, force=force, version=if_match(), by=caller(), dry_run=dry
        )
        return dry_run_response([edit]) if dry else _rolled_back(edit, to)


def _rolled_back(edit: Edit, to: int) -> HTTPResponse:
    told = RolledBack(
        flow_id=edit.after.flow_id, to=to, generation=edit.after.generation, change=edit.change
    )
    return json_response(told, ETag=f'"{edit.after.version}"')


def _told(records: Sequence[StoredFlow]) -> list[Generation]:
    """Each generation beside the one before it, of which the oldest one is not told itself."""
    texts = [dump_yaml([record.document()]) for record in records]
    told = []
    for index, record in enumerate(records[:TOLD]):
        previous = records[index + 1] if index + 1 < len(records) else None
        text_before = texts[index + 1] if previous else ""
        # Without the generation before it, only the first one has a difference: all of it.
        known = previous is not None or record.generation == 1
        made = record.made
        told.append(
            Generation(
                generation=record.generation,
                at=made.at if made else None,
                by=made.by if made else None,
                action=made.action if made else None,
                change=made.change if made else None,
                diff=_diff(text_before, texts[index], record.generation) if known else None,
            )
        )
    return told


def _diff(old: str, new: str, generation: int) -> str:
    """A unified diff of the YAML."""
    lines = (old.splitlines(keepends=True), new.splitlines(keepends=True))
    names = (f"generation {generation - 1}", f"generation {generation}")
    return "".join(difflib.unified_diff(*lines, *names))
