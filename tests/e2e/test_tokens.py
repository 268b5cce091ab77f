"""Tokens with a real operator: at its start, over the wire, when exchanged, and in its log."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support import ROOT, Flowd, always_for, make_document

TOKENS = {role: f"{role}-c4nary-0123456789abcdef" for role in ("viewer", "operator", "admin")}


def write_tokens(path: Path, **roles: str) -> Path:
    """A file with a token of each role that is named."""
    given = roles or TOKENS
    entries = [
        {"name": f"the-{role}", "role": role if role in TOKENS else "viewer", "token": given[role]}
        for role in given
    ]
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"tokens": entries}))
    new.chmod(0o600)
    return new.rename(path)


@pytest.fixture
def guarded(make_flowd: Callable[..., Flowd], root: Path) -> Flowd:
    """A running operator with a token for each role; its client is the admin."""
    flowd = make_flowd("--tokens", str(write_tokens(root / "tokens.yaml")), "--log-level", "debug")
    flowd.client.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    return flowd.start()


def run_flowctl(flowd: Flowd, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_operator.flowctl.main", *arguments]
    env = {**os.environ, "app_url": str(flowd.client.base_url), "FLOWCTL_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_each_role_does_what_it_may(guarded: Flowd, root: Path) -> None:
    """With the command line; whoever may not is told what it would take."""
    guarded.create(make_document("a", state="stopped"))
    none = run_flowctl(guarded, "status")
    assert none.returncode == 1
    assert "--token-file or FLOWCTL_TOKEN_FILE" in none.stderr
    assert run_flowctl(guarded, "status", token=TOKENS["viewer"]).returncode == 0
    refused = run_flowctl(guarded, "start", "a", token=TOKENS["viewer"])
    assert (refused.returncode, "the role operator" in refused.stderr) == (1, True)
    assert run_flowctl(guarded, "start", "a", token=TOKENS["operator"]).returncode == 0
    refused = run_flowctl(guarded, "delete", "a", token=TOKENS["operator"])
    assert (refused.returncode, "the role admin" in refused.stderr) == (1, True)
    assert run_flowctl(guarded, "delete", "a", token=TOKENS["admin"]).returncode == 0


def test_who_did_it_stands_in_the_audit_log(guarded: Flowd) -> None:
    """By the token's name, and from where."""
    guarded.create(make_document("a", state="stopped"))
    operator = {"Authorization": f"Bearer {TOKENS['operator']}"}
    body = {"command": "stop", "flow_ids": ["a"], "type": 1}
    answer = guarded.client.patch("/flows/commands?timeout=0", json=body, headers=operator)
    assert answer.status_code == 200
    lines = [json.loads(line) for line in (guarded.data / "audit.log").read_text().splitlines()]
    assert [(line["by"], line["action"]) for line in lines] == [
        ("api:the-admin@127.0.0.1", "create"),
        ("api:the-operator@127.0.0.1", "stop"),
    ]


def test_a_token_is_exchanged_without_a_restart(guarded: Flowd, root: Path) -> None:
    """From the next request on, and a bad edit changes nothing; no token is in the log."""
    path = root / "tokens.yaml"
    write_tokens(path, admin="exchanged-c4nary-0123456789")
    assert guarded.client.get("/flows").status_code == 401
    guarded.client.headers["Authorization"] = "Bearer exchanged-c4nary-0123456789"
    assert guarded.client.get("/flows").status_code == 200
    path.write_text("tokens: [{name: a, role: admin, token: c4nary}]")
    assert guarded.client.get("/flows").status_code == 200
    error = guarded.client.get("/").json()["tokens"]["error"]
    assert f"{path}:1:" in error
    said = guarded.log.read_text()
    assert "the tokens stay as they were" in said
    assert "c4nary" not in error + said


STREAMS = ["/flows/a/logs?follow=1", "/events?watch=1", "/flows/status?watch=1"]


