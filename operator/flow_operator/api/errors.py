"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
from bottle import HTTPError, HTTPResponse, response
from msgspec import Struct

from flow_operator.api.http import (
    MAX_BODY,
    TooLargeError,
    UnsupportedMediaTypeError,
    named,
)
from flow_operator.errors import (
    ConflictError,
    Fault,
    FaultView,
    FlowError,
    GoneError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    StorageError,
    StorageFullError,
)

PROBLEM = "application/problem+json"

log = structlog.get_logger("api")

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (InvalidError, 400),
    (NotFoundError, 404),
    (GoneError, 410),
    (PreconditionError, 412),
    (ConflictError, 409),
    (StorageFullError, 507),
    (StorageError, 503),
    (FlowError, 503),
)
"""The first that fits counts."""


def problem(status: int, detail: str, faults: Iterable[Fault] = (), **headers: str) -> HTTPResponse:
    """A problem as a response."""
    return HTTPResponse(
        problem_body(status, detail, faults),
        status,
        **{"Content-Type": PROBLEM, **named(headers)},
    )


class Problem(Struct, frozen=True):
    """Why a request was refused, or what it failed at (RFC 9457).

    Attributes:
        type: always `about:blank`: the status says what kind it is.
        title: the words that go with the status.
        status: the HTTP status.
        detail: what is wrong and what to do, for people.
        errors: everything that is wrong with what was sent, where that is known.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultView]


def problem_body(status: int, detail: str, faults: Iterable[Fault] = ()) -> bytes:
    """A problem as JSON."""
    title = http.HTTPStatus(status).phrase
    told = Problem("about:blank", title, status, detail, [fault.told() for fault in faults])
    return msgspec.json.encode(told)


def bad_request_if_unknown(error: NotFoundError) -> HTTPResponse:
    """PUT, DELETE and commands answer 400 for an id that does not exist, as the contract says."""
    return problem(400, str(error))


class ProblemPlugin:
    """Turns what handlers raise into problems."""

    name = "problem"
    api = 2

    def apply(self, handler: Callable[..., Any], _route: Any) -> Callable[..., Any]:
        """Wrap a handler."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return handler(*args, **kwargs)
            except UnsupportedMediaTypeError as error:
                sent = f"not {str(error)!r}" if str(error) else "and none was given"
                return problem(415, f"the Content-Type must be application/json, {sent}")
            except TooLargeError:
                return problem(413, f"the body is larger than {MAX_BODY} bytes; send less at once")
            except FlowError as error:
                faults = error.faults if isinstance(error, InvalidError) else ()
                status = next(code for kind, code in _STATUSES if isinstance(error, kind))
                return problem(status, str(error), faults)
            except OSError as error:
                # No descriptor or no disk, for one: nothing that the caller could do better.
                log.error("handler failed", exc_info=error)
                return problem(503, f"the operator cannot do this now: {error.strerror or error}")

        return guarded


def bottle_error(error: HTTPError) -> bytes:
    """What the framework itself refuses: unknown routes and methods, and our own mistakes."""
    status = error.status_code
    if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("handler failed", exc_info=error.exception)
        detail = "a mistake of the operator; its log tells more"
    elif status == http.HTTPStatus.NOT_FOUND:
        detail = "there is no such route; GET / lists some"
    elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = error.headers.get("Allow", "")
        detail = f"this route answers {allowed}"
    else:
        detail = str(error.body)
    response.content_type = PROBLEM
    return problem_body(status, detail)
