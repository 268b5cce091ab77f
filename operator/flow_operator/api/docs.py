"""``/openapi.json``, and ``/docs``: the same for people, without a look at any other machine."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec
from bottle import Bottle, HTTPResponse

from flow_operator.api.errors import problem
from flow_operator.api.http import etag_of, tagged_response
from flow_operator.api.openapi import openapi
from flow_operator.api.operation import Operation

if TYPE_CHECKING:
    from flow_operator.api.app import Services

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
"""The files of the page; nothing else is served."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may ask its own origin and nobody else; the viewer sets styles on its elements."""

SPECIFICATION = Operation(
    summary="This document",
    description="OpenAPI 3.1.",
    tag="Operator",
    answers=({"type": "object", "required": ["openapi", "info", "paths"]},),
    headers=("ETag",),
    asks=("If-None-Match",),
)
PAGE = Operation(
    summary="This document for people",
    description="It needs nothing from other machines.",
    tag="Operator",
    media=("text/html",),
    answers=({"type": "string"},),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes; the last of all, as it tells of all others."""

    @cache
    def specification() -> tuple[bytes, str]:
        body = msgspec.json.encode(
            openapi(app, services.prefix, tokens=services.tokens is not None)
        )
        return body, etag_of(body)

    @app.get("/openapi.json", operation=SPECIFICATION)
    def get_openapi() -> HTTPResponse:
        return tagged_response(*specification())

    @app.get("/docs", operation=PAGE)
    def get_docs() -> HTTPResponse:
        return _file("index.html")

    @app.get("/docs/<name>")
    def get_docs_file(name: str) -> HTTPResponse:
        if name not in _TYPES:
            return problem(404, "there is no such file; the page is /docs")
        return _file(name)


def _file(name: str) -> HTTPResponse:
    body = files("flow_operator.api").joinpath("viewer", name).read_bytes()
    headers = {
        "Content-Type": _TYPES[name],
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return HTTPResponse(body, 200, **headers)
