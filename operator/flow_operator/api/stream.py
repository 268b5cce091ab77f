"""Bodies without an end.

A handler that streams leaves a source in the environment and returns the head. The server sends the
head at once, and what the source has from then on, without holding a thread for it (see ``hub``).
Under another WSGI server the source is iterated over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from bottle import request, response

from flow_operator.api.errors import PROBLEM, problem_body

_KEY = "flow_operator.stream"

SERVE = "flow_operator.serve_stream"
"""Where the server leaves what takes a source over: ``(source) -> bool``, False if it is full."""

WRAP = "flow_operator.wrap_stream"
"""Where the gate leaves what it makes of a source: ``(source) -> source``."""

RETRY_AFTER = "10"
"""Seconds after which a client that was refused may try again."""

_POLL = 0.2
"""Seconds between two looks under a server that knows nothing of sources."""


class Source(Protocol):
    """A body that is asked for what is new, and never waits.

    ``take`` and ``close`` are never called at the same time, and ``take`` never after ``close``:
    both by the one thread that serves all streams (only a source that was never begun is closed by
    the thread that made it). What other threads do to it must be safe against that thread.
    """

    @property
    def period(self) -> float | None:
        """Seconds between two looks; None: looked at when the server is poked, and only then."""

    @property
    def ends_at(self) -> float:
        """When to look in any case, since it will have ended (monotonic seconds); inf for never."""

    @property
    def heartbeat(self) -> bytes:
        """Sent after 15 s without anything, so that both ends see each other; empty for none."""

    def take(self) -> bytes | None:
        """What is new, about 64 KiB at most; empty if nothing is, None at the end of the body.

        Asked again at once until nothing is new, as long as the client keeps up; one that does not
        is not asked for, so that it lags behind in the source.
        """

    def close(self) -> None:
        """Nobody reads any more; called exactly once, also after the end."""


def set_stream(environ: dict[str, Any], source: Source) -> None:
    """Answer the present request with a stream; what the handler returns gives the head."""
    environ[_KEY] = source


class Streams:
    """The wrapper around an application whose handlers may stream."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        head: list[Any] = []

        def hold(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            head[:] = [status, headers, exc_info]

        body = self._app(environ, hold)
        status, headers, exc_info = head
        source: Source | None = environ.pop(_KEY, None)
        if source is None:
            _forget()
            start_response(status, headers, exc_info)
            return body
        if hasattr(body, "close"):
            body.close()
        endless = [(name, value) for name, value in headers if name.lower() != "content-length"]
        if environ["REQUEST_METHOD"] == "HEAD":
            source.close()
            start_response(status, endless)
            return []
        if (wrap := environ.get(WRAP)) is not None:
            source = wrap(source)
        return _begin(source, environ.get(SERVE), status, endless, start_response)


def _begin(
    source: Source,
    serve: Callable[[Source], bool] | None,
    status: str,
    headers: list[tuple[str, str]],
    start_response: Any,
) -> Iterable[bytes]:
    if serve is None:
        start_response(status, headers)(b"")
        return _Iterated(source)
    if serve(source):
        start_response(status, headers)
        return []
    source.close()
    refusal = problem_body(503, "as many streams as can be served are open already")
    told = [
        ("Content-Type", PROBLEM),
        ("Content-Length", str(len(refusal))),
        ("Retry-After", RETRY_AFTER),
    ]
    start_response("503 Service Unavailable", told)
    return [refusal]


class _Iterated:
    """A source as the body of an answer."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        while (data := self._source.take()) is not None:
            if data:
                yield data
            else:
                time.sleep(self._source.period or _POLL)

    def close(self) -> None:
        self._source.close()


def _forget() -> None:
    """Let go of a request and its answer.

    Bottle keeps both until the same thread has the next: with each of many threads, that would be
    as many copies of the status of all flows, and of the largest bodies ever sent.
    """
    request.bind({})
    response.body = b""
