"""What a dry run tells is what then really happens to processes."""

from __future__ import annotations

from typing import Any

import pytest

from support import Flowd, alive, eventually, make_document, processes_of

SLEEPS = "exec sleep 1000"
OTHER = "exec sleep 2000"

EDITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the same": ({}, {}, "none"),
    "stopped, changed": ({"state": "stopped"}, {"state": "stopped", "replicas": 2}, "none"),
    "described": ({}, {"description": "d"}, "inPlace"),
    "scaled up": ({}, {"replicas": 2}, "inPlace"),
    "scaled down": ({"replicas": 2}, {}, "inPlace"),
    "paused": ({}, {"state": "paused"}, "inPlace"),
    "resumed": ({"state": "paused"}, {}, "start"),
    "other steps": ({}, {"script": OTHER}, "restart"),
    "other steps, on delete": (
        {"update": {"strategy": "OnDelete"}},
        {"update": {"strategy": "OnDelete"}, "script": OTHER},
        "inPlace",
    ),
    "started": ({"state": "stopped"}, {}, "start"),
    "stopped": ({}, {"state": "stopped"}, "stop"),
}


def _document(given: dict[str, Any]) -> dict[str, Any]:
    spec = {key: value for key, value in given.items() if key != "script"}
    return make_document("demo", given.get("script", SLEEPS), **spec)


def _settled(flowd: Flowd, generation: int) -> list[int]:
    """The pids once nothing more happens; those of the status, and all there are."""

    def check() -> list[int]:
        status = flowd.status("demo")
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        assert (status["observedGeneration"], conditions["Reconciling"]) == (generation, "False")
        pids = [step["pid"] for step in status["steps"]]
        assert pids == [] or len(pids) == status["replicas"]
        assert sorted(pids) == processes_of(flowd.data)
        return pids

    return eventually(check)


def _change(before: list[int], after: list[int]) -> set[str]:
    """What may be said of processes that have become others."""
    if set(before) & set(after):
        return {"none", "inPlace"} if before == after else {"inPlace"}
    if not before:
        return {"start"} if after else {"none"}
    return {"restart"} if after else {"stop"}


@pytest.mark.parametrize(("given", "edited", "change"), EDITS.values(), ids=EDITS)
def test_what_was_foreseen_happens(
    flowd: Flowd, given: dict[str, Any], edited: dict[str, Any], change: str
) -> None:
    """The dry run leaves pids, generation and version; the real one says and does the same."""
    flowd.create(_document(given))
    before = _settled(flowd, 1)
    etag = flowd.client.get("/flows/demo").headers["ETag"]
    dry = flowd.client.put("/flows/demo?dryRun=All", json=_document(edited))
    assert dry.status_code == 200
    assert dry.json()["details"] == [{"flow_id": "demo", "change": change}]
    assert flowd.client.get("/flows/demo").headers["ETag"] == etag
    assert _settled(flowd, 1) == before
    real = flowd.client.put("/flows/demo", json=_document(edited)).json()
    assert real["change"] == change
    after = _settled(flowd, real["generation"])
    assert change in _change(before, after)


def test_a_new_flow_and_a_deleted_one(flowd: Flowd) -> None:
    """``start`` and ``stop``; a dry run of either leaves the other state."""
    made = flowd.client.post("/flows?dryRun=All", json=[_document({})])
    assert (made.status_code, made.json()["details"][0]["change"]) == (201, "start")
    assert flowd.client.get("/flows").json() == []
    assert flowd.statuses() == {}
    flowd.create(_document({}))
    [pid] = _settled(flowd, 1)
    gone = flowd.client.delete("/flows/demo?dryRun=All&type=1")
    assert (gone.status_code, gone.json()["details"][0]["change"]) == (200, "stop")
    assert _settled(flowd, 1) == [pid]
    flowd.client.delete("/flows/demo")
    flowd.await_gone("demo")
    assert not alive(pid)
