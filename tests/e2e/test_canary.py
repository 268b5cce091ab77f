"""Canaries wherever a secret may stand, and a look everywhere for what has flown out."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import Flowd, eventually, make_document

SECRETS = {
    "value": 'c4nary-value-"\\+/ü 0123456789',
    "env": "c4nary-env-~%&<0123456789",
    "token": "c4nary-token-+/~._0123456789",
    "refused": "c4nary-refused-+/~0123456789",
}
"""Each begins with what no way of escaping changes, and goes on with what each changes."""


def spellings(secret: str) -> Iterator[bytes]:
    """What is found of a secret, escaped or not: its beginning, and that in hex and in base64."""
    data = secret.encode()
    yield data[:12]
    yield data[:12].hex().encode()
    for before in range(3):
        # Its letters depend on where it begins within the whole; at the edges on what is beside it.
        yield base64.b64encode(b"-" * before + data[:12])[4:-4]


PATTERN = re.compile(
    b"|".join(re.escape(text) for secret in SECRETS.values() for text in spellings(secret)),
    re.IGNORECASE,
)


def test_the_look_finds_what_it_looks_for() -> None:
    """In every spelling, and within other text."""
    for secret in SECRETS.values():
        for text in (
            *(secret, json.dumps({"a": [secret]}), repr([secret]), secret.encode().hex().upper()),
            repr(secret.encode()),
            *(urllib.parse.urlencode({"a": secret}), urllib.parse.quote(secret)),
            *(base64.b64encode(f"{user}:{secret}".encode()).decode() for user in ("", "a", "ab")),
        ):
            assert PATTERN.search(text.encode()), text
    assert not PATTERN.search(b"c4nary, and nothing else")


@pytest.fixture
def flowd(make_flowd: Callable[..., Flowd], root: Path) -> Flowd:
    """An operator that knows one token, and tells all that it can."""
    tokens = root / "tokens.yaml"
    tokens.write_text(json.dumps({"tokens": [_entry(SECRETS["token"])]}))
    tokens.chmod(0o600)
    made = make_flowd(
        *("--tokens", str(tokens), "--log-level", "debug"),
        environment={"PYTHONFAULTHANDLER": "1", "FLOWCTL_TOKEN": SECRETS["token"]},
    )
    made.client.headers["Authorization"] = f"Bearer {SECRETS['token']}"
    return made.start()


def _entry(token: str) -> dict[str, str]:
    return {"name": "the-admin", "role": "admin", "token": token}


def _secret_step(root: Path, script: str | None, **more: Any) -> dict[str, Any]:
    """A step that has a secret by every kind of reference."""
    (root / "value").write_text(SECRETS["value"])
    (root / "env").write_text(f"# a comment\nexport OTHER='{SECRETS['env']}'\n")
    return {
        "name": "s0",
        **({"script": script} if script else {}),
        "env": [{"name": "TOKEN", "valueFrom": {"file": str(root / "value")}}],
        "envFrom": [{"file": str(root / "env")}],
        **more,
    }


def _make_flows(flowd: Flowd, root: Path) -> list[str]:
    """Flows of which each has its own trouble."""
    says = {"command": ["sh", "-c", 'echo "$TOKEN"; echo "$OTHER" >&2; exit 1']}
    probe = {"exec": says, "period": "50ms", "failureThreshold": 1}
    works = 'test -n "$TOKEN$OTHER" && test -z "$FLOWCTL_TOKEN" && exec sleep 1000'
    value = str(root / "value")
    undecodable = root / "undecodable"
    undecodable.write_bytes(SECRETS["value"].encode() + b"\xff")
    flows = {
        "works": _secret_step(root, works),
        "fails": _secret_step(root, 'echo "$TOKEN $OTHER" >&2; exit 3'),
        "unready": _secret_step(root, works, readinessProbe=probe),
        "unlively": _secret_step(root, works, livenessProbe=probe),
        "unspawned": _secret_step(root, None, command=["/nonexistent/program"]),
        "nowhere": _secret_step(root, works, workingDir="/nonexistent"),
        "no-assignment": _secret_step(root, works, envFrom=[{"file": value}]),
        "no-text": _secret_step(root, works, envFrom=[{"file": str(undecodable)}]),
        "blocked": _secret_step(root, works),
    }
    # Its log cannot be made: a file stands where its folder is to be.
    (flowd.data / "logs").mkdir(exist_ok=True)
    (flowd.data / "logs" / "blocked").write_text("")
    flowd.create(*(make_document(name, step) for name, step in flows.items()))
    flowd.await_status("works", "running")
    eventually(lambda: _assert(flowd.status("fails")["restarts"] > 0))
    eventually(lambda: _assert(flowd.status("unlively")["restarts"] > 0))
    for name in ("unspawned", "nowhere", "no-assignment", "no-text", "blocked"):
        eventually(lambda name=name: _assert(flowd.status(name)["message"]))
    eventually(lambda: _assert("exit code 1" in json.dumps(flowd.status("unready"))))
    return list(flows)


def _make_mistakes(flowd: Flowd, root: Path) -> None:
    """Edits that go wrong, and tokens in places where they do not belong."""
    client, token, refused = flowd.client, SECRETS["token"], SECRETS["refused"]
    broken = make_document("works", _secret_step(root, "x", envFrom=[{"fil": str(root / "env")}]))
    assert client.put("/flows/works", json=broken).status_code == 400
    (flowd.manifests / "broken.yaml").write_text(json.dumps(broken))
    (flowd.manifests / "link.yaml").symlink_to(root / "value")
    eventually(lambda: _assert(len(client.get("/manifests").json()["files"]) >= 1))
    for wrong in (f"Bearer {refused}", f"Basic {refused}", refused, f"Bearer {refused} x"):
        assert client.get("/flows", headers={"Authorization": wrong}).status_code in (400, 401)
    quoted = urllib.parse.quote(token, safe="")
    client.get(f"/flows?access_token={quoted}")
    client.get(f"/flows/{quoted}")
    client.post("/flows", content=token.encode())
    client.post("/flows", json=[{"flow_id": token}])
    client.put("/flows/works", json={token: token})
    client.patch("/flows/commands", json={"command": token})
    client.get("/flows", headers={"Cookie": token, "Origin": token})
    tokens = flowd.data.parent / "tokens.yaml"
    before = tokens.read_text()
    for bad in (f"tokens: [{{name: {token}, role: x}}]", f"{token}: [", token):
        tokens.write_text(bad)
        assert client.get("/").json()["tokens"]["error"]
    tokens.write_text(before)


def _answers(flowd: Flowd, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Everything that can be read of the API, by its own description, but what flows print."""
    paths = flowd.client.get("/openapi.json").json()["paths"]
    reads = [path for path, operations in paths.items() if "get" in operations]
    assert len(reads) > 10
    for path in [*reads, "/metrics", "/docs/start.js"]:
        if path.endswith("/logs") or "watch" in path:
            continue
        for name in names if "{flow_id}" in path else [""]:
            url = path.replace("{flow_id}", name).replace("{generation}", "1")
            answer = flowd.client.get(url)
            assert answer.status_code in (200, 404), url
            yield url, answer.content + repr(answer.headers).encode()


