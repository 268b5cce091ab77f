"""The REST contract against a real operator, sentence by sentence.

What docstrings quote are the contract's own words; the others name what completes it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flow_operator.runners.procfs import environment
from support import (
    Flowd,
    alive,
    always_for,
    eventually,
    make_document,
    memory_directory,
    processes_of,
)

COMMANDS = ("start", "stop", "pause", "resume", "restart")
PROBLEM = "application/problem+json"
DEAF = "trap '' TERM; while :; do sleep 0.05; done"
"""A step that only KILL ends."""
SLOW = "trap 'sleep 0.7; exit 0' TERM; while :; do sleep 0.02; done"
"""A step whose drain takes a while."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Flowd]:
    """One operator for the file; starting one for each test would take longer than the tests."""
    with memory_directory() as root:
        operator = Flowd(root)
        try:
            operator.start()
            operator.statuses()  # Opens the connection that all tests use.
            yield operator
        finally:
            operator.destroy()


@pytest.fixture
def flowd(shared: Flowd) -> Iterator[Flowd]:
    """The shared operator, empty before and after; its log must hold no mistake of ours."""
    written = len(shared.log.read_text())
    yield shared
    for flow in shared.client.get("/flows").json():
        shared.client.delete(f"/flows/{flow['flow_id']}?type=1")

    def empty() -> None:
        assert shared.statuses() == {}

    eventually(empty)
    assert processes_of(shared.data) == []
    said = shared.log.read_text()[written:]
    assert "Traceback" not in said
    assert "handler failed" not in said


def processes(flowd: Flowd, flow_id: str) -> list[int]:
    """The living processes of one flow."""
    mark = f"FLOW_ID={flow_id}".encode()
    return [pid for pid in processes_of(flowd.data) if mark in environment(pid)]


def configurations(flowd: Flowd) -> list[dict[str, Any]]:
    return flowd.client.get("/flows").json()


def etag(flowd: Flowd, flow_id: str) -> str:
    return flowd.client.get(f"/flows/{flow_id}").headers["ETag"]


def send(flowd: Flowd, method: str, path: str, body: Any) -> httpx.Response:
    """Send any JSON; the client by itself takes None for no body."""
    headers = {"Content-Type": "application/json"}
    return flowd.client.request(method, path, content=json.dumps(body), headers=headers)


def patch(flowd: Flowd, body: Any, timeout: float = 30) -> httpx.Response:
    return send(flowd, "PATCH", f"/flows/commands?timeout={timeout:g}", body)


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The details of an error, whose shape is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    details: dict[str, Any] = answer.json()
    assert details["status"] == status
    assert {"type", "title", "status", "detail", "errors"} <= set(details)
    assert details["detail"]
    return details


def ready_reason(flowd: Flowd, flow_id: str) -> str:
    conditions = flowd.status(flow_id)["conditions"]
    return next(c["reason"] for c in conditions if c["type"] == "Ready")


