"""What a route says of itself, beside its handler: the OpenAPI document is made of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bottle import Route
from msgspec import Struct

from flow_operator.api.parameters import Parameter, only

JSON = "application/json"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"


CONFIGURATION = {"$ref": "#/components/schemas/Configuration"}
LISTED_CONFIGURATION = {"$ref": "#/components/schemas/ListedConfiguration"}
NAMED_MANIFEST = {"$ref": "#/components/schemas/NamedManifest"}
MANIFEST = {"$ref": "#/components/schemas/Manifest"}


def array_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an array."""
    return {"type": "array", "items": schema}


class Example(Struct, frozen=True):
    """A call that works on a new operator that has the flow ``orders``; the tests make it.

    Attributes:
        answer: what is answered, as it is shown; the tests compare its shape.
        body: what is sent.
        query: what is asked.
    """

    answer: Any
    body: Any = None
    query: Mapping[str, str] = {}


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one route.

    Attributes:
        summary: a few words.
        description: for people, as Markdown; what the summary does not say.
        tag: what it belongs to.
        answers: what the body of a success may be: types that msgspec knows, or ready schemas.
        status: of a success.
        media: of a success; what is not JSON has no schema of its own, but for ``streams``.
        streams: what each message of a stream is.
        query: what may stand in the URL.
        body: what is sent as JSON.
        body_required: whether it has to be sent.
        headers: of a success, beyond those that every answer has; those in ``HEADERS``.
        asks: headers that a request may have; those in ``REQUEST_HEADERS``.
        problems: statuses that it answers besides those that every route may.
        example: one that works.
    """

    summary: str
    tag: str
    answers: tuple[Any, ...]
    description: str = ""
    status: int = 200
    media: tuple[str, ...] = (JSON,)
    streams: Any = None
    query: tuple[Parameter, ...] = ()
    body: Any = None
    body_required: bool = True
    headers: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    problems: tuple[int, ...] = ()
    example: Example | None = None


HEADERS = {
    "ETag": "The version of what is answered, for If-None-Match and If-Match.",
    "Link": "The next part of a list that was cut by `limit`, as `<URL>; rel=next`; else left out.",
    "Resource-Version": "Where a watch goes on from to miss nothing that this list does not show.",
}
"""Headers of answers."""

REQUEST_HEADERS = {
    "If-Match": (
        "An ETag: only if that version is still the present one; else 412.",
        r'^(\*|"[0-9]{1,18}")$',
    ),
    "If-None-Match": (
        "ETags, or `*`: 304 without a body if the present version is one of them.",
        "",
    ),
    "Last-Event-ID": (
        "The `resourceVersion` of the last message that was seen; go on after it.",
        "",  # A plain list ignores it.
    ),
}
"""Headers of requests: what they mean, and how they must look, where anything else is refused."""


def operation_of(route: Route) -> Operation | None:
    """What a route says of itself; None if it is only there to refuse."""
    found: Operation | None = route.config.get("operation")
    return found


class Declared:
    """The plugin that holds requests to what their route says: no other query parameters."""

    name = "declared"
    api = 2

    def apply(self, handler: Callable[..., Any], route: Route) -> Callable[..., Any]:
        """Wrap a handler."""
        operation = operation_of(route)
        if operation is None:
            return handler

        def checked(*args: Any, **kwargs: Any) -> Any:
            only(operation.query)
            return handler(*args, **kwargs)

        return checked