@pytest.mark.parametrize("path", STREAMS)
def test_streams_end_with_their_token(guarded: Flowd, root: Path, path: str) -> None:
    """Within five seconds, also where nothing happens; others go on, and so do other edits."""
    guarded.create(make_document("a", "echo hello; exec sleep 1000"))
    guarded.await_status("a", "running")
    ends = {role: threading.Event() for role in ("viewer", "operator")}
    opened = threading.Barrier(3)
    threads = [
        threading.Thread(target=_read, args=(guarded, path, TOKENS[role], opened, ends[role]))
        for role in ends
    ]
    for thread in threads:
        thread.start()
    opened.wait(20)
    write_tokens(root / "tokens.yaml", **TOKENS, another="another-0123456789abcdef")
    always_for(1, lambda: _assert(not any(end.is_set() for end in ends.values())))
    write_tokens(root / "tokens.yaml", operator=TOKENS["operator"], admin=TOKENS["admin"])
    assert ends["viewer"].wait(20)
    assert not ends["operator"].is_set()
    guarded.end()
    for thread in threads:
        thread.join(20)


def _read(
    flowd: Flowd, path: str, token: str, opened: threading.Barrier, ended: threading.Event
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    url = str(flowd.client.base_url).rstrip("/") + path
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        opened.wait(20)
        for _ in answer.iter_bytes():
            pass
    ended.set()


def _assert(condition: object) -> None:
    assert condition


def test_over_a_unix_socket_a_token_is_needed_too(
    make_flowd: Callable[..., Flowd], root: Path
) -> None:
    """Whoever may connect still has to say who he is."""
    flowd = make_flowd("--tokens", str(write_tokens(root / "tokens.yaml")))
    path = root / "api.sock"
    flowd._arguments += ("--listen", f"unix:{path}", "--socket-mode", "0666")
    flowd.start()
    assert path.stat().st_mode & 0o777 == 0o666
    said = []
    for token in ("", f"Authorization: Bearer {TOKENS['viewer']}\r\n"):
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(path))
            asked.sendall(f"GET /flows HTTP/1.0\r\n{token}\r\n".encode())
            said.append(asked.recv(100).split()[1])
    assert said == [b"401", b"200"]


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_operator.flowd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("tokens: [{name: a b, role: b, token: c4nary}]", 0o600, ["1:17", "1:28", "1:38"]),
        ("tokens: []", 0o600, ["1:9"]),
        (json.dumps({"tokens": []}), 0o666, ["chmod"]),
    ],
)
def test_a_bad_file_is_refused_at_the_start(
    root: Path, text: str, mode: int, said: list[str]
) -> None:
    """Every fault on a line of its own, before anything is begun."""
    path = root / "tokens.yaml"
    path.write_text(text)
    path.chmod(mode)
    done = start("--data", str(root / "data"), "--listen", "127.0.0.1:0", "--tokens", str(path))
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert len(told) == len(said)
    assert all(line.startswith(f"flowd: {path}") for line in told)
    assert all(word in line for line, word in zip(told, said, strict=True))
    assert "c4nary" not in done.stderr
    assert not (root / "data").exists()


def test_what_stands_at_the_path_of_the_socket_is_left_alone(root: Path) -> None:
    """A file that somebody needs, and another operator's live socket."""
    path = root / "precious"
    path.write_text("data")
    done = start("--data", str(root / "data"), "--listen", f"unix:{path}")
    assert done.returncode == 1
    assert "no socket" in done.stderr
    assert path.read_text() == "data"


def test_a_digest_is_made_as_the_documentation_says() -> None:
    """By the command that stands in it."""
    text = (ROOT / "docs" / "security.md").read_text()
    command = 'printf %s "$TOKEN" | sha256sum'
    assert command in text
    done = subprocess.run(
        ["sh", "-c", command], env={"TOKEN": "abc"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == hashlib.sha256(b"abc").hexdigest()
