"""``?dryRun=All``: the same answers, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from support import make_document

EDITS: dict[str, tuple[str, str, Any]] = {
    "POST": ("POST", "/flows", [make_document("new"), make_document("idle", state="stopped")]),
    "PUT": ("PUT", "/flows/demo", make_document("demo", "exec sleep 2000")),
    "DELETE": ("DELETE", "/flows/demo", None),
    "PATCH": ("PATCH", "/flows/commands", {"command": "stop"}),
}

REFUSED: dict[str, tuple[int, str, str, Any, dict[str, str]]] = {
    "exists": (400, "POST", "/flows", [make_document("demo")], {}),
    "twice": (400, "POST", "/flows", [make_document("a"), make_document("a")], {}),
    "no array": (400, "POST", "/flows", {}, {}),
    "circle": (
        *(400, "POST", "/flows"),
        [make_document(one, dependsOn=[{"name": other}]) for one, other in ("ab", "ba")],
        {},
    ),
    "invalid": (400, "PUT", "/flows/demo", {"spec": {}}, {}),
    "unknown to PUT": (400, "PUT", "/flows/nobody", make_document("nobody"), {}),
    "unknown to DELETE": (400, "DELETE", "/flows/nobody", None, {}),
    "unknown to PATCH": (
        *(400, "PATCH", "/flows/commands"),
        {"command": "stop", "flow_ids": ["x"]},
        {},
    ),
    "old version": (412, "PUT", "/flows/demo", make_document("demo"), {"HTTP_IF_MATCH": '"99"'}),
    "deleted by an old version": (412, "DELETE", "/flows/demo", None, {"HTTP_IF_MATCH": '"99"'}),
    "no query": (400, "DELETE", "/flows/demo?typo=1", None, {}),
}


@pytest.fixture
def demo(api: Any) -> Any:
    assert api.client.send("POST", "/flows", [make_document("demo")]).read()
    return api


def _send(api: Any, method: str, url: str, body: Any, **environ: Any) -> Any:
    if body is None:
        return api.client.open(method, url, **environ)
    return api.client.send(method, url, body, **environ)


def _state(api: Any) -> Any:
    """All that a write could have touched."""
    files = {p: p.read_bytes() for p in (api.layout.root / "flows").iterdir()}
    return api.store.records(), api.store.version, files


def _dry(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}dryRun=All"


@pytest.mark.parametrize(
    ("name", "status", "changes"),
    [
        ("POST", 201, {"new": "start", "idle": "none"}),
        ("PUT", 200, {"demo": "restart"}),
        ("DELETE", 200, {"demo": "stop"}),
        ("PATCH", 200, {"demo": "stop"}),
    ],
)
def test_it_tells_of_each_flow_and_writes_nothing(
    demo: Any, name: str, status: int, changes: dict[str, str]
) -> None:
    """With the status of the real call, and saying that it was none; nobody is notified."""
    told: list[Any] = []
    demo.store.subscribe(told.append)
    before = _state(demo)
    for _ in range(2):
        method, url, body = EDITS[name]
        answer = _send(demo, method, _dry(url), body)
        assert answer.status == status
        assert "ETag" not in answer.headers
        said = answer.json()
        assert (said["status"], said["dryRun"]) == ("Dry run: nothing was changed", "All")
        assert {row["flow_id"]: row["change"] for row in said["details"]} == changes
    assert _state(demo) == before
    assert told == []


@pytest.mark.parametrize("value", ["all", "None", "true", "", "All&dryRun=no", "no&dryRun=All"])
@pytest.mark.parametrize("name", EDITS)
def test_any_other_value_is_refused(demo: Any, name: str, value: str) -> None:
    """It might be taken for a dry run by who sent it, so nothing is done."""
    before = _state(demo)
    method, url, body = EDITS[name]
    details = _send(demo, method, f"{url}?dryRun={value}", body).json()
    assert (details["status"], "dryRun" in details["detail"]) == (400, True)
    assert _state(demo) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_the_same(demo: Any, name: str) -> None:
    """Word for word."""
    status, method, url, body, given = REFUSED[name]
    dry = _send(demo, method, _dry(url), body, **given)
    real = _send(demo, method, url, body, **given)
    assert dry.status == real.status == status
    assert dry.json() == real.json()


def test_what_a_real_replacement_tells_is_what_its_dry_run_has_told(demo: Any) -> None:
    """The same function has judged both."""
    for document in (
        make_document("demo", description="d"),
        make_document("demo", "exec sleep 2000"),
        make_document("demo", "exec sleep 2000", state="stopped"),
        make_document("demo", state="stopped"),
        make_document("demo"),
    ):
        [dry] = demo.client.send("PUT", "/flows/demo?dryRun=All", document).json()["details"]
        real = demo.client.send("PUT", "/flows/demo", document).json()
        assert real["change"] == dry["change"]
    assert real["generation"] == 6
