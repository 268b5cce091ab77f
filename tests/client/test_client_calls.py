"""Both clients against a real operator: what calls send back, and what they raise."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flow_operator.client import (
    ApiError,
    Conflict,
    FlowClient,
    Forbidden,
    InvalidError,
    NotFound,
    NotModified,
    PreconditionFailed,
    Seen,
    Unauthorized,
)
from flow_operator.client.errors import refusal
from support import Flowd, eventually, make_document

TOKENS = {role: f"{role}-c4nary-0123456789abcdef" for role in ("viewer", "admin")}


def still(name: str, **metadata: Any) -> dict[str, Any]:
    """A flow that is not to run."""
    document = make_document(name, state="stopped")
    return {**document, "metadata": {"name": name, **metadata}}


def test_a_flow_from_its_creation_to_its_end(client: Any) -> None:
    """What is read can be edited and sent back."""
    assert client.create([make_document("a")]) == [{"flow_id": "a", "status": "pending"}]
    assert client.wait_for("a")["a"]["status"] == "running"
    document, etag = client.flow("a")
    document["spec"]["description"] = "new"
    answer = client.replace("a", document, if_match=etag)
    assert (answer["change"], answer["generation"]) == ("inPlace", 2)
    assert [flow["spec"].get("description") for flow in client.flows()] == ["new"]
    assert client.command("stop", ["a"], hard=True, timeout=20) == {"a": "stopped"}
    assert client.statuses()["a"]["status"] == client.status("a")["status"] == "stopped"
    assert [entry["action"] for entry in client.history("a")] == ["stop", "replace", "create"]
    assert "description" not in client.generation("a", 1)["spec"]
    assert client.rollback("a", 2)["to"] == 2
    client.wait_for("a")  # Until then, more happens.
    assert client.events("a")
    assert client.events("a") == [event for event in client.events() if event["flow_id"] == "a"]
    assert client.delete("a", hard=True)["flow_id"] == "a"
    assert client.wait_for("a", "deleted") == {}
    with pytest.raises(NotFound):
        client.status("a")


def test_dry_runs_change_nothing(client: Any) -> None:
    """And tell what would happen to processes."""
    assert client.create([make_document("a")], dry_run=True) == [
        {"flow_id": "a", "change": "start"}
    ]
    assert client.flows() == []
    client.create([still("a")])
    running = {**still("a"), "spec": {**still("a")["spec"], "state": "running"}}
    assert client.replace("a", running, dry_run=True) == {"flow_id": "a", "change": "start"}
    assert client.command("start", ["a"], dry_run=True) == {"a": "start"}
    assert client.delete("a", dry_run=True) == {"flow_id": "a", "change": "none"}
    assert client.flow("a")[0]["spec"]["state"] == "stopped"


def test_selectors_choose(client: Any) -> None:
    """Flows, statuses, and whom a command is for."""
    client.create([still("a", labels={"team": "x"}), still("b")])
    for chosen in ({"label_selector": "team=x"}, {"field_selector": "flow_id=a"}):
        assert [flow["flow_id"] for flow in client.flows(**chosen)] == ["a"]
        assert list(client.statuses(**chosen)) == ["a"]
        assert client.command("pause", **chosen) == {"a": "stopped"}
    assert client.command("pause", label_selector="team=y") == {}
    assert client.flows(expand_status=True)[1]["status"]["flow_id"] == "b"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_a_list_in_parts_is_whole(client: Any, limit: int) -> None:
    """However many parts it takes, and in its order; an ETag is of the whole alone."""
    names = [f"f{number}" for number in range(7)]
    client.create([still(name) for name in names])
    seen = Seen()
    assert [flow["flow_id"] for flow in client.flows(limit=limit, if_none_match=seen)] == names
    assert list(client.statuses(limit=limit, if_none_match=seen)) == names
    assert (seen.etag, bool(seen.resource_version)) == ("", True)
    with pytest.raises(InvalidError, match="leave limit out"):
        client.flows(limit=limit, if_none_match=Seen('"x"'))


def test_what_was_seen_is_not_sent_again(client: Any) -> None:
    """Until it is other."""
    client.create([still("a")])
    eventually(lambda: _settled(client))
    _, etag = client.flow("a")
    with pytest.raises(NotModified):
        client.flow("a", if_none_match=etag)
    for read in (client.flows, client.statuses, lambda **known: client.status("a", **known)):
        seen = Seen()
        before = read(if_none_match=seen)
        with pytest.raises(NotModified):
            read(if_none_match=seen)
        client.replace(
            "a", {**client.flow("a")[0], "metadata": {"name": "a", "labels": {"n": "1"}}}
        )
        after = eventually(lambda read=read, seen=seen: _modified(read, seen))
        assert after != before
        client.replace("a", still("a"))
        eventually(lambda: _settled(client))


def _modified(read: Callable[..., Any], seen: Seen) -> Any:
    """What is read; a status follows its configuration a moment later."""
    try:
        return read(if_none_match=seen)
    except NotModified:
        raise AssertionError("not yet") from None


def _settled(client: Any) -> None:
    status = client.status("a")
    assert status["generation"] == status["observedGeneration"]
    # Labels are no new generation.
    assert status.get("labels", {}) == client.flow("a")[0]["metadata"].get("labels", {})


def test_everything_wrong_is_told_with_its_place(client: Any) -> None:
    """Pointers begin with the index of the document."""
    with pytest.raises(ApiError) as caught:
        client.create([still("a"), {"flow_id": "b", "spec": {"step": [], "replicas": -1}}])
    assert caught.value.status == 400
    pointers = {fault.pointer for fault in caught.value.faults}
    assert {"/1/spec/step", "/1/spec/replicas"} <= pointers
    assert all(fault.detail for fault in caught.value.faults)
    assert client.flows() == []


def test_a_place_in_the_text_has_line_and_column() -> None:
    """Where the operator tells them: of what was read as text."""
    fault = {"pointer": "/a", "detail": "no", "line": 3, "column": 7}
    told = refusal(httpx.Response(400, json={"detail": "x", "errors": [fault]}))
    assert [(f.pointer, f.line, f.column) for f in told.faults] == [("/a", 3, 7)]


@pytest.mark.parametrize(
    ("call", "kind", "status"),
    [
        (lambda c: c.flow("nope"), NotFound, 404),
        (lambda c: c.status("nope"), NotFound, 404),
        (lambda c: c.history("nope"), NotFound, 404),
        (lambda c: c.generation("a", 9), NotFound, 404),
        (lambda c: c.rollback("nope"), NotFound, 404),
        (lambda c: c.events("nope"), NotFound, 404),
        (lambda c: next(c.logs("nope")), NotFound, 404),
        (lambda c: next(c.log_lines("nope")), NotFound, 404),
        (lambda c: next(c.watch_statuses("nope")), NotFound, 404),
        (lambda c: next(c.watch_events("nope")), NotFound, 404),
        (lambda c: c.wait_for("nope"), NotFound, 404),
        (lambda c: c.wait_for(["a", "nope"]), NotFound, 404),
        (lambda c: c.replace("nope", still("nope")), ApiError, 400),
        (lambda c: c.delete("nope"), ApiError, 400),
        (lambda c: c.command("stop", ["a", "nope"]), ApiError, 400),
        (lambda c: c.command("stop", []), ApiError, 400),
        (lambda c: next(c.logs("a", step="nope")), ApiError, 400),
        (lambda c: c.flows(label_selector="="), ApiError, 400),
        (lambda c: c.replace("a", still("a"), if_match='"999"'), PreconditionFailed, 412),
        (lambda c: c.delete("a", if_match='"999"'), PreconditionFailed, 412),
        (lambda c: c.rollback("a", 1, if_match='"999"'), PreconditionFailed, 412),
    ],
)
def test_a_refusal_is_an_exception_of_its_kind(
    client: Any, call: Callable[[Any], Any], kind: type[ApiError], status: int
) -> None:
    """Exactly that kind, with a sentence."""
    client.create([still("a")])
    with pytest.raises(kind) as caught:
        call(client)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert str(caught.value) == caught.value.detail != ""


@pytest.mark.parametrize("name", ["status", "..", "a/b", "", "A", "a" * 53, "a\n"])
def test_what_cannot_be_a_flow_is_not_sent(client: Any, name: str) -> None:
    """As part of a path it would reach something else."""
    for call in (client.flow, client.status, client.delete, client.history, client.wait_for):
        with pytest.raises(InvalidError):
            call(name)
    with pytest.raises(InvalidError):
        next(client.logs(name))


def test_the_operator_tells_of_itself(client: Any, operator: Flowd) -> None:
    """All that is not of one flow."""
    assert client.version() == client.index()["version"]
    assert client.live() is True
    eventually(lambda: _ready(client))
    assert client.manifests()["folder"] == str(operator.manifests)
    assert client.openapi()["openapi"] == "3.1.0"
    assert "flow_operator_flows" in client.metrics()


def _ready(client: Any) -> None:
    assert client.ready() is True


def test_an_operator_that_takes_its_flows_back_is_not_ready(flavour: Any) -> None:
    """That is an answer, and no error."""
    starting = httpx.MockTransport(lambda _: httpx.Response(503, json={"detail": "not yet"}))
    with flavour.client("http://x", transport=starting) as client:
        assert client.ready() is False


def test_a_file_owns_its_flow(flavour: Any, make_flowd: Callable[..., Flowd]) -> None:
    """409 until it is taken over; a prune that is held is confirmed."""
    flowd = make_flowd().start()
    file = flowd.manifests / "a.yaml"
    file.write_text(json.dumps(still("a")))
    flowd.await_status("a", "stopped")
    with flavour.client(str(flowd.client.base_url)) as client:
        with pytest.raises(Conflict, match=r"a\.yaml"):
            client.replace("a", still("a"))
        with pytest.raises(Conflict, match=r"a\.yaml"):
            client.delete("a")
        assert client.replace("a", still("a"), force=True)["change"] == "none"
        assert client.prune() == []


def test_tokens_and_roles(flavour: Any, make_flowd: Callable[..., Flowd], root: Any) -> None:
    """401 without one that is known; 403 with one that may not."""
    path = root / "tokens.json"
    entries = [{"name": f"the-{r}", "role": r, "token": token} for r, token in TOKENS.items()]
    path.touch(mode=0o600)
    path.write_text(json.dumps({"tokens": entries}))
    flowd = make_flowd("--tokens", str(path))
    flowd.client.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    url = str(flowd.start().client.base_url)
    for token in (None, "unknown-unknown-unknown-unknown"):
        with flavour.client(url, token=token) as client, pytest.raises(Unauthorized) as caught:
            client.flows()
        assert caught.value.status == 401
    with flavour.client(url, token=TOKENS["viewer"]) as client:
        assert client.flows() == []
        with pytest.raises(Forbidden, match="role admin"):
            client.create([still("a")])
    with flavour.client(url, token=TOKENS["admin"]) as client:
        client.create([still("a")])


def test_threads_share_a_client(operator: Flowd) -> None:
    """Calls and iterators of many at once do not get mixed up."""
    names = [f"f{number}" for number in range(8)]
    wrong: list[Any] = []
    with FlowClient(str(operator.client.base_url)) as client:
        client.create([still(name) for name in names])

        def use(name: str) -> None:
            for _ in range(20):
                if client.flow(name)[0]["flow_id"] != name:
                    wrong.append(name)
                change = next(changes := client.watch_statuses(name))
                changes.close()
                if change.object["flow_id"] != name:
                    wrong.append(change)

        threads = [threading.Thread(target=use, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_over_a_unix_socket(flavour: Any, make_flowd: Callable[..., Flowd], root: Any) -> None:
    """``unix:PATH``."""
    path = root / "socket"
    flowd = make_flowd("--listen", f"unix:{path}")
    flowd.start()
    with flavour.client(f"unix:{path}") as client:
        eventually(lambda: _ready(client))
        client.create([make_document("a")])
        client.wait_for("a")
        client.delete("a", hard=True)
        client.wait_for("a", "deleted")
