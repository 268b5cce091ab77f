"""Requests in, responses out: what every resource needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from bottle import HTTPResponse, request
from msgspec import Struct

from flow_operator.errors import Fault, InvalidError, clipped
from flow_operator.manifest import parse_json, taken_apart
from flow_operator.model.status import Change
from flow_operator.store import Edit

T = TypeVar("T")

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a request's body; about ten thousand flows."""


_ETAG = re.compile(r'"([0-9]{1,18})"')
_ETAGS = re.compile(r'(?:W/)?("[^"]*")')


class UnsupportedMediaTypeError(Exception):
    """The body is not declared to be JSON."""


class TooLargeError(Exception):
    """The body is larger than :data:`MAX_BODY`."""


def json_response(value: Any, status: int = 200, **headers: str) -> HTTPResponse:
    """A value as a JSON response; bytes are taken for JSON already."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return HTTPResponse(body, status, **{"Content-Type": "application/json", **named(headers)})


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that were given as keywords, by their names."""
    return {name.replace("_", "-"): text for name, text in headers.items()}


def etag_of(body: bytes) -> str:
    """An ETag that is the same as long as the body is: 128 bits of its BLAKE2b, quoted."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def tagged_response(body: bytes, etag: str, **headers: str) -> HTTPResponse:
    """A JSON body with its ETag; 304 without it where the caller has that version already."""
    known = request.environ.get("HTTP_IF_NONE_MATCH", "")
    if known.strip() == "*" or etag in _ETAGS.findall(known):
        return HTTPResponse(b"", 304, ETag=etag, **named(headers))
    return json_response(body, 200, ETag=etag, **headers)


def json_body() -> Any:
    """The request's body.

    Raises:
        UnsupportedMediaTypeError: its content type is not ``application/json``.
        TooLargeError: it is larger than 8 MiB.
        InvalidError: it is not one JSON text.
    """
    kind, _, _ = request.environ.get("CONTENT_TYPE", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise UnsupportedMediaTypeError(clipped(kind.strip()))
    if request.content_length > MAX_BODY:
        raise TooLargeError
    body = request.environ["wsgi.input"].read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise TooLargeError
    return parse_json(body)


def body_as(kind: type[T], body: object, like: str) -> T:
    """A body that was read, as what it is to be.

    Args:
        kind: what msgspec makes of it.
        body: decoded.
        like: what it has to look like.

    Raises:
        InvalidError: it is something else.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        pointer, detail = taken_apart(error)
        raise InvalidError([Fault(f"{detail}; the body must be {like}", pointer)]) from None


def caller() -> str:
    """Who asks: ``api:ADDRESS``, with a token ``api:NAME@ADDRESS``.

    The address of who comes over a unix socket is ``uid=N``.
    """
    user = request.environ.get("REMOTE_USER")
    address = request.environ.get("REMOTE_ADDR") or "unknown"
    return f"api:{user}@{address}" if user else f"api:{address}"


def if_match() -> int | None:
    """The resourceVersion of the If-Match header; None if any is fine.

    Raises:
        InvalidError: it is no version of ours.
    """
    text = request.environ.get("HTTP_IF_MATCH", "*").strip()
    if text == "*":
        return None
    found = _ETAG.fullmatch(text)
    if not found:
        said = f"If-Match must hold an ETag as GET /flows/ID tells it, not {clipped(ascii(text))}"
        raise InvalidError([Fault(said)])
    return int(found.group(1))


class FlowChange(Struct, frozen=True):
    """What would happen to the processes of a flow."""

    flow_id: str
    change: Change


class DryRun(Struct, frozen=True, rename={"dry_run": "dryRun"}):
    """What a dry run answers: what would happen to the processes of each flow."""

    status: str
    dry_run: str
    details: tuple[FlowChange, ...]


def dry_run_response(edits: Iterable[Edit], status: int = 200) -> HTTPResponse:
    """What a dry run answers."""
    details = tuple(FlowChange(edit.after.flow_id, edit.change) for edit in edits)
    return json_response(DryRun("Dry run: nothing was changed", "All", details), status)
