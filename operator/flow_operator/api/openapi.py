"""The OpenAPI 3.1 document: made of what each route says of itself, and of the Structs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from bottle import Bottle, Route

from flow_operator import __version__
from flow_operator.api.errors import PROBLEM, Problem
from flow_operator.api.operation import (
    HEADERS,
    JSON,
    REQUEST_HEADERS,
    Operation,
    operation_of,
)
from flow_operator.api.parameters import Parameter
from flow_operator.api.roles import role_needed
from flow_operator.model.flow import Flow
from flow_operator.model.names import NAME_PATTERN
from flow_operator.model.schema import definitions_of

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"<(\w+)(?::(\w+))?>")

_ALWAYS = (400, 403)
_WRITES = (413, 415, 503, 507)
"""What every write may answer besides: the caps on bodies, and the store that cannot write."""

_PATHS: dict[str, dict[str, Any]] = {
    "flow_id": {
        "description": "The id of a flow: `metadata.name`.",
        "schema": {"type": "string", "pattern": NAME_PATTERN.removesuffix(r"(?!\n)")},
        "example": "orders",
    },
    "generation": {
        "description": "A generation of the flow's configuration.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
}

_TAGS = {
    "Flows": "Configurations: the desired state, and commands that edit it.",
    "Status": "What is observed.",
    "Logs": "What steps print.",
    "Events": "What has happened.",
    "History": "Earlier generations, and going back to them.",
    "Manifests": "The watched folder.",
    "Operator": "The operator itself.",
}


def openapi(app: Bottle, prefix: str = "", *, tokens: bool = False) -> dict[str, Any]:
    """The document of an application whose routes are all there.

    Args:
        app: the application.
        prefix: the path of the base URL.
        tokens: whether requests need one.
    """
    routes = [(route, found) for route in app.routes if (found := operation_of(route))]
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in routes:
        path = _PARAMETER.sub(r"{\1}", route.rule)
        told = _operation(route, operation)
        if tokens:
            told |= _secured(route, told)
        paths.setdefault(path, {})[route.method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flow-operator",
            "version": __version__,
            "summary": "Runs data flows declaratively.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix or "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(operation for _, operation in routes),
            "responses": {"Problem": _problem_response()},
            **({"securitySchemes": {"token": _TOKEN}} if tokens else {}),
        },
    }


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of the file that flowd was given as `--tokens`.",
}


def _secured(route: Route, told: dict[str, Any]) -> dict[str, Any]:
    """What is told besides where tokens are asked for: which role it takes."""
    role = role_needed(route.method, route.rule)
    if role is None:
        return {"security": []}
    said = f"Needs a token with the role `{role.value}`."
    problem = {"401": {"$ref": "#/components/responses/Problem"}}
    return {
        "security": [{"token": []}],
        "description": "\n\n".join(filter(None, [told.get("description"), said])),
        "responses": dict(sorted((told["responses"] | problem).items())),
    }


# --- operations ------------------------------------------------------------------------------


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.callback.__name__,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            *map(_path_parameter, _PARAMETER.findall(route.rule)),
            *map(_query_parameter, operation.query),
            *map(_header_parameter, operation.asks),
        ],
        "responses": _responses(route, operation),
    }
    if operation.description:
        told["description"] = operation.description
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _schema(operation.body)}
        if operation.example is not None:
            content["example"] = operation.example.body
        told["requestBody"] = {"required": operation.body_required, "content": {JSON: content}}
    return told


def _path_parameter(found: tuple[str, str]) -> dict[str, Any]:
    name, _ = found
    return {"name": name, "in": "path", "required": True, **_PATHS[name]}


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    example = {} if parameter.example is None else {"example": parameter.example}
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": parameter.schema(),
        **example,
    }


def _header_parameter(name: str) -> dict[str, Any]:
    description, pattern = REQUEST_HEADERS[name]
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **({"pattern": pattern} if pattern else {})},
    }


def _responses(route: Route, operation: Operation) -> dict[str, Any]:
    found = {str(operation.status): _success(operation)}
    if "If-None-Match" in operation.asks:
        found["304"] = {"description": "The caller has that version already."}
    writes = _WRITES if route.method not in ("GET", "HEAD") else ()
    for status in sorted({*_ALWAYS, *writes, *operation.problems}):
        found[str(status)] = {"$ref": "#/components/responses/Problem"}
    return found


def _success(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": operation.summary,
        "content": {media: _content(operation, media) for media in operation.media},
    }
    if operation.headers:
        told["headers"] = {
            name: {"description": HEADERS[name], "schema": {"type": "string"}}
            for name in operation.headers
        }
    return told


def _content(operation: Operation, media: str) -> dict[str, Any]:
    if media != operation.media[0]:
        return {"schema": {"type": "string"}}
    schemas = [_schema(kind) for kind in operation.answers]
    told = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    return told if operation.example is None else {**told, "example": operation.example.answer}


def _problem_response() -> dict[str, Any]:
    return {
        "description": "The request was refused, or failed; `detail` tells what to do.",
        "content": {PROBLEM: {"schema": _schema(Problem)}},
    }


# --- schemas ---------------------------------------------------------------------------------


def _schema(kind: Any) -> Any:
    """The schema of a type, by reference to the components; a ready one as it is."""
    if isinstance(kind, Mapping):
        return kind
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    kinds = {
        str(kind): kind
        for operation in operations
        for kind in (*operation.answers, operation.body, operation.streams)
        if kind is not None and not isinstance(kind, Mapping)
    }
    found = definitions_of([Flow, Problem, *kinds.values()], _REF)
    return dict(sorted({**found, **_manifests(found["Flow"], found["Metadata"])}.items()))


def _manifests(flow: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """The Flow document as it is sent, where ``flow_id`` may name it, and as it is answered."""
    flow_id = {
        "description": "The same as `metadata.name`; one of the two may be left out.",
        **_PATHS["flow_id"]["schema"],
    }
    unnamed = {key: value for key, value in metadata.items() if key != "required"}
    properties = {"flow_id": flow_id, **flow["properties"]}
    sent = {**properties, "metadata": {"$ref": _REF.format(name="ManifestMetadata")}}
    manifest = {**flow, "title": "Manifest", "properties": sent, "required": ["spec"]}
    named = [
        {"required": ["flow_id"]},
        {"required": ["metadata"], "properties": {"metadata": {"required": ["name"]}}},
    ]
    configuration = {
        **flow,
        "title": "Configuration",
        "properties": properties,
        "required": ["flow_id", *flow["required"]],
        "description": "A Flow document as it was sent, with its flow_id at the top.",
    }
    status = {"$ref": _REF.format(name="FlowStatus")}
    return {
        "ManifestMetadata": {**unnamed, "title": "ManifestMetadata"},
        "Manifest": {
            **manifest,
            "description": "A Flow document; the URL names it, so that it need not itself.",
        },
        "NamedManifest": {
            **manifest,
            "title": "NamedManifest",
            "anyOf": named,
            "description": "A Flow document; `flow_id` may stand for `metadata.name`.",
        },
        "Configuration": configuration,
        "ListedConfiguration": {
            **configuration,
            "title": "ListedConfiguration",
            "properties": {**properties, "status": status},
            "description": "The same; with `expand=status`, its status beside it.",
        },
    }
