"""History and rollback through WSGI."""

from __future__ import annotations

from typing import Any

import pytest

from flow_operator.store import Origin
from flow_operator.store.desired import changed
from support import make_document, make_manifest


@pytest.fixture
def edited(api: Any) -> Any:
    """A flow of four generations: created, an edit in place, another script, a restart."""
    client = api.client
    client.environ["REMOTE_ADDR"] = "127.0.0.1"
    client.send("POST", "/flows", [make_document("demo", "one")]).read()
    client.send("PUT", "/flows/demo", make_document("demo", "one", description="first")).read()
    client.send("PUT", "/flows/demo", make_document("demo", "two", description="first")).read()
    body = {"command": "restart", "flow_ids": ["demo"]}
    client.send("PATCH", "/flows/commands?timeout=0", body, REMOTE_ADDR="192.0.2.7").read()
    return api


def test_the_history_tells_who_did_what_and_what_it_cost(edited: Any) -> None:
    """Newest first; the first generation is compared with nothing."""
    answer = edited.client.get("/flows/demo/history").json()
    assert answer["flow_id"] == "demo"
    rows = answer["history"]
    assert [row["generation"] for row in rows] == [4, 3, 2, 1]
    assert [row["action"] for row in rows] == ["restart", "replace", "replace", "create"]
    assert [row["change"] for row in rows] == ["restart", "restart", "inPlace", "start"]
    assert rows[0]["by"] == "api:192.0.2.7"
    assert {row["by"] for row in rows[1:]} == {"api:127.0.0.1"}
    assert all(row["at"].endswith("Z") for row in rows)


def test_a_difference_is_a_unified_diff_of_the_yaml(edited: Any) -> None:
    """From the generation before it."""
    rows = edited.client.get("/flows/demo/history").json()["history"]
    assert rows[1]["diff"].splitlines() == [
        "--- generation 2",
        "+++ generation 3",
        *("@@ -5,5 +5,5 @@", " spec:", "   steps:", "   - name: s0"),
        *("-    script: one", "+    script: two", "   description: first"),
    ]
    assert all(line[0] == "+" for line in rows[3]["diff"].splitlines()[3:])


def test_of_many_generations_ten_are_told_and_each_has_its_difference(edited: Any) -> None:
    """Also the oldest one: what it was compared with is kept."""
    for number in range(20):
        edited.client.send("PUT", "/flows/demo", make_document("demo", f"s{number}")).read()
    rows = edited.client.get("/flows/demo/history").json()["history"]
    assert [row["generation"] for row in rows] == list(range(24, 14, -1))
    assert all(f"+    script: s{row['generation'] - 5}" in row["diff"] for row in rows)
    assert edited.client.get("/flows/demo/history/15").read()
    assert edited.client.get("/flows/demo/history/14").json()["status"] == 404


def test_what_came_before_and_is_not_kept_has_no_difference(edited: Any) -> None:
    """Null, rather than all of it."""
    edited.store._behind.run()
    history = edited.layout.history / "demo.jsonl"
    history.write_bytes(b"\n".join(history.read_bytes().splitlines()[1:]) + b"\n")
    oldest = edited.client.get("/flows/demo/history").json()["history"][-1]
    assert (oldest["generation"], oldest["change"], oldest["diff"]) == (2, "inPlace", None)


def test_an_earlier_configuration_is_shown_as_the_present_one_is(edited: Any) -> None:
    """``flow_id`` and manifest."""
    answer = edited.client.get("/flows/demo/history/2").json()
    assert answer["flow_id"] == "demo"
    assert answer["spec"] == make_document("demo", "one", description="first")["spec"]
    present = edited.client.get("/flows/demo").json()
    assert edited.client.get("/flows/demo/history/4").json() == present


