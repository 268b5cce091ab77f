"""``/flows/<flow_id>/logs``: what steps print."""

from __future__ import annotations

import datetime as dt
import heapq
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request

from flow_operator.api.frames import STREAMED, Format, accepted
from flow_operator.api.log_lines import Ids, Log, LogLine, LogLines
from flow_operator.api.operation import TEXT, Example, Operation
from flow_operator.api.parameters import Flag, Number, Parameter
from flow_operator.api.stream import set_stream
from flow_operator.api.watching import stream_response
from flow_operator.clock import rfc3339
from flow_operator.errors import InvalidError, NotFoundError
from flow_operator.logs import Stream
from flow_operator.logs.lines import Line, Lines, since, tail
from flow_operator.model.units import Duration

if TYPE_CHECKING:
    from flow_operator.api.app import Services

_POLL = 0.2
"""Seconds between two looks at a log that is followed."""

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


STEP = Parameter("step", "Only what this step prints.", example="read")
REPLICA = Number("replica", "Only what this replica prints.", None, 0, 999)
TAIL = Number("tail", "Only the last lines of each step, this many.", None, 0, 1_000_000)
SINCE = Parameter(
    "since",
    "Only what was printed since then: a duration before now like `10m`, or a time as RFC 3339 "
    "writes it.",
    example="10m",
)
TIMESTAMPS = Flag("timestamps", "With the second of each line before it.")
FOLLOW = Flag("follow", "Go on with what is printed from now on.")