# --- base URL --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app_url", "APP_URL"])
def test_base_url_is_defined_by_app_url(
    make_flowd: Callable[..., Flowd], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Says "The base URL is defined by the environment variable app_url": with path."""
    monkeypatch.delenv("app_url", raising=False)
    monkeypatch.delenv("APP_URL", raising=False)
    flowd = make_flowd(environment={name: "http://127.0.0.1:8799/base/of/it"}).start()
    assert flowd.client.base_url.path == "/base/of/it/"
    flowd.create(make_document("flow1"))
    assert flowd.command("stop", "flow1") == {"flow1": "stopped"}
    root = str(flowd.client.base_url).replace("/base/of/it/", "")
    for path in ("/flows", "/", "/base/of/it2/flows", "/base/of", "/flows/status"):
        assert flowd.client.get(root + path).status_code == 404
    assert flowd.client.get(root + "/base/of/it").status_code == 200


def test_app_url_decides_host_and_port(root: Path) -> None:
    """Says "The base URL is defined by the environment variable app_url": host, port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    operator = subprocess.Popen(
        [sys.executable, "-m", "flow_operator.flowd", "--data", str(root / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "app_url": url},
    )
    try:
        assert operator.stdout is not None
        assert operator.stdout.readline().endswith(f"serves {url}\n")
        assert httpx.get(f"{url}/flows").json() == []
        operator.send_signal(signal.SIGTERM)
        operator.stdout.read()
        assert operator.wait(20) == 0
    finally:
        operator.kill()
        operator.wait()
        operator.stdout.close()


# --- configurations --------------------------------------------------------------------------


def test_get_all_configurations(flowd: Flowd) -> None:
    """Says "200 OK. A JSON array of all configurations"; sorted by flow_id."""
    answer = flowd.client.get("/flows")
    assert (answer.status_code, answer.json()) == (200, [])
    flowd.create(*(make_document(name, state="stopped") for name in ("zeta", "alpha", "mid")))
    answer = flowd.client.get("/flows")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert [flow["flow_id"] for flow in answer.json()] == ["alpha", "mid", "zeta"]


def test_get_configuration_by_id(flowd: Flowd) -> None:
    """Says "200 OK. A JSON object of the specific configuration"; one entry of the list of all."""
    flowd.create(make_document("flow1", state="stopped"), make_document("flow2", state="stopped"))
    answer = flowd.client.get("/flows/flow2")
    assert answer.status_code == 200
    assert answer.json() == configurations(flowd)[1]
    assert answer.json()["flow_id"] == "flow2"


def test_get_unknown_configuration(flowd: Flowd) -> None:
    """Says "404 Not Found if the flow_id does not exist"."""
    refused(flowd.client.get("/flows/nobody"), 404)


def test_a_configuration_comes_back_as_it_was_posted(flowd: Flowd) -> None:
    """What was posted, key for key, plus flow_id, apiVersion, kind and metadata.name; no more."""
    posted = {
        "x-note": {"any": [1, None, True, 0.5, "é"]},
        "spec": {
            "state": "stopped",
            "steps": [
                {"name": "read", "script": "cat", "env": [{"name": "A", "value": ""}]},
                {"name": "write", "command": ["cat", "-u", "ünïcode \U0001f600"]},
            ],
            "stop": {"timeout": "90s"},
            "restart": {"backoff": {"factor": 2}},
            "replicas": 1,
        },
        "metadata": {"labels": {"team": "a"}, "annotations": {"deep": {"er": [[], {}]}}},
        "flow_id": "exact",
    }
    flowd.create(posted)
    expected = {**posted, "apiVersion": "flow-operator.dev/v1", "kind": "Flow"}
    expected["metadata"] = {"name": "exact", **posted["metadata"]}
    assert flowd.client.get("/flows/exact").json() == expected


def test_name_may_stand_in_metadata_and_whole_manifests_are_taken(flowd: Flowd) -> None:
    """A configuration is a manifest: what GET answers can be posted again."""
    flowd.create({**make_document("again", state="stopped"), "kind": "Flow"})
    got = flowd.client.get("/flows/again").json()
    flowd.client.delete("/flows/again")
    flowd.await_gone("again")
    del got["flow_id"]
    flowd.create(got)
    assert flowd.client.get("/flows/again").json() == {"flow_id": "again", **got}


def test_what_was_acknowledged_is_there_after_a_crash(make_flowd: Callable[..., Flowd]) -> None:
    """Says "201 Created if the configurations are added successfully": also after kill -9."""
    flowd = make_flowd().start()
    many = make_document("many", state="stopped")
    many["metadata"] = {"annotations": {"numbers": list(range(25_000))}}
    deep: Any = 1
    for _ in range(30):
        deep = [deep]
    nested = make_document("nested", state="stopped")
    nested["metadata"] = {"annotations": {"deep": deep}}
    odd = {f"{text} key": text for text in ("", "\n", "a\0b", "\ufeff", "~", "<<", "1e3", "\x85")}
    strange = make_document("strange", state="stopped")
    strange["metadata"] = {"annotations": odd}
    mine = {**make_document("mine", state="stopped"), "x-operator": {"of": "mine"}}
    for document in (many, nested, strange, mine):
        name = document["flow_id"]
        flowd.client.post("/flows", json=[make_document(name, state="stopped")])
        # Whichever of these is refused needs not be kept; the rest must be.
        flowd.client.put(f"/flows/{name}", json=document)
    before = configurations(flowd)
    flowd.kill()
    flowd.start()
    assert configurations(flowd) == before


def test_a_restarted_operator_keeps_processes_whatever_the_durations(
    make_flowd: Callable[..., Flowd],
) -> None:
    """Durations given as numbers, large or tiny, are remembered: no second copy is started."""
    flowd = make_flowd().start()
    flowd.create(
        make_document("large", stop={"timeout": 1234567}),
        make_document("tiny", restart={"resetAfter": 0.0000001}),
    )
    for name in ("large", "tiny"):
        flowd.await_status(name, "running")
    pids = {name: flowd.pids(name) for name in ("large", "tiny")}
    flowd.kill()
    flowd.start()
    for name in ("large", "tiny"):
        flowd.await_status(name, "running")
    assert {name: flowd.pids(name) for name in ("large", "tiny")} == pids
    assert len(processes_of(flowd.data)) == 2


def test_add_new_configurations(flowd: Flowd) -> None:
    """Says "201 Created if the configurations are added successfully"; a list of what was made."""
    answer = flowd.client.post("/flows", json=[make_document("flow1"), make_document("flow2")])
    assert answer.status_code == 201
    assert answer.json() == {
        "status": "Flows created",
        "details": [
            {"flow_id": "flow1", "status": "pending"},
            {"flow_id": "flow2", "status": "pending"},
        ],
    }
    flowd.await_status("flow1", "running")
    flowd.await_status("flow2", "running")


@pytest.mark.parametrize("body", [{}, make_document("flow1"), "text", 1, 1.5, True, None])
def test_add_what_is_no_array(flowd: Flowd, body: Any) -> None:
    """Says "400 Bad Request if the input is not a JSON array", with the error details."""
    details = refused(send(flowd, "POST", "/flows", body), 400)
    assert "array" in details["detail"]
    assert configurations(flowd) == []


def test_add_is_all_or_nothing_and_names_every_entry_at_fault(flowd: Flowd) -> None:
    """Says "400 ... or other validation errors": one bad entry, and nothing is created."""
    body = [
        make_document("good"),
        make_document("Bad_Name"),
        make_document("fine"),
        {"flow_id": "no-steps", "spec": {"steps": []}},
        7,
    ]
    details = refused(flowd.client.post("/flows", json=body), 400)
    named = {error["pointer"].split("/")[1] for error in details["errors"]}
    assert named == {"1", "3", "4"}
    assert configurations(flowd) == []
    assert flowd.statuses() == {}


def test_add_duplicates(flowd: Flowd) -> None:
    """Twice in the array, or there already: every such entry is named and nothing is created."""
    flowd.create(make_document("there", state="stopped"))
    body = [make_document(name) for name in ("new", "there", "new", "other")]
    details = refused(flowd.client.post("/flows", json=body), 400)
    assert {error["pointer"] for error in details["errors"]} == {"/1", "/2"}
    assert [flow["flow_id"] for flow in configurations(flowd)] == ["there"]


def test_update_configuration(flowd: Flowd) -> None:
    """Says "200 OK if the configuration is updated successfully": the whole of it is replaced."""
    flowd.create(make_document("flow1", state="stopped", description="first"))
    new = make_document("flow1", "exec sleep 2000", state="stopped")
    answer = flowd.client.put("/flows/flow1", json=new)
    assert answer.status_code == 200
    assert isinstance(answer.json(), dict)
    got = flowd.client.get("/flows/flow1").json()
    assert got["spec"] == new["spec"], "the description is gone, too"
    assert flowd.status("flow1")["generation"] == 2


def test_update_changes_what_runs(flowd: Flowd) -> None:
    """An updated running flow runs its new steps, and only them."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    [old] = flowd.pids("flow1")
    assert flowd.client.put(
        "/flows/flow1", json=make_document("flow1", "exec sleep 2000")
    ).is_success

    def replaced() -> None:
        status = flowd.status("flow1")
        assert status["status"] == "running"
        assert status["observedGeneration"] == 2
        assert [step["pid"] for step in status["steps"]] not in ([old], [None])

    eventually(replaced)
    assert not alive(old)
    assert processes(flowd, "flow1") == flowd.pids("flow1")


@pytest.mark.parametrize(
    "body",
    [[], [make_document("flow1")], 1, None, {}, {"spec": {}}, {"spec": {"steps": []}}],
    ids=repr,
)
def test_update_with_invalid_input(flowd: Flowd, body: Any) -> None:
    """Says "400 Bad Request if the input is invalid": details, and the old configuration stands."""
    flowd.create(make_document("flow1", state="stopped"))
    before = configurations(flowd)
    refused(send(flowd, "PUT", "/flows/flow1", body), 400)
    assert configurations(flowd) == before


def test_update_of_an_unknown_id(flowd: Flowd) -> None:
    """An unknown id is invalid input: 400, and nothing is created."""
    refused(flowd.client.put("/flows/nobody", json=make_document("nobody")), 400)
    assert configurations(flowd) == []


def test_update_whose_body_names_another_flow(flowd: Flowd) -> None:
    """An id in the body that disagrees with the path is 400."""
    flowd.create(make_document("flow1", state="stopped"), make_document("flow2", state="stopped"))
    before = configurations(flowd)
    refused(flowd.client.put("/flows/flow1", json=make_document("flow2")), 400)
    body = {"metadata": {"name": "flow2"}, "spec": before[0]["spec"]}
    refused(flowd.client.put("/flows/flow1", json=body), 400)
    assert configurations(flowd) == before


def test_delete_configuration(flowd: Flowd) -> None:
    """Says "200 OK if the configuration is deleted successfully": GET is 404 at once."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    assert flowd.client.delete("/flows/flow1").status_code == 200
    refused(flowd.client.get("/flows/flow1"), 404)
    assert configurations(flowd) == []
    flowd.await_gone("flow1")
    assert processes(flowd, "flow1") == []


def test_delete_unknown(flowd: Flowd) -> None:
    """Says "400 Bad Request if the flow_id does not exist"; also the second time."""
    refused(flowd.client.delete("/flows/nobody"), 400)
    flowd.create(make_document("flow1", SLOW))
    flowd.await_status("flow1", "running")
    assert flowd.client.delete("/flows/flow1").status_code == 200
    refused(flowd.client.delete("/flows/flow1"), 400)


def test_deleted_flow_is_stopping_until_it_is_gone(flowd: Flowd) -> None:
    """After DELETE the status is stopping while anything runs, and then 404."""
    flowd.create(make_document("flow1", SLOW))
    flowd.await_status("flow1", "running")
    [pid] = flowd.pids("flow1")
    flowd.client.delete("/flows/flow1")
    status = flowd.await_status("flow1", "stopping")
    assert status["desired"] == "deleted"
    assert alive(pid)

    def gone() -> None:
        answer = flowd.client.get("/flows/status/flow1")
        if answer.status_code == 200:
            assert alive(pid) or answer.json()["status"] in ("stopping", "stopped")
        assert answer.status_code == 404

    eventually(gone)
    assert processes(flowd, "flow1") == []
    assert "flow1" not in flowd.statuses()


def test_delete_hard(flowd: Flowd) -> None:
    """DELETE ?type=1 kills at once what does not heed TERM."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}))
    flowd.await_status("flow1", "running")
    assert flowd.client.delete("/flows/flow1?type=1").status_code == 200
    flowd.await_gone("flow1")
    assert processes(flowd, "flow1") == []


def test_new_flow_of_a_deleted_ones_id_waits_until_that_is_gone(flowd: Flowd) -> None:
    """POST of the same id is 201 at once; its processes start when the old ones are gone."""
    here = flowd.data.parent
    old = (
        f"trap 'sleep 0.5; rmdir {here}/held; exit 0' TERM; mkdir {here}/held; "
        "while :; do sleep 0.02; done"
    )
    new = f"if [ -d {here}/held ]; then touch {here}/overlap; fi; exec sleep 1000"
    flowd.create(make_document("flow1", old))
    eventually(lambda: _assert((here / "held").is_dir()))
    [pid] = flowd.pids("flow1")
    assert flowd.client.delete("/flows/flow1").status_code == 200
    flowd.create(make_document("flow1", new))
    assert flowd.client.get("/flows/flow1").status_code == 200

    def replaced() -> None:
        status = flowd.status("flow1")
        assert status["status"] == "running"
        assert [step["pid"] for step in status["steps"]] not in ([pid], [None])

    eventually(replaced)
    assert not alive(pid)
    assert not (here / "overlap").exists()
    assert processes(flowd, "flow1") == flowd.pids("flow1")


def test_a_command_to_a_new_flow_never_reports_the_one_deleted_before_it(flowd: Flowd) -> None:
    """What is observed of a deleted flow is no answer about its namesake."""
    for _ in range(15):
        flowd.create(make_document("flow1"))
        flowd.await_status("flow1", "running")
        for command in ("pause", "resume", "pause", "resume"):
            flowd.command(command, "flow1")
        assert flowd.client.delete("/flows/flow1").status_code == 200
        flowd.create(make_document("flow1", state="stopped"))
        assert flowd.command("stop", "flow1") == {"flow1": "stopped"}
        assert processes(flowd, "flow1") == []
        flowd.client.delete("/flows/flow1")
        flowd.await_gone("flow1")


# --- optimistic concurrency ------------------------------------------------------------------


def test_if_match(flowd: Flowd) -> None:
    """ETag changes with each write; If-Match of an older one is 412 and changes nothing."""
    flowd.create(make_document("flow1", state="stopped"))
    first = etag(flowd, "flow1")
    new = make_document("flow1", state="stopped", description="second")
    answer = flowd.client.put("/flows/flow1", json=new, headers={"If-Match": first})
    assert answer.status_code == 200
    second = etag(flowd, "flow1")
    assert answer.headers["ETag"] == second != first
    refused(flowd.client.put("/flows/flow1", json=new, headers={"If-Match": first}), 412)
    refused(flowd.client.delete("/flows/flow1", headers={"If-Match": first}), 412)
    assert etag(flowd, "flow1") == second
    assert flowd.client.put("/flows/flow1", json=new, headers={"If-Match": "*"}).status_code == 200
    third = etag(flowd, "flow1")
    assert flowd.client.delete("/flows/flow1", headers={"If-Match": third}).status_code == 200


def test_a_command_changes_the_etag(flowd: Flowd) -> None:
    """Who read before a command writes over nothing: the command counts as a write."""
    flowd.create(make_document("flow1", state="stopped"))
    before = etag(flowd, "flow1")
    flowd.command("start", "flow1")
    body = make_document("flow1")
    refused(flowd.client.put("/flows/flow1", json=body, headers={"If-Match": before}), 412)


def test_of_two_puts_with_one_etag_one_wins(flowd: Flowd) -> None:
    """Two at once with the same If-Match: one is 200, the other 412; the winner's stands."""
    flowd.create(make_document("flow1", state="stopped"))
    for _ in range(10):
        answers = _at_once(flowd, [_put_with(etag(flowd, "flow1"), who) for who in ("a", "b")])
        assert sorted(answers.values()) == [200, 412]
        [winner] = [who for who, status in answers.items() if status == 200]
        assert flowd.client.get("/flows/flow1").json()["spec"]["description"] == winner


def _put_with(tag: str, who: str) -> tuple[str, Callable[[httpx.Client], int]]:
    body = make_document("flow1", state="stopped", description=who)

    def send(client: httpx.Client) -> int:
        return client.put("/flows/flow1", json=body, headers={"If-Match": tag}).status_code

    return who, send


def _at_once(
    flowd: Flowd, calls: list[tuple[str, Callable[[httpx.Client], int]]]
) -> dict[str, int]:
    """Make calls from a thread each, as near to each other in time as can be."""
    barrier = threading.Barrier(len(calls))
    answers: dict[str, int] = {}

    def run(name: str, call: Callable[[httpx.Client], int]) -> None:
        with httpx.Client(base_url=flowd.client.base_url, timeout=30) as client:
            client.get("/livez")
            barrier.wait(10)
            answers[name] = call(client)

    threads = [threading.Thread(target=run, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_of_posts_of_one_id_at_once_one_wins(flowd: Flowd) -> None:
    """Eight clients post the same id and one of their own: one 201, seven 400, nothing by half."""

    def post(who: str) -> tuple[str, Callable[[httpx.Client], int]]:
        body = [
            make_document(f"own-{who}", state="stopped"),
            make_document("same", state="stopped"),
        ]
        return who, lambda client: client.post("/flows", json=body).status_code

    answers = _at_once(flowd, [post(f"{n}") for n in range(8)])
    assert sorted(answers.values()) == [201] + [400] * 7
    [winner] = [who for who, status in answers.items() if status == 201]
    assert [flow["flow_id"] for flow in configurations(flowd)] == [f"own-{winner}", "same"]


RACERS = [f"race-{n}" for n in range(4)]


def _one_of_a_storm(client: httpx.Client, seed: int, step: int) -> httpx.Response:
    name = RACERS[(seed + step) % len(RACERS)]
    match (seed * 7 + step) % 5:
        case 0:
            return client.post("/flows", json=[make_document(name)])
        case 1:
            return client.delete(f"/flows/{name}?type={step % 2}")
        case 2:
            return client.put(f"/flows/{name}", json=make_document(name, "exec sleep 999"))
        case 3:
            body = {"command": COMMANDS[step % 5], "flow_ids": [name]}
            return client.patch("/flows/commands?timeout=0.05", json=body)
        case _:
            return client.get(f"/flows/status/{name}")


def test_posts_deletes_puts_and_commands_from_many_threads(flowd: Flowd) -> None:
    """Whatever is sent at once, every answer is a documented one and it all comes to rest."""

    def storm(seed: int) -> tuple[str, Callable[[httpx.Client], int]]:
        def send_all(client: httpx.Client) -> int:
            codes = {_one_of_a_storm(client, seed, step).status_code for step in range(25)}
            return max(codes - {200, 201, 400, 404}, default=0)

        return f"{seed}", send_all

    assert set(_at_once(flowd, [storm(seed) for seed in range(8)]).values()) == {0}
    kept = [flow["flow_id"] for flow in configurations(flowd)]

    def settled() -> None:
        statuses = flowd.statuses()
        assert sorted(statuses) == kept
        for status in statuses.values():
            wanted = {"paused": ("paused", "stopped")}.get(status["desired"], (status["desired"],))
            assert status["status"] in wanted
            assert status["observedGeneration"] == status["generation"]

    eventually(settled)
    shown = [pid for status in flowd.statuses().values() for pid in _pids(status)]
    assert processes_of(flowd.data) == sorted(shown)


def _pids(status: dict[str, Any]) -> list[int]:
    return [step["pid"] for step in status["steps"] if step["pid"]]


# --- status ----------------------------------------------------------------------------------


def test_get_flow_status(flowd: Flowd) -> None:
    """Says "A JSON object containing the status of all flows", keyed by flow_id."""
    assert flowd.statuses() == {}
    flowd.create(make_document("flow2"), make_document("flow1", state="stopped"))
    flowd.await_status("flow2", "running")
    flowd.await_status("flow1", "stopped")
    answer = flowd.client.get("/flows/status")
    assert answer.status_code == 200
    assert list(answer.json()) == ["flow1", "flow2"]
    told = {name: status["status"] for name, status in answer.json().items()}
    assert told == {"flow1": "stopped", "flow2": "running"}


def test_get_specific_flow_status(flowd: Flowd) -> None:
    """Says "A JSON object containing the status of the specific flow", as in the list."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    answer = flowd.client.get("/flows/status/flow1")
    assert answer.status_code == 200
    status = answer.json()
    assert {
        *("flow_id", "status", "desired", "generation", "observedGeneration", "conditions"),
        *("restarts", "startedAt", "message", "source", "steps"),
    } <= set(status)
    assert (status["flow_id"], status["status"], status["desired"]) == ("flow1",) + ("running",) * 2
    [step] = status["steps"]
    assert {
        *("name", "state", "pid", "restarts", "lastExit"),
        *("cpuSeconds", "memoryBytes", "inFlightBytes"),
    } <= set(step)
    assert alive(step["pid"])
    assert set(status) == set(flowd.statuses()["flow1"])
    assert {c["type"] for c in status["conditions"]} == {"Ready", "Reconciling", "Stalled"}


def test_get_unknown_flow_status(flowd: Flowd) -> None:
    """Says "404 Not Found if the flow_id does not exist"."""
    refused(flowd.client.get("/flows/status/nobody"), 404)


def test_a_created_flow_has_a_status_at_once(flowd: Flowd) -> None:
    """Whoever posted may ask: there is no moment at which a created flow is unknown."""
    for number in range(20):
        flowd.create(make_document(f"flow-{number}", state="stopped"))
        assert flowd.status(f"flow-{number}")["status"] in ("pending", "stopped")
        assert f"flow-{number}" in flowd.statuses()


# --- commands --------------------------------------------------------------------------------


def both(word: str) -> list[dict[str, str]]:
    return [{"flow_id": "flow1", "status": word}, {"flow_id": "flow2", "status": word}]


def test_the_examples_of_the_contract(flowd: Flowd) -> None:
    """Says "Start Flows", "Stop Flows", "Pause Flows", "Resume Flows": the very bodies."""
    flowd.create(make_document("flow1", state="stopped"), make_document("flow2", state="stopped"))
    ids = ["flow1", "flow2"]
    for request, status, word in (
        ({"command": "start", "flow_ids": ids}, "Flows started", "running"),
        ({"command": "pause", "flow_ids": ids}, "Flows paused", "paused"),
        ({"command": "resume", "flow_ids": ids}, "Flows resumed", "running"),
        ({"command": "stop", "flow_ids": ids, "type": 0}, "Flows stopped", "stopped"),
        ({"command": "start", "flow_ids": ids}, "Flows started", "running"),
    ):
        answer = flowd.client.patch("/flows/commands", json=request)
        assert answer.status_code == 200
        assert answer.json() == {"status": status, "details": both(word)}
        assert {name: flowd.status(name)["status"] for name in ids} == dict.fromkeys(ids, word)


def test_details_stand_in_the_order_asked(flowd: Flowd) -> None:
    """The answer lists the flows as flow_ids does; an id that stands twice is told once."""
    flowd.create(*(make_document(name, state="stopped") for name in ("a", "b", "c")))
    body = {"command": "stop", "flow_ids": ["c", "a", "c", "b"], "type": 0}
    told = [row["flow_id"] for row in patch(flowd, body).json()["details"]]
    assert told == ["c", "a", "b"]


def test_flow_ids_left_out_means_all(flowd: Flowd) -> None:
    """Says "Issue a command to all flows or specific flows": without flow_ids, all of them."""
    assert patch(flowd, {"command": "stop"}).json() == {"status": "Flows stopped", "details": []}
    flowd.create(*(make_document(name, state="stopped") for name in ("b", "a", "c")))
    details = patch(flowd, {"command": "start"}).json()["details"]
    assert details == [{"flow_id": name, "status": "running"} for name in ("a", "b", "c")]


def test_only_the_named_flows_are_commanded(flowd: Flowd) -> None:
    """Says "The IDs of the flows to command": the others are left alone."""
    flowd.create(make_document("flow1"), make_document("flow2"))
    flowd.await_status("flow2", "running")
    pids = flowd.pids("flow2")
    assert flowd.command("stop", "flow1") == {"flow1": "stopped"}
    assert flowd.pids("flow2") == pids


@pytest.mark.parametrize(
    "body",
    [
        {"command": "stop", "flow_ids": []},
        {"command": "stop", "flow_ids": None},
        {"command": "stop", "flow_ids": "flow1"},
        {"command": "stop", "flow_ids": [1]},
        {"command": "stop", "flow_ids": ["flow1", None]},
        {"command": "stop", "flow_ids": {"flow1": True}},
        {"command": "halt", "flow_ids": ["flow1"]},
        {"command": "STOP", "flow_ids": ["flow1"]},
        {"command": "", "flow_ids": ["flow1"]},
        {"command": None, "flow_ids": ["flow1"]},
        {"command": 0, "flow_ids": ["flow1"]},
        {"command": ["stop"], "flow_ids": ["flow1"]},
        {"flow_ids": ["flow1"]},
        {"command": "stop", "flow_ids": ["flow1"], "type": 2},
        {"command": "stop", "flow_ids": ["flow1"], "type": -1},
        {"command": "stop", "flow_ids": ["flow1"], "type": "0"},
        {"command": "stop", "flow_ids": ["flow1"], "type": True},
        {"command": "stop", "flow_ids": ["flow1"], "type": 0.5},
        {"command": "stop", "flow_ids": ["flow1"], "flow_id": "flow2"},
        *({"command": c, "flow_ids": ["flow1"], "type": 0} for c in COMMANDS if c != "stop"),
        [],
        [{"command": "stop"}],
        "stop",
        None,
        {},
    ],
    ids=repr,
)
def test_invalid_commands(flowd: Flowd, body: Any) -> None:
    """Says "400 Bad Request if the input is invalid or the command is not recognized"."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    before = (flowd.pids("flow1"), etag(flowd, "flow1"))
    refused(patch(flowd, body), 400)
    assert (flowd.pids("flow1"), etag(flowd, "flow1")) == before
    assert flowd.status("flow1")["status"] == "running"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_unknown_id_and_nothing_is_done(flowd: Flowd, position: int) -> None:
    """Every id is checked first: 400 naming each unknown one, for every command."""
    flowd.create(make_document("flow1"), make_document("flow2", state="stopped"))
    flowd.await_status("flow1", "running")
    flowd.await_status("flow2", "stopped")
    before = (configurations(flowd), etag(flowd, "flow1"), etag(flowd, "flow2"))
    pids = flowd.pids("flow1")
    ids = ["flow1", "flow2"]
    ids.insert(position, "nobody")
    for command in COMMANDS:
        details = refused(patch(flowd, {"command": command, "flow_ids": [*ids, "nor-me"]}), 400)
        told = " ".join(error["detail"] for error in details["errors"])
        assert "nobody" in told
        assert "nor-me" in told
        assert (configurations(flowd), etag(flowd, "flow1"), etag(flowd, "flow2")) == before
    always_for(0.1, lambda: _assert(flowd.pids("flow1") == pids))
    assert flowd.status("flow2")["status"] == "stopped"


def test_a_deleted_flow_is_unknown_to_commands(flowd: Flowd) -> None:
    """While what runs of it still drains, its id names no flow."""
    flowd.create(make_document("flow1", SLOW))
    flowd.await_status("flow1", "running")
    flowd.client.delete("/flows/flow1")
    refused(patch(flowd, {"command": "start", "flow_ids": ["flow1"]}), 400)


def test_soft_stop_lets_a_step_finish(flowd: Flowd) -> None:
    """Says "0 for soft stop", which is the default: TERM, and what the step does is waited for."""
    for body in ({"type": 0}, {}):
        script = (
            "trap 'sleep 0.2; touch $FLOW_DATA/finished; exit 0' TERM; while :; do sleep 0.02; done"
        )
        (flowd.work("flow1") / "finished").unlink(missing_ok=True)
        flowd.create(make_document("flow1", script))
        flowd.await_status("flow1", "running")
        _await_shell(flowd, "flow1")
        answer = patch(flowd, {"command": "stop", "flow_ids": ["flow1"], **body})
        assert answer.json()["details"] == [{"flow_id": "flow1", "status": "stopped"}]
        assert (flowd.work("flow1") / "finished").exists()
        assert processes(flowd, "flow1") == []
        flowd.client.delete("/flows/flow1")
        flowd.await_gone("flow1")


def _await_shell(flowd: Flowd, flow_id: str) -> None:
    """Until a step's shell has started a child, and so has set its trap."""
    eventually(lambda: _assert(len(processes(flowd, flow_id)) > 1))


def test_hard_stop_kills_at_once(flowd: Flowd) -> None:
    """Says "1 for hard stop": a step that ignores TERM is gone long before its own timeout."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}))
    _await_shell(flowd, "flow1")
    begun = time.monotonic()
    assert flowd.command("stop", "flow1", type=1) == {"flow1": "stopped"}
    assert time.monotonic() - begun < 5
    assert processes(flowd, "flow1") == []
    assert ready_reason(flowd, "flow1") == "Forced"


def test_a_hard_stop_during_a_soft_one_escalates(flowd: Flowd) -> None:
    """And a soft one during a hard one takes nothing back."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}))
    _await_shell(flowd, "flow1")
    flowd.command("stop", "flow1", type=0, timeout=0)
    flowd.await_status("flow1", "stopping")
    assert processes(flowd, "flow1")
    assert flowd.command("stop", "flow1", type=1) == {"flow1": "stopped"}
    assert processes(flowd, "flow1") == []
    assert flowd.command("stop", "flow1", type=0) == {"flow1": "stopped"}


def test_soft_stop_of_a_paused_flow_thaws_and_drains(flowd: Flowd) -> None:
    """What was in the paused flow's pipe, and what its source says at its end, is not lost."""
    source = "trap 'echo last; exit 0' TERM; while :; do echo x; sleep 0.01; done"
    flowd.create(make_document("flow1", source, "cat > $FLOW_DATA/out"))
    out = flowd.work("flow1") / "out"
    eventually(lambda: _assert(out.exists() and out.stat().st_size > 10))
    assert flowd.command("pause", "flow1") == {"flow1": "paused"}
    assert flowd.command("stop", "flow1", type=0) == {"flow1": "stopped"}
    assert out.read_text().endswith("x\nlast\n")
    assert ready_reason(flowd, "flow1") == "Drained"
    assert processes(flowd, "flow1") == []


def test_hard_stop_of_a_paused_flow(flowd: Flowd) -> None:
    """Frozen processes are killed as they are."""
    flowd.create(make_document("flow1", DEAF))
    _await_shell(flowd, "flow1")
    assert flowd.command("pause", "flow1") == {"flow1": "paused"}
    assert flowd.command("stop", "flow1", type=1) == {"flow1": "stopped"}
    assert processes(flowd, "flow1") == []


def test_pause_holds_and_resume_goes_on(flowd: Flowd) -> None:
    """A paused flow keeps its processes and does nothing; resumed, it goes on where it was."""
    flowd.create(make_document("flow1", "while :; do echo x >> $FLOW_DATA/out; sleep 0.01; done"))
    flowd.await_status("flow1", "running")
    out = flowd.work("flow1") / "out"
    eventually(lambda: _assert(out.exists() and out.stat().st_size > 4))
    pids = flowd.pids("flow1")
    assert flowd.command("pause", "flow1") == {"flow1": "paused"}
    size = out.stat().st_size
    always_for(0.3, lambda: _assert(out.stat().st_size == size))
    assert flowd.command("resume", "flow1") == {"flow1": "running"}
    assert flowd.pids("flow1") == pids
    eventually(lambda: _assert(out.stat().st_size > size))


def test_pause_of_what_does_not_run_starts_nothing(flowd: Flowd) -> None:
    """Pause holds whatever is there; a flow that is not running stays not running."""
    flowd.create(make_document("flow1", state="stopped"))
    assert flowd.command("pause", "flow1") == {"flow1": "stopped"}
    assert processes(flowd, "flow1") == []
    assert flowd.command("resume", "flow1") == {"flow1": "running"}


def test_start_and_resume_both_mean_running(flowd: Flowd) -> None:
    """Start continues what is paused; resume starts what is stopped."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    pids = flowd.pids("flow1")
    flowd.command("pause", "flow1")
    assert flowd.command("start", "flow1") == {"flow1": "running"}
    assert flowd.pids("flow1") == pids
    flowd.command("stop", "flow1")
    assert flowd.command("resume", "flow1") == {"flow1": "running"}


@pytest.mark.parametrize(
    ("command", "word"),
    [("start", "running"), ("resume", "running"), ("pause", "paused"), ("stop", "stopped")],
)
def test_commands_are_idempotent(flowd: Flowd, command: str, word: str) -> None:
    """The same command again: the same answer, the same processes, and nothing is written."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    assert flowd.command(command, "flow1") == {"flow1": word}
    before = (flowd.pids("flow1"), etag(flowd, "flow1"), flowd.status("flow1")["generation"])
    for _ in range(3):
        assert flowd.command(command, "flow1") == {"flow1": word}
    after = (flowd.pids("flow1"), etag(flowd, "flow1"), flowd.status("flow1")["generation"])
    assert after == before


def test_restart_makes_new_processes(flowd: Flowd) -> None:
    """Restart ends what runs and starts it again; also what is stopped."""
    flowd.create(make_document("flow1"))
    flowd.await_status("flow1", "running")
    [old] = flowd.pids("flow1")
    assert flowd.command("restart", "flow1") == {"flow1": "running"}
    assert flowd.pids("flow1") != [old]
    assert not alive(old)
    flowd.command("stop", "flow1")
    assert flowd.command("restart", "flow1") == {"flow1": "running"}


@pytest.mark.parametrize("command", ["start", "resume", "restart"])
def test_start_of_a_completed_flow_runs_it_again(flowd: Flowd, command: str) -> None:
    """A flow that has run to its end runs once more, and once only."""
    name = f"completes-{command}"
    flowd.create(make_document(name, "echo x >> $FLOW_DATA/runs", restart={"policy": "Never"}))
    flowd.await_status(name, "completed")
    told = flowd.command(command, name)
    assert told in ({name: "running"}, {name: "completed"}), told
    runs = flowd.work(name) / "runs"
    eventually(lambda: _assert(runs.read_text() == "x\nx\n"))
    flowd.await_status(name, "completed")
    always_for(0.2, lambda: _assert(runs.read_text() == "x\nx\n"))


def test_timeout_zero_answers_at_once(flowd: Flowd) -> None:
    """Without waiting, the answer tells what is observed so far, not what was asked for."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}))
    _await_shell(flowd, "flow1")
    begun = time.monotonic()
    told = flowd.command("stop", "flow1", timeout=0)
    assert time.monotonic() - begun < 2
    assert told in ({"flow1": "running"}, {"flow1": "stopping"})
    assert processes(flowd, "flow1")


def test_when_time_is_up_the_answer_is_what_is_observed(flowd: Flowd) -> None:
    """The wait ends after ``timeout`` seconds: one flow has come to rest, the other has not."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}), make_document("flow2"))
    _await_shell(flowd, "flow1")
    flowd.await_status("flow2", "running")
    begun = time.monotonic()
    told = flowd.command("stop", "flow1", "flow2", timeout=0.5)
    assert 0.4 < time.monotonic() - begun < 5
    assert told == {"flow1": "stopping", "flow2": "stopped"}
    assert processes(flowd, "flow1")
    assert not processes(flowd, "flow2")


def test_commands_that_wait_do_not_hold_up_others(flowd: Flowd) -> None:
    """Fifty clients wait for a flow that does not stop; another one is answered."""
    flowd.create(make_document("flow1", DEAF, stop={"timeout": "10m"}), make_document("flow2"))
    _await_shell(flowd, "flow1")
    body = {"command": "stop", "flow_ids": ["flow1"]}

    def wait(client: httpx.Client) -> int:
        return client.patch("/flows/commands?timeout=2", json=body).status_code

    def other(client: httpx.Client) -> int:
        slowest = 0.0
        for _ in range(20):
            begun = time.monotonic()
            client.get("/flows/status").raise_for_status()
            slowest = max(slowest, time.monotonic() - begun)
        return 200 if slowest < 1 else 0

    answers = _at_once(flowd, [*((f"{n}", wait) for n in range(50)), ("other", other)])
    assert set(answers.values()) == {200}


@pytest.mark.parametrize(("number", "heed"), [(0, ""), (1, "trap '' TERM; ")])
def test_stopped_means_gone(flowd: Flowd, number: int, heed: str) -> None:
    """``stopped`` is never reported while a process of the flow lives, escaped ones included."""
    script = f'setsid sh -c "{heed}exec sleep 1000" & exec sleep 1000'
    flowd.create(make_document("flow1", script))
    eventually(lambda: _assert(len(processes(flowd, "flow1")) == 2))
    assert flowd.command("stop", "flow1", type=number) == {"flow1": "stopped"}
    assert processes(flowd, "flow1") == []


def test_commanded_states_survive_a_crash(make_flowd: Callable[..., Flowd]) -> None:
    """A command is an edit of what is wanted: kill -9 takes nothing acknowledged back."""
    flowd = make_flowd().start()
    flowd.create(*(make_document(f"flow{n}") for n in range(3)))
    for n in range(3):
        flowd.await_status(f"flow{n}", "running")
    flowd.command("stop", "flow0")
    flowd.command("pause", "flow1")
    flowd.kill()
    flowd.start()
    flowd.await_status("flow0", "stopped")
    flowd.await_status("flow1", "paused")
    flowd.await_status("flow2", "running")


def _assert(condition: bool) -> None:
    assert condition
