"""``/openapi.json``, and ``/docs``: the same for people, without a look at any other machine."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec
from bottle import Bottle, HTTPResponse

from flow_operator.api.http import etag_of, tagged_response
from flow_operator.api.openapi import openapi
from flow_operator.api.operation import Operation
from flow_operator.api.pages import Page

if TYPE_CHECKING:
    from flow_operator.api.app import Services

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

    # The viewer sets styles on its elements.
    page = Page("flow_operator.api", "viewer", "/docs", styles=" 'unsafe-inline'")

    @app.get("/docs", operation=PAGE)
    def get_docs() -> HTTPResponse:
        return page.file("index.html")

    @app.get("/docs/<name>")
    def get_docs_file(name: str) -> HTTPResponse:
        return page.file(name)
