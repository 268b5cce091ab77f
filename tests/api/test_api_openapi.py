"""The OpenAPI document: valid, complete, and its examples are what really happens."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from flow_operator.api.app import routed
from flow_operator.api.openapi import openapi
from flow_operator.api.roles import role_needed
from support import make_document

METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
def document(api: Any) -> dict[str, Any]:
    """What /openapi.json answers."""
    told: dict[str, Any] = api.client.get("/openapi.json").json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) of each."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def validate(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Hold a value against a schema of the document, whose objects may have no other members."""
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(_closed(whole)).validate(value)


def _closed(schema: Any) -> Any:
    """The same, without room for what is not described."""
    if isinstance(schema, list):
        return [_closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _closed(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        told.setdefault("additionalProperties", False)
    return told


def test_it_is_valid(document: dict[str, Any]) -> None:
    """By the schema of OpenAPI 3.1, and every reference leads somewhere."""
    OpenAPIV31SpecValidator(document).validate()
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]


def test_every_operation_has_a_name_of_its_own_and_is_told(document: dict[str, Any]) -> None:
    """operationIds make the methods of generated clients."""
    found = list(operations(document))
    names = [operation["operationId"] for _, _, operation in found]
    assert len(set(names)) == len(names) >= 18
    for path, _, operation in found:
        assert operation["summary"], path
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}


def test_every_field_that_is_sent_is_described(document: dict[str, Any]) -> None:
    """Components have a description, each; those of a status tell what its fields mean."""
    schemas = document["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
    told = schemas["StepStatus"]["properties"]["inFlightBytes"]["description"]
    assert told == "Unread bytes in the pipe before it."


def test_routes_that_are_not_told_only_refuse(api: Any, document: dict[str, Any]) -> None:
    """What stands in no document is there to say 405, or serves the page's own files."""
    told = {(path, method) for path, method, _ in operations(document)}
    for path in ("/flows/status", "/flows/commands"):
        for method in METHODS:
            if (path, method) not in told:
                answer = api.client.open(method.upper(), path)
                assert answer.json()["status"] == 405, (path, method)


def _filled(path: str) -> str:
    return path.replace("{flow_id}", "orders").replace("{generation}", "1")


def _url(path: str, operation: Any) -> str:
    query = urlencode(operation.example.query)
    return _filled(path) + (f"?{query}" if query else "")


def test_examples_work(make_api: Any) -> None:
    """Each is made on a new operator with one flow; its answer has the shape that is shown."""
    tried = 0
    for rule, method, operation in _declared(make_api()):
        if operation.example is None:
            continue
        api = make_api()
        document = api.client.get("/openapi.json").json()
        _begin(api)
        path = re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", rule)
        answer = _call(api, method, _url(path, operation), operation.example.body)
        assert answer.status == operation.status, (path, method)
        _compare(document, path, method, operation, answer)
        tried += 1
    assert tried >= 15


def _declared(api: Any) -> list[tuple[str, str, Any]]:
    return [
        (route.rule, route.method, route.config["operation"])
        for route in routed(api.services).routes
        if "operation" in route.config
    ]


def _begin(api: Any) -> None:
    for record in api.store.flows():
        api.client.open("DELETE", f"/flows/{record.flow_id}").read()
    orders = make_document("orders", "while :; do date; sleep 1; done")
    orders["metadata"] = {"name": "orders", "labels": {"team": "payments"}}
    assert api.client.send("POST", "/flows", [orders]).read()
    api.log("orders", "s0", "a line\nanother one\n")
    api.board.record("orders", "Started", "replica 0")


def _call(api: Any, method: str, url: str, body: Any) -> Any:
    if body is None:
        return api.client.open(method, url)
    return api.client.send(method, url, body)


def _compare(document: dict[str, Any], path: str, method: str, operation: Any, answer: Any) -> None:
    """The answer and the example are both of the schema, and have the same members."""
    told = document["paths"][path][method.lower()]["responses"][str(operation.status)]
    content = told["content"][operation.media[0]]
    body = answer.read()
    if operation.media[0] != "application/json":
        assert isinstance(content["example"], str)
        return
    real = json.loads(body)
    validate(document, content["schema"], real)
    validate(document, content["schema"], content["example"])
    assert set(_members(content["example"])) <= set(_members(real)), (path, method)


def _members(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    elif isinstance(value, list) and value:
        yield from _members(value[0])


def test_problems_are_as_described(api: Any, document: dict[str, Any]) -> None:
    """Every refusal has the schema of a problem."""
    schema = {"$ref": "#/components/schemas/Problem"}
    for path in ("/flows/nobody", "/nothing", "/flows?limit=0", "/flows?nonsense=1"):
        validate(document, schema, api.client.get(path).json())


def test_undeclared_query_parameters_are_refused_everywhere(
    api: Any, document: dict[str, Any]
) -> None:
    """400 naming those that are known; a typing error is never ignored."""
    for path, method, operation in operations(document):
        answer = api.client.open(method.upper(), f"{_filled(path)}?tial=5")
        problem = answer.json()
        assert problem["status"] == 400, (path, method)
        for parameter in operation["parameters"]:
            if parameter["in"] == "query":
                assert parameter["name"] in problem["errors"][0]["detail"]


def test_the_prefix_is_told(make_api: Any) -> None:
    """Clients are led to where everything is served."""
    told = make_api(prefix="/base").client.get("/base/openapi.json").json()
    assert told["servers"] == [{"url": "/base"}]


def test_tokens_are_told_where_they_are_asked_for(make_api: Any) -> None:
    """Each operation says whether it needs one, and which role; without tokens nothing is said."""
    api = make_api()
    plain = openapi(routed(api.services))
    assert "securitySchemes" not in plain["components"]
    document = json.loads(msgspec.json.encode(openapi(routed(api.services), tokens=True)))
    OpenAPIV31SpecValidator(document).validate()
    for path, method, operation in operations(document):
        role = role_needed(method, path)
        assert operation["security"] == ([{"token": []}] if role else [])
        assert ("401" in operation["responses"]) is (role is not None)
        if role is not None:
            assert f"the role `{role.value}`" in operation["description"]


def test_the_page_needs_nobody_else(api: Any) -> None:
    """Its files are ours, its policy forbids all others, and nothing beside it is served."""
    page = api.client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    text = page.read().decode()
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        if name not in ("data:,", "openapi.json"):
            file = api.client.get(f"/{name}")
            assert file.read(), name
            assert file.status == 200, name
    assert not re.search(r"https?://", text)
    for name in ("README.md", "..%2fapp.py", "nothing"):
        assert api.client.get(f"/docs/{name}").json()["status"] == 404


def test_the_viewer_is_the_one_that_was_reviewed() -> None:
    """Somebody else's code is changed by a renewal only, never by hand."""
    known = {
        "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
        "swagger-ui.css": "a6a4cf68f069eb89984d5d43644e6a812e749df08d2b1320c6e06e6973847d10",
    }
    viewer = files("flow_operator.api").joinpath("viewer")
    for name, digest in known.items():
        assert hashlib.sha256(viewer.joinpath(name).read_bytes()).hexdigest() == digest