def test_a_rollback_answers_as_a_put_does(edited: Any) -> None:
    """With the new generation, what it was, what it costs and the ETag."""
    answer = edited.client.send("POST", "/flows/demo/rollback", {"generation": 1})
    etag = answer.headers["Etag"]
    assert answer.json() == {
        "status": "Flow rolled back",
        "flow_id": "demo",
        "to": 1,
        "generation": 5,
        "change": "restart",
    }
    shown = edited.client.get("/flows/demo")
    assert (shown.headers["Etag"], bool(shown.read())) == (etag, True)
    assert edited.client.get("/flows/demo").json()["spec"] == make_document("demo", "one")["spec"]
    newest = edited.client.get("/flows/demo/history").json()["history"][0]
    assert (newest["generation"], newest["action"]) == (5, "rollback")
    again = edited.client.send("POST", "/flows/demo/rollback", {}).json()
    assert (again["to"], again["generation"]) == (4, 6)


def test_a_dry_run_of_a_rollback_changes_nothing(edited: Any) -> None:
    """It tells what would happen to processes, and what a real one would refuse."""
    kept = edited.client.get("/flows/demo/history").json()
    url = "/flows/demo/rollback?dryRun=All"
    answer = edited.client.send("POST", url, {"generation": 1}).json()
    assert (answer["dryRun"], answer["details"]) == (
        "All",
        [{"flow_id": "demo", "change": "restart"}],
    )
    assert edited.client.send("POST", url, {"generation": 9}).json()["status"] == 400
    assert edited.client.get("/flows/demo/history").json() == kept


REFUSED: dict[str, tuple[int, str, Any, dict[str, Any]]] = {
    "unknown flow": (404, "/flows/nobody/rollback", {}, {}),
    "not kept": (400, "/flows/demo/rollback", {"generation": 9}, {}),
    "the present one": (400, "/flows/demo/rollback", {"generation": 4}, {}),
    "no number": (400, "/flows/demo/rollback", {"generation": "1"}, {}),
    "below one": (400, "/flows/demo/rollback", {"generation": 0}, {}),
    "a flag": (400, "/flows/demo/rollback", {"generation": True}, {}),
    "unknown key": (400, "/flows/demo/rollback", {"to": 1}, {}),
    "no object": (400, "/flows/demo/rollback", [1], {}),
    "no dry run": (400, "/flows/demo/rollback?dryRun=true", {}, {}),
    "unknown parameter": (400, "/flows/demo/rollback?forced=true", {}, {}),
    "old ETag": (412, "/flows/demo/rollback", {"generation": 1}, {"HTTP_IF_MATCH": '"1"'}),
}


@pytest.mark.parametrize(("status", "url", "body", "given"), REFUSED.values(), ids=REFUSED)
def test_refused_rollbacks(
    edited: Any, status: int, url: str, body: Any, given: dict[str, Any]
) -> None:
    """A problem, and nothing was changed."""
    answer = edited.client.send("POST", url, body, **given)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]
    assert edited.store.get("demo").generation == 4


@pytest.mark.parametrize("path", ["/flows/nobody/history", "/flows/nobody/history/1"])
def test_history_of_nobody(api: Any, path: str) -> None:
    """404; of a deleted flow, too."""
    assert api.client.get(path).json()["status"] == 404


def test_a_files_flow_is_rolled_back_by_force_only(edited: Any) -> None:
    """409 names the file, as PUT's does."""
    with edited.store.transaction() as transaction:
        origin = Origin("orders.yaml", "/srv", {})
        present = transaction.get("demo")
        transaction.put(changed(transaction, present, make_manifest("demo", "three"), origin))
    answer = edited.client.send("POST", "/flows/demo/rollback", {"generation": 1})
    assert answer.status == 409
    assert "orders.yaml" in answer.json()["detail"]
    forced = edited.client.send("POST", "/flows/demo/rollback?force=true", {"generation": 1})
    assert forced.json()["generation"] == 6
    assert edited.client.get("/flows/demo/history").json()["history"][1]["by"] == "file:orders.yaml"
