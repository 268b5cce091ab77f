"""The client of the operator's REST API: one typed method per call, in two forms.

:class:`FlowClient` is synchronous, and generated from :class:`AsyncFlowClient`; they have the same
methods. What an operator sends is given back as plain JSON data, so that a newer operator's fields
reach the caller, and what is read can be edited and sent back; the shapes are those of the REST
API's documentation.

Threads may share a :class:`FlowClient`; each iterator belongs to one at a time. An
:class:`AsyncFlowClient` belongs to one event loop. A task that is cancelled closes what it has
open; iterators are closed by ``contextlib.closing`` or ``contextlib.aclosing``.

::

    FlowError
    ├── ApiError                the operator answered, and the answer is no
    │   ├── Unauthorized        401: get another token
    │   ├── Forbidden           403: the token's role is too low
    │   ├── NotFound            404: there is none of that name
    │   ├── Conflict            409: a file owns the flow; edit that, or force
    │   ├── Gone                410: what a stream goes on from is not kept; begin anew
    │   ├── PreconditionFailed  412: it has changed since; read it again
    │   └── Unavailable         503, 507: not now; ``retry_after`` may say when
    ├── NotModified             304: what ``if_none_match`` names is still so
    ├── LateError               flows did not get there in time
    ├── UnreachableError        nobody answered; ``sent`` tells whether it may have been done
    │   └── UntrustedError      whoever answers there has no certificate that is trusted
    └── InvalidError            nothing was sent: an argument cannot be right
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flow_operator.client.changes import Change, event_key, status_key
from flow_operator.client.errors import (
    NOT_FOUND,
    PRECONDITION_FAILED,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    LateError,
    NotFound,
    NotModified,
    PreconditionFailed,
    Unauthorized,
    Unavailable,
    UnreachableError,
    UntrustedError,
)
from flow_operator.client.wire import JsonObject, Seen, check_flow_id
from flow_operator.errors import Fault, FlowError, InvalidError

if TYPE_CHECKING:
    from flow_operator.client.aio.client import AsyncFlowClient
    from flow_operator.client.sync.client import FlowClient

__all__ = [
    "NOT_FOUND",
    "PRECONDITION_FAILED",
    "ApiError",
    "AsyncFlowClient",
    "Change",
    "Conflict",
    "Fault",
    "FlowClient",
    "FlowError",
    "Forbidden",
    "Gone",
    "InvalidError",
    "JsonObject",
    "LateError",
    "NotFound",
    "NotModified",
    "PreconditionFailed",
    "Seen",
    "Unauthorized",
    "Unavailable",
    "UnreachableError",
    "UntrustedError",
    "check_flow_id",
    "event_key",
    "status_key",
]

_CLIENTS = {"AsyncFlowClient": "aio", "FlowClient": "sync"}


def __getattr__(name: str) -> Any:
    """Whichever client is asked for; most need one of them."""
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_CLIENTS[name]}.client"), name)
