"""The audit log of a real operator: a line for each answer, over kills."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx

from support import Flowd, eventually, make_document


def _told(flowd: Flowd) -> list[dict[str, Any]]:
    older = sorted(flowd.data.glob("audit.log.*"), key=lambda path: -int(path.suffix[1:]))
    files = [*older, flowd.data / "audit.log"]
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def test_every_way_in_is_told(flowd: Flowd) -> None:
    """API, folder and commands, each with who and what, as soon as it is answered."""
    flowd.create(make_document("a", state="stopped"), make_document("b", state="stopped"))
    assert [entry["flow_id"] for entry in _told(flowd)] == ["a", "b"]
    (flowd.manifests / "c.yaml").write_text(json.dumps(make_document("c", state="stopped")))
    flowd.await_status("c", "stopped")
    flowd.client.patch(
        "/flows/commands?timeout=0", json={"command": "stop", "flow_ids": ["a"], "type": 1}
    )
    flowd.client.put("/flows/b", json=make_document("b", "x", state="stopped"))
    flowd.client.post("/flows/b/rollback", json={"generation": 1})
    flowd.client.delete("/flows/b")
    assert flowd.client.put("/flows/c", json=make_document("c")).status_code == 409
    (flowd.manifests / "d.yaml").write_text(json.dumps(make_document("d", state="stopped")))
    flowd.await_status("d", "stopped")
    (flowd.manifests / "d.yaml").unlink()
    flowd.await_gone("d")
    assert [(entry["by"], entry["action"], entry["flow_id"]) for entry in _told(flowd)] == [
        ("api:127.0.0.1", "create", "a"),
        ("api:127.0.0.1", "create", "b"),
        ("file:c.yaml", "create", "c"),
        ("api:127.0.0.1", "stop", "a"),
        ("api:127.0.0.1", "replace", "b"),
        ("api:127.0.0.1", "rollback", "b"),
        ("api:127.0.0.1", "delete", "b"),
        ("file:d.yaml", "create", "d"),
        ("file:d.yaml", "prune", "d"),
    ]


def test_no_acknowledged_write_is_without_its_line(make_flowd: Callable[..., Flowd]) -> None:
    """Under clients, killed again and again, with files that are full after ten lines."""
    flowd = make_flowd("--audit-size", "2Ki", "--audit-files", "1000").start()
    names = [f"f{number}" for number in range(4)]
    flowd.create(*(make_document(name, state="stopped") for name in names))
    acknowledged: list[tuple[str, int]] = []
    for part in range(4):
        url = str(flowd.client.base_url)
        threads = [
            threading.Thread(target=_write, args=(url, name, part, acknowledged)) for name in names
        ]
        before = len(acknowledged)
        for thread in threads:
            thread.start()
        eventually(lambda so_far=before: _assert(len(acknowledged) > so_far + 20))
        flowd.kill()
        for thread in threads:
            thread.join()
        flowd.start()
    lines = _told(flowd)
    versions = [entry["version"] for entry in lines]
    assert len(set(versions)) == len(versions)
    assert {(e["flow_id"], e["generation"]) for e in lines} >= set(acknowledged)
    for name in names:
        generations = [e["generation"] for e in lines if e["flow_id"] == name]
        assert generations == list(range(1, len(generations) + 1))


def _write(url: str, name: str, part: int, acknowledged: list[tuple[str, int]]) -> None:
    """Each write differs from all others, so that each makes a generation."""
    with httpx.Client(base_url=url) as client:
        for number in range(10_000):
            document = make_document(name, state="stopped", description=f"{part}.{number}")
            try:
                answer = client.put(f"/flows/{name}", json=document)
            except httpx.TransportError:
                return
            acknowledged.append((name, answer.json()["generation"]))


def _assert(value: bool) -> None:
    assert value
