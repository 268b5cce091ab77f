"""Every operation of the API can be called, with all that it takes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flow_operator.client import ApiError, Seen
from support import make_document

CALLS: dict[str, list[Callable[[Any], Any]]] = {
    "list_flows": [
        lambda c: c.flows(label_selector="a", field_selector="b", limit=2, expand_status=True),
        lambda c: c.flows(if_none_match=Seen('"e"')),
    ],
    "create_flows": [lambda c: c.create([make_document("a")], dry_run=True)],
    "get_flow": [lambda c: c.flow("a", if_none_match='"e"')],
    "replace_flow": [lambda c: c.replace("a", {}, if_match='"1"', force=True, dry_run=True)],
    "delete_flow": [
        lambda c: c.delete("a", hard=True, if_match='"1"', force=True, dry_run=True),
    ],
    "list_statuses": [
        lambda c: c.statuses(label_selector="a", field_selector="b", limit=2),
        lambda c: c.statuses(if_none_match=Seen('"e"')),
        lambda c: next(c.watch_statuses(label_selector="a", field_selector="b")),
    ],
    "get_status": [
        lambda c: c.status("a", if_none_match=Seen('"e"')),
        lambda c: next(c.watch_statuses("a")),
    ],
    "list_generations": [lambda c: c.history("a")],
    "get_generation": [lambda c: c.generation("a", 3)],
    "roll_back": [lambda c: c.rollback("a", 3, if_match='"1"', force=True, dry_run=True)],
    "command_flows": [
        lambda c: c.command("stop", ["a"], hard=True, timeout=2, dry_run=True),
        lambda c: c.command("stop", label_selector="a", field_selector="b"),
    ],
    "get_logs": [
        lambda c: next(
            c.logs("a", step="s", replica=0, tail=0, since="1m", timestamps=True, follow=True)
        ),
        lambda c: next(c.log_lines("a", step="s", replica=0, tail=0, since="1m", last_id="x")),
    ],
    "list_events": [lambda c: c.events(), lambda c: next(c.watch_events())],
    "list_flow_events": [lambda c: c.events("a"), lambda c: next(c.watch_events("a"))],
    "get_folder": [lambda c: c.manifests()],
    "prune": [lambda c: c.prune()],
    "get_live": [lambda c: c.live()],
    "get_ready": [lambda c: c.ready()],
    "get_metrics": [lambda c: c.metrics()],
    "get_index": [lambda c: c.index(), lambda c: c.version()],
    "get_openapi": [lambda c: c.openapi()],
}
PAGES = {"get_dashboard", "get_docs"}
"""For browsers."""

ELSEWHERE = {
    "continue",  # with the parts of a list
    "resourceVersion",  # with what watches go on from
}


@pytest.fixture
def sent(flavour):
    """Has a client call an operator that answers nothing; gives the requests."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=b"null")

    def call(function: Callable[[Any], Any]) -> httpx.Request:
        made = flavour.client("http://x", transport=httpx.MockTransport(answer))
        with contextlib.suppress(ApiError), made as client:
            function(client)
        return requests[-1]

    return call


def operations(operator) -> dict[str, tuple[str, str, list[str]]]:
    """(method, path, parameters) of each operation, by its id."""
    return {
        told["operationId"]: (
            method.upper(),
            path,
            [p["name"] for p in told["parameters"] if p["in"] != "path"],
        )
        for path, methods in operator.client.get("/openapi.json").json()["paths"].items()
        for method, told in methods.items()
    }


def test_every_operation_has_a_method(operator):
    """A new route fails here until the clients have it."""
    assert set(operations(operator)) == set(CALLS) | PAGES


@pytest.mark.parametrize("name", CALLS)
def test_a_method_sends_its_operation_with_all_parameters(operator, sent, name):
    """By whichever of its calls."""
    method, path, parameters = operations(operator)[name]
    missing = set(parameters) - ELSEWHERE
    for function in CALLS[name]:
        request = sent(function)
        assert request.method == method
        assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path)
        missing -= {*request.url.params, *(p for p in parameters if p in request.headers)}
    watched = {"timeout", "Last-Event-ID"} if "watch" in parameters else set()
    assert missing - watched - ({"If-None-Match"} if name == "get_openapi" else set()) == set()
