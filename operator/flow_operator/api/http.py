"""Requests in, responses out: what every resource needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from bottle import HTTPResponse, request

from flow_operator.errors import Fault, InvalidError, clipped
from flow_operator.manifest import parse_json
from flow_operator.store import Edit

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a request's body; about ten thousand flows."""


_ETAG = re.compile(r'"([0-9]{1,18})"')


class UnsupportedMediaTypeError(Exception):
    """The body is not declared to be JSON."""


class TooLargeError(Exception):
    """The body is larger than :data:`MAX_BODY`."""


def json_response(value: Any, status: int = 200, **headers: str) -> HTTPResponse:
    """A value as a JSON response; bytes are taken for JSON already."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return HTTPResponse(body, status, **{"Content-Type": "application/json", **named})


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


def caller() -> str:
    """Who asks: ``api:ADDRESS``, over a unix socket ``api:uid=N``."""
    return f"api:{request.environ.get('REMOTE_ADDR') or 'unknown'}"


def only_query(*names: str) -> None:
    """Refuse query parameters that a route does not know: a typing error must not be ignored.

    Raises:
        InvalidError: naming those that are known.
    """
    known = ", ".join(names) or "none"
    unknown = [name for name in request.query.keys() if name not in names]  # noqa: SIM118
    if unknown:
        raise InvalidError(
            [Fault(f"unknown query parameter '{clipped(unknown[0])}'; known here: {known}")]
        )


def query(name: str, allowed: tuple[str, ...], default: str) -> str:
    """A query parameter that has few values.

    Raises:
        InvalidError: it has another.
    """
    value: str = _single(name) or default
    if value not in allowed:
        raise InvalidError(
            [Fault(f"?{name}= must be one of {', '.join(allowed)}; not {clipped(value)!r}")]
        )
    return value


def query_flag(name: str) -> bool:
    """A query parameter that is true or false."""
    return query(name, ("true", "false", "1", "0"), "false") in ("true", "1")


def dry_run() -> bool:
    """Whether only to tell what would happen: ``?dryRun=All``.

    Raises:
        InvalidError: it has another value; nobody may take a real write for a dry run.
    """
    if "dryRun" not in request.query:
        return False
    if request.query.getall("dryRun") != ["All"]:
        said = "?dryRun= must be All; leave it out to have it done"
        raise InvalidError([Fault(said)])
    return True


def query_number(name: str, default: float, most: float) -> float:
    """A query parameter that is a number from 0 to ``most``.

    Raises:
        InvalidError: it is not.
    """
    text = _single(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InvalidError(
            [Fault(f"?{name}= must be a number from 0 to {most:g}, not {clipped(text)!r}")]
        )
    return value


def _single(name: str) -> str:
    text: str = request.query.getunicode(name) or ""
    return text


def query_text(name: str) -> str | None:
    """A query parameter as it is; None if it is not given."""
    return _single(name) or None


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
        said = f"If-Match must hold an ETag of ours, not {clipped(ascii(text))}"
        raise InvalidError([Fault(said)])
    return int(found.group(1))


def dry_run_response(edits: Iterable[Edit], status: int = 200) -> HTTPResponse:
    """What a dry run answers: what would happen to the processes of each flow."""
    details = [{"flow_id": edit.after.flow_id, "change": edit.change} for edit in edits]
    body = {"status": "Dry run: nothing was changed", "dryRun": "All", "details": details}
    return json_response(body, status)
