"""Every route through wsgiref's validator: no rule of WSGI is broken, and errors have one shape."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import bottle
import pytest
from msgspec.structs import replace

from flow_operator.api import Hosts
from flow_operator.api.status import status_of
from flow_operator.model.status import Condition
from support import make_document

PROBLEM = "application/problem+json"
READ = [
    *("/", "/flows", "/flows/demo", "/flows/status", "/flows/status/demo", "/flows/demo/logs"),
    *("/flows/demo/events", "/events", "/manifests", "/livez", "/readyz"),
]


@pytest.fixture
def demo(api: Any) -> Any:
    """The API with one flow, which is stopped and has printed something."""
    document = make_document("demo", "true", "cat", state="stopped")
    assert api.client.send("POST", "/flows", [document]).read()
    api.log("demo", "s1", "hello\n")
    api.board.record("demo", "Tried", "to tell something")
    return api


def test_a_thread_keeps_neither_request_nor_answer(demo: Any) -> None:
    """Each of many would hold the largest bodies that it has ever seen."""
    documents = [make_document(f"large-{n}", state="stopped") for n in range(100)]
    assert demo.client.send("POST", "/flows", documents).read()
    assert "wsgi.input" not in bottle.request.environ
    assert demo.client.get("/flows").read()
    assert not bottle.response.body


@pytest.mark.parametrize("path", READ)
def test_what_is_read(demo: Any, path: str) -> None:
    """200, of a declared type, and valid WSGI."""
    answer = demo.client.get(path)
    assert answer.status == 200
    body = answer.read()
    if answer.headers["Content-Type"] == "application/json":
        json.loads(body)
    else:
        assert (answer.headers["Content-Type"], path) == (
            "text/plain; charset=utf-8",
            "/flows/demo/logs",
        )


@pytest.mark.parametrize("path", READ)
def test_head(demo: Any, path: str) -> None:
    """HEAD answers as GET does, without the body."""
    got, head = demo.client.get(path), demo.client.open("HEAD", path)
    assert head.status == got.status
    assert head.headers.get("Content-Type") == got.headers.get("Content-Type")
    assert head.headers.get("Content-Length") == got.headers.get("Content-Length")
    assert got.read()
    assert head.read() == b""


@pytest.mark.parametrize("path", ["/flows/nobody", "/flows/status/nobody", "/nothing"])
def test_head_of_what_is_not_there(demo: Any, path: str) -> None:
    """404 without a body."""
    answer = demo.client.open("HEAD", path)
    assert answer.status == 404
    assert answer.read() == b""


def test_what_is_written(api: Any) -> None:
    """POST, PUT, PATCH and DELETE by the rules of WSGI, and the store follows."""
    assert api.client.send("POST", "/flows", [make_document("demo")]).json()["details"] == [
        {"flow_id": "demo", "status": "pending"}
    ]
    put = api.client.send("PUT", "/flows/demo", make_document("demo", state="paused"))
    assert (put.status, put.json()["generation"]) == (200, 2)
    body = {"command": "stop", "flow_ids": ["demo"]}
    patched = api.client.send("PATCH", "/flows/commands?timeout=0", body)
    assert patched.json() == {
        "status": "Flows stopped",
        "details": [{"flow_id": "demo", "status": "pending"}],
    }
    assert api.store.get("demo").flow.spec.state == "stopped"
    deleted = api.client.open("DELETE", "/flows/demo")
    assert deleted.json() == {"status": "Flow deleted", "flow_id": "demo"}
    assert api.store.get("demo") is None


def test_status_of_a_flow_that_nobody_has_looked_at(demo: Any) -> None:
    """Without a reconciler nothing was observed: pending, whatever is wanted."""
    status = demo.client.get("/flows/status/demo").json()
    assert (status["status"], status["desired"], status["observedGeneration"]) == (
        "pending",
        "stopped",
        0,
    )
    assert demo.client.get("/flows/status").json() == {"demo": status}


def test_a_command_that_waits_in_vain_reports_what_is_observed(demo: Any) -> None:
    """Nobody reconciles, so nothing is reached; the answer does not pretend."""
    body = {"command": "start", "flow_ids": ["demo"]}
    answer = demo.client.send("PATCH", "/flows/commands?timeout=0.1", body)
    assert answer.json()["details"] == [{"flow_id": "demo", "status": "pending"}]


def test_a_command_waits_for_the_new_flow_not_for_its_namesake(api: Any) -> None:
    """A status of a deleted flow, whatever its generation, is not what a new one was told to be."""
    api.client.send("POST", "/flows", [make_document("demo", state="stopped")]).read()
    told = status_of(api.services, "demo")
    settled = Condition("Reconciling", "False", "Stopped", "", told.message)
    generations = {"generation": 5, "observed_generation": 5}
    api.board.publish(replace(told, status="stopped", conditions=(settled,), **generations))
    api.client.open("DELETE", "/flows/demo").read()
    api.client.send("POST", "/flows", [make_document("demo", state="stopped")]).read()
    begun = time.monotonic()
    body = {"command": "stop", "flow_ids": ["demo"]}
    api.client.send("PATCH", "/flows/commands?timeout=0.3", body).read()
    assert time.monotonic() - begun >= 0.3, "took the old flow's status for the new one's"


ERRORS: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "unknown flow": (404, "GET", "/flows/nobody", {}),
    "unknown status": (404, "GET", "/flows/status/nobody", {}),
    "unknown logs": (404, "GET", "/flows/nobody/logs", {}),
    "unknown events": (404, "GET", "/flows/nobody/events", {}),
    "unknown route": (404, "GET", "/nothing", {}),
    "unknown to DELETE": (400, "DELETE", "/flows/nobody", {}),
    "wrong method": (405, "PATCH", "/flows", {}),
    "no content type": (415, "POST", "/flows", {"body": b"[]"}),
    "no JSON": (400, "POST", "/flows", {"body": b"{", "CONTENT_TYPE": "application/json"}),
    "no body": (400, "POST", "/flows", {"CONTENT_TYPE": "application/json"}),
    "foreign host": (403, "GET", "/flows", {"HTTP_HOST": "evil.example"}),
    "foreign origin": (403, "GET", "/flows", {"HTTP_ORIGIN": "http://evil.example"}),
    "origin that is no URL": (403, "GET", "/flows", {"HTTP_ORIGIN": "http://["}),
    "bad If-Match": (400, "DELETE", "/flows/demo", {"HTTP_IF_MATCH": "x"}),
    "If-Match beyond ASCII": (400, "DELETE", "/flows/demo", {"HTTP_IF_MATCH": "\xb2"}),
    "old If-Match": (412, "DELETE", "/flows/demo", {"HTTP_IF_MATCH": '"99"'}),
    "content type beyond ASCII": (415, "POST", "/flows", {"CONTENT_TYPE": "\xff"}),
    "bad query": (400, "DELETE", "/flows/demo?type=2", {}),
    "query that is no UTF-8": (400, "DELETE", "/flows/demo?type=%ff", {}),
    "id that is no UTF-8": (400, "GET", "/flows/demo\xff", {}),
    "declared too large": (
        *(413, "POST", "/flows"),
        {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(9 * 1024 * 1024)},
    ),
}


@pytest.mark.parametrize(("status", "method", "url", "given"), ERRORS.values(), ids=ERRORS)
def test_errors(demo: Any, status: int, method: str, url: str, given: dict[str, Any]) -> None:
    """Each is a problem with type, title, status, detail and errors; nothing was changed."""
    given = dict(given)
    answer = demo.client.open(method, url, given.pop("body", b""), **given)
    body = answer.read()
    assert answer.status == status, body
    assert answer.headers["Content-Type"] == PROBLEM
    assert int(answer.headers["Content-Length"]) == len(body)
    details = json.loads(body)
    assert list(details) == ["type", "title", "status", "detail", "errors"]
    assert details["status"] == status
    assert details["detail"]
    assert demo.store.get("demo") is not None


def test_each_error_has_its_place(api: Any) -> None:
    """``errors`` tells pointer and detail of all that is wrong; a syntax error its line, too."""
    body = [make_document("ok"), {"flow_id": "x", "spec": {"steps": [{"nam": 1}]}}]
    details = api.client.send("POST", "/flows", body).json()
    assert {error["pointer"] for error in details["errors"]} >= {
        "/1/spec/steps/0",
        "/1/spec/steps/0/nam",
    }
    [error] = api.client.send("POST", "/flows", b"[\n  1,\n  x]").json()["errors"]
    assert (error["line"], error["column"]) == (3, 3)


def test_wrong_method_tells_the_right_ones(demo: Any) -> None:
    """405 carries Allow."""
    answer = demo.client.open("DELETE", "/flows")
    answer.read()
    assert set(answer.headers["Allow"].split(",")) == {"GET", "POST"}


def test_a_body_longer_than_allowed_is_not_read_to_its_end(api: Any) -> None:
    """Where no length is declared, at most one byte more than the limit is read."""
    endless = io.BytesIO(b" " * (9 * 1024 * 1024))
    answer = api.client.open(
        *("POST", "/flows"),
        **{"wsgi.input": endless, "CONTENT_TYPE": "application/json"},
    )
    assert answer.json()["status"] == 413
    assert endless.tell() <= 8 * 1024 * 1024 + 1


def test_prefix(make_api: Any) -> None:
    """Under a base URL with a path, only that path is served; the rest is 404."""
    api = make_api(prefix="/base")
    assert api.client.get("/base/flows").json() == []
    assert api.client.get("/base").json()["name"] == "flow-operator"
    for path in ("/flows", "/", "/basement/flows", "/bas"):
        assert api.client.get(path).json()["status"] == 404


def test_what_runners_can_do_here_is_told(api: Any) -> None:
    """``GET /`` names what the status will call enforced."""
    assert api.client.get("/").json()["runners"] == {
        "process": {"freeze": False, "stepRestart": False, "groups": True, "limits": ["memory"]}
    }


def test_not_ready(make_api: Any) -> None:
    """While flows are being taken back, /readyz is 503 and /livez is 200."""
    api = make_api(ready=lambda: False)
    assert api.client.get("/readyz").json()["status"] == 503
    assert api.client.get("/livez").json() == {"status": "ok"}


def test_any_host_where_none_is_named(make_api: Any) -> None:
    """Without a list of hosts, all are served."""
    api = make_api(hosts=Hosts(every=True))
    assert api.client.get("/flows", HTTP_HOST="anything.example").json() == []


def test_prune_is_confirmed_by_hand(make_api: Any) -> None:
    """POST /manifests/prune answers with the flows that go."""
    meant: list[Any] = []
    api = make_api(prune=lambda flows: meant.append(flows) or ["gone"])
    answer = api.client.open("POST", "/manifests/prune")
    assert answer.json() == {"status": "Pruned", "flows": ["gone"]}
    answer = api.client.send("POST", "/manifests/prune", {"flows": ["gone"]})
    assert answer.json()["flows"] == ["gone"]
    assert meant == [None, frozenset({"gone"})]
    for wrong in ({}, {"flows": "gone"}, {"flow": []}, []):
        assert api.client.send("POST", "/manifests/prune", wrong).json()["status"] == 400
    assert len(meant) == 2


def test_a_mistake_of_ours_is_told_without_its_traceback(
    make_api: Any, logged_events: list[Any]
) -> None:
    """500 as a problem; what went wrong stands in the log only."""

    def fail() -> dict[str, Any]:
        raise RuntimeError("secret")

    answer = make_api(folder=fail).client.get("/manifests", **{"wsgi.errors": io.StringIO()})
    body = answer.read()
    assert (answer.status, answer.headers["Content-Type"]) == (500, PROBLEM)
    assert b"secret" not in body
    assert b"Traceback" not in body
    [event] = logged_events
    assert (event["log_level"], str(event["exc_info"])) == ("error", "secret")