def _files(flowd: Flowd) -> Iterator[tuple[str, bytes]]:
    """Everything that the operator keeps, but what flows print and keep themselves."""
    for path in flowd.data.rglob("*"):
        kept = path.relative_to(flowd.data).parts[0]
        if path.is_file() and kept not in ("logs", "work"):
            yield str(path), path.read_bytes()


def _assert(condition: object) -> None:
    assert condition


def test_no_secret_gets_out(flowd: Flowd, root: Path) -> None:
    """Not into answers, events, history, audit log, state, metrics, nor the most verbose log.

    Whatever goes wrong: steps, probes, starts, edits, tokens, handlers, the operator itself.
    """
    names = _make_flows(flowd, root)
    _make_mistakes(flowd, root)
    assert SECRETS["value"] in flowd.logs("fails", "s0")  # They were really there.
    assert flowd.client.get("/flows/blocked/logs").status_code == 503  # This one has a traceback.
    flowd.command("restart", "works")
    for url, told in _answers(flowd, names):
        assert not PATTERN.search(told), url
    # The stacks of all threads, as a crash tells them.
    flowd.end(signal.SIGABRT)
    said = flowd.log.read_bytes()
    assert b"Traceback" in said
    assert b"Fatal Python error: Aborted" in said
    assert "─ locals ─" not in said.decode()  # They are cut short, and some secrets with them.
    assert not PATTERN.search(said)
    for name, kept in _files(flowd):
        assert not PATTERN.search(kept), name
    flowd.start()
    flowd.await_status("works", "running")
    for pid in (flowd.pid, flowd.shim_pid(), *flowd.pids("works")):
        assert not PATTERN.search(Path(f"/proc/{pid}/cmdline").read_bytes())
    assert not PATTERN.search(Path(f"/proc/{flowd.shim_pid()}/environ").read_bytes())
    assert os.stat(flowd.data).st_mode & 0o077 == 0
