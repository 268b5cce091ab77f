"""What a flow was, with a real operator: over kills, from files, over a unix socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import httpx

from support import Flowd, eventually, make_document


def _history(flowd: Flowd, flow_id: str) -> list[dict[str, Any]]:
    answer = flowd.client.get(f"/flows/{flow_id}/history")
    assert answer.status_code == 200, answer.text
    return answer.json()["history"]


def test_no_acknowledged_generation_is_missing_after_a_kill(flowd: Flowd) -> None:
    """Killed right after each answer, whatever has been written out by then."""
    flowd.create(make_document("a", state="stopped"))
    for number in range(2, 8):
        body = make_document("a", state="stopped", description=str(number))
        assert flowd.client.put("/flows/a", json=body).json()["generation"] == number
        flowd.kill()
        flowd.start()
        rows = _history(flowd, "a")
        assert [row["generation"] for row in rows] == list(range(number, 0, -1))
        assert f"+  description: '{number}'" in rows[0]["diff"]


def test_a_rollback_changes_what_runs(flowd: Flowd) -> None:
    """The processes are those of the earlier configuration again."""
    flowd.create(make_document("a", "echo one; exec sleep 1000"))
    flowd.await_status("a", "running")
    flowd.client.put("/flows/a", json=make_document("a", "echo two; exec sleep 1000"))
    eventually(lambda: _holds(flowd, "one\ntwo\n"))
    assert flowd.client.post("/flows/a/rollback", json={}).json()["to"] == 1
    eventually(lambda: _holds(flowd, "one\ntwo\none\n"))


def _holds(flowd: Flowd, text: str) -> None:
    assert flowd.logs("a", "s0") == text


def test_files_and_commands_make_generations_too(flowd: Flowd) -> None:
    """Each under the name of who did it; the restarted operator has made none."""
    manifest = flowd.manifests / "a.yaml"
    text = "flow_id: a\nspec: {steps: [{name: s, script: exec sleep 1000}], description: %s}\n"
    manifest.write_text(text % "one")
    flowd.await_status("a", "running")
    assert flowd.command("stop", "a") == {"a": "stopped"}
    manifest.write_text(text % "two")
    eventually(lambda: _generations(flowd, 3))
    flowd.kill()
    flowd.start()
    rows = _history(flowd, "a")
    assert [(row["action"], row["by"], row["change"]) for row in rows] == [
        ("replace", "file:a.yaml", "none"),
        ("stop", "api:127.0.0.1", "stop"),
        ("create", "file:a.yaml", "start"),
    ]


def _generations(flowd: Flowd, count: int) -> None:
    assert len(_history(flowd, "a")) == count


def test_over_a_unix_socket_the_user_is_told(make_flowd: Callable[..., Flowd]) -> None:
    """By the kernel, not by the client."""
    flowd = make_flowd()
    socket = flowd.data.parent / "api.sock"
    flowd._arguments = ("--listen", f"unix:{socket}")
    flowd.start()
    transport = httpx.HTTPTransport(uds=str(socket))
    with httpx.Client(base_url="http://localhost", transport=transport) as client:
        forged = {"X-Forwarded-For": "192.0.2.1", "Remote-Addr": "uid=4711"}
        document = make_document("a", state="stopped")
        assert client.post("/flows", json=[document], headers=forged).status_code == 201
        [row] = client.get("/flows/a/history").json()["history"]
    assert row["by"] == f"api:uid={os.getuid()}"