READ = Operation(
    summary="What a flow prints",
    description="Lines of text, oldest first: stderr of each step, and stdout of the last one. "
    "Where lines come from several steps or replicas, `[step/replica]` stands before each. "
    "With `follow` also as objects, if Accept names `text/event-stream` or `application/x-ndjson`; "
    "a stream goes on after the line whose id is in `Last-Event-ID`.",
    tag="Logs",
    media=(TEXT, *STREAMED),
    streams=LogLine,
    answers=({"type": "string"},),
    query=(STEP, REPLICA, TAIL, SINCE, TIMESTAMPS, FOLLOW),
    asks=("Last-Event-ID",),
    problems=(404, 410, 503),
    example=Example(query={"tail": "2"}, answer="a line\nanother one\n"),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/flows/<flow_id>/logs", operation=READ)
    def get_logs(flow_id: str) -> HTTPResponse:
        timestamps, follow = TIMESTAMPS.given(), FOLLOW.given()
        uid, logs = _logs(services, flow_id)
        positions = _begins(services, logs)
        form = accepted(request.environ.get("HTTP_ACCEPT", ""))
        if follow and form is not None:
            ids = Ids(flow_id, uid, logs)
            return _follow_objects(services, ids, positions, form)
        clock = services.clock if timestamps or (len(logs) > 1 and not follow) else None
        told = [
            _Log(label, Lines(log.stream, position, clock), timestamps)
            for label, log, position in zip(_labels(logs), logs, positions, strict=True)
        ]
        source = _Followed(_added(told), services.closing) if follow else _Printed(told)
        set_stream(request.environ, source)
        return HTTPResponse(b"", **_TEXT)


def _follow_objects(
    services: Services, ids: Ids, positions: list[int], form: Format
) -> HTTPResponse:
    last = request.environ.get("HTTP_LAST_EVENT_ID")
    lines = LogLines(ids, ids.read(last) if last else positions, services.clock, form)
    set_stream(request.environ, _Followed(lines.pieces(), services.closing, lines.heartbeat))
    return stream_response(form)


def _since(services: Services, text: str | None) -> int | None:
    """The second that ``since`` means: an RFC 3339 time, or so long ago.

    Raises:
        InvalidError: it is neither.
    """
    if text is None:
        return None
    try:
        if text[:1].isdigit() and "-" in text:
            moment = dt.datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return int(moment.timestamp())
        else:
            return int(services.clock.wall() - Duration.parse(text).seconds)
    except (ValueError, OverflowError):
        pass
    raise InvalidError(
        f"since: {text!r} is neither a duration like 10m nor a time like 2026-01-31T08:00:00Z"
    )


def _begins(services: Services, logs: list[Log]) -> list[int]:
    """The position of the first line that is asked for of each log."""
    last, second = TAIL.read(), _since(services, SINCE.text())
    return [_begin(log.stream, last, second) for log in logs]


def _begin(stream: Stream, last: float | None, second: int | None) -> int:
    position = stream.first() if last is None else tail(stream, int(last))
    return position if second is None else max(position, since(stream, second))


def _logs(services: Services, flow_id: str) -> tuple[str, list[Log]]:
    """The uid of the flow, and the logs asked for, in the order of the steps.

    A step that was never started has none yet, and gets one to wait for.

    Raises:
        NotFoundError: no such flow.
        InvalidError: no such step or replica.
    """
    record = services.store.get(flow_id)
    if record is None:
        raise NotFoundError(flow_id)
    spec = record.flow.spec
    steps = [step.name for step in spec.steps]
    step = STEP.text()
    if step is not None and step not in steps:
        raise InvalidError(f"'{flow_id}' has no step '{step}'; it has {', '.join(steps)}")
    replica = REPLICA.read()
    if replica is not None and replica >= spec.replicas:
        raise InvalidError(
            f"'{flow_id}' has no replica '{replica:g}'; they go from 0 to {spec.replicas - 1}"
        )
    wanted = [step] if step else steps
    replicas = list(range(spec.replicas)) if replica is None else [int(replica)]
    return record.uid, [
        Log(name, number, services.logs.stream(flow_id, number, name))
        for number in replicas
        for name in wanted
    ]


def _labels(logs: list[Log]) -> list[bytes]:
    """What stands before each line of a log where lines come from several."""
    steps = len({log.step for log in logs}) > 1
    replicas = len({log.replica for log in logs}) > 1
    labels = []
    for log in logs:
        parts = [*([log.step] if steps else []), *([str(log.replica)] if replicas else [])]
        labels.append(f"[{'/'.join(parts)}] ".encode() if parts else b"")
    return labels


class _Log:
    """One log of an answer."""

    def __init__(self, label: bytes, lines: Lines, timestamps: bool) -> None:  # noqa: FBT001
        self._label = label
        self._lines = lines
        self._timestamps = timestamps

    def added(self) -> Iterator[list[Line]]:
        """What was added since the last call."""
        return self._lines.read()

    def all(self) -> Iterator[tuple[Line, _Log]]:
        """Everything up to now, also a last line without an end; each line with this log."""
        for lines in self._lines.read():
            yield from ((line, self) for line in lines)
        yield from ((line, self) for line in self._lines.finish())

    def encoded(self, line: Line) -> bytes:
        """A line as it is sent."""
        when = f"{rfc3339(line.second, 'seconds')} ".encode() if self._timestamps else b""
        return b"%b%b%b\n" % (self._label, when, line.text)


_PIECE = 64 * 1024
"""Bytes from which on lines are sent."""


class _Printed:
    """What has been printed up to now: however slowly it is read, no thread waits for that."""

    period = None
    ends_at = math.inf
    heartbeat = b""

    def __init__(self, logs: list[_Log]) -> None:
        self._pieces = _merged(logs)

    def take(self) -> bytes | None:
        """The next lines; None after the last ones."""
        return next(self._pieces, None)

    def close(self) -> None:
        """Nothing is held."""


def _merged(logs: list[_Log]) -> Iterator[bytes]:
    """All lines in the order of their seconds; those of one second by step."""
    piece = bytearray()
    for line, log in heapq.merge(*(log.all() for log in logs), key=lambda entry: entry[0].second):
        piece += log.encoded(line)
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _added(logs: list[_Log]) -> Iterator[bytes]:
    """What is printed from now on; an empty piece where nothing is new."""
    while True:
        for log in logs:
            for lines in log.added():
                yield b"".join(map(log.encoded, lines))
        yield b""


class _Followed:
    """What is printed from now on, as a body without an end."""

    period = _POLL
    ends_at = math.inf

    def __init__(
        self, pieces: Iterator[bytes], closing: threading.Event, heartbeat: bytes = b""
    ) -> None:
        self._pieces = pieces
        self._closing = closing
        self.heartbeat = heartbeat

    def take(self) -> bytes | None:
        """What was added; None when the operator ends."""
        return None if self._closing.is_set() else next(self._pieces)

    def close(self) -> None:
        """Nothing is held."""
