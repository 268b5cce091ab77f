"""Bodies without an end.

Bottle asks a body for its first piece before it sends the head of a response, and forgets to close
one that has none; a stream that is quiet at first would never begin. A handler that streams leaves
its body in the environment, and this wrapper sends the head at once and the body as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from bottle import request, response

_KEY = "flow_operator.stream"


class Stream(Protocol):
    """A body that the server iterates over, and closes when the client has gone."""

    def __iter__(self) -> Any:
        """Pieces, as they come."""

    def close(self) -> None:
        """Nobody reads any more."""


def set_stream(environ: dict[str, Any], body: Stream) -> None:
    """Answer the present request with a stream; what the handler returns gives the head."""
    environ[_KEY] = body


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
        stream: Stream | None = environ.pop(_KEY, None)
        if stream is None:
            _forget()
            start_response(status, headers, exc_info)
            return body
        if hasattr(body, "close"):
            body.close()
        endless = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, endless)(b"")
        return stream


def _forget() -> None:
    """Let go of a request and its answer.

    Bottle keeps both until the same thread has the next: with each of many threads, that would be
    as many copies of the status of all flows, and of the largest bodies ever sent.
    """
    request.bind({})
    response.body = b""
