"""What can be watched, statuses and events, and how it is asked for: ``?watch=1``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from bottle import HTTPResponse, request
from msgspec import Struct

from flow_operator.api.frames import NDJSON, Format, Frames, Kind, accepted
from flow_operator.api.lists import CONTINUE, LIMIT
from flow_operator.api.parameters import Flag, Number, Parameter
from flow_operator.api.stream import set_stream
from flow_operator.api.watch import Watch, Watched
from flow_operator.board import Board, Change
from flow_operator.figures import Figures
from flow_operator.model.status import Event, FlowStatus

if TYPE_CHECKING:
    from flow_operator.api.app import Services

Matches = Callable[[FlowStatus], bool]

WATCH = Flag(
    "watch",
    "Answer with a stream of changes, first with what is there: as server-sent events if Accept "
    "names `text/event-stream`, else as NDJSON.",
)
SINCE = Parameter(
    "resourceVersion",
    "Of a watch: only what came after it; of a message, or of a list's header `Resource-Version`. "
    "410 if that is not known any more. The header `Last-Event-ID` stands over it.",
)
TIMEOUT = Number("timeout", "Of a watch: seconds after which it ends.", None, 1, 86_400)

WATCHING = (WATCH, SINCE, TIMEOUT)
VERSION = "Resource-Version"


class Message(Struct, frozen=True, rename={"resource_version": "resourceVersion"}):
    """One message of a watch.

    Attributes:
        type: ADDED, MODIFIED and DELETED tell of the object; a BOOKMARK only of the version; after
            an ERROR, of which the object is a Problem, the watch is over.
        resource_version: from where a watch can go on after this message; empty before the first
            bookmark: from nowhere.
        object: a status or an event as the list has it; of a flow whose events are all gone, its
            `flow_id` alone.
    """

    type: Kind
    resource_version: str
    object: dict[str, Any]


class FlowGone(Struct, frozen=True):
    """A flow is gone for good, and its events with it."""

    flow_id: str


def watched_instead(services: Services, watched: Callable[[], Watched]) -> HTTPResponse | None:
    """The answer to a request that asks for a watch; None if it asks for a list.

    Raises:
        GoneError: the watch cannot go on from where it was.
        InvalidError: what was asked for does not go together, or is no version at all.
    """
    watches = WATCH.given()
    for parameter in (LIMIT, CONTINUE) if watches else (SINCE, TIMEOUT):
        if parameter.name in request.query:
            raise parameter.fault(
                "not for a watch; leave it out" if watches else "only for a watch: watch=1"
            )
    if not watches:
        return None
    form, lasts = accepted(request.environ.get("HTTP_ACCEPT", "")) or NDJSON, TIMEOUT.read()
    set_stream(
        request.environ,
        Watch(
            services.board.changes,
            watched(),
            form,
            request.environ.get("HTTP_LAST_EVENT_ID") or SINCE.text(),
            services.clock,
            math.inf if lasts is None else services.clock.monotonic() + lasts,
        ),
    )
    return stream_response(form)


def stream_response(form: Format) -> HTTPResponse:
    """The head of a stream; no proxy may keep it back."""
    headers = {"Cache-Control": "no-cache", "Vary": "Accept", "X-Accel-Buffering": "no"}
    return HTTPResponse(b"", **{"Content-Type": form.content_type, **headers})


def version_of(board: Board, revision: int) -> str:
    """From where a watch goes on from a list that is of a revision, or newer."""
    return f"{board.epoch}-{revision}"


def statuses_watched(
    board: Board, figures: Figures
) -> Callable[[str | None, Matches | None], Watched]:
    """Gives watches of the statuses of one flow or all, of those that match.

    A status that begins to match is told as added, one that ceases to as deleted, with what it was.
    """

    def told(change: Change, kind: Kind) -> FlowStatus | None:
        status = change.before if kind == "DELETED" else change.after
        return None if status is None else figures.known(status)

    frames = Frames(board.epoch, told)

    def watched(flow_id: str | None, matches: Matches | None) -> Watched:
        def wanted(status: FlowStatus | None) -> bool:
            return (
                status is not None
                and flow_id in (None, status.flow_id)
                and (matches is None or matches(status))
            )

        def listed() -> tuple[int, Iterable[FlowStatus]]:
            revision, present = board.statuses_at()
            chosen = sorted(filter(wanted, present), key=lambda status: status.flow_id)
            return revision, map(figures.known, chosen)

        return Watched(frames, partial(_of_status, wanted), listed)

    return watched


def _of_status(wanted: Callable[[FlowStatus | None], bool], change: Change) -> Kind | None:
    before, after = wanted(change.before), wanted(change.after)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else None


def events_watched(board: Board) -> Callable[[str | None], Watched]:
    """Gives watches of the events of one flow or all.

    One that counts up is told as modified; that a flow is gone, and its events with it, as deleted.
    """

    def told(change: Change, _kind: Kind) -> Any:
        return change.event or FlowGone(change.flow_id)

    frames = Frames(board.epoch, told)

    def watched(flow_id: str | None) -> Watched:
        def listed() -> tuple[int, Iterable[Event]]:
            return board.events_at(None if flow_id is None else [flow_id])

        return Watched(frames, partial(_of_event, flow_id), listed)

    return watched


def _of_event(flow_id: str | None, change: Change) -> Kind | None:
    if flow_id not in (None, change.flow_id):
        return None
    if change.event is not None:
        return "ADDED" if change.event.count == 1 else "MODIFIED"
    return "DELETED" if change.gone else None
