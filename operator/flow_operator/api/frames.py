"""How a watch is written: server-sent events, or one JSON object a line.

Both carry ``{"type", "resourceVersion", "object"}``. JSON has no line ends within, so that each
message is one ``data:`` field or one line, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec

from flow_operator.board import Change

Kind = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]

RETRY = 2000
"""Milliseconds after which a browser that lost the connection is to try again."""

_CACHED = 256
"""Frames; watchers that keep up want the same few."""


@dataclass(frozen=True)
class Format:
    """One way of writing messages.

    Attributes:
        content_type: of the answer.
        begin: what the body begins with.
        frame: writes a message of a kind, with the version from which a watch can go on after it
            (empty: from none), and an object as JSON.
    """

    content_type: str
    begin: bytes
    frame: Callable[[Kind, str, bytes], bytes]


def _message(kind: Kind, version: str, body: bytes) -> bytes:
    head = b'{"type":"%b","resourceVersion":"%b","object":' % (kind.encode(), version.encode())
    return b"%b%b}" % (head, body)


def _line(kind: Kind, version: str, body: bytes) -> bytes:
    return _message(kind, version, body) + b"\n"


def _server_sent(kind: Kind, version: str, body: bytes) -> bytes:
    """As the HTML standard has it; after an error, a browser that comes again begins anew."""
    number = b"id: %b\n" % version.encode() if version else b"id\n" if kind == "ERROR" else b""
    message = _message(kind, version, body)
    return b"%bevent: %b\ndata: %b\n\n" % (number, kind.lower().encode(), message)


NDJSON = Format("application/x-ndjson", b"", _line)
SSE = Format("text/event-stream", b"retry: %d\n\n" % RETRY, _server_sent)


STREAMED = (NDJSON.content_type, SSE.content_type)


def accepted(accept: str) -> Format | None:
    """The format that an Accept header names, server-sent events first; None for neither."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((form for form in (SSE, NDJSON) if form.content_type in kinds), None)


class Frames:
    """Writes changes of one resource, each once for all who watch it.

    Args:
        epoch: of the board.
        told: gives the object that is told of a change.
    """

    def __init__(self, epoch: str, told: Callable[[Change, Kind], Any]) -> None:
        self.epoch = epoch
        self._told = told
        self.of = lru_cache(_CACHED)(self._written)

    def version(self, revision: int) -> str:
        """The resource version of a revision."""
        return f"{self.epoch}-{revision}"

    def _written(self, change: Change, kind: Kind, form: Format) -> bytes:
        body = msgspec.json.encode(self._told(change, kind))
        return form.frame(kind, self.version(change.revision), body)
