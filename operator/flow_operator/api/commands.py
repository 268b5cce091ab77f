"""``/flows/commands``: start, stop, pause, resume, restart."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from bottle import Bottle, HTTPResponse
from msgspec import Meta, Struct

from flow_operator.api.errors import problem
from flow_operator.api.http import (
    DryRun,
    body_as,
    caller,
    dry_run_response,
    json_body,
    json_response,
)
from flow_operator.api.lists import FIELDS, LABELS, selection
from flow_operator.api.operation import Example, Operation
from flow_operator.api.parameters import DRY_RUN, Number, dry_run
from flow_operator.api.statuses import status_of
from flow_operator.errors import Fault, InvalidError, clipped
from flow_operator.manifest import escape
from flow_operator.model.status import TERMINAL, Phase
from flow_operator.store import StoredFlow
from flow_operator.structs import prepared
from flow_operator.workqueue import FEW

if TYPE_CHECKING:
    from flow_operator.api.app import Services

TIMEOUT = Number(
    "timeout",
    "Seconds to wait for the states to be reached; 0 does not wait.",
    *(None, 0, 600, False, 10),
)

MAX_WAITING = 32
"""Commands that wait at once; further ones answer at once with what is observed then."""

_REST = 0.01
"""Seconds between two changes that a command of many flows looks at: their statuses change some
thousands of times a second, and an answer that is as much later is late for nobody."""

_DONE = {
    "start": "Flows started",
    "stop": "Flows stopped",
    "pause": "Flows paused",
    "resume": "Flows resumed",
    "restart": "Flows restarted",
}


@prepared
class CommandRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a command.

    Attributes:
        command: what to do.
        flow_ids: left out means all flows, or those that the selectors of the URL choose.
        type: of a stop: 0 soft, 1 hard.
    """

    command: Literal["start", "stop", "pause", "resume", "restart"]
    flow_ids: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    type: Literal[0, 1] | None = None


class FlowObserved(Struct, frozen=True):
    """What a flow was seen to be when the wait ended."""

    flow_id: str
    status: Phase


class Commanded(Struct, frozen=True):
    """The desired state was edited, durably; each flow is told as it was observed."""

    status: str
    details: tuple[FlowObserved, ...]


COMMAND = Operation(
    summary="Command flows",
    description="Edits the desired state, all or none, in one durable transaction; then waits for "
    "the states to be reached and tells what is observed. `flow_ids` left out means all flows, or "
    "those that the selectors choose, which may be none; an empty array is refused. `start` and "
    "`resume` both mean: desired running.",
    tag="Flows",
    body=CommandRequest,
    answers=(Commanded, DryRun),
    query=(TIMEOUT, LABELS, FIELDS, DRY_RUN),
    example=Example(
        query={"timeout": "0"},
        body={"command": "pause", "flow_ids": ["orders"]},
        answer={
            "status": "Flows paused",
            "details": [{"flow_id": "orders", "status": "running"}],
        },
    ),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    waiting = threading.BoundedSemaphore(MAX_WAITING)

    @app.route("/flows/commands", method=["GET", "POST", "PUT", "DELETE", "ANY"])
    def only_patch() -> HTTPResponse:
        return problem(405, "this route answers PATCH", Allow="PATCH")

    @app.route("/flows/commands", method="PATCH", operation=COMMAND)
    def command_flows() -> HTTPResponse:
        dry, timeout = dry_run(), TIMEOUT.read()
        chosen = _chosen(services)
        asked = _request(json_body())
        if chosen is not None and asked.flow_ids is not None:
            said = "name flows by flow_ids or by a selector, not by both"
            raise InvalidError([Fault(said, "/flow_ids")])
        ended = frozenset(
            flow_id for flow_id, status in services.board.all().items() if status.status in TERMINAL
        )
        edits = services.desired.command(
            asked.command,
            asked.flow_ids,
            chosen=chosen,
            hard=asked.type == 1,
            ended=ended,
            by=caller(),
            dry_run=dry,
        )
        if dry:
            return dry_run_response(edits)
        flow_ids = [edit.after.flow_id for edit in edits]
        if timeout and waiting.acquire(blocking=False):
            try:
                _wait(services, flow_ids, timeout)
            finally:
                waiting.release()
        details = tuple(FlowObserved(name, _observed(services, name)) for name in flow_ids)
        return json_response(Commanded(_DONE[asked.command], details))


def _chosen(services: Services) -> Callable[[StoredFlow], bool] | None:
    """Which flows a selector means; None where there is none.

    Raises:
        InvalidError: it cannot be read.
    """
    chosen = selection()
    if chosen.everything:
        return None
    return lambda record: chosen.chooses(
        record.flow.metadata.labels, lambda: status_of(services, record.flow_id)
    )


def _request(body: object) -> CommandRequest:
    """Check a command.

    Raises:
        InvalidError: telling what is wrong with it.
    """
    if isinstance(body, dict) and body.get("flow_ids") == []:
        said = "the array is empty; leave flow_ids out to command all flows"
        raise InvalidError([Fault(said, "/flow_ids")])
    if isinstance(body, dict) and body.get("flow_ids", ()) is None:
        raise InvalidError([Fault("must be an array of ids; leave it out for all", "/flow_ids")])
    if isinstance(body, dict) and isinstance(body.get("command"), str):
        command = body["command"]
        if command not in _DONE:
            said = f"unknown command '{clipped(command)}': use one of {', '.join(_DONE)}"
            raise InvalidError([Fault(said, "/command")])
    if isinstance(body, dict) and isinstance(body.get("type"), bool):
        raise InvalidError([Fault("must be 0 (soft) or 1 (hard)", "/type")])
    known = CommandRequest.__struct_fields__
    unknown = [key for key in body if key not in known] if isinstance(body, dict) else []
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        said = f"unknown key '{clipped(unknown[0])}'; {hint}"
        raise InvalidError([Fault(said, f"/{escape(clipped(unknown[0]))}")])
    asked = body_as(CommandRequest, body, '{"command": "stop", "flow_ids": ["NAME"], "type": 0}')
    if asked.type is not None and asked.command != "stop":
        raise InvalidError([Fault(f"'{asked.command}' takes no type; only stop does", "/type")])
    return asked


def _wait(services: Services, flow_ids: list[str], timeout: float) -> None:
    """Until every flow is where it was told to go, or time is up, or the server ends."""
    wanted = {
        record.flow_id: (record.uid, record.generation)
        for record in map(services.store.get, flow_ids)
        if record is not None
    }
    left = list(wanted)

    def settled(flow_id: str) -> bool:
        status = services.board.get(flow_id)
        if status is None or services.store.get(flow_id) is None:
            return services.store.get(flow_id) is None
        uid, generation = wanted[flow_id]
        return status.uid == uid and status.generation >= generation and status.settled

    def reached() -> bool:
        # From the end, and no further than the first that is not: this is asked at each change of
        # any status, and asking all flows each time would cost the square of their number.
        while left and settled(left[-1]):
            left.pop()
        return not left or services.closing.is_set()

    services.board.wait(reached, timeout, _REST if len(wanted) > FEW else 0.0)


def _observed(services: Services, flow_id: str) -> Phase:
    status = status_of(services, flow_id)
    return status.status if status is not None else "stopped"
