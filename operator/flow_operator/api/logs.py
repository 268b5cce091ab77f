"""``/flows/<flow_id>/logs``: what steps print."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse, request

from flow_operator.api.errors import problem
from flow_operator.api.http import only_query, query_flag, query_number, query_text
from flow_operator.api.stream import set_stream
from flow_operator.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from flow_operator.api.app import Services

MAX_FOLLOWERS = 32
"""Streams at once; each holds a thread of the server."""

_POLL = 0.2
"""Seconds between two looks at a file that is followed."""

_BLOCK = 64 * 1024

_LONGEST_LINE = 1024 * 1024
"""Bytes after which a line without an end is broken."""

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""
    followers = threading.BoundedSemaphore(MAX_FOLLOWERS)

    @app.get("/flows/<flow_id>/logs")
    def flow_logs(flow_id: str) -> HTTPResponse:
        only_query("step", "replica", "tail", "follow")
        tail = int(query_number("tail", -1, 1_000_000))
        logs = [_Log(name, path, tail) for name, path in _files(services, flow_id)]
        if not query_flag("follow"):
            return HTTPResponse(_lines(logs), **_TEXT)
        if request.method == "HEAD":
            return HTTPResponse(b"", **_TEXT)
        if not followers.acquire(blocking=False):
            return problem(503, f"{MAX_FOLLOWERS} logs are followed already", Retry_After="10")
        gone = request.environ.get("waitress.client_disconnected", lambda: False)
        set_stream(request.environ, _Followed(logs, services.closing, gone, followers))
        return HTTPResponse(b"", **_TEXT)


def _files(services: Services, flow_id: str) -> list[tuple[str, Path]]:
    """(name, path) of the log files asked for, in the order of the steps.

    Raises:
        NotFoundError: no such flow.
        InvalidError: no such step or replica.
    """
    record = services.store.get(flow_id)
    if record is None:
        raise NotFoundError(flow_id)
    spec = record.flow.spec
    steps = [step.name for step in spec.steps]
    step = query_text("step")
    if step is not None and step not in steps:
        raise InvalidError(f"'{flow_id}' has no step '{step}'; it has {', '.join(steps)}")
    replica = query_text("replica")
    if replica is not None and replica not in map(str, range(spec.replicas)):
        raise InvalidError(
            f"'{flow_id}' has no replica '{replica}'; they go from 0 to {spec.replicas - 1}"
        )
    wanted = [step] if step else steps
    replicas = [int(replica)] if replica else list(range(spec.replicas))
    return [
        (
            _label(name, number, len(wanted), len(replicas)),
            services.layout.log_file(flow_id, number, name),
        )
        for number in replicas
        for name in wanted
    ]


def _label(step: str, replica: int, steps: int, replicas: int) -> str:
    """What stands before each line where lines come from several files."""
    parts = [step] if steps > 1 else []
    if replicas > 1:
        parts.append(str(replica))
    return f"[{'/'.join(parts)}] " if parts else ""


class _Log:
    """One log file, read once from its tail on."""

    def __init__(self, label: str, path: Path, tail: int) -> None:
        self._label = label.encode()
        self._path = path
        self._offset = _tail_offset(path, tail) if tail >= 0 else 0
        self._rest = b""

    def read(self) -> Iterator[bytes]:
        """What was added since the last call, in whole lines."""
        try:
            with self._path.open("rb") as file:
                if self._offset > file.seek(0, 2):
                    self._offset, self._rest = 0, b""  # Somebody has emptied the file.
                file.seek(self._offset)
                while block := file.read(_BLOCK):
                    self._offset += len(block)
                    *lines, self._rest = (self._rest + block).split(b"\n")
                    if len(self._rest) > _LONGEST_LINE:
                        lines, self._rest = [*lines, self._rest], b""
                    if lines:
                        yield b"".join(self._label + line + b"\n" for line in lines)
        except FileNotFoundError:
            return  # The step has not been started yet.

    def finish(self) -> bytes:
        """A last line that has no end."""
        return self._label + self._rest + b"\n" if self._rest else b""


def _lines(logs: list[_Log]) -> Iterator[bytes]:
    for log in logs:
        yield from log.read()
        yield log.finish()


class _Followed:
    """An endless body; ``close`` is called by the server when the client has gone."""

    def __init__(
        self,
        logs: list[_Log],
        closing: threading.Event,
        gone: Callable[[], bool],
        followers: threading.BoundedSemaphore,
    ) -> None:
        self._logs = logs
        self._closing = closing
        self._gone = gone
        self._followers = followers
        self._open = True

    def __iter__(self) -> Iterator[Any]:
        while not self._closing.is_set() and not self._gone():
            for log in self._logs:
                yield from log.read()
            self._closing.wait(_POLL)

    def close(self) -> None:
        """Let another follower have the place."""
        if self._open:
            self._open = False
            self._followers.release()


def _tail_offset(path: Path, lines: int) -> int:
    """Where the last ``lines`` lines of a file begin; its end for 0."""
    try:
        with path.open("rb") as file:
            end = position = file.seek(0, 2)
            if lines == 0:
                return end
            while position > 0:
                start = max(0, position - _BLOCK)
                file.seek(start)
                block = file.read(position - start)
                at = len(block) - (position == end and block.endswith(b"\n"))
                while (at := block.rfind(b"\n", 0, at)) >= 0:
                    lines -= 1
                    if lines == 0:
                        return start + at + 1
                position = start
            return 0
    except FileNotFoundError:
        return 0
